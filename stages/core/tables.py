"""Tables as data: what the columns mean, and how a table of estimates becomes CSV, Markdown, LaTeX and HTML."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import pandas as pd

from stages.core.stats import Estimate

NOT_RUN = "not run"


class Column(NamedTuple):
    """A metric in a table: heading, LaTeX heading, decimals, better direction (+1 higher, -1 lower, 0 neither)."""

    heading: str
    latex: str
    decimals: int
    better: int
    definition: str


COLUMNS: dict[str, Column] = {
    "recall_at_1": Column("R@1", "R@1", 1, 1, "share of queries whose nearest item is of their class, percent"),
    "recall_at_2": Column("R@2", "R@2", 1, 1, "share of queries with one of their class in the nearest two, percent"),
    "map": Column("mAP", "mAP", 1, 1, "mean average precision over the complete ranking, percent"),
    "map_at_r": Column("mAP@R", "mAP@R", 1, 1, "mean average precision up to R = number of relevant items, percent"),
    "map_at_10": Column("mAP@10", "mAP@10", 1, 1, "the reference's mAP@R, which fixes R = 10, percent"),
    "nmi": Column("NMI", "NMI", 1, 1, "mutual information of k-means clusters and classes, normalised, percent"),
    "ca_plus": Column("CA+", "CA+", 1, 1, "rank of a candidate that climbs, percent; 50 is unaffected"),
    "ca_minus": Column("CA-", "CA$-$", 1, -1, "rank of a candidate that sinks, percent; 0 is unaffected"),
    "qa_plus": Column("QA+", "QA+", 1, 1, "rank of a candidate the query lifts, percent; 50 is unaffected"),
    "qa_minus": Column("QA-", "QA$-$", 1, -1, "rank of a candidate the query sinks, percent; 0 is unaffected"),
    "tma": Column("TMA", "TMA", 3, -1, "cosine of the attacked query to a target embedding; lower is more robust"),
    "es_d": Column("ES:D", "ES:D", 3, -1, "distance an attacked embedding moves, 0 to 2; lower is more robust"),
    "es_r": Column("ES:R", "ES:R", 1, 1, "R@1 of queries moved away from themselves, percent"),
    "ltm": Column("LTM", "LTM", 1, 1, "R@1 under learning to misrank, percent"),
    "gtm": Column("GTM", "GTM", 1, 1, "R@1 under greedy top-1 misranking, percent"),
    "gtt": Column("GTT", "GTT", 1, 1, "share of queries that keep their top-1 item in the top 4, percent"),
    "ers": Column("ERS", "ERS", 1, 1, "empirical robustness score: mean of the ten normalised sub-scores, percent"),
    "spread": Column("spread", "spread", 3, 0, "mean distance of clean test embeddings, 0 to 2; shrinking raises ERS"),
}  # fmt: skip


class Row(NamedTuple):
    """One row: its label, a mark ("collapsed", "shrunk" or ""), and an estimate per column; None is a missing cell."""

    label: str
    mark: str
    cells: Mapping[str, Estimate | None]


def text(column: str, cell: Estimate | None, *, interval: bool) -> str:
    """A cell as people read it: value, and the interval in brackets where asked for and known."""
    if cell is None:
        return NOT_RUN
    decimals = COLUMNS[column].decimals
    if not interval or cell.interval is None:
        return f"{cell.mean:.{decimals}f}"
    return f"{cell.mean:.{decimals}f} [{cell.interval.low:.{decimals}f}, {cell.interval.high:.{decimals}f}]"


def labelled(row: Row) -> str:
    """The row's label with its mark in brackets."""
    return f"{row.label} ({row.mark})" if row.mark else row.label


def tidy(dataset: str, rows: list[Row], columns: list[str]) -> pd.DataFrame:
    """One line per cell for pandas: dataset, row, mark, metric, value, low, high, interval_over; NaN where not run."""
    records = []
    for row in rows:
        for name in columns:
            cell = row.cells[name]
            low, high = cell.interval if cell and cell.interval else (None, None)
            records.append(
                {
                    "dataset": dataset,
                    "row": row.label,
                    "mark": row.mark,
                    "metric": name,
                    "value": cell.mean if cell else None,
                    "low": low,
                    "high": high,
                    "interval_over": cell.over if cell else NOT_RUN,
                }
            )
    return pd.DataFrame(records)


def best(rows: list[Row], column: str) -> set[str]:
    """Labels of the rows with the best value of a column; empty where no direction is better or nothing ran."""
    better = COLUMNS[column].better
    values = {row.label: better * cell.mean for row in rows if (cell := row.cells[column]) is not None}
    if not better or not values:
        return set()
    decimals = COLUMNS[column].decimals
    top = max(round(value, decimals) for value in values.values())
    return {label for label, value in values.items() if round(value, decimals) == top}


def markdown(title: str, rows: list[Row], columns: list[str], intervals: Collection[str]) -> str:
    """A GitHub table under its title, ready for a README; ``intervals`` names the columns that show theirs."""
    body = [
        [labelled(row)] + [text(name, row.cells[name], interval=name in intervals) for name in columns] for row in rows
    ]
    table = pd.DataFrame(body, columns=["", *(COLUMNS[name].heading for name in columns)])
    return f"### {title}\n\n{table.to_markdown(index=False, disable_numparse=True)}\n"


def latex(title: str, rows: list[Row], columns: list[str], intervals: Collection[str]) -> str:
    """A booktabs tabular, the best value of each column in bold by its direction."""
    escape = str.maketrans({"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#"})
    winners = {name: best(rows, name) for name in columns}
    lines = [
        f"% {title}",
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
        " & ".join(["", *(COLUMNS[name].latex for name in columns)]) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        cells = [labelled(row).translate(escape)]
        for name in columns:
            value = text(name, row.cells[name], interval=name in intervals)
            cells.append(rf"\textbf{{{value}}}" if row.label in winners[name] else value)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
