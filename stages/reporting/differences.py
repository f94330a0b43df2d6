"""Every defense against every other: differences of a score, paired by seed and by query, as tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.reporting.results import Model
from stages.reporting.seeds import lead, ranking
from stages.reporting.tables import Row, column, grid, write_csv

SCORES = ("ers", "ars_reconstructed")
CELL = ["dataset", "metric", "first", "second", "difference", "low", "high", "over"]
HOW_TO_READ = (
    "Row minus column, in points; the row with the higher mean comes first. Models of one seed share initial weights, "
    "batches and attacked queries, so differences are taken seed by seed. Brackets are 95 % t-intervals over seeds, or "
    "with fewer than three seeds 95 % bootstrap intervals over queries, which say nothing about another training. "
    "Bold: the interval leaves out zero. Of twenty such intervals about one does so by chance."
)


def cells(dataset: str, rows: Sequence[Row], models: Mapping[str, Sequence[Model]], metric: str) -> pd.DataFrame:
    """One line per pair of rows that share a seed and have the score, the higher mean first, in descending order."""
    ranked = ranking({row.defense: models[row.defense] for row in rows if row.cells.get(metric)}, metric)
    found = []
    for place, first in enumerate(ranked):
        for second in ranked[place + 1 :]:
            if gap := lead(models[first], models[second], metric):
                low, high = gap.interval or (np.nan, np.nan)
                found.append([dataset, metric, first, second, gap.mean, low, high, gap.over])
    return pd.DataFrame(found, columns=CELL)


def matrix(rows: Sequence[Row], found: pd.DataFrame) -> pd.DataFrame:
    """The pairs of one score as text, the row's score minus the column's; bold where the interval leaves out zero."""
    titles = {row.defense: row.title for row in rows}
    texts = [text(*cell) for cell in found[["difference", "low", "high"]].itertuples(index=False)]
    shown = found.assign(text=texts).pivot(index="first", columns="second", values="text").fillna("")
    shown = shown.loc[found["first"].unique(), found["second"].unique()].rename(index=titles, columns=titles)
    return shown.rename_axis(index="ahead \\ behind", columns=None)


def text(difference: float, low: float, high: float) -> str:
    """A difference with its interval where there is one, between ** where that leaves out zero."""
    if np.isnan(low):
        return f"{difference:.1f}"
    mark = "**" if low > 0 or high < 0 else ""
    return f"{mark}{difference:.1f} [{low:.1f}, {high:.1f}]{mark}"


def of_rows(
    dataset: str, rows: Sequence[Row], models: Mapping[str, Sequence[Model]]
) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The heading of each score that two of the rows have, its pairs and their matrix."""
    pairs = {metric: cells(dataset, rows, models, metric) for metric in SCORES}
    return [(column(metric).heading, found, matrix(rows, found)) for metric, found in pairs.items() if len(found)]


def write(
    panels: Mapping[str, Sequence[Row]], models: Mapping[str, Mapping[str, Sequence[Model]]], folder: Path
) -> None:
    """Write differences.csv, one pair per line, and .md, one table per dataset and score; ``panels`` by dataset."""
    lines, parts = [], []
    for dataset, rows in panels.items():
        for heading, found, table in of_rows(dataset, rows, models.get(dataset, {})):
            lines.append(found)
            parts.append(f"### Differences of {heading}: {dataset}\n\n{grid(table.reset_index())}\n")
    write_csv(pd.concat(lines) if lines else pd.DataFrame(columns=CELL), folder / "differences.csv")
    nothing = "### Differences between defenses: no two models of the first table have ERS"
    (folder / "differences.md").write_text("\n".join([*parts, HOW_TO_READ] if parts else [nothing]) + "\n")
