"""Strong values: of each query the worst of a suite, of the protocol's attack, and of images made on other models."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.attacking import PROTOCOL
from stages.core.directions import metrics_of, worst_case
from stages.core.evaluation_checks import Run, by_steps, masked, of_runs, runs
from stages.reporting.scoring import metric_name

FEWEST = 30  # queries that transferred images need for a comparison, below which a standard error says little
# Attack blocks for one dataset, as ``stages.runtime.params.attack`` gives them.
Blocks = Mapping[str, Mapping[str, Any]]
Tables = Mapping[str, pd.DataFrame]  # per-query values of one model by attack block
# What transferred images did to one model, by the attack block that they were made with: per-query values before and
# after, and the ``source``, the defense that they were made on.
Transferred = Mapping[str, pd.DataFrame]


def goal(block: Mapping[str, Any]) -> tuple[str, float]:
    """What a block attacks, and its share of the budget: only blocks that agree in both can be compared."""
    return block["attack"], block.get("eps_scale", 1)


def columns_of(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Per-query values (Q,) by column."""
    return {str(name): table[name].to_numpy() for name in table}


def combined(suite: pd.DataFrame, others: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """A suite's table in which each metric of each query is the worst that it or any other table has.

    So no query is stronger than under the protocol's attack, where that is among them. Queries that a table leaves out,
    or has no value of, keep what they have.
    """
    worst, tables = suite.copy(), [table.set_index("image_id") for table in others]
    for column in (f"{metric}_after" for metric in metrics_of(suite)):
        own = suite[column].to_numpy(dtype=np.float64)
        found = [table[column].reindex(suite["image_id"]).to_numpy(dtype=np.float64) for table in tables]
        values = np.stack([own, *(np.where(np.isnan(one), own, one) for one in found)])
        worst[column] = worst_case(column.removesuffix("_after"), values)
    return worst


def comparable(table: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """The transferred rows that begin where a model's own attack begins.

    An attack that chooses its target by clean distances may have chosen another one on the other model; what that one
    does says nothing of the model's own.
    """
    shared = [name for name in table if str(name).startswith("target") or str(name).endswith("_before")]
    known = [name for name in shared if name in moved and name != "objective_before"]
    own = table.set_index("image_id")[known].reindex(moved["image_id"]).to_numpy(dtype=np.float64)
    same = np.isclose(own, moved[known].to_numpy(dtype=np.float64), rtol=0, atol=1e-6).all(axis=1)
    return moved[same]


def sources(
    name: str, blocks: Blocks, table: pd.DataFrame, transferred: Transferred
) -> list[tuple[str, str, pd.DataFrame]]:
    """Source, attack, and values of transferred images with the goal and the targets of a block."""
    return [
        (str(source), attack, comparable(table, part))
        for attack, moved in transferred.items()
        if goal(blocks[attack]) == goal(blocks[name])
        for source, part in moved.groupby("source", sort=False)
    ]


def strongest(name: str, blocks: Blocks, tables: Tables, transferred: Transferred) -> pd.DataFrame:
    """A block's per-query values: of a suite the worst of all that was tried, of any other block its own.

    The protocol's attack is the block that is called like the entry of ATTACKS.
    """
    if "suite" not in blocks[name]:
        return tables[name]
    plain = blocks[name]["attack"]
    same = plain in tables and goal(blocks[plain]) == goal(blocks[name])
    moved = [part for _, _, part in sources(name, blocks, tables[name], transferred)]
    return combined(tables[name], [*([tables[plain]] if same else []), *moved])


def by_member(blocks: Blocks, tables: Tables) -> dict[str, float]:
    """Mean over queries of each metric that one member of a suite left alone, as ``ltm:ltm_strong@square``."""
    return {
        f"{metric_name(metric, name)}@{member}": float(table[f"{metric}_after@{member}"].mean())
        for name, table in tables.items()
        for metric in metrics_of(table)
        for member in blocks[name].get("suite", ())
    }


def doubts(defense: str, blocks: Blocks, tables: Tables, transferred: Transferred) -> list[str]:
    """Signs that one model's attacks were too weak: of members of suites, and between blocks of one goal.

    What a block without a suite shows by itself is in its own checks (``doubts.failed_checks``). ES:D of transferred
    images counts only beside an attack that ends with what it measured: the protocol's loop is published one step early
    (method.md Q9), a transfer after the last.
    """
    found: list[str] = []
    goals: dict[tuple[str, float], list[str]] = {}
    for name, table in tables.items():
        found += of_runs(name, blocks[name], columns_of(table)) if "suite" in blocks[name] else []
        goals.setdefault(goal(blocks[name]), []).append(name)
    for (attack, _), names in goals.items():
        first = tables[names[0]]
        same = [name for name in names if list(tables[name]["image_id"]) == list(first["image_id"])]
        tried = [run for name in same for run in runs(name, blocks[name], columns_of(tables[name]))]
        found += by_steps(tried) + masked(attack, tried)
        for source, made_by, part in sources(names[0], blocks, first, transferred):
            if source != defense and len(part) >= FEWEST:
                there = first["image_id"].isin(part["image_id"]).to_numpy()
                values = part.set_index("image_id").loc[first["image_id"][there]]
                white = [run.at(there) for run in tried if not run.black_box]
                early = all(run.strength.optimizer == "sign" for run in white)
                metrics = [metric for metric in metrics_of(part) if not (early and metric == "es_d")]
                after = {metric: values[f"{metric}_after"].to_numpy() for metric in metrics}
                found += masked(attack, white, [Run(f"{made_by} from {source}", 0, PROTOCOL, after)])
    return found
