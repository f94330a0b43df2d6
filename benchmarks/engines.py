"""What the engines themselves cost.

Copies the project to a temporary folder, sets the matrix of the papers there (three datasets, the run's defenses, three
seeds, nine attacks), puts a small file in the place of each output, lets both engines record them as finished, and
times what a user does most: asking what is left to do. Then every stage of a tiny digits study is timed from the start
of its process to its first line, which it says once it has read its inputs.

    python -m benchmarks.engines
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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


def finish(folder: Path) -> int:
    """Put a small file in the place of each output and let both engines record it; the number of jobs."""
    lines = run(folder, "snakemake", "--summary", "--cores", "1").splitlines()[1:]
    for line in lines:
        path = folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made\n")
    run(folder, "workflow.recipes")
    run(folder, "dvc", "commit", "--force", "--quiet")
    run(folder, "workflow.sync", "snakemake")
    return sum(name != RECIPES for name in run(folder, "dvc", "stage", "list", "--name-only").split())


def seconds(folder: Path, *command: str) -> tuple[float, float, str]:
    """Median and largest time of a command, and what it said last."""
    times, said = [], ""
    for _ in range(REPEATS):
        started = time.perf_counter()
        said = run(folder, *command)
        times.append(time.perf_counter() - started)
    return statistics.median(times), max(times), said


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


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        edit(folder, {"datasets": ["cub", "cars", "sop"], "seeds": [0, 1, 2]})
        jobs = finish(folder)
        print(f"| nothing to do, {jobs} jobs | median s | largest s | says |\n| --- | --- | --- | --- |")
        for command in (("snakemake", "-n", "--cores", "1"), ("dvc", "status")):
            median, largest, said = seconds(folder, *command)
            print(
                f"| {' '.join(command)} | {median:.1f} | {largest:.1f} | {said.strip().splitlines()[-1]} |", flush=True
            )
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
