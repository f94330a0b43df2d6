"""Run the study of params.yaml and show how far it is; or compute one table or one cell, and print it.

  ca-tride compute                             the whole study, with its report
  ca-tride compute ablation                    a block of `tables`, on its datasets or the run's
  ca-tride compute digits/ca_tride/0/ltm       dataset/defense/seed/attack, or benign for the attack
  ca-tride compute --cores 4 -- --keep-going   what follows -- is Snakemake's

The blocks of a table or a cell need not be in `run`, and the report is left as it is.
"""

from __future__ import annotations

import argparse

from stages.runtime import cli
from stages.runtime import params as parameters
from workflow.commands import add_cores, attacks_of, show, table_block


def configure(parser: argparse.ArgumentParser) -> None:
    """What to compute, and with how many cores."""
    parser.add_argument("name", nargs="?", help="a block of `tables`, or dataset/defense/seed/attack; default: all")
    add_cores(parser)
    parser.set_defaults(snakemake=[])
    parser.usage = "%(prog)s [-h] [--cores CORES] [name] [-- SNAKEMAKE'S ARGUMENTS]"


def targets(loaded: parameters.Params, name: str) -> list[str]:
    """Files that make a table or a cell.

    Raises:
        UserError: there is no such table, or a cell names a block that is not there.
    """
    if "/" in name:
        dataset, defense, seed, attack = cli.cell(name, loaded)
        return [f"results/{dataset}/{defense}/{seed}/{attack}.json"]
    block, run = table_block(loaded, name), loaded["run"]
    jobs = ["benign", *attacks_of(block["columns"], list(loaded["attacks"]))]
    return [
        f"results/{dataset}/{defense}/{seed}/{job}.json"
        for dataset in block.get("datasets", run["datasets"])
        for defense in block["rows"]
        for seed in run["seeds"]
        for job in jobs
    ]


def run(name: str | None, cores: str, snakemake: list[str]) -> str:
    """Compute, and return the table or cell as text; "" for the whole study, whose report Snakemake names.

    Raises:
        UserError: there is no such table or cell.
        SystemExit: Snakemake failed; it said why.
    """
    from workflow import progress

    loaded = parameters.load()
    progress.run(["--cores", cores, *snakemake, *(targets(loaded, name) if name else [])])
    return show.run(name) if name else ""
