"""Stage 6: scores, tables and the page, from exactly the configured matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stages.io import artifacts, cli
from stages.io.errors import UserError
from stages.io.params import Params

if TYPE_CHECKING:
    import pandas as pd

    from stages.core.stats import Estimate
    from stages.core.tables import Row

TEMPLATE = Path(__file__).parents[1] / "workflow" / "report" / "index.html.j2"
SHRUNK_BELOW = 0.1  # a spread under this is marked: ERS rewards shrinking


class Cell(NamedTuple):
    """One model's figures: ``values`` by metric, and ``per_query`` (one row per test image) for means."""

    values: dict[str, float]
    per_query: pd.DataFrame


def metric_name(metric: str, attack: str) -> str:
    """Name of an attack's metric in scores.csv: plain for the standard nine blocks, ``metric:block`` for others."""
    return metric if metric == attack or metric.startswith(f"{attack}_") else f"{metric}:{attack}"


def read_table(path: Path, command: str) -> pd.DataFrame:
    """Read a per-query parquet file.

    Raises:
        UserError: it is missing or damaged.
    """
    import pandas as pd

    artifacts.require(path, command)
    try:
        return pd.read_parquet(path)
    except Exception as error:  # pyarrow raises its own family of errors
        problem = str(error).split("\n")[0]
        raise UserError(f"{path}: damaged ({problem}); delete it and run `{command}`") from None


def collect(dataset: str, defense: str, seed: int, attacks: list[str]) -> Cell:
    """Read one model's results and compute what follows from them: ERS and the collapse mark."""
    import pandas as pd

    from stages.core.metrics import is_collapsed
    from stages.core.scores import SUB_SCORES, ers

    folder, words = artifacts.result_dir(dataset, defense, seed), f"{dataset} {defense} {seed}"
    command = f"python -m stages.evaluate {words}"
    benign = artifacts.load_json(folder / "benign.json", command)["metrics"]
    values = dict(benign)
    columns = dict(read_table(folder / "benign.parquet", command).drop(columns="image_id").items())
    for attack in attacks:
        command = f"python -m stages.attack {words} {attack}"
        table = read_table(folder / f"{attack}.parquet", command)
        for metric, value in artifacts.load_json(folder / f"{attack}.json", command)["metrics"].items():
            values[metric_name(metric, attack)] = value["after"]
            columns[metric_name(metric, attack)] = table[f"{metric}_after"]
    if all(name in values for name in SUB_SCORES):
        values["ers"] = ers(values)
        columns["ers"] = ers(columns)  # the score is linear: it applies per query
    values["collapsed"] = float(is_collapsed(benign["recall_at_1"], benign["chance"], benign["spread"]))
    return Cell(values, pd.DataFrame(columns))


def mark(cells: list[Cell]) -> str:
    """ "collapsed" or "shrunk" where any seed is."""
    if any(cell.values["collapsed"] for cell in cells):
        return "collapsed"
    return "shrunk" if any(cell.values["spread"] < SHRUNK_BELOW for cell in cells) else ""


def table_rows(labels: Mapping[str, str], columns: list[str], cells: Mapping[str, list[Cell]]) -> list[Row]:
    """The rows of one table for one dataset; ``cells`` holds each defense's models, one per seed."""
    import numpy as np

    from stages.core.seeding import seed_of
    from stages.core.stats import estimate
    from stages.core.tables import Row

    rows = []
    for defense, label in labels.items():
        models = cells.get(defense, [])
        found: dict[str, Estimate | None] = {}
        for name in columns:
            if not models or name not in models[0].values:
                found[name] = None
                continue
            known = name in models[0].per_query
            per_query = np.stack([model.per_query[name].to_numpy() for model in models]) if known else None
            values = [model.values[name] for model in models]
            found[name] = estimate(values, per_query, seed=seed_of("bootstrap", name))
        rows.append(Row(label, mark(models) if models else "", found))
    return rows


def report(params: Params) -> list[Path]:
    """Write reports/scores.csv, metrics.json, index.html and tables/."""
    cli.limit_threads(1)
    import pandas as pd

    from stages.core import tables

    run = params["run"]
    cells = {
        dataset: {
            defense: [collect(dataset, defense, seed, run["attacks"]) for seed in run["seeds"]]
            for defense in run["defenses"]
        }
        for dataset in run["datasets"]
    }
    cli.log.info("read %d models", len(run["datasets"]) * len(run["defenses"]) * len(run["seeds"]))
    scores = [
        {"dataset": dataset, "defense": defense, "seed": seed, "metric": metric, "value": value}
        for dataset, by_defense in cells.items()
        for defense, models in by_defense.items()
        for seed, cell in zip(run["seeds"], models, strict=True)
        for metric, value in sorted(cell.values.items())
    ]
    sections = []
    files = [artifacts.REPORTS / name for name in ("scores.csv", "metrics.json", "index.html")]
    folder = artifacts.REPORTS / "tables"
    with artifacts.writing(*files) as (scores_path, metrics_path, page_path), artifacts.replacing(folder) as draft:
        for name, block in params["tables"].items():
            columns, title = block["columns"], block["title"]
            by_dataset = {dataset: table_rows(block["rows"], columns, found) for dataset, found in cells.items()}
            pages = [(f"{title}: {dataset}", rows) for dataset, rows in by_dataset.items()]
            tidy = pd.concat([tables.tidy(dataset, rows, columns) for dataset, rows in by_dataset.items()])
            write_csv(tidy, draft / f"{name}.csv")
            for suffix, write in (("md", tables.markdown), ("tex", tables.latex)):
                shown = [write(heading, rows, columns, block["intervals"]) for heading, rows in pages]
                (draft / f"{name}.{suffix}").write_text("\n".join(shown))
            sections += [
                {
                    "name": name,
                    "title": heading,
                    "columns": {column: tables.COLUMNS[column] for column in columns},
                    "rows": rows,
                    "best": {column: tables.best(rows, column) for column in columns},
                }
                for heading, rows in pages
            ]
        write_csv(pd.DataFrame(scores), scores_path)
        artifacts.dump_json(summary(scores), metrics_path)
        page_path.write_text(page(run, sections))
    return [*files, *sorted(folder.iterdir())]


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table with a fixed float format and line ending."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def summary(scores: list[dict[str, object]]) -> dict[str, object]:
    """The headline metrics as nested mappings for `dvc metrics`: dataset, defense, seed, metric."""
    nested: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for score in scores:
        if score["metric"] in {"recall_at_1", "ers", "spread", "collapsed"}:
            by_seed = nested.setdefault(str(score["dataset"]), {}).setdefault(str(score["defense"]), {})
            by_seed.setdefault(str(score["seed"]), {})[str(score["metric"])] = score["value"]
    return nested  # type: ignore[return-value]


def page(run: Mapping[str, list[object]], sections: list[dict[str, object]]) -> str:
    """The HTML page, self-contained."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(TEMPLATE.name).render(run=run, sections=sections)


def main() -> None:
    """Command line: ``python -m stages.report``."""
    cli.main(report, "report", __doc__ or "")


if __name__ == "__main__":
    main()
