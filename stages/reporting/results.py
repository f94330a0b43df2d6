"""A model's results read from files, marks, and estimates over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.stats import Estimate, estimate
from stages.reporting import strong
from stages.reporting.scoring import Queries, metric_name, scores
from stages.runtime import artifacts, checksums
from stages.runtime import params as parameters
from stages.runtime.errors import reason
from stages.runtime.params import Params

HISTORY = ("epoch", "loss", "loss_adversarial", "collapseness", "hardness", "recall_at_1")
SHRUNK_BELOW = 0.1  # a mean pairwise distance under this is marked: ERS rewards shrinking


class Source(NamedTuple):
    """Where values come from: a file of results, its SHA-256, those of what it was made from, and its job."""

    path: str
    sha256: str
    inputs: Mapping[str, str]
    job: str


class Model(NamedTuple):
    """One model's values.

    ``values`` by metric; ``draws`` the same over resampled queries (R,), for what is made of query means; ``checks``
    the self-checks of each attack; ``history`` one row per epoch; ``queries`` how many queries there are and
    ``attacked`` how many of them were attacked; ``sources`` by attack, and of "benign"; ``doubts`` the signs that
    attacks were too weak.
    """

    values: dict[str, float]
    draws: dict[str, NDArray[np.float64]]
    checks: dict[str, dict[str, float]]
    history: pd.DataFrame
    queries: int
    attacked: int
    seed: int = 0
    sources: Mapping[str, Source] = {}
    doubts: Sequence[str] = ()


def read_models(params: Params, run: Mapping[str, Any] | None = None) -> dict[str, dict[str, list[Model]]]:
    """The models of the run by dataset and defense, one for each seed; what is not there is left out.

    ``run`` is that of ``params``, or another of the same blocks.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    run = run or params["run"]
    blocks = {
        dataset: {name: parameters.attack(params, name, dataset) for name in run["attacks"]}
        for dataset in run["datasets"]
    }
    transfers = run.get("transfer", ())
    return {
        dataset: {
            defense: [
                read_model(dataset, defense, seed, run["attacks"], blocks[dataset], transfers)
                for seed in run["seeds"]
                if (artifacts.result_dir(dataset, defense, seed) / "benign.json").exists()
            ]
            for defense in run["defenses"]
        }
        for dataset in run["datasets"]
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read per-query values (parquet) or a training history (csv).

    Raises:
        UserError: it is missing or damaged.
    """
    artifacts.require(path)
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # pyarrow and pandas raise families of their own
        raise artifacts.damaged(path, f"damaged ({reason(error)})") from None


def read_history(path: Path) -> pd.DataFrame:
    """Read a training history: one row per epoch, numbers only.

    Raises:
        UserError: it is missing, damaged or cut short.
    """
    history = read_table(path)
    numbers = all(kind.kind in "iuf" for kind in history.dtypes) or not len(history)
    whole = path.read_bytes().endswith(b"\n")
    if (
        not whole
        or not set(HISTORY) <= set(history)
        or not numbers
        or list(history["epoch"]) != list(range(len(history)))
    ):
        raise artifacts.damaged(path, "damaged (not one row of numbers per epoch)")
    return history


def read_queries(
    dataset: str,
    defense: str,
    seed: int,
    attacks: Sequence[str],
    blocks: strong.Blocks,
    transfers: Sequence[str],
) -> tuple[Queries, dict[str, dict[str, float]], dict[str, Source], list[str]]:
    """Per-query values of one model, the self-checks of each attack that ran, where its values come from, and doubts.

    Of a suite they are the worst of its members, of the protocol's attack and of images of the ``transfers``.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    folder = artifacts.result_dir(dataset, defense, seed)
    path = folder / "benign.json"
    checksums.check_beside(checksums.load(path), path, "benign.parquet")
    benign = read_table(folder / "benign.parquet").drop(columns="image_id")
    reports, runs, sources = {}, {}, {}
    for attack in attacks:
        if not (folder / f"{attack}.json").exists():
            continue
        path = folder / f"{attack}.json"
        report = checksums.load(path, "metrics", "checks")
        checksums.check_beside(report, path, f"{attack}.parquet")
        reports[attack], runs[attack] = report, read_table(folder / f"{attack}.parquet")
        job = f"attack/{dataset}-{defense}-{seed}-{attack}"
        sources[attack] = source(folder / f"{attack}.json", report, job)
    transferred, before, after = read_transferred(dataset, defense, seed, transfers), {}, {}
    for attack, report in reports.items():
        table = strong.strongest(attack, blocks, runs, transferred)
        for metric in report["metrics"]:
            after[metric_name(metric, attack)] = table[f"{metric}_after"]
            before[metric_name(metric, attack)] = table[f"{metric}_before"]
    checks = {attack: report["checks"] for attack, report in reports.items()}
    doubts = strong.doubts(defense, blocks, runs, transferred)
    return Queries(benign, pd.DataFrame(before), pd.DataFrame(after)), checks, sources, doubts


def read_transferred(dataset: str, defense: str, seed: int, attacks: Sequence[str]) -> strong.Transferred:
    """What images that some attacks made on other models did to this one, by attack; those not there are left out.

    Raises:
        UserError: a file is damaged.
    """
    tables = {attack: read_transfer(dataset, attack) for attack in attacks}
    return {
        attack: table[(table["defense"] == defense) & (table["seed"] == seed)]
        for attack, table in tables.items()
        if table is not None
    }


def read_transfer(dataset: str, attack: str) -> pd.DataFrame | None:
    """Per-query values of an attack's transfer between all defenses; None where it is not there.

    Raises:
        UserError: a file is damaged, or missing beside the other.
    """
    path, values = artifacts.transfer_files(dataset, attack)
    if not path.exists():
        return None
    checksums.check_beside(checksums.load(path), path, values.name)
    return read_table(values)


def source(path: Path, report: Mapping[str, Any], job: str) -> Source:
    """Where the values of a job's report come from."""
    return Source(path.as_posix(), checksums.sha256(path), report["inputs"], job)


def read_model(
    dataset: str,
    defense: str,
    seed: int,
    attacks: Sequence[str],
    blocks: strong.Blocks | None = None,
    transfers: Sequence[str] = (),
) -> Model:
    """Read everything that was measured of one model and add the scores; attacks that did not run are left out.

    ``blocks`` are those of the attacks for the dataset, without which no two are combined or compared; ``transfers``
    names those whose images were tried on other models.

    Raises:
        UserError: a file is damaged, or missing beside others of the same job.
    """
    history = artifacts.model_dir(dataset, defense, seed) / "history.csv"
    curves = read_history(history) if history.exists() else pd.DataFrame(columns=list(HISTORY))
    path = artifacts.result_dir(dataset, defense, seed) / "benign.json"
    report = checksums.load(path, "metrics")
    queries, checks, sources, doubts = read_queries(dataset, defense, seed, attacks, blocks or {}, transfers)
    sources = {"benign": source(path, report, f"evaluate/{dataset}-{defense}-{seed}")} | sources
    values, draws = scores(report["metrics"], queries, dataset)
    attacked = min(len(queries.after), len(queries.benign)) if checks else len(queries.benign)
    return Model(values, draws, checks, curves, len(queries.benign), attacked, seed, sources, doubts)


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


def lead(first: Sequence[Model], second: Sequence[Model], metric: str) -> Estimate | None:
    """By how much ``first`` is above ``second`` in a metric, over the seeds and the resampled queries of both.

    None where no seed has it in both.
    """
    others = {model.seed: model for model in second if metric in model.values}
    pairs = [(model, others[model.seed]) for model in first if metric in model.values and model.seed in others]
    if not pairs:
        return None
    gaps = [one.values[metric] - other.values[metric] for one, other in pairs]
    return estimate(gaps, [one.draws[metric] - other.draws[metric] for one, other in pairs])
