"""Signs that an evaluation overstates robustness, one line each: every check returns its findings, none when healthy.

After the warnings of AutoAttack (Croce & Hein 2020) and the checklist of Carlini et al. 2019.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.core.attacking import PROTOCOL, Strength, shares
from stages.core.directions import ATTACK_DIRECTIONS, direction, metrics_of, worst_case
from stages.core.search import BLACK_BOX

RANGES = {"tma": 2.0, "es_d": 2.0, "order": 2.0, "order_src": 2.0}  # of what is measured; percents otherwise
LEAST = 0.2  # percent of the range by which a weaker attack must be ahead to count, as in AutoAttack,
ERRORS = 2.0  # and so many standard errors of the difference over queries
STUCK, UNIMPROVED = 0.01, 0.5  # shares of queries
MASKED = "the gradients are masked"
WEAK = "the protocol's attack is weak here, or the gradients are masked; the strong suite tells which"


class Run(NamedTuple):
    """One run of an attack: its name, its steps, how hard it tried, and its metrics of each query after, (Q,)."""

    name: str
    steps: int
    strength: Strength
    after: Mapping[str, NDArray[Any]]

    @property
    def black_box(self) -> bool:
        """Whether it never asked for a gradient."""
        return self.strength.optimizer in BLACK_BOX

    def at(self, queries: NDArray[np.bool_]) -> "Run":
        """The same of some of the queries, a mask (Q,)."""
        return self._replace(after={metric: values[queries] for metric, values in self.after.items()})


def unattacked(checks: Mapping[str, float]) -> list[str]:
    """Why an attack may not have attacked, by its checks: shares of queries, as ``attacking.shares`` gives them.

    With ``largest_change``, the L-infinity norm over all images, also whether it changed any.
    """
    found = []
    if checks["stuck"] > STUCK:
        found.append(
            f"{100 * checks['stuck']:.1f} % of the queries have mostly zero gradients and did not improve; try a "
            "smooth surrogate, a random start or a black box"
        )
    if 1 - checks["improved"] > UNIMPROVED:
        found.append(f"the objective did not improve for {100 * (1 - checks['improved']):.1f} % of the queries")
    return found + (["no image was changed"] if checks.get("largest_change") == 0 else [])


def ahead(metric: str, weaker: ArrayLike, stronger: ArrayLike) -> float:
    """By how much the attack expected to be weaker wins, in percent of the metric's range; 0 where it does not.

    Values (Q,) of the same queries. It wins where the mean difference is over 0.2 percent and over two standard errors.
    """
    gain = direction(metric) * (np.asarray(weaker, float) - np.asarray(stronger, float))
    gain *= 100 / RANGES.get(metric.removesuffix("_ties_half"), 100.0)
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return float(gain.mean()) if gain.mean() > max(LEAST, ERRORS * error) else 0.0


def step_findings(name: str, metric: str, fewer: ArrayLike, more: ArrayLike) -> list[str]:
    """Is the attack ``name`` weaker with more steps than with fewer? Values (Q,) of one metric after each."""
    gain = ahead(metric, fewer, more)
    return [f"{name}: {metric} is {gain:.1f} % of its range weaker with more steps than with fewer"] if gain else []


def masking_findings(
    name: str, metric: str, white_box: ArrayLike, others: Sequence[tuple[str, ArrayLike]], meaning: str = MASKED
) -> list[str]:
    """Does an attack without the model's gradients beat the white-box one? ``others`` are names with values (Q,).

    ``white_box`` (Q,) is the strongest white-box run: the protocol's own is weak enough to lose on sound gradients.
    ``meaning`` is what it says of the model if one does.
    """
    gains = ((other, ahead(metric, values, white_box)) for other, values in others)
    return [
        f"{name}: {other} beats the white box by {gain:.1f} % of the range of {metric}: {meaning}"
        for other, gain in gains
        if gain
    ]


def runs(name: str, block: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> list[Run]:
    """The runs of an attack block, one for each member of its suite, from its per-query columns.

    ``block`` is the one for the dataset (``stages.runtime.params.attack``), ``columns`` (Q,) those of its parquet file.
    """
    tried = {f"@{member}": one for member, one in block.get("suite", {}).items()} or {"": block}
    return [
        Run(
            f"{name}{place}",
            one["steps"],
            Strength.of(one),
            {metric: columns[f"{metric}_after{place}"] for metric in metrics_of(columns)},
        )
        for place, one in tried.items()
    ]


def of_runs(name: str, block: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """What is wrong with each run of an attack block by itself; the arguments are those of ``runs``."""
    found = []
    for run in runs(name, block, columns):
        place = run.name.removeprefix(name)
        after, zeros = columns[f"objective_after{place}"], columns[f"zero_gradients{place}"]
        checks = shares(columns["objective_before"], after, zeros)
        found += [f"{run.name}: {why}" for why in unattacked(checks)]
    return found


def of_block(name: str, block: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """What is wrong with an attack block, its runs by themselves and against each other; arguments as of ``runs``."""
    tried = runs(name, block, columns)
    return of_runs(name, block, columns) + by_steps(tried) + masked(name, tried)


def by_steps(tried: Sequence[Run]) -> list[str]:
    """Runs of one goal that are weaker than others which differ in nothing but fewer steps and the step size."""
    found = []
    for fewer, more in pairwise(sorted(tried, key=lambda run: (run.strength, run.steps))):
        if fewer.strength == more.strength and fewer.steps < more.steps:
            both = f"{more.name} ({more.steps} steps) after {fewer.name} ({fewer.steps})"
            for metric in directed(more):
                found += step_findings(both, metric, fewer.after[metric], more.after[metric])
    return found


def masked(name: str, tried: Sequence[Run], others: Sequence[Run] = ()) -> list[str]:
    """Black boxes, and ``others`` that used no gradient of this model, that beat the strongest white box of a goal."""
    white, black = [run for run in tried if not run.black_box], [run for run in tried if run.black_box]
    meaning = MASKED if len(white) > 1 or any(run.strength != PROTOCOL for run in white) else WEAK
    found = []
    for metric in directed(white[0]) if white else ():
        strongest = worst_case(metric, [run.after[metric] for run in white])
        without = [(run.name, run.after[metric]) for run in (*black, *others) if metric in run.after]
        found += masking_findings(name, metric, strongest, without, meaning)
    return found


def directed(run: Run) -> list[str]:
    """Metrics to compare: not ranks with ties as half, which say the same, nor a user's own without a direction."""
    return [metric for metric in run.after if metric in ATTACK_DIRECTIONS]
