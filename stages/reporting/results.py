"""Reading a model's results, and computing what follows from them: scores, marks, resampled figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.metrics import collapse
from stages.core.scores import STANDARD_ATTACKS, SUB_SCORES, Figure, ars_reconstructed, ers
from stages.core.seeding import seed_of
from stages.core.stats import Estimate, estimate, resampled_means
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError, reason

RANKED = ("ca_plus", "ca_minus", "qa_plus", "qa_minus")
# sub-scores that the exact readings replace, and where they come from
EXACT = {"es_d": "es_d:es_exact", "es_r": "es_r:es_exact", "ltm": "ltm:ltm_exact", "gtm": "gtm:gtm_exact"}
HISTORY = ("epoch", "loss", "loss_adversarial", "collapseness", "hardness", "recall_at_1")
SHRUNK_BELOW = 0.1  # a spread under this is marked: ERS rewards shrinking


class Source(NamedTuple):
    """Where figures come from: a file of results, its SHA-256, those of what it was made from, and its job."""

    path: str
    sha256: str
    inputs: Mapping[str, str]
    job: str


class Model(NamedTuple):
    """One model's figures.

    ``values`` by metric; ``draws`` the same over resampled queries (R,), for figures made of query means; ``checks``
    the self-checks of each attack; ``history`` one row per epoch; ``queries`` how many test images there are and
    ``attacked`` how many of them were attacked; ``sources`` by attack, and of "benign".
    """

    values: dict[str, float]
    draws: dict[str, NDArray[np.float64]]
    checks: dict[str, dict[str, float]]
    history: pd.DataFrame
    queries: int
    attacked: int
    seed: int = 0
    sources: Mapping[str, Source] = {}


def read_models(run: Mapping[str, Any]) -> dict[str, dict[str, list[Model]]]:
    """The models of the run by dataset and defense, one for each seed; what is not there is left out.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    return {
        dataset: {
            defense: [
                read_model(dataset, defense, seed, run["attacks"])
                for seed in run["seeds"]
                if (artifacts.result_dir(dataset, defense, seed) / "benign.json").exists()
            ]
            for defense in run["defenses"]
        }
        for dataset in run["datasets"]
    }


def metric_name(metric: str, attack: str) -> str:
    """Name of an attack's metric in scores.csv: plain for the nine standard blocks, ``metric:block`` for others."""
    return metric if attack in STANDARD_ATTACKS else f"{metric}:{attack}"


def read_table(path: Path, command: str) -> pd.DataFrame:
    """Read per-query values (parquet) or a training history (csv).

    Raises:
        UserError: it is missing or damaged.
    """
    artifacts.require(path, command)
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # pyarrow and pandas raise families of their own
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and run `{command}`") from None


def read_history(path: Path, command: str) -> pd.DataFrame:
    """Read a training history: one row per epoch, numbers only.

    Raises:
        UserError: it is missing, damaged or cut short.
    """
    history = read_table(path, command)
    numbers = all(kind.kind in "iuf" for kind in history.dtypes) or not len(history)
    whole = path.read_bytes().endswith(b"\n")
    if (
        not whole
        or not set(HISTORY) <= set(history)
        or not numbers
        or list(history["epoch"]) != list(range(len(history)))
    ):
        raise UserError(f"{path}: damaged (not one row of numbers per epoch); delete it and run `{command}`")
    return history


class Queries(NamedTuple):
    """Per-query values by metric: benign ones of all queries, and those of the attacked queries before and after."""

    benign: pd.DataFrame
    before: pd.DataFrame
    after: pd.DataFrame


def read_queries(
    dataset: str, defense: str, seed: int, attacks: list[str]
) -> tuple[Queries, dict[str, dict[str, float]], dict[str, Source]]:
    """Per-query values of one model, the self-checks of each attack that ran, and where its figures come from.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    words = f"{dataset} {defense} {seed}"
    folder, command = artifacts.result_dir(dataset, defense, seed), f"python -m stages.evaluate {words}"
    path = folder / "benign.json"
    checksums.check_beside(checksums.load(path, command), path, command, "benign.parquet")
    benign = read_table(folder / "benign.parquet", command).drop(columns="image_id")
    before, after, checks, sources = {}, {}, {}, {}
    for attack in attacks:
        if not (folder / f"{attack}.json").exists():
            continue
        command = f"python -m stages.attack {words} {attack}"
        path = folder / f"{attack}.json"
        report = checksums.load(path, command, "metrics", "checks")
        checksums.check_beside(report, path, command, f"{attack}.parquet")
        table = read_table(folder / f"{attack}.parquet", command)
        checks[attack] = report["checks"]
        job = f"attack/{dataset}-{defense}-{seed}-{attack}"
        sources[attack] = source(folder / f"{attack}.json", report, job)
        for metric in report["metrics"]:
            after[metric_name(metric, attack)] = table[f"{metric}_after"]
            before[metric_name(metric, attack)] = table[f"{metric}_before"]
    return Queries(benign, pd.DataFrame(before), pd.DataFrame(after)), checks, sources


def source(path: Path, report: Mapping[str, Any], job: str) -> Source:
    """Where the figures of a job's report come from."""
    return Source(path.as_posix(), artifacts.sha256(path), report["inputs"], job)


def read_model(dataset: str, defense: str, seed: int, attacks: list[str]) -> Model:
    """Read everything that was measured of one model and add the scores; attacks that did not run are left out.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    words = f"{dataset} {defense} {seed}"
    history, command = artifacts.model_dir(dataset, defense, seed) / "history.csv", f"python -m stages.train {words}"
    curves = read_history(history, command) if history.exists() else pd.DataFrame(columns=list(HISTORY))
    path = artifacts.result_dir(dataset, defense, seed) / "benign.json"
    report = checksums.load(path, f"python -m stages.evaluate {words}", "metrics")
    benign = report["metrics"]
    queries, checks, sources = read_queries(dataset, defense, seed, attacks)
    sources = {"benign": source(path, report, f"evaluate/{dataset}-{defense}-{seed}")} | sources

    spread = benign["spread"]
    collapsed = bool(collapse(benign["recall_at_1"], benign["chance"], spread))
    values = benign | scored(column_means(queries.after), column_means(queries.before), spread, collapsed)
    # One seed for all: every figure, and every model of a dataset, sees the same resampled queries.
    same = seed_of("bootstrap", dataset)
    draws = scored(column_draws(queries.after, same), column_draws(queries.before, same), spread, collapsed)
    draws |= column_draws(queries.benign, same)
    values["collapsed"] = float(collapsed)
    attacked = len(queries.after) if checks else len(queries.benign)
    return Model(values, draws, checks, curves, len(queries.benign), attacked, seed, sources)


def column_means(frame: pd.DataFrame) -> dict[str, Figure]:
    """Mean of each column."""
    return {str(name): float(frame[name].mean()) for name in frame}


def column_draws(frame: pd.DataFrame, seed: int) -> dict[str, Figure]:
    """Means of each column over resampled rows, (R,)."""
    if frame.empty:
        return {}
    means = resampled_means(frame.to_numpy(dtype=np.float64), seed=seed)
    return {str(name): means[:, position] for position, name in enumerate(frame)}


def scored(after: dict[str, Figure], before: dict[str, Figure], spread: float, collapsed: bool) -> dict[str, Figure]:
    """``after`` with the scores that can be computed from it; values are numbers, or arrays of resampled means."""
    if not all(name in after for name in SUB_SCORES):
        return after
    scores = {"ers": ers(after)}
    if all(name in after for name in EXACT.values()):
        scores["ers_exact"] = ers(after | {plain: after[exact] for plain, exact in EXACT.items()})
    half_after, half_before = (
        figures | {name: figures[f"{name}_ties_half"] for name in RANKED} for figures in (after, before)
    )
    scores["ars_reconstructed"] = ars_reconstructed(half_after, half_before, spread=spread, collapsed=collapsed)
    return after | scores


def mark(models: list[Model]) -> str:
    """Say "collapsed" or "shrunk" where any seed is; "" otherwise."""
    if any(model.values["collapsed"] for model in models):
        return "collapsed"
    return "shrunk" if any(model.values["spread"] < SHRUNK_BELOW for model in models) else ""


def estimated(models: list[Model], metric: str) -> Estimate | None:
    """Our estimate of a metric over the seeds that have it; None where it did not run."""
    found = [model for model in models if metric in model.values]
    if not found:
        return None
    draws = [model.draws[metric] for model in found if metric in model.draws]
    return estimate([model.values[metric] for model in found], draws)


def lead(first: list[Model], second: list[Model], metric: str) -> Estimate:
    """By how much ``first`` is above ``second`` in a metric, over the seeds and the resampled queries of both."""
    others = {model.seed: model for model in second}
    pairs = [(model, others[model.seed]) for model in first if model.seed in others]
    gaps = [one.values[metric] - other.values[metric] for one, other in pairs]
    return estimate(gaps, [one.draws[metric] - other.draws[metric] for one, other in pairs])


class Collapse(NamedTuple):
    """A model that has no ranking left, and why."""

    dataset: str
    defense: str
    seed: int
    reason: str


def collapses(models: Mapping[str, Mapping[str, list[Model]]]) -> list[Collapse]:
    """All collapsed models, of those by dataset and defense."""
    return [
        Collapse(
            dataset, defense, model.seed, collapse(*(model.values[key] for key in ("recall_at_1", "chance", "spread")))
        )
        for dataset, by_defense in models.items()
        for defense, found in by_defense.items()
        for model in found
        if model.values["collapsed"]
    ]


class FailedCheck(NamedTuple):
    """An attack that looks broken, and why."""

    dataset: str
    defense: str
    seed: int
    attack: str
    reason: str


def failed_checks(dataset: str, defense: str, seed: int, model: Model) -> list[FailedCheck]:
    """Attacks that may not have attacked: too few objectives improved, no movement, or gradients that vanish."""
    found = []
    for attack, checks in model.checks.items():
        if checks["improved"] < 0.5:
            reason = f"only {100 * checks['improved']:.0f} % of objectives ended better than they started"
        elif checks["stuck"] > 0.05:
            reason = f"{100 * checks['stuck']:.0f} % of queries have mostly zero gradients and did not improve"
        elif checks["largest_change"] == 0:
            reason = "no image was changed"
        else:
            continue
        found.append(FailedCheck(dataset, defense, seed, attack, reason))
    return found
