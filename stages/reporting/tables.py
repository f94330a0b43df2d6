"""Tables as data: the meaning of the columns, and tables of estimates as CSV and Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stages.core.scores import FURTHER, MEASURED_BY, STANDARD_ATTACKS
from stages.core.stats import Estimate
from stages.reporting.verdicts import NOT_RUN


class Column(NamedTuple):
    """A metric in a table.

    ``better`` is +1 where higher is better, -1 where lower is, 0 where neither; ``span`` the width of its range;
    ``published`` its name in published.csv where that is not the heading; ``unit`` what it is counted in.
    """

    heading: str
    decimals: int
    better: int
    span: float
    definition: str
    published: str = ""
    unit: str = "percent"

    @property
    def axis(self) -> str:
        """The heading with the unit in brackets, without the unit's range."""
        return f"{self.heading} ({self.unit.partition(',')[0]})"


COLUMNS: dict[str, Column] = {
    "recall_at_1": Column("R@1", 1, 1, 100, "share of queries whose nearest item is of their class"),
    "recall_at_2": Column("R@2", 1, 1, 100, "share of queries with one of their class in the nearest two"),
    "map": Column("mAP", 1, 1, 100, "mean average precision over the complete ranking"),
    "map_at_r": Column("mAP@R", 1, 1, 100, "mean average precision up to R = number of relevant items", "-"),
    "map_at_10": Column("mAP@10", 1, 1, 100, "the reference's mAP@R, which fixes R = 10", "mAP@R(R=10)"),
    "nmi": Column("NMI", 1, 1, 100, "mutual information of k-means clusters and classes, normalized"),
    "ca_plus": Column("CA+", 1, 1, 100, "rank of a candidate that climbs; 50 is unaffected"),
    "ca_minus": Column("CA-", 1, -1, 100, "rank of a candidate that sinks; 0 is unaffected"),
    "qa_plus": Column("QA+", 1, 1, 100, "rank of a candidate the query lifts; 50 is unaffected"),
    "qa_minus": Column("QA-", 1, -1, 100, "rank of a candidate the query sinks; 0 is unaffected"),
    "tma": Column("TMA", 3, -1, 1, "cosine of the attacked query to a target embedding", unit="cosine, -1 to 1"),
    "es_d": Column("ES:D", 3, -1, 2, "distance an attacked embedding moves", unit="distance, 0 to 2"),
    "es_r": Column("ES:R", 1, 1, 100, "R@1 of queries moved away from themselves"),
    "ltm": Column("LTM", 1, 1, 100, "R@1 under learning to misrank"),
    "gtm": Column("GTM", 1, 1, 100, "R@1 under greedy top-1 misranking"),
    "gtt": Column("GTT", 1, 1, 100, "share of queries that keep their top-1 item in the top 4"),
    "spqa_plus": Column("SPQA+", 1, 1, 100, "QA+ while the query's own nearest five are held on top"),
    "spqa_plus_kept": Column("SPQA+ kept", 1, 1, 100, "mean rank of those five; near 0 the attack is not seen"),
    "spqa_minus": Column("SPQA-", 1, -1, 100, "QA- while the query's own nearest five are held on top"),
    "spqa_minus_kept": Column("SPQA- kept", 1, 1, 100, "mean rank of those five; near 0 the attack is not seen"),
    "order": Column("OA", 3, -1, 2, "Kendall's tau of the nearest five and the attacker's order", unit="tau, -1 to 1"),
    "order_src": Column("OA:SRC", 3, -1, 2, "the same among the first 50 places", unit="tau, -1 to 1"),
    "order_kept": Column("OA kept", 1, 1, 100, "mean rank of those five; near 0 the attack is not seen"),
    "ers": Column("ERS", 1, 1, 100, "empirical robustness score: mean of the ten normalized sub-scores"),
    "ers_exact": Column("ERS (exact)", 1, 1, 100, "ERS with ES, LTM and GTM in the exact variant"),
    "ers_strong": Column("ERS (strong)", 1, 1, 100, "ERS with the worst of all that was tried on each query"),
    "ers_surviving": Column("ERS that survives", 1, 1, 100, "ERS (strong) as a share of ERS"),
    "ars_reconstructed": Column("ARS (reconstructed)", 1, 1, 100, "mean share of the benign state that is kept"),
    "spread": Column(
        "mean pairwise distance", 3, 0, 2, "of clean embeddings; shrinking raises ERS", unit="distance, 0 to 2"
    ),
    "collapsed": Column(
        "collapsed", 0, 0, 1, "R@1 at most twice chance, or mean pairwise distance under 0.001", unit="0 or 1"
    ),
}

_VARIANTS = (
    "ES:D, LTM and GTM are in the variant `reference`, which made the published values. Columns marked (exact) follow "
    "the descriptions of the attacks."
)
NOTES: dict[str, str] = {
    "es_d": _VARIANTS,
    "ltm": _VARIANTS,
    "gtm": _VARIANTS,
    "ars_reconstructed": "ARS (reconstructed) is our own score relative to clean images. The formula of the paper's "
    "ARS was not available, so these values are not comparable with the paper's.",
    "ers_strong": "ERS (strong) and columns marked (strong): of each query the worst of the protocol's attack, of the "
    "strong suite, and of images made on other models where that was tried.",
    "nmi": "NMI uses one start of FAISS's k-means, as the reference does. `nmi_deviation` in scores.csv is half the "
    "range over ten starts; a verdict on NMI allows for it.",
    "spread": "shrunk: mean pairwise distance under 0.1, which raises ERS without protecting a ranking. collapsed: R@1 "
    "at most twice chance, or mean pairwise distance under 0.001.",
}

SCORES = ("ers", "ers_exact", "ers_strong", "ers_surviving", "ars_reconstructed", "spread", "collapsed")


class Row(NamedTuple):
    """One row of a table for one dataset.

    ``mark`` is "collapsed", "shrunk" or ""; ``cells`` holds an estimate per column, None where it did not run;
    ``published`` the printed value or None, ``verdicts`` the comparison of the two; ``defense`` is its block's name.
    """

    label: str
    mark: str
    cells: Mapping[str, Estimate | None]
    published: Mapping[str, float | None]
    verdicts: Mapping[str, str]
    defense: str = ""

    @property
    def title(self) -> str:
        """The label with its mark in brackets."""
        return f"{self.label} ({self.mark})" if self.mark else self.label

    @property
    def is_published(self) -> bool:
        """Whether a paper has a value of any cell."""
        return any(value is not None for value in self.published.values())


def column(name: str) -> Column:
    """The column of ``metric`` or ``metric:attack block``; the latter's heading says which variant it is."""
    metric, _, block = name.partition(":")
    found = COLUMNS[metric]
    if not block:
        return found
    known = (*STANDARD_ATTACKS, *FURTHER.values())
    base = max((name for name in known if block.startswith(f"{name}_")), key=len, default="")
    variant = block.removeprefix(f"{base}_").replace("_", ", ") if base else block
    return found._replace(heading=f"{found.heading} ({variant})")


def group(name: str) -> str:
    """The group of a column: clean images, images under attack, or scores and what qualifies them."""
    metric = name.partition(":")[0]
    if metric in MEASURED_BY:
        return "Under attack"
    return "Scores" if metric in SCORES else "Clean images"


def notes(block: Mapping[str, Any]) -> list[str]:
    """The own note of a table block, then those on its columns, each one once."""
    own = [block["note"]] if "note" in block else []
    return list(dict.fromkeys([*own, *(NOTES[name] for name in block["columns"] if name in NOTES)]))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table with a fixed float format and line ending."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def grid(table: pd.DataFrame) -> str:
    """A table of texts, headings included, as a GitHub table, in which a bar would end the cell."""

    def escaped(text: str) -> str:
        return text.replace("|", r"\|")

    return table.rename(columns=escaped).map(escaped).to_markdown(index=False, disable_numparse=True)


def text(name: str, cell: Estimate | None, *, interval: bool) -> str:
    """A cell as text: the value, and its interval in brackets if wanted and known."""
    if cell is None:
        return NOT_RUN
    decimals = column(name).decimals
    if not interval or cell.interval is None:
        return f"{cell.mean:.{decimals}f}"
    return f"{cell.mean:.{decimals}f} [{cell.interval.low:.{decimals}f}, {cell.interval.high:.{decimals}f}]"


def tidy(by_dataset: Mapping[str, list[Row]], columns: list[str]) -> list[dict[str, object]]:
    """One record per cell for pandas; values are None where there is none."""
    return [record(dataset, row, name) for dataset, rows in by_dataset.items() for row in rows for name in columns]


def record(dataset: str, row: Row, name: str) -> dict[str, object]:
    """Everything that is known of one cell."""
    cell, printed = row.cells[name], row.published[name]
    low, high = cell.interval if cell and cell.interval else (None, None)
    bootstrap_low, bootstrap_high = cell.bootstrap if cell and cell.bootstrap else (None, None)
    return {
        "dataset": dataset,
        "defense": row.defense,
        "row": row.label,
        "mark": row.mark,
        "metric": name,
        "value": cell.mean if cell else None,
        "low": low,
        "high": high,
        "interval_over": cell.over if cell else "",
        "bootstrap_low": bootstrap_low,
        "bootstrap_high": bootstrap_high,
        "published": printed,
        "difference": cell.mean - printed if cell and printed is not None else None,
        "verdict": row.verdicts[name],
    }


def compared(rows: list[Row], columns: list[str]) -> str:
    """A GitHub table with a line for each cell that has a published value: ours beside it, difference and verdict."""
    body = []
    for row in rows:
        for name in columns:
            cell, printed, decimals = row.cells[name], row.published[name], column(name).decimals
            if printed is not None:
                gap = round(cell.mean - printed, decimals) + 0.0 if cell else None  # no minus at zero
                apart = "" if gap is None else f"{gap:+.{decimals}f}"
                ours = [text(name, cell, interval=True), apart, row.verdicts[name]]
                body.append([row.title, column(name).heading, f"{printed:.{decimals}f}", *ours])
    return grid(pd.DataFrame(body, columns=["row", "metric", "published", "ours", "difference", "verdict"]))


def best(rows: list[Row], name: str) -> set[str]:
    """Defenses of the rows with the best printed value of a column; empty where no direction is better, or no row is.

    Collapsed models have no ranking left, so none of their values is the best.
    """
    better, decimals = column(name).better, column(name).decimals
    standing = (row for row in rows if row.mark != "collapsed")
    values = {row.defense: better * cell.mean for row in standing if (cell := row.cells[name]) is not None}
    if not better or not values:
        return set()
    top = max(round(value, decimals) for value in values.values())
    found = {defense for defense, value in values.items() if round(value, decimals) == top}
    return found if len(found) < max(3, len(values)) else set()


def markdown(block: Mapping[str, Any], place: str, rows: list[Row]) -> str:
    """A table block as a GitHub table under its title, ready for a README; ``place`` is the dataset that it is of."""
    columns = block["columns"]
    body = [
        [row.title, *(text(name, row.cells[name], interval=name in block["intervals"]) for name in columns)]
        for row in rows
    ]
    table = pd.DataFrame(body, columns=["", *(column(name).heading for name in columns)])
    below = "\n".join(f"- {note}" for note in notes(block))
    return f"### {block['title']}: {place}\n\n{grid(table)}\n\n{below}\n"
