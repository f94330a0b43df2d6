"""Stage 6: scores, tables, comparison and the page, from exactly the configured matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.io import artifacts, cli
from stages.io.params import Params

if TYPE_CHECKING:
    import pandas as pd

    from stages.core.tables import Row
    from stages.io.results import Model

TEMPLATE = Path(__file__).parents[1] / "workflow" / "report" / "index.html.j2"
HEADLINE = {"recall_at_1", "ers", "ars_reconstructed", "spread", "collapsed"}  # metrics.json, for `dvc metrics`

Models = dict[str, dict[str, list["Model"]]]  # by dataset and defense, one per seed


def table_rows(
    block: Mapping[str, Any], dataset: str, models: Mapping[str, list[Model]], published: pd.DataFrame
) -> list[Row]:
    """The rows of one table block for one dataset."""
    from stages.core.comparison import COLLAPSED, verdict
    from stages.core.stats import estimate
    from stages.core.tables import Row, column
    from stages.io.published import has_collapsed, lookup
    from stages.io.results import mark

    rows = []
    for defense, row in block["rows"].items():
        found = models.get(defense, [])
        cells, printed, verdicts = {}, {}, {}
        for name in block["columns"]:
            known = bool(found) and name in found[0].values
            draws = [model.draws[name] for model in found if name in model.draws]
            cells[name] = estimate([model.values[name] for model in found], draws) if known else None
            where = block.get("published")
            printed[name] = lookup(published, where, dataset, row.get("published"), name) if where else None
            slack = block.get("tolerance", 0) / 100 * column(name).span
            verdicts[name] = verdict(printed[name], cells[name], slack)
            if where and printed[name] is None and has_collapsed(published, where, dataset, row.get("published")):
                verdicts[name] = COLLAPSED
        rows.append(Row(row["label"], mark(found) if found else "", cells, printed, verdicts))
    return rows


def report(params: Params) -> list[Path]:
    """Write reports/scores.csv, comparison.csv, metrics.json, index.html, tables/ and figures/."""
    cli.limit_threads(1)
    import pandas as pd

    from stages.core import tables
    from stages.io import figures, published, results

    run, printed = params["run"], published.read()
    models: Models = {
        dataset: {
            defense: [results.read_model(dataset, defense, seed, run["attacks"]) for seed in run["seeds"]]
            for defense in run["defenses"]
        }
        for dataset in run["datasets"]
    }
    cli.log.info("read %d models", len(run["datasets"]) * len(run["defenses"]) * len(run["seeds"]))
    reports = artifacts.REPORTS
    files = [reports / name for name in ("scores.csv", "headline.csv", "comparison.csv", "metrics.json", "index.html")]
    sections, comparison = [], []
    with (
        artifacts.writing(*files) as (scores_path, headline_path, comparison_path, metrics_path, page_path),
        artifacts.replacing(reports / "tables") as table_folder,
        artifacts.replacing(reports / "figures") as figure_folder,
    ):
        for name, block in params["tables"].items():
            columns, intervals = block["columns"], block["intervals"]
            by_dataset = {
                dataset: table_rows(block, dataset, models.get(dataset, {}), printed)
                for dataset in datasets_of(block, run["datasets"])
            }
            pages = [
                (f"{block['title']}: {dataset}{sample(models.get(dataset, {}))}", rows)
                for dataset, rows in by_dataset.items()
            ]
            tidy = pd.DataFrame(
                [cell for dataset, rows in by_dataset.items() for cell in tables.tidy(dataset, rows, columns)]
            )
            write_csv(tidy, table_folder / f"{name}.csv")
            if "published" in block:
                extra = {"table": name, "tolerance_percent": block["tolerance"]}
                comparison += [extra | cell for cell in tidy.to_dict("records")]
            for suffix, write in (("md", tables.markdown), ("tex", tables.latex)):
                shown = [write(heading, rows, columns, intervals) for heading, rows in pages[: len(models)]]
                (table_folder / f"{name}.{suffix}").write_text("\n".join(shown))
            sections += [section(name, heading, rows, columns) for heading, rows in pages]
        for dataset, by_defense in models.items():
            curves = {defense: [model.history for model in found] for defense, found in by_defense.items()}
            figures.save(figures.histories(curves, f"Training on {dataset}"), figure_folder / f"history_{dataset}.svg")
        scores = score_rows(models, run["seeds"])
        write_csv(pd.DataFrame(scores), scores_path)
        write_csv(pd.DataFrame(comparison, columns=None if comparison else ["table"]), comparison_path)
        write_csv(wide(scores), headline_path)
        artifacts.dump_json(headline(scores), metrics_path)
        failed = [
            check
            for dataset, by_defense in models.items()
            for defense, found in by_defense.items()
            for seed, model in zip(run["seeds"], found, strict=True)
            for check in results.failed_checks(dataset, defense, seed, model)
        ]
        page_path.write_text(page(run=run, sections=sections, failed_checks=failed))
    for check in failed:
        cli.log.info("look at %s %s %s %s: %s", *check)
    return [*files, *sorted((reports / "tables").iterdir()), *sorted((reports / "figures").iterdir())]


def sample(models: Mapping[str, list[Model]]) -> str:
    """Words for a heading where not every test image was attacked; the same images were, for every model."""
    first = next((model for found in models.values() for model in found), None)
    if first is None or first.attacked == first.queries:
        return ""
    return f" (attacks on {first.attacked} of {first.queries} test images)"


def datasets_of(block: Mapping[str, Any], run: list[str]) -> list[str]:
    """Datasets of a table: those of the run, then those with published values that did not run."""
    published = block.get("published", {}).get("datasets", {})
    return [*run, *(dataset for dataset in published if dataset not in run)]


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table with a fixed float format and line ending."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def score_rows(models: Models, seeds: list[int]) -> list[dict[str, Any]]:
    """scores.csv: one row per dataset, defense, seed and metric."""
    return [
        {"dataset": dataset, "defense": defense, "seed": seed, "metric": metric, "value": value}
        for dataset, by_defense in models.items()
        for defense, found in by_defense.items()
        for seed, model in zip(seeds, found, strict=True)
        for metric, value in sorted(model.values.items())
    ]


def wide(scores: list[dict[str, Any]]) -> pd.DataFrame:
    """headline.csv: the headline metrics with one row per model, for plots."""
    import pandas as pd

    chosen = pd.DataFrame([score for score in scores if score["metric"] in HEADLINE])
    return chosen.pivot(index=["dataset", "defense", "seed"], columns="metric", values="value").reset_index()


def headline(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """The headline metrics as nested mappings: dataset, defense, seed, metric."""
    nested: dict[str, Any] = {}
    for score in scores:
        if score["metric"] in HEADLINE:
            by_seed = nested.setdefault(score["dataset"], {}).setdefault(score["defense"], {})
            by_seed.setdefault(str(score["seed"]), {})[score["metric"]] = score["value"]
    return nested


def section(name: str, heading: str, rows: list[Row], columns: list[str]) -> dict[str, Any]:
    """What the page needs of one table for one dataset."""
    from stages.core import tables

    missing = sum(all(cell is None for cell in row.cells.values()) for row in rows)
    return {
        "name": name,
        "title": heading,
        "columns": {column: tables.column(column) for column in columns},
        "rows": rows,
        "best": {column: tables.best(rows, column) for column in columns},
        "notes": tables.notes(columns),
        "ran": missing < len(rows),
        "missing": missing,
    }


def page(**content: object) -> str:
    """The HTML page, self-contained."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(TEMPLATE.name).render(**content)


def main() -> None:
    """Command line: ``python -m stages.report``."""
    cli.main(report, "report", __doc__ or "")


if __name__ == "__main__":
    main()
