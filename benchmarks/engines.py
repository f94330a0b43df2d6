"""What the engines themselves cost.

Copies the project to a temporary folder, sets the matrix of the papers there (three datasets, the run's defenses, three
seeds, nine attacks), puts a small file in the place of each output, lets both engines record them as finished, and
times what a user does most: asking what is left to do. The same is done with the default study, which Snakemake then
hands over to DVC as at the end of a run. Then every stage of a tiny digits study is timed from the start of its process
to its first line, which it says once it has read its inputs.

    python -m benchmarks.engines
"""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any, NamedTuple

import yaml

from workflow.sync import RECIPES

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "dvc.yaml", ".dvcignore", "params.yaml", "profiles", "workflow", "stages", "data/raw")
REPEATS = 3


def copy(folder: Path) -> None:
    """The project without its results."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    run(folder, "dvc", "config", "core.no_scm", "true")


def run(folder: Path, *command: str) -> str:
    """Run a tool of this environment in a folder; what it printed."""
    here = Path(sys.executable).parent  # rules say `python`
    environment = os.environ | {"PYTHONPATH": str(folder), "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    words = [sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def edit(folder: Path, run_block: dict[str, Any], epochs: int | None = None, steps: int | None = None) -> None:
    """Change what is run, and how long."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["run"] |= run_block
    if epochs is not None:
        params["datasets"]["digits"]["training"]["epochs"] = epochs
    for block in params["attacks"].values() if steps is not None else ():
        block["steps"] = steps
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def finish(folder: Path) -> None:
    """Put a small file in the place of each output, with a record as its job would write it; Snakemake takes them."""
    for line in run(folder, "snakemake", "--summary", "--cores", "1").splitlines()[1:]:
        path = folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made\n")
    run(folder, "snakemake", "--touch", "--forceall", "--no-hooks", "--quiet", "all", "--cores", "1")
    sha256 = hashlib.sha256(b"made\n").hexdigest()
    for name in jobs(folder):
        stage, _, words = name.partition("@")
        record = folder / "logs" / "provenance" / stage / f"{words or 'all'}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"outputs": {"reports/metrics.json": sha256}}))


def jobs(folder: Path) -> list[str]:
    """DVC's stages that Snakemake has as jobs."""
    return [name for name in run(folder, "dvc", "stage", "list", "--name-only").split() if name != RECIPES]


class Taken(NamedTuple):
    """Wall seconds and processor seconds of a command, and what it said last."""

    wall: float
    processor: float
    said: str


def take(folder: Path, *command: str) -> Taken:
    """Time a command once."""
    started, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
    said = run(folder, *command)
    wall, after = time.perf_counter() - started, getrusage(RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall, processor, (said.strip() or "nothing").splitlines()[-1])


def until_first_line(folder: Path, *words: str) -> float:
    """Seconds from starting a stage to its first line."""
    started = time.perf_counter()
    command = [sys.executable, "-m", f"stages.{words[0]}", *words[1:]]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        taken = time.perf_counter() - started
        process.stderr.read()
    if process.returncode:
        sys.exit(f"{' '.join(words)}: {first}")
    return taken


def table(folder: Path, *commands: tuple[str, ...], repeats: int) -> None:
    """Print what commands take."""
    print(
        f"\n| {len(jobs(folder))} jobs | median s | least s | CPU s | says |\n| --- | --- | --- | --- | --- |",
        flush=True,
    )
    for command in commands:
        taken = [take(folder, *command) for _ in range(repeats)]
        walls = [one.wall for one in taken]
        processor = statistics.median(one.processor for one in taken)
        shown = f"{statistics.median(walls):.1f} | {min(walls):.1f} | {processor:.1f} | {taken[-1].said}"
        print(f"| {' '.join(command)} | {shown} |", flush=True)


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        finish(folder)
        table(folder, ("workflow", "sync", "dvc"), repeats=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        edit(folder, {"datasets": ["cub", "cars", "sop"], "seeds": [0, 1, 2]})
        finish(folder)
        run(folder, "workflow", "sync", "dvc")
        table(folder, ("snakemake", "-n", "--cores", "1"), ("dvc", "status"), repeats=REPEATS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        edit(folder, {"datasets": ["digits"], "defenses": ["vanilla"], "seeds": [0]}, epochs=1, steps=1)
        print("\n| stage on digits | s until its first line |\n| --- | --- |")
        model = ("digits", "vanilla", "0")
        attacks = yaml.safe_load((folder / "params.yaml").read_text())["run"]["attacks"]
        first = (("prepare", "digits"), ("validate", "digits"), ("train", *model), ("evaluate", *model))
        for words in (
            *first,
            *(("attack", *model, attack) for attack in attacks),
            ("visualize", "digits"),
            ("report",),
        ):
            print(f"| {' '.join(words)} | {until_first_line(folder, *words):.1f} |", flush=True)


if __name__ == "__main__":
    main()
