"""Write what a claim rests on to a folder: one table with its verdicts, its figures, its jobs and params.yaml.

  ca-tride evidence robrank_fashion docs/evidence/published/fashion

The folder then holds <table>.md and <table>.csv (every cell with interval, published value, difference and verdict),
scores.csv (every metric of each model, seed by seed), figures/ (published values beside ours, ERS against R@1, training
curves), jobs.csv (time, processor and commit of every job behind the table but transfers) and params.yaml. Nothing is
computed that `ca-tride compute` did not compute; what was not run says so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import STAGES
from stages.runtime import artifacts, params
from stages.runtime.errors import UserError, reason
from workflow.commands import attacks_of, show

if TYPE_CHECKING:
    from stages.reporting.outputs import Models
    from stages.reporting.tables import Row

JOB = ("stage", "words", "seconds", "processor_seconds", "memory_mib", "processor", "torch", "commit")
OWN = ("scores", "jobs", "history")  # names of files that evidence has beside those called like the table


def configure(parser: argparse.ArgumentParser) -> None:
    """Which table, and where to."""
    parser.add_argument("name", help="a block of `tables`")
    parser.add_argument(
        "folder", type=Path, help="an existing folder or a new one; files of the same names are replaced"
    )


def run(name: str, folder: Path) -> str:
    """Write the evidence of one table; what it holds, in one line.

    Raises:
        UserError: there is no such table, its files would replace others, or a result is damaged.
    """
    loaded = params.load()
    if name in OWN and name in loaded["tables"]:
        raise UserError(f"{params.FILE}: tables.{name}: evidence has files of that name; rename the block")
    models = show.models(loaded, name, loaded["attacks"])
    by_dataset = show.table(loaded, name, models)
    import pandas as pd

    from stages.reporting import outputs, tables

    block, columns = loaded["tables"][name], loaded["tables"][name]["columns"]
    folder.mkdir(parents=True, exist_ok=True)
    cells = tables.tidy(by_dataset, columns)
    made = jobs(list(by_dataset), list(block["rows"]), attacks_of(columns, list(loaded["attacks"])))
    texts = []
    for dataset, rows in by_dataset.items():
        texts.append(tables.markdown(block, dataset, rows))
        if any(row.is_published for row in rows):
            texts.append(f"{tables.compared(rows, columns)}\n")
    written = {
        f"{name}.csv": pd.DataFrame(cells),
        "scores.csv": outputs.score_table(models),
        "jobs.csv": pd.DataFrame(made, columns=JOB),
    }
    files = [folder / file for file in (f"{name}.md", "params.yaml", *written)]
    with artifacts.writing(*files) as (md_path, params_path, *csv_paths):
        md_path.write_text("\n".join(texts))
        params_path.write_bytes(Path(params.FILE).read_bytes())
        for values, path in zip(written.values(), csv_paths, strict=True):
            tables.write_csv(values, path)
    if any(found for by_defense in models.values() for found in by_defense.values()):
        with artifacts.replacing(folder / "figures") as figure_folder:
            draw(block, name, by_dataset, models, figure_folder)
    hours = sum(job["seconds"] for job in made) / 3600
    return f"{folder}: {len(cells)} cells from {len(made)} jobs that took {hours:.1f} hours"


def draw(block: dict[str, Any], name: str, by_dataset: dict[str, list[Row]], models: Models, folder: Path) -> None:
    """Draw a table's figures into a folder, as SVG alone, and keep those that show something."""
    from stages.reporting import figures

    labels = {defense: row["label"] for defense, row in block["rows"].items()}
    ran = [dataset for dataset, by_defense in models.items() if any(by_defense.values())]
    panels = {dataset: by_dataset[dataset] for dataset in ran}
    shown = {"tradeoff": figures.tradeoff(folder / "tradeoff", panels, labels, ran)}
    for dataset, rows in panels.items():
        compared, curves = f"{name}_{dataset}", f"history_{dataset}"
        shown[compared] = figures.comparison(folder / compared, rows, block["columns"], labels)
        shown[curves] = figures.history(folder / curves, models[dataset], labels)
    for path in folder.iterdir():
        if path.suffix != ".svg" or not shown[path.stem]:
            path.unlink()


def jobs(datasets: list[str], defenses: list[str], attacks: list[str]) -> list[dict[str, Any]]:
    """The records of the jobs behind some models and of some attacks on them, in the order of their paths.

    Raises:
        UserError: a record cannot be read.
    """
    found = []
    records = [(stage, artifacts.LOGS / "provenance" / stage) for stage in STAGES]
    for stage, path in sorted((stage, path) for stage, folder in records for path in folder.glob("*.json")):
        try:
            record = json.loads(path.read_text())
            words, versions = record["words"], {"torch": record["packages"]["torch"]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the record of a job ({reason(error)}); move it away") from None
        names = zip(words, (datasets, defenses, words[2:3], attacks if stage == "attack" else words[3:4]), strict=False)
        if words and all(word in known for word, known in names):
            found.append({key: (record | versions).get(key) for key in JOB} | {"words": " ".join(words)})
    return found
