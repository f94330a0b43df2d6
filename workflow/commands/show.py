"""Print one table or one cell from the results that are there; nothing is computed or written."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from stages.runtime import artifacts, checksums, cli, params, threads
from workflow.commands import attacks_of, table_block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stages.reporting.outputs import Models
    from stages.reporting.tables import Row


def configure(parser: argparse.ArgumentParser) -> None:
    """What to print."""
    parser.add_argument("name", help="a block of `tables`, or dataset/defense/seed/attack (benign for no attack)")


def run(name: str) -> str:
    """A table of `tables` as Markdown, or the values of a cell `dataset/defense/seed/attack` (or `.../benign`).

    Raises:
        UserError: there is no such table or cell, or its results are not there.
    """
    loaded = params.load()
    if "/" in name:
        return cell(loaded, name)
    from stages.reporting import tables

    rows = table(loaded, name, models(loaded, name, shown(loaded, name)))
    return "\n".join(tables.markdown(loaded["tables"][name], dataset, found) for dataset, found in rows.items())


def models(loaded: params.Params, name: str, attacks: Iterable[str]) -> Models:
    """The models of a table's rows by dataset and defense, from the results of ``attacks`` that are there.

    Raises:
        UserError: there is no such table, or a result is damaged.
    """
    block, run = table_block(loaded, name), loaded["run"]
    threads.limit(1)
    from stages.reporting import results

    datasets = block.get("datasets", run["datasets"])
    asked = {**run, "datasets": datasets, "defenses": list(block["rows"]), "attacks": list(attacks)}
    return results.read_models(loaded, asked)


def shown(loaded: params.Params, name: str) -> list[str]:
    """The blocks of `attacks` that a table's values are made from, the protocol's beside each suite among them.

    Raises:
        UserError: there is no such table.
    """
    known = loaded["attacks"]
    needed = attacks_of(table_block(loaded, name)["columns"], list(known))
    beside = [known[one]["attack"] for one in needed if "suite" in known[one]]
    return list(dict.fromkeys([*needed, *(one for one in (*beside, *loaded["run"]["transfer"]) if one in known)]))


def table(loaded: params.Params, name: str, found: Models) -> dict[str, list[Row]]:
    """The rows of a table by dataset, with the published values; ``found`` is what `models` gives."""
    from stages.reporting import published
    from stages.reporting.rows import table_rows

    block, printed = loaded["tables"][name], published.read()
    return {dataset: table_rows(block, dataset, by_defense, printed) for dataset, by_defense in found.items()}


def cell(loaded: params.Params, name: str) -> str:
    """One line for each metric of a cell: its name, the value, and for attacks the one before.

    Raises:
        UserError: there is no such cell, its results are not there or damaged, or the attack was on another model.
    """
    from stages.reporting.results import inputs_of_attack, read_table, require_members

    dataset, defense, seed, attack = cli.cell(name, loaded)
    path = artifacts.result_dir(dataset, defense, seed) / f"{attack}.json"
    artifacts.require(path, f"snakemake --cores 8 {path}")
    report = checksums.load(path, "metrics")
    if attack != "benign":
        benign = checksums.load(path.with_name("benign.json"))
        checksums.check_inputs(report, path, inputs_of_attack(benign, path.parent))
        require_members(path, attack, loaded["attacks"][attack], read_table(path.with_suffix(".parquet")))
    lines = []
    for metric, value in sorted(report["metrics"].items()):
        values = value if isinstance(value, dict) else {"after": value}
        before = f"  (before: {values['before']:.3f})" if "before" in values else ""
        lines.append(f"{metric:<20}{values['after']:>9.3f}{before}")
    return "\n".join(lines)
