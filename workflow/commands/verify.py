"""Run the study of params.yaml again in an empty folder and compare its bytes with a committed record.

The record, workflow/reference/digests.json, has SHA-256 of data, models, results and tables for each platform. The same
code gives the same bytes on the same kind of processor; on another one training amplifies rounding. If the record has
only other platforms, R@1 and ERS are compared with theirs, and may differ as much as between seeds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.runtime import params as parameters
from stages.runtime.artifacts import writing
from stages.runtime.checksums import sha256
from stages.runtime.errors import UserError
from workflow.commands import add_cores
from workflow.commands.plan import refusal

RECORD = Path("workflow") / "reference" / "digests.json"
PARTS = ("Snakefile", "params.yaml", "profiles", "workflow", "stages", "data/raw")
# In the order of the graph, so that the first that differs is the cause. The page is left out: it prints params.yaml.
OUTPUTS = {
    "prepare": ("data/*/images.npy", "data/*/manifest.parquet"),
    "validate": ("data/*/validation.json",),
    "train": ("models/**/model.safetensors", "models/**/history.csv"),
    "evaluate": ("results/**/benign.json", "results/**/benign.parquet", "results/**/gallery.npy"),
    "attack": ("results/*/*/*/*.json", "results/*/*/*/*.parquet", "results/*/*/*/*_examples.npy"),
    "transfer": ("results/transfer/*/*.json", "results/transfer/*/*.parquet"),
    "visualize": ("reports/visualize/*.json",),
    "report": ("reports/scores.csv", "reports/tables/*.csv", "reports/tables/*.md", "reports/tables/*.tex"),
}
# The widest half of a t-interval over seeds 0, 1 and 2 of the default study.
SEEDS_DIFFER_BY = {"recall_at_1": 8.5, "ers": 5.0}


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to compare or to record."""
    parser.add_argument("--record", action="store_true", help="record the bytes of this platform instead of comparing")
    add_cores(parser)


def kind_of_processor() -> str:
    """What determines the order of sums in torch and BLAS: vendor, family, model and vector instructions."""
    import torch

    told = Path("/proc/cpuinfo")
    found = dict(
        re.findall(r"^(vendor_id|cpu family|model)\s*: (\S+)", told.read_text() if told.exists() else "", re.M)
    )
    name = " ".join(found.values()) or platform.processor()
    return f"{platform.system()} {platform.machine()} {name} {torch.backends.cpu.get_cpu_capability()}"


def this_platform() -> str:
    """The record's key: processor and versions of what computes."""
    import numpy
    import torch

    return f"{kind_of_processor()}, torch {torch.__version__}, numpy {numpy.__version__}"


def study() -> str:
    """SHA-256 of the parameters that the run depends on.

    Raises:
        UserError: params.yaml is wrong.
    """
    params = parameters.load()
    run = params["run"]
    blocks = {kind: {name: params[kind][name] for name in run[kind]} for kind in ("datasets", "defenses", "attacks")}
    used = [run, blocks, params["visualize"], params["tables"]]
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of every output in a folder, by stage and path, in the order of the stages."""
    found: dict[str, dict[str, str]] = {}
    seen: set[Path] = set()
    for stage, patterns in OUTPUTS.items():
        paths = {path for pattern in patterns for path in folder.glob(pattern)} - seen
        seen |= paths
        found[stage] = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(paths)}
    return found


def headline(folder: Path) -> dict[str, dict[str, float]]:
    """R@1 and ERS, in percent, of each model by dataset/defense/seed."""
    with (folder / "reports" / "headline.csv").open(newline="") as file:
        return {
            "/".join(row[key] for key in ("dataset", "defense", "seed")): {
                key: round(float(row[key]), 2) for key in SEEDS_DIFFER_BY if row.get(key)
            }
            for row in csv.DictReader(file)
        }


def run_anew(folder: Path, cores: str) -> None:
    """The whole study in an empty folder.

    Raises:
        UserError: it fails; shows the last line.
    """
    for part in PARTS:
        if Path(part).is_dir():
            shutil.copytree(part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif Path(part).exists():
            shutil.copy(part, folder / part)
    forked = [sys.executable, "-m", "stages.runtime.forkserver"]  # --no-hooks would leave it out
    command = [*forked, sys.executable, "-m", "snakemake", "--cores", cores, "--no-hooks", "--quiet", "rules", "host"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(refusal(done))


def compared(made: dict[str, dict[str, str]], recorded: dict[str, dict[str, str]]) -> str:
    """One line that says which outputs differ from the recorded ones, the first by stage named; "" if none does."""
    differ = [
        (stage, name)
        for stage in recorded
        for name in sorted({*recorded[stage], *made[stage]})
        if made[stage].get(name) != recorded[stage].get(name)
    ]
    if not differ:
        return ""
    stage, name = differ[0]
    what = "missing" if name not in made[stage] else "new" if name not in recorded[stage] else "of other bytes"
    more = f"; {len(differ) - 1} more files differ" if len(differ) > 1 else ""
    return f"{name}: {what}, the first that differs from the record: look at {stage}{more}"


def far_from(made: dict[str, dict[str, float]], recorded: dict[str, dict[str, float]]) -> list[str]:
    """Models whose R@1 or ERS is farther from the recorded value than seeds are from each other."""
    far = []
    for model, values in recorded.items():
        for key, value in values.items():
            now = made.get(model, {}).get(key, math.nan)
            if not abs(now - value) <= SEEDS_DIFFER_BY[key]:  # not a number, where the model is missing
                far.append(f"{model}: {key} is {now}, recorded {value}")
    return far


def load_record() -> dict[str, Any]:
    """All platforms' parts by their names.

    Raises:
        UserError: the record is damaged.
    """
    if not RECORD.exists():
        return {}
    try:
        record: dict[str, Any] = json.loads(RECORD.read_text())
    except ValueError:
        raise UserError(f"{RECORD}: not valid JSON; `git checkout {RECORD}` brings it back") from None
    return record


def run(cores: str, *, record: bool) -> str:
    """Run, and compare or record; the outcome in one line.

    Raises:
        UserError: bytes or values differ, there is nothing to compare with, or params.yaml or the record is wrong.
    """
    known, here, used = load_record(), this_platform(), study()
    others = {name: part for name, part in known.items() if part["study"] == used}
    if not record and not others:
        raise UserError("params.yaml: no record was made of this study; `ca-tride verify --record` makes one")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_anew(folder, cores)
        made, figures = digests(folder), headline(folder)
    count = sum(map(len, made.values()))
    if record:
        part = {"study": used, "headline": figures, "digests": made}
        with writing(RECORD) as (draft,):
            draft.write_text(json.dumps(known | {here: part}, indent=1, sort_keys=False) + "\n")
        return f"verify: {RECORD} has {count} files of {here}"
    if here in others:
        if difference := compared(made, others[here]["digests"]):
            raise UserError(difference)
        return f"verify: all {count} files have the recorded bytes ({here})"
    for platform_name, part in others.items():
        if far := far_from(figures, part["headline"]):
            raise UserError(f"{far[0]} on {platform_name}; {len(far)} values differ by more than between seeds")
    return f"verify: {here} is not in {RECORD}; R@1 and ERS are as near to the recorded ones as seeds are to each other"
