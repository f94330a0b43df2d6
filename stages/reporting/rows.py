"""The rows of a table for one dataset: our values beside the published ones."""

from collections.abc import Mapping
from typing import Any

from stages.reporting.published import Published, has_collapsed, lookup, of_row
from stages.reporting.results import Model
from stages.reporting.seeds import estimated, mark
from stages.reporting.tables import Row, column
from stages.reporting.verdicts import COLLAPSED, verdict


def datasets_of(block: Mapping[str, Any], run: list[str], published: Published) -> list[str]:
    """Datasets of a table: those of the run, then those with published values that did not run.

    A table that names its ``datasets`` has no others.
    """
    where = block.get("published", {"source": "", "datasets": {}})
    printed = {dataset for source, dataset, _ in published if source == where["source"]}
    further = [dataset for dataset, name in where["datasets"].items() if dataset not in run and name in printed]
    shown = [*run, *further]
    return [dataset for dataset in shown if dataset in block.get("datasets", shown)]


def table_rows(
    block: Mapping[str, Any], dataset: str, models: Mapping[str, list[Model]], published: Published
) -> list[Row]:
    """The rows of one table block for one dataset."""
    files = block.get("published", {}).get("where", ("",))
    rows = []
    for defense, row in block["rows"].items():
        found = models.get(defense, [])
        cells, printed, verdicts = {}, {}, {}
        there = of_row(published, block, dataset, row.get("published"))
        for name in block["columns"]:
            cells[name], printed[name] = estimated(found, name), lookup(there, name, files)
            verdicts[name] = verdict(printed[name], cells[name], slack(block, found, name))
            if printed[name] is None and has_collapsed(there):
                verdicts[name] = COLLAPSED
        rows.append(Row(row["label"], mark(found) if found else "", cells, printed, verdicts, defense))
    return rows


def slack(block: Mapping[str, Any], models: list[Model], name: str) -> float:
    """How far a published value may lie outside our interval, in the metric's unit: the table's tolerance.

    For NMI also half its range over starts of the clustering, which the source does not print.
    """
    allowed = block.get("tolerance", 0) / 100 * column(name).span
    moved = max((model.values.get("nmi_deviation", 0.0) for model in models), default=0.0)
    return allowed + moved if name == "nmi" else allowed
