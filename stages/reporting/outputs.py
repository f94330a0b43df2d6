"""Scores, tables, comparison and the page, from exactly the configured matrix."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.scores import MEASURED_BY
from stages.reporting import differences, doubts, figures, latex, page, published, results, tables, transfers
from stages.reporting.results import Model
from stages.reporting.rows import datasets_of, table_rows
from stages.reporting.tables import Row
from stages.runtime import artifacts, checksums
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from stages.runtime.params import Params

log = logging.getLogger(__name__)
SCORE = ["dataset", "defense", "seed", "metric", "value"]
HEADLINE = {"recall_at_1", "ers", "ars_reconstructed", "spread", "collapsed"}  # for `dvc metrics` and `dvc plots`

Models = dict[str, dict[str, list[Model]]]  # by dataset and defense, one per seed


def write(params: Params) -> list[Path]:
    """Write reports/scores.csv, headline.csv, comparison.csv, metrics.json, index.html, tables/ and figures/.

    Raises:
        UserError: nothing of the run is there, or a file of it is damaged.
    """
    models = results.read_models(params)
    count = len(list(results.every(models)))
    if not count:
        words = " ".join(str(params["run"][kind][0]) for kind in ("datasets", "defenses", "seeds"))
        raise UserError(
            f"{artifacts.RESULTS}: nothing of the run is there; run `snakemake --cores 8` or, for one model, "
            f"`python -m stages.evaluate {words}` first"
        )
    log.info("read %d models", count)
    run, labels = params["run"], labels_of(params)
    transferred = {dataset: results.read_transfers(dataset, run) for dataset in run["datasets"]}
    failed, collapsed = doubts.failed_checks(models), doubts.collapses(models)
    doubtful = doubts.weak_attacks(models)
    reports = artifacts.REPORTS
    files = [reports / name for name in ("scores.csv", "headline.csv", "comparison.csv", "metrics.json", "index.html")]
    with (
        artifacts.writing(*files) as (scores_path, headline_path, comparison_path, metrics_path, page_path),
        artifacts.replacing(reports / "tables") as table_folder,
        artifacts.replacing(reports / "figures") as figure_folder,
    ):
        sections, comparison = write_tables(params, models, table_folder)
        transfers.write(transferred, run, labels, table_folder)
        differences.write(panels(sections), models, table_folder)
        drawn = draw(params, models, sections, transferred, figure_folder)
        scores = score_table(models)
        chosen = scores[scores["metric"].isin(HEADLINE)]
        tables.write_csv(scores, scores_path)
        tables.write_csv(pd.DataFrame(comparison, columns=None if comparison else ["table"]), comparison_path)
        tables.write_csv(wide(chosen), headline_path)
        checksums.dump_json(nested(chosen), metrics_path)
        shown = page.drawings(figure_folder, drawn, params)
        against = {"failed_checks": failed, "collapsed": collapsed, "doubts": doubtful}
        missing = absent(params, models, transferred)
        page_path.write_text(html(params, models, sections, figures=shown, labels=labels, absent=missing, **against))
    for doubt in failed:
        log.info("look at %s: %s", doubt.words, doubt.reason)
    for doubt in doubtful:
        log.warning("warning: %s: %s", doubt.words, doubt.reason)
    for doubt in collapsed:
        log.warning("%s has collapsed: %s; its scores say nothing of robustness", doubt.words, doubt.reason)
    return [*files, *sorted((reports / "tables").iterdir()), *sorted((reports / "figures").iterdir())]


def html(params: Params, models: Models, sections: list[dict[str, Any]], **content: object) -> str:
    """The page."""
    run, first = params["run"], leading(sections)
    return page.render(
        run=run,
        sections=sections,
        first=first,
        summaries=[page.summary(part, models.get(part["dataset"], {})) for part in first],
        galleries=page.pictures(run["datasets"]),
        provenance=page.provenance(models, params),
        blocks=blocks(params),
        **content,
    )


def write_tables(params: Params, models: Models, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write every table as csv, md and tex; what the page needs of each, and the rows of comparison.csv."""
    sections, comparison, printed = [], [], published.read()
    for name, block in params["tables"].items():
        by_dataset = {
            dataset: table_rows(block, dataset, models.get(dataset, {}), printed)
            for dataset in datasets_of(block, params["run"]["datasets"], printed)
        }
        cells = tables.tidy(by_dataset, block["columns"])
        tables.write_csv(pd.DataFrame(cells), folder / f"{name}.csv")
        if "published" in block:
            extra = {"table": name, "tolerance_percent": block["tolerance"]}
            comparison += [extra | cell for cell in cells]
        samples = {dataset: sample(found, params["datasets"][dataset]) for dataset, found in models.items()}
        places = {dataset: f"{dataset}{samples[dataset]}" for dataset in models if dataset in by_dataset}
        for suffix, sign, write in (("md", "###", tables.markdown), ("tex", "%", latex.latex)):
            shown = [write(block, place, by_dataset[dataset]) for dataset, place in places.items()]
            nothing = f"{sign} {block['title']}: no dataset of the run is in this table\n"
            (folder / f"{name}.{suffix}").write_text("\n".join(shown) or nothing)
        for dataset, rows in by_dataset.items():
            sections.append(page.section(name, dataset, block, rows, samples.get(dataset, "")))
    return sections, comparison


def draw(
    params: Params, models: Models, sections: list[dict[str, Any]], transferred: transfers.Transfers, folder: Path
) -> list[page.Drawing]:
    """Draw every figure into a folder; those that show something."""

    def strength(block: str, data: str, key: str) -> float:
        found = parameters.attack(params, MEASURED_BY.get(block, block), data)
        return found["steps"] if key == "steps" else found.get("eps_scale", 1) * params["datasets"][data]["eps"]

    labels, run = labels_of(params), params["run"]
    shown = {page.Drawing("tradeoff"): figures.tradeoff(folder / "tradeoff", panels(sections), labels, run["datasets"])}
    for data, found in models.items():
        for write in (figures.sub_scores, figures.history, figures.variants):
            drawing = page.Drawing(write.__name__, data)
            shown[drawing] = write(folder / drawing.name, found, labels)
        for table, block in params["tables"].items():
            if "sweep" in block:
                drawing, x = page.Drawing("sweep", data, table), partial(strength, data=data, key=block["sweep"])
                shown[drawing] = figures.sweep(folder / drawing.name, found, labels, block, x)
        if run["transfer"]:
            drawing = page.Drawing("transfer", data)
            shown[drawing] = transfers.draw(folder / drawing.name, transferred[data], labels)
    return [drawing for drawing, shows in shown.items() if shows]


def panels(sections: list[dict[str, Any]]) -> dict[str, list[Row]]:
    """The rows of the leading table by dataset."""
    return {part["dataset"]: part["rows"] for part in leading(sections)}


def leading(sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sections of the first table that has results of any dataset, or of the first one where none has.

    Tables of other datasets may come before it, and have published values at most.
    """
    name = next((part["name"] for part in sections if part["ran"]), sections[0]["name"] if sections else "")
    return [part for part in sections if part["name"] == name]


def labels_of(params: Params) -> dict[str, str]:
    """The label of each defense: that of the first table that has it, else its block's name.

    Their order, that of the tables and then of the blocks, gives each defense its color and marker in the figures.
    """
    labels: dict[str, str] = {}
    for block in params["tables"].values():
        labels |= {name: row["label"] for name, row in block["rows"].items() if name not in labels}
    return labels | {name: name for name in params["defenses"] if name not in labels}


def blocks(params: Params) -> dict[str, str]:
    """The blocks of params.yaml that the run used, as text."""
    run = params["run"]
    used = {kind: {name: params[kind][name] for name in run[kind]} for kind in ("datasets", "defenses", "attacks")}
    return {"run": parameters.text(run)} | {kind: parameters.text(found) for kind, found in used.items()}


def absent(params: Params, models: Models, transferred: transfers.Transfers) -> list[str]:
    """Words of the configured jobs whose results are not there."""
    run, missing = params["run"], []
    for dataset, by_defense in models.items():
        for defense, found in by_defense.items():
            there = {model.seed: model.sources for model in found}
            for seed in run["seeds"]:
                words = f"{dataset} {defense} {seed}"
                if seed not in there:
                    missing.append(words)
                else:
                    missing += [f"{words} {attack}" for attack in run["attacks"] if attack not in there[seed]]
    for dataset, by_attack in transferred.items():
        missing += [f"transfer {dataset} {attack}" for attack in run["transfer"] if attack not in by_attack]
    return missing


def sample(models: Mapping[str, list[Model]], data: Mapping[str, Any]) -> str:
    """Words for a heading where not every test image was attacked; the same images were, for every model.

    ``data`` is the dataset's block. Images of a gallery of its own are counted apart from the queries.
    """
    found = [model for each in models.values() for model in each]
    attacked = next((model.attacked for model in found if model.attacked), 0)
    candidates = next((model.candidates for model in found if model.candidates), 0)
    searched = data["expected"].get("gallery", {}).get("images", 0)
    asked = found[0].queries if found else 0
    counts = ((attacked, asked, "queries" if searched else "test images"), (candidates, searched, "gallery images"))
    told = [f"{some} of {each} {what}" for some, each, what in counts if 0 < some < each]
    return f" (attacks on {' and '.join(told)})" if told else ""


def score_table(models: Models) -> pd.DataFrame:
    """scores.csv: one row per dataset, defense, seed and metric."""
    rows = [
        (dataset, defense, model.seed, metric, value)
        for dataset, defense, model in results.every(models)
        for metric, value in sorted(model.values.items())
    ]
    return pd.DataFrame(rows, columns=SCORE)


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """headline.csv: some scores with one row per model, for plots."""
    return scores.pivot(index=["dataset", "defense", "seed"], columns="metric", values="value").reset_index()


def nested(scores: pd.DataFrame) -> dict[str, Any]:
    """metrics.json: some scores by dataset, defense, seed and metric."""
    found: dict[str, Any] = {}
    for dataset, defense, seed, metric, value in scores.itertuples(index=False):
        found.setdefault(dataset, {}).setdefault(defense, {}).setdefault(str(seed), {})[metric] = value
    return found
