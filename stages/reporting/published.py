"""The published numbers, workflow/reference/published.csv."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.reporting.tables import COLUMNS

FILE = Path(__file__).parents[2] / "workflow" / "reference" / "published.csv"


def read() -> pd.DataFrame:
    """All rows: source, dataset, backbone, loss, defense, metric, value, unit, where."""
    return pd.read_csv(FILE, dtype=str)


def has_collapsed(rows: pd.DataFrame, block: Mapping[str, Any], dataset: str, defense: str | None) -> bool:
    """Whether the source says that training collapsed, instead of figures; arguments as in ``lookup``."""
    same = (rows["source"] == block["source"]) & (rows["dataset"] == block["datasets"].get(dataset))
    outcome = rows[same & (rows["defense"] == defense) & (rows["metric"] == "outcome")]["value"]
    return bool((outcome == "collapse").any())


def lookup(
    rows: pd.DataFrame, block: Mapping[str, Any], dataset: str, defense: str | None, metric: str
) -> float | None:
    """The value that a table block's sources print for one cell, or None.

    ``block`` is a table's ``published``: the source, the files in the order to look in, and the datasets' names there;
    ``defense`` the row's name there.
    """
    name = COLUMNS[metric].published or COLUMNS[metric].heading if metric in COLUMNS else None
    chosen = rows[
        (rows["source"] == block["source"])
        & (rows["dataset"] == block["datasets"].get(dataset))
        & (rows["defense"] == defense)
        & (rows["metric"] == name)
    ]
    for file in block["where"]:
        here = chosen[chosen["where"].str.contains(f"/{file}:", regex=False)]
        if len(here):
            return float(here["value"].iloc[0])
    return None
