"""Run the study of params.yaml and show how far it is; or compute one table or one cell, and print it.

  ca-tride compute                             the whole study, with its report
  ca-tride compute ablation                    a block of `tables`, on its datasets or the run's
  ca-tride compute digits/ca_tride/0/ltm       dataset/defense/seed/attack, or benign for the attack
  ca-tride compute --cores 4 -- --keep-going   what follows -- is Snakemake's

The blocks of a table or a cell need not be in `run`, and the report is left as it is.
"""

from __future__ import annotations

import argparse

from stages.core.scores import MEASURED_BY, STANDARD_ATTACKS
from stages.runtime import cli
from stages.runtime import params as parameters
from workflow.commands import number_of_cores, show

EXACT = ("es_exact", "ltm_exact", "gtm_exact")


def configure(parser: argparse.ArgumentParser) -> None:
    """What to compute, and with how many cores."""
    parser.add_argument("name", nargs="?", help="a block of `tables`, or dataset/defense/seed/attack; default: all")
    parser.add_argument(
        "--cores", type=number_of_cores, default="all", help="jobs' threads at once (default: all cores)"
    )
    parser.set_defaults(snakemake=[])
    parser.usage = "%(prog)s [-h] [--cores CORES] [name] [-- SNAKEMAKE'S ARGUMENTS]"


def attacks_of(columns: list[str], known: list[str]) -> list[str]:
    """The blocks of `attacks` that a table's columns are made from."""
    found = []
    for name in columns:
        metric, _, block = name.partition(":")
        if block:
            found.append(block)
        elif metric in ("ers", "ars_reconstructed"):
            found += STANDARD_ATTACKS
        elif metric == "ers_exact":
            found += [*STANDARD_ATTACKS, *EXACT]
        elif metric in ("ers_strong", "ers_surviving"):
            found += [*STANDARD_ATTACKS, *(f"{name}_strong" for name in STANDARD_ATTACKS)]
        else:
            found.append(MEASURED_BY.get(metric, metric))
    return [name for name in dict.fromkeys(found) if name in known]


def targets(loaded: parameters.Params, name: str) -> list[str]:
    """Files that make a table or a cell; a table that is not there is left for `show` to refuse.

    Raises:
        UserError: a cell names a block that is not there.
    """
    if "/" in name:
        dataset, defense, seed, attack = cli.cell(name, loaded)
        return [f"results/{dataset}/{defense}/{seed}/{attack}.json"]
    if name not in loaded["tables"]:
        return []
    block, run = loaded["tables"][name], loaded["run"]
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
    wanted = targets(loaded, name) if name else []
    if wanted or not name:
        progress.run(["--cores", cores, *snakemake, *wanted])
    return show.run(name) if name else ""
