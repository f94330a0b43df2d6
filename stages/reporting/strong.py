"""Strong values: of each query the worst of a suite, of the protocol's attack, and of images made on other models."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.attacking import PROTOCOL
from stages.core.directions import worst_case
from stages.core.evaluation_checks import Run, compared, of_runs, runs

Blocks = Mapping[
    str, Mapping[str, Any]
]  # attack blocks for one dataset, as ``stages.runtime.params.attack`` gives them
Tables = Mapping[str, pd.DataFrame]  # per-query values of one model by attack block


def goal(block: Mapping[str, Any]) -> tuple[str, float]:
    """What a block attacks, and its share of the budget: only blocks that agree in both can be compared."""
    return block["attack"], block.get("eps_scale", 1)


def metrics_of(table: pd.DataFrame) -> list[str]:
    """Names of what an attack measured, from its per-query values."""
    measured = [name.removesuffix("_after") for name in map(str, table) if name.endswith("_after")]
    return [name for name in measured if name != "objective"]


def columns_of(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Per-query values (Q,) by column."""
    return {str(name): table[name].to_numpy() for name in table}


def values_of(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Metrics of each query after an attack (Q,), by name."""
    return {metric: table[f"{metric}_after"].to_numpy() for metric in metrics_of(table)}


def combined(suite: pd.DataFrame, protocol: pd.DataFrame | None, transferred: pd.DataFrame | None) -> pd.DataFrame:
    """A suite's table in which each metric of each query is the worst that any of the three found.

    So no query is stronger than under the protocol's attack. ``transferred`` has one row per source, attack and query;
    only those of this goal are to be given. Queries that a table leaves out, or that it aims at another target, keep
    the suite's value: a target that ranks low by itself is no success.
    """
    others = [protocol] if protocol is not None else []
    others += [same_targets(table, suite) for _, _, table in by_source(transferred)]
    worst = suite.copy()
    for metric in metrics_of(suite):
        column = f"{metric}_after"
        values = [suite[column].to_numpy(dtype=np.float64)]
        for other in (table for table in others if column in table):
            found = other.set_index("image_id")[column].reindex(suite["image_id"]).to_numpy(dtype=np.float64)
            values.append(np.where(np.isnan(found), values[0], found))
        worst[column] = worst_case(metric, np.stack(values))
    return worst


def same_targets(table: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``table`` whose images have the same target or targets in ``reference``."""
    targets = [name for name in reference if str(name).startswith("target")]
    known = pd.MultiIndex.from_frame(reference[["image_id", *targets]])
    return table[pd.MultiIndex.from_frame(table[["image_id", *targets]]).isin(known)]


def by_source(transferred: pd.DataFrame | None) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Source, attack and values of transferred images, apart for each of the two."""
    for (source, attack), table in transferred.groupby(["source", "attack"]) if transferred is not None else ():
        yield str(source), str(attack), table.dropna(axis="columns", how="all")


def of_goal(name: str, blocks: Blocks, transferred: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of transferred values whose attack has the goal of a block."""
    if transferred is None:
        return None
    same = [other for other in blocks if goal(blocks[other]) == goal(blocks[name])]
    return transferred[transferred["attack"].isin(same)]


def strongest(name: str, blocks: Blocks, tables: Tables, transferred: pd.DataFrame | None) -> pd.DataFrame:
    """A block's per-query values: of a suite the worst of all that was tried, of any other block its own.

    The protocol's attack is the block that is called like the entry of ATTACKS.
    """
    if "suite" not in blocks[name]:
        return tables[name]
    plain = blocks[name]["attack"]
    same = plain in tables and goal(blocks[plain]) == goal(blocks[name]) and "suite" not in blocks[plain]
    return combined(tables[name], tables[plain] if same else None, of_goal(name, blocks, transferred))


def doubts(defense: str, blocks: Blocks, tables: Tables, transferred: pd.DataFrame | None) -> list[str]:
    """Signs that one model's attacks were too weak: of members of suites, and between blocks of one goal.

    What a block without a suite shows by itself is in its own checks (``results.doubtful``).
    """
    found: list[str] = []
    goals: dict[tuple[str, float], list[str]] = {}
    for name, table in tables.items():
        found += of_runs(name, blocks[name], columns_of(table)) if "suite" in blocks[name] else []
        goals.setdefault(goal(blocks[name]), []).append(name)
    for names in goals.values():
        ids = list(tables[names[0]]["image_id"])
        same = [name for name in names if list(tables[name]["image_id"]) == ids]
        tried = [run for name in same for run in runs(name, blocks[name], columns_of(tables[name]))]
        moved = [
            Run(f"{attack} from {source}", 0, PROTOCOL, values_of(table.set_index("image_id").loc[ids]))
            for source, attack, all_rows in by_source(of_goal(names[0], blocks, transferred))
            if source != defense and set(ids) <= set((table := same_targets(all_rows, tables[names[0]]))["image_id"])
        ]
        found += compared(blocks[names[0]]["attack"], tried, moved)
    return found
