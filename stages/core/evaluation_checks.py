"""Signs that an evaluation overstates robustness, one line each: every check returns its findings, none when healthy.

After the warnings of AutoAttack (Croce & Hein 2020) and the checklist of Carlini et al. 2019.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stages.core.directions import direction

RANGES = {"tma": 2.0, "es_d": 2.0, "order": 2.0, "order_src": 2.0}  # of what is measured; percents otherwise
LEAST = 0.2  # percent of the range by which a weaker attack must be ahead to count, as in AutoAttack,
ERRORS = 2.0  # and so many standard errors of the difference over queries
STUCK, UNIMPROVED = 0.01, 0.5  # shares of queries


def run_findings(
    name: str, objective_before: ArrayLike, objective_after: ArrayLike, zero_gradients: ArrayLike
) -> list[str]:
    """Did the attack ``name`` lower its objective, and had it gradients to do so? Values (Q,) of each query."""
    improved = np.asarray(objective_after) < np.asarray(objective_before)
    stuck = ~improved & (np.asarray(zero_gradients) > 0.5)
    findings = []
    if stuck.mean() > STUCK:
        findings.append(
            f"{name}: {100 * stuck.mean():.1f} % of the queries have mostly zero gradients and did not improve; try a "
            "smooth surrogate, a random start or a black box"
        )
    if (~improved).mean() > UNIMPROVED:
        findings.append(f"{name}: the objective did not improve for {100 * (~improved).mean():.1f} % of the queries")
    return findings


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
    name: str, metric: str, white_box: ArrayLike, others: Sequence[tuple[str, ArrayLike]]
) -> list[str]:
    """Does an attack without the model's gradients beat the white-box one? ``others`` are names with values (Q,).

    ``white_box`` (Q,) is the strongest white-box run: the protocol's own is weak enough to lose on sound gradients.
    """
    gains = ((other, ahead(metric, values, white_box)) for other, values in others)
    return [
        f"{name}: {other} beats the white box by {gain:.1f} % of the range of {metric}: the gradients are masked"
        for other, gain in gains
        if gain
    ]
