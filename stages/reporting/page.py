"""The content of the report page, and its HTML: one self-contained file."""

import base64
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.core.scores import MEASURED_BY
from stages.reporting import differences, tables
from stages.reporting.results import Model
from stages.reporting.seeds import having, lead, ranking
from stages.reporting.tables import Row
from stages.reporting.transfers import HOW_TO_READ
from stages.reporting.verdicts import COLLAPSED, DIFFERS, FEW, MATCH, NOT_RUN, UNPUBLISHED, tally
from stages.runtime import artifacts, checksums, params

TEMPLATES = Path(__file__).parent / "templates"
# A verdict's mark has a shape and a word beside a color, so that it can be read without seeing colors.
MARKS = {
    MATCH: ("match", "✓"),
    DIFFERS: ("differs", "✗"),
    FEW: ("few", "◔"),
    NOT_RUN: ("absent", "–"),
    UNPUBLISHED: ("absent", ""),
    COLLAPSED: ("absent", "▽"),
}
DIRECTIONS = {1: ("↑", "higher is better"), -1: ("↓", "lower is better"), 0: ("", "neither direction is better")}
FIGURES = {
    "tradeoff": (
        "What robustness costs",
        "ERS against R@1 with 95 % intervals. Hollow marks are published values, of other datasets if this run has "
        "none of theirs.",
    ),
    "sub_scores": ("The ten parts of ERS", "Each sub-score as a share of its ideal, by defense, with 95 % intervals."),
    "history": (
        "Training",
        "Both losses, collapseness, hardness and R@1 by epoch, as means over seeds. R@1 on the test split is logged "
        "and never chooses a model.",
    ),
    "variants": (
        "Attacks as published and as described",
        "ES, LTM and GTM in the variant `reference`, which made the published numbers, and in the variant `exact`, as "
        "the papers describe them.",
    ),
    "transfer": ("Transfer between defenses", f"{HOW_TO_READ} The tables also have the values before."),
    "sweep": ("", "Metrics against the strength of their attack, with 95 % intervals."),
}


def section(name: str, dataset: str, block: Mapping[str, Any], rows: list[Row], sample: str) -> dict[str, Any]:
    """What the page needs of one table for one dataset."""
    columns = {column: tables.column(column) for column in block["columns"]}
    missing = sum(all(cell is None for cell in row.cells.values()) for row in rows)
    groups = [(group, len(list(found))) for group, found in groupby(columns, tables.group)]
    return {
        "name": name,
        "id": f"{name}-{dataset}",
        "dataset": dataset,
        "title": block["title"],
        "sample": sample,
        "columns": columns,
        "groups": groups,
        "intervals": block["intervals"],
        "rows": rows,
        "best": {column: tables.best(rows, column) for column in columns},
        "notes": tables.notes(block),
        "published": block["published"]["source"] if _is_published(rows) else None,
        "tolerance": block.get("tolerance"),
        "tally": tally(verdict for row in rows for verdict in row.verdicts.values()),
        "ran": missing < len(rows),
        "missing": missing,
    }


def _is_published(rows: list[Row]) -> bool:
    return any(row.is_published or COLLAPSED in row.verdicts.values() for row in rows)


def summary(section: Mapping[str, Any], models: Mapping[str, list[Model]]) -> dict[str, Any] | None:
    """The leaders of a table by ERS and by ARS (reconstructed), and their lead; None without ERS.

    Rows marked shrunk are ranked with their mark: the threshold is our choice, and a leader must not depend on it.
    Collapsed models have no ranking left and are not ranked.
    """
    leaders = [found for metric in differences.SCORES if (found := _leader(section["rows"], models, metric))]
    if not leaders or leaders[0]["metric"] != "ers":
        return None
    scored = having(models[leaders[0]["first"].defense], "ers")
    return {
        "dataset": section["dataset"],
        "leaders": leaders,
        "marked": [row for row in section["rows"] if row.mark and row.cells.get("ers") is not None],
        "queries": scored[0].attacked,
        "seeds": len(scored),
        "differences": [
            (heading, matrix) for heading, _, matrix in differences.of_rows(section["dataset"], section["rows"], models)
        ],
    }


def _leader(rows: list[Row], models: Mapping[str, list[Model]], metric: str) -> dict[str, Any] | None:
    """The first row by a score and the second; ``sure`` where the interval of their difference is above zero.

    ``seeds`` is the number of those that have the score in both.
    """
    shown = {row.defense: row for row in rows if row.mark != "collapsed" and row.cells.get(metric)}
    ranked = [shown[name] for name in ranking({defense: models[defense] for defense in shown}, metric)]
    if not ranked:
        return None
    first, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    gap = lead(models[first.defense], models[second.defense], metric) if second else None
    if second and gap and gap.mean < 0:  # the two share further seeds, which turn the order around
        first, second = second, first
        gap = lead(models[first.defense], models[second.defense], metric)
    of_both = [{model.seed for model in having(models[row.defense], metric)} for row in ranked[:2]]
    return {
        "metric": metric,
        "heading": tables.column(metric).heading,
        "first": first,
        "second": second,
        "gap": gap,
        "seeds": len(set.intersection(*of_both)),
        "sure": bool(gap and gap.interval and gap.interval.low > 0),
    }


def origin(metric: str) -> str:
    """The job that a metric's values come from: an attack block, "benign", or "" for scores made of all."""
    name, _, block = metric.partition(":")
    if block:
        return block
    if name in MEASURED_BY:
        return MEASURED_BY[name]
    return "" if name in tables.SCORES and name != "spread" else "benign"


def provenance(models: Mapping[str, Mapping[str, list[Model]]], loaded: params.Params) -> list[dict[str, Any]]:
    """For every defense on every dataset: its parameters, and each file of results with hash and its job's record."""
    return [
        {
            "dataset": dataset,
            "defense": defense,
            "block": params.text(params.defense(loaded, defense, dataset)),
            "seeds": [
                {
                    "seed": model.seed,
                    "sources": model.sources,
                    "inputs": {path: sha for found in model.sources.values() for path, sha in found.inputs.items()},
                }
                for model in found
            ],
        }
        for dataset, by_defense in models.items()
        for defense, found in by_defense.items()
        if found
    ]


def anchors(behind: list[dict[str, Any]]) -> Callable[[str, str, str], str]:
    """A function of dataset, defense and metric: the id of the page's line on the file that the value comes from.

    With several seeds that of the first which has it; a score made of many files leads to all of them.
    """
    seeds = {(model["dataset"], model["defense"]): model["seeds"] for model in behind}

    def anchor(dataset: str, defense: str, metric: str) -> str:
        place, job = f"from-{dataset}-{defense}", origin(metric)
        ran = [found["seed"] for found in seeds[dataset, defense] if job in found["sources"]]
        return f"{place}-{ran[0]}-{job}" if ran else place

    return anchor


def pictures(datasets: list[str]) -> list[dict[str, Any]]:
    """The pictures of attacks of some datasets; missing ones are left out.

    Raises:
        UserError: a file is damaged.
    """
    found = [artifacts.REPORTS / "visualize" / f"{dataset}.json" for dataset in datasets]
    contents = [checksums.load_json(path, "dataset", "seed", "attacks", "images") for path in found if path.exists()]
    return [content for content in contents if content["attacks"]]


class Drawing(NamedTuple):
    """A figure of the report: its ``kind`` in FIGURES, of which dataset and, where it is of one, which table."""

    kind: str
    dataset: str = ""
    table: str = ""

    @property
    def name(self) -> str:
        """The name of its files, as ``stages.runtime.artifacts.figure_names`` has it."""
        return "_".join(filter(None, (self.kind, self.table, self.dataset)))


def drawings(folder: Path, drawn: list[Drawing], loaded: params.Params) -> list[dict[str, Any]]:
    """Figures as data addresses, with title and caption."""
    shown = []
    for one in drawn:
        title, caption = FIGURES[one.kind]
        content = (folder / f"{one.name}.svg").read_text()
        width = re.search(r'<svg [^>]*?width="([\d.]+)pt"', content)
        attacks = loaded["run"]["transfer"] if one.kind == "transfer" else []
        shown.append(
            {
                "name": one.name,
                "title": loaded["tables"][one.table]["title"] if one.table else title,
                "dataset": one.dataset,
                "caption": caption,
                "tables": [f"transfer_{attack}" for attack in attacks],
                "width": float(width[1]) * 96 / 72 if width else 640,
                "address": f"data:image/svg+xml;base64,{base64.b64encode(content.encode()).decode()}",
            }
        )
    return shown


def _broken(heading: str) -> Markup:
    """A heading with what it has in brackets on a line of its own."""
    name, bracket, rest = heading.partition(" (")
    return Markup("{}<br><small>({}</small>").format(name, rest) if bracket else escape(name)


def _marked(pattern: str, element: str, text: object) -> Markup:
    """Text with an HTML element for what a mark of Markdown encloses."""
    return Markup(re.sub(pattern, element, str(escape(text))))


def render(*, provenance: list[dict[str, Any]], **content: object) -> str:
    """The HTML page; style and script are put inside."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = lambda value, decimals: f"{value:.{decimals}f}"
    environment.filters["ticks"] = lambda text: _marked(r"`(.+?)`", r"<code>\1</code>", text)
    environment.filters["broken"] = _broken
    environment.filters["bold"] = lambda text: _marked(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    environment.globals |= {"MARKS": MARKS, "DIRECTIONS": DIRECTIONS, "anchor": anchors(provenance)}
    return environment.get_template("index.html.j2").render(
        style=Markup((TEMPLATES / "page.css").read_text()),
        script=Markup((TEMPLATES / "page.js").read_text()),
        metrics=tables.COLUMNS,
        how_to_read=differences.HOW_TO_READ,
        provenance=provenance,
        **content,
    )
