"""Compute one table or one cell by name, and nothing else, then print it.

    python workflow/commands/compute.py ablation --cores 8                a block of `tables`, on the run's datasets
    python workflow/commands/compute.py digits/ca_tride/0/ltm --cores 8   dataset/defense/seed/attack, or benign

What follows the name is Snakemake's. Blocks need not be in `run`; the report is left as it is.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stages.runtime import cli
from stages.runtime import params as parameters
from stages.runtime.errors import UserError

STANDARD = ("ca_plus", "ca_minus", "qa_plus", "qa_minus", "tma", "es", "ltm", "gtm", "gtt")
EXACT = ("es_exact", "ltm_exact", "gtm_exact")


def attacks_of(columns: list[str], known: list[str]) -> list[str]:
    """The blocks of `attacks` that a table's columns are made from."""
    found = []
    for name in columns:
        metric, _, block = name.partition(":")
        if block:
            found.append(block)
        elif metric in ("ers", "ars_reconstructed"):
            found += STANDARD
        elif metric == "ers_exact":
            found += [*STANDARD, *EXACT]
        else:
            found.append("es" if metric in ("es_d", "es_r") else metric)
    return [name for name in dict.fromkeys(found) if name in known]


def targets(loaded: parameters.Params, name: str) -> list[str]:
    """Files that make a table or a cell; a table that is not there is left for `workflow.commands.show` to refuse.

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
        for dataset in run["datasets"]
        for defense in block["rows"]
        for seed in run["seeds"]
        for job in jobs
    ]


def ask(name: str, arguments: list[str]) -> int:
    """Compute and print; the exit status of what failed, else 0."""
    if wanted := targets(parameters.load(), name):
        command = [sys.executable, "workflow/progress.py", *(arguments or ["--cores", "all"]), "--", *wanted]
        if status := subprocess.run(command, check=False).returncode:
            return status
    return subprocess.run([sys.executable, "-m", "workflow.commands.show", name], check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python workflow/commands/compute.py TABLE|DATASET/DEFENSE/SEED/ATTACK [Snakemake's arguments]")
    try:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    except UserError as error:
        sys.exit(f"ask: {error}")
