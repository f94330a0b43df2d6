"""The published numbers: workflow/papers/<paper>/published.csv of every paper."""

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting.tables import COLUMNS
from stages.runtime.errors import UserError, reason
from stages.runtime.params import PAPERS

HEADER = ["source", "dataset", "backbone", "loss", "defense", "metric", "value", "unit", "where"]

Rows = Sequence[Mapping[str, str]]  # by HEADER
Published = Mapping[tuple[str, str, str], Rows]  # by source, dataset and defense, as the sources call them


def read() -> Published:
    """All rows of all papers: source, dataset, backbone, loss, defense, metric, value, unit, where.

    Raises:
        UserError: a file is not such a table, or a value that could be compared is no number.
    """
    found: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for paper in sorted(path.parent.name for path in PAPERS.glob("*/published.csv")):
        for row in _read(paper):
            found.setdefault((row["source"], row["dataset"], row["defense"]), []).append(row)
    return found


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


def of_row(published: Published, block: Mapping[str, Any], dataset: str, defense: str | None) -> Rows:
    """What the source of a table block prints of one of its rows; none without a source.

    ``defense`` is the row's name there, None where it has none.
    """
    where = block.get("published", {"source": "", "datasets": {}})
    return published.get((where["source"], where["datasets"].get(dataset, ""), defense or ""), ())


def has_collapsed(rows: Rows) -> bool:
    """Whether the source reports a collapsed training instead of values."""
    return any(row["metric"] == "outcome" and row["value"] == "collapse" for row in rows)


def lookup(rows: Rows, metric: str, files: Sequence[str] = ("",)) -> float | None:
    """The value of a metric among the printed rows of one row of a table, or None.

    Where one source prints a cell more than once, ``files`` are those to look in, in this order.
    """
    name = COLUMNS[metric].published or COLUMNS[metric].heading if metric in COLUMNS else None
    for file in files:
        for row in rows:
            if row["metric"] == name and (not file or f"/{file}:" in row["where"]):
                return float(row["value"])
    return None
