"""The published numbers: workflow/papers/<paper>/published.csv of every paper."""

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting.tables import COLUMNS
from stages.runtime.errors import UserError, reason
from stages.runtime.params import PAPERS

HEADER = ["source", "dataset", "backbone", "loss", "defense", "metric", "value", "unit", "where"]

Rows = Sequence[Mapping[str, str]]  # by HEADER; plain, because thousands of cells look for their value among them


def read() -> Rows:
    """All rows of all papers: source, dataset, backbone, loss, defense, metric, value, unit, where.

    Raises:
        UserError: a file is not such a table, or a value that could be compared is no number.
    """
    papers = sorted(path.parent.name for path in PAPERS.glob("*/published.csv"))
    return [row for paper in papers for row in _read(paper)]


def _read(paper: str) -> Rows:
    file = f"workflow/papers/{paper}/published.csv"
    rows = []
    try:
        with (PAPERS / paper / "published.csv").open(encoding="utf-8", newline="") as content:
            reader = csv.reader(content, strict=True)
            header = next(reader, [])
            for row in reader:
                rows.append((reader.line_num, row))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({reason(error)})") from None
    if header != HEADER:
        raise UserError(f"{file}: the columns are {', '.join(header)}; write {', '.join(HEADER)}")
    shown = {column.published or column.heading for column in COLUMNS.values()}
    for line, row in rows:
        if len(row) != len(HEADER):
            raise UserError(f"{file}: line {line}: {len(row)} values, not {len(HEADER)}; put commas in quotes")
        value = row[HEADER.index("value")]
        if row[HEADER.index("metric")] in shown and not _is_number(value):
            raise UserError(f"{file}: line {line}: {value!r} is no number; write one such as 53.9")
    return [dict(zip(HEADER, row, strict=True)) for _, row in rows]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def of_table(rows: Rows, block: Mapping[str, Any]) -> Rows:
    """The rows that a table block can show: of its source and of the datasets that it names; none without a source."""
    where = block.get("published")
    if not where:
        return []
    return [row for row in rows if row["source"] == where["source"] and row["dataset"] in where["datasets"].values()]


def of_row(rows: Rows, block: Mapping[str, Any], dataset: str, defense: str | None) -> Rows:
    """The rows that one row of a table can show; arguments as in ``lookup``."""
    wanted = (block["source"], block["datasets"].get(dataset), defense)
    return [row for row in rows if (row["source"], row["dataset"], row["defense"]) == wanted]


def has_collapsed(rows: Rows, block: Mapping[str, Any], dataset: str, defense: str | None) -> bool:
    """Whether the source reports a collapsed training instead of values; arguments as in ``lookup``."""
    found = of_row(rows, block, dataset, defense)
    return any(row["metric"] == "outcome" and row["value"] == "collapse" for row in found)


def lookup(rows: Rows, block: Mapping[str, Any], dataset: str, defense: str | None, metric: str) -> float | None:
    """The value that a table block's sources print for one cell, or None.

    ``block`` is a table's ``published``: the source, the datasets' names there and, where one source prints a cell more
    than once, the files in the order to look in; ``defense`` is the row's name there.
    """
    name = COLUMNS[metric].published or COLUMNS[metric].heading if metric in COLUMNS else None
    chosen = [row for row in of_row(rows, block, dataset, defense) if row["metric"] == name]
    for file in block.get("where", [None]):
        for row in chosen:
            if file is None or f"/{file}:" in row["where"]:
                return float(row["value"])
    return None
