"""The published numbers: workflow/papers/<paper>/published.csv of every paper."""

import csv
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.reporting.tables import COLUMNS
from stages.runtime.errors import UserError, reason
from stages.runtime.params import PAPERS

HEADER = ["source", "dataset", "backbone", "loss", "defense", "metric", "value", "unit", "where"]


def read() -> pd.DataFrame:
    """All rows of all papers: source, dataset, backbone, loss, defense, metric, value, unit, where.

    Raises:
        UserError: a file is not such a table, or a value that could be compared is no number.
    """
    papers = sorted(path.parent.name for path in PAPERS.glob("*/published.csv"))
    return pd.concat([pd.DataFrame(columns=HEADER), *map(_read, papers)], ignore_index=True)


def _read(paper: str) -> pd.DataFrame:
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
    return pd.DataFrame([row for _, row in rows], columns=HEADER)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def of_table(rows: pd.DataFrame, block: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that a table block can show: of its source and of the datasets that it names; none without a source."""
    where = block.get("published")
    if not where:
        return rows.iloc[:0]
    return rows[(rows["source"] == where["source"]) & rows["dataset"].isin(where["datasets"].values())]


def has_collapsed(rows: pd.DataFrame, block: Mapping[str, Any], dataset: str, defense: str | None) -> bool:
    """Whether the source reports a collapsed training instead of values; arguments as in ``lookup``."""
    same = (rows["source"] == block["source"]) & (rows["dataset"] == block["datasets"].get(dataset))
    outcome = rows[same & (rows["defense"] == defense) & (rows["metric"] == "outcome")]["value"]
    return bool((outcome == "collapse").any())


def lookup(
    rows: pd.DataFrame, block: Mapping[str, Any], dataset: str, defense: str | None, metric: str
) -> float | None:
    """The value that a table block's sources print for one cell, or None.

    ``block`` is a table's ``published``: the source, the datasets' names there and, where one source prints a cell more
    than once, the files in the order to look in; ``defense`` is the row's name there.
    """
    name = COLUMNS[metric].published or COLUMNS[metric].heading if metric in COLUMNS else None
    chosen = rows[
        (rows["source"] == block["source"])
        & (rows["dataset"] == block["datasets"].get(dataset))
        & (rows["defense"] == defense)
        & (rows["metric"] == name)
    ]
    for file in block.get("where", [None]):
        here = chosen if file is None else chosen[chosen["where"].str.contains(f"/{file}:", regex=False)]
        if len(here):
            return float(here["value"].iloc[0])
    return None
