"""A model's results, read from the files of its jobs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.reporting import strong
from stages.reporting.scoring import Queries, metric_name, scores
from stages.runtime import artifacts, checksums
from stages.runtime import params as parameters
from stages.runtime.errors import UserError, reason
from stages.runtime.params import Params

HISTORY = ("epoch", "loss", "loss_adversarial", "collapseness", "hardness", "recall_at_1")
NOTHING: strong.Transferred = {}


class Source(NamedTuple):
    """Where values come from: a file of results, its SHA-256, those of what it was made from, and its job."""

    path: str
    sha256: str
    inputs: Mapping[str, str]
    job: str


class Model(NamedTuple):
    """One model's values.

    ``values`` by metric; ``draws`` the same over resampled queries (R,), for what is made of query means, but not for
    single members of suites; ``checks`` the self-checks of each attack; ``history`` one row per epoch; ``queries`` how
    many queries there are, ``attacked`` how many of them were attacked and ``candidates`` how many images of a gallery
    of its own, 0 where no such attack ran; ``sources`` by attack, and of "benign"; ``doubts`` the signs that attacks
    were too weak.
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
    candidates: int = 0


def every(models: Mapping[str, Mapping[str, list[Model]]]) -> Iterator[tuple[str, str, Model]]:
    """Dataset, defense and model, of all models by dataset and defense."""
    for dataset, by_defense in models.items():
        for defense, found in by_defense.items():
            yield from ((dataset, defense, model) for model in found)


def read_models(params: Params, run: Mapping[str, Any] | None = None) -> dict[str, dict[str, list[Model]]]:
    """The models of the run by dataset and defense, one for each seed; what is not there is left out.

    ``run`` is that of ``params``, or another of the same blocks; transfers are between the defenses of the former.

    Raises:
        UserError: a file is damaged, missing beside others of the same job, or of another model than the others; or a
            suite has a member that its results lack.
    """
    run = run or params["run"]
    models: dict[str, dict[str, list[Model]]] = {}
    for dataset in run["datasets"]:
        blocks = {name: parameters.attack(params, name, dataset) for name in run["attacks"]}
        transfers = read_transfers(dataset, {**run, "defenses": params["run"]["defenses"]})
        models[dataset] = {
            defense: [
                read_model(dataset, defense, seed, blocks, of_model(transfers, defense, seed))
                for seed in run["seeds"]
                if (artifacts.result_dir(dataset, defense, seed) / "benign.json").exists()
            ]
            for defense in run["defenses"]
        }
    return models


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


def read_results(path: Path, *keys: str) -> tuple[checksums.Report, pd.DataFrame]:
    """The report of a job, which has at least ``keys``, and the per-query values beside it.

    Raises:
        UserError: a file is damaged, or missing beside the other.
    """
    report, values = checksums.load(path, *keys), path.with_suffix(".parquet")
    checksums.check_beside(report, path, values.name)
    return report, read_table(values)


def read_transfers(dataset: str, run: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Per-query values of attacks' transfers between defenses of a run, by attack; those not there are left out.

    So is what a transfer has of defenses and seeds that are no longer in the run.

    Raises:
        UserError: a file is damaged, missing beside the other, or of other models or attacks than the present ones.
    """
    found = {}
    for attack in run["transfer"]:
        path = artifacts.transfer_files(dataset, attack)[0]
        if not path.exists():
            continue
        report, table = read_results(path)
        inside = table["seed"].isin(run["seeds"])
        inside &= table["source"].isin(run["defenses"]) & table["defense"].isin(run["defenses"])
        if inside.any():
            found[attack] = table[inside]
            check_transfer(report, path, dataset, attack, found[attack])
    return found


def inputs_of_attack(benign: checksums.Report, folder: Path) -> dict[str, str]:
    """SHA-256 by path of what an attack on a model is made of, by ``benign``, the report of its evaluation."""
    return benign["inputs"] | {(folder / "gallery.npy").as_posix(): benign["outputs"]["gallery.npy"]}


def check_transfer(report: checksums.Report, path: Path, dataset: str, attack: str, table: pd.DataFrame) -> None:
    """Compare what the transfer at ``path`` was made of with the present results of the models in its ``table``.

    What was deleted of them since is not compared.

    Raises:
        UserError: they differ; names the first.
    """
    now: dict[str, str] = {}
    for defense, seed in table[["defense", "seed"]].drop_duplicates().itertuples(index=False):
        folder = artifacts.result_dir(dataset, defense, seed)
        benign, own = folder / "benign.json", folder / f"{attack}.json"
        now |= inputs_of_attack(checksums.load(benign), folder) if benign.exists() else {}
        now |= checksums.hashes(own) if own.exists() else {}
    then = {name: sha256 for name, sha256 in report["inputs"].items() if name in now}
    checksums.check_inputs({"inputs": then}, path, now)


def of_model(transfers: Mapping[str, pd.DataFrame], defense: str, seed: int) -> strong.Transferred:
    """What images that attacks made on other models did to one model, by attack."""
    return {
        attack: table[(table["defense"] == defense) & (table["seed"] == seed)] for attack, table in transfers.items()
    }


def read_model(
    dataset: str, defense: str, seed: int, blocks: strong.Blocks, transferred: strong.Transferred = NOTHING
) -> Model:
    """Read everything that was measured of one model and add the scores; attacks that did not run are left out.

    Values of a suite are the worst of its members, of the protocol's attack and of images made on other models; what
    each member left alone stands beside them. ``blocks`` are those of the attacks for the dataset, ``transferred`` what
    such images did to this model.

    Raises:
        UserError: a file is damaged, missing beside others of the same job, or of another model than ``benign.json``;
            or a suite has a member that its results lack.
    """
    folder, words = artifacts.result_dir(dataset, defense, seed), f"{dataset}-{defense}-{seed}"
    history = artifacts.model_dir(dataset, defense, seed) / "history.csv"
    curves = read_history(history) if history.exists() else pd.DataFrame(columns=list(HISTORY))
    benign, queries = read_results(folder / "benign.json", "metrics")
    sources = {"benign": source(folder / "benign.json", benign, f"evaluate/{words}")}
    reports, runs, before, after = {}, {}, {}, {}
    for attack in blocks:
        path = folder / f"{attack}.json"
        if path.exists():
            reports[attack], runs[attack] = read_results(path, "metrics", "checks")
            require_members(path, attack, blocks[attack], runs[attack])
            checksums.check_inputs(reports[attack], path, inputs_of_attack(benign, folder))
            sources[attack] = source(path, reports[attack], f"attack/{words}-{attack}")
    for attack, report in reports.items():
        table = strong.strongest(attack, blocks, runs, transferred)
        for metric in report["metrics"]:
            after[metric_name(metric, attack)] = table[f"{metric}_after"]
            before[metric_name(metric, attack)] = table[f"{metric}_before"]
    measured = Queries(queries.drop(columns="image_id"), pd.DataFrame(before), pd.DataFrame(after))
    values, draws = scores(benign["metrics"], measured, dataset)
    values |= strong.by_member(blocks, runs)
    attacked, candidates = perturbed(runs.values(), queries["image_id"])
    return Model(
        values,
        draws,
        checks={attack: report["checks"] for attack, report in reports.items()},
        history=curves,
        queries=len(queries),
        attacked=attacked,
        seed=seed,
        sources=sources,
        doubts=strong.doubts(defense, blocks, runs, transferred),
        candidates=candidates,
    )


def require_members(path: Path, attack: str, block: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Refuse the results of a suite from before a member was added to its block.

    Raises:
        UserError: a member is not in them; names it.
    """
    for member in block.get("suite", ()):
        if f"objective_after@{member}" not in table:
            raise UserError(
                f"{path}: has nothing of {member!r}, a member of attacks.{attack}.suite now; "
                f"run `ca-tride compute {'/'.join([*path.parent.parts[-3:], attack])}`"
            )


def perturbed(tables: Iterable[pd.DataFrame], queries: pd.Series) -> tuple[int, int]:
    """How many queries attacks perturbed, and how many images that are none: those of a gallery of its own.

    ``tables`` have the per-query values of one attack each, ``queries`` the image ids of all queries (Q,).
    """
    found = {True: 0, False: 0}
    for table in tables:
        of_queries = bool(table["image_id"].isin(queries).all())
        found[of_queries] = max(found[of_queries], len(table))
    return found[True], found[False]


def source(path: Path, report: Mapping[str, Any], job: str) -> Source:
    """Where the values of a job's report come from."""
    return Source(path.as_posix(), checksums.sha256(path), report["inputs"], job)
