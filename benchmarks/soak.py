"""Some 300 tiny jobs through Snakemake while stages are killed at random: is all complete and correct in the end?

Every few seconds a stage that is running gets SIGKILL, as from a machine that runs out of memory; Snakemake starts it
again. In the end every output must be there, a sample must have the bytes of a run without failures, and what the
scheduler took and what was left behind is printed. Draws come from a seed; what runs at a moment does not.

    python -m benchmarks.soak [seconds between kills]
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from benchmarks.engines import copy
from stages import STAGES
from stages.runtime.params import load

RETRIES = 5
SAMPLE = [("act", 1), ("hm", 3), ("ca_tride", 0)]  # models whose every file is compared
MB = 2**20


class Run(NamedTuple):
    """A run of Snakemake: whether it ended well, how long it took, stages killed by name, and the scheduler's RSS."""

    status: int
    seconds: float
    killed: list[str]
    memory: list[int]


def make_tiny(folder: Path) -> None:
    """28 models on 300 small images, an epoch each, and nine attacks of one step on each."""
    path = folder / "params.yaml"
    params: dict[str, Any] = yaml.safe_load(path.read_text())
    digits = params["datasets"]["digits"]
    digits["split"]["images_per_class"] = 30
    digits["expected"] |= {"images_per_class": [30, 30]}
    digits["expected"] |= {part: {"images": 150, "classes": 5} for part in ("train", "test")}
    digits["training"]["epochs"] = 1
    digits["attack_queries"] = 20
    params["run"]["seeds"] = [0, 1, 2, 3]
    params["papers"], params["tables"] = [], {"main": load(path)["tables"]["main"]}
    for block in params["attacks"].values():
        block["steps"] = 1
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def stages_of(scheduler: psutil.Process) -> list[psutil.Process]:
    """Stage processes that run below a scheduler."""
    found = []
    for process in scheduler.children(recursive=True):
        try:
            words = process.cmdline()
        except psutil.Error:  # gone in the meantime
            continue
        if len(words) > 3 and words[1] == "-m" and words[2].removeprefix("stages.") in STAGES:
            found.append(process)
    return found


def run(folder: Path, pause: float, *targets: str) -> Run:
    """Run Snakemake on two cores; every ``pause`` seconds on average a running stage is killed, at 0 none."""
    here = Path(sys.executable).parent
    (folder / "tmp").mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(folder / "tmp"),
    }
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--retries",
        str(RETRIES),
        "--keep-going",
        "--no-hooks",
    ]
    draw, killed, memory = random.Random(0), [], []
    started, log = time.monotonic(), (folder / "soak.log").open("w")
    with (
        log,
        subprocess.Popen(
            [*command, "--quiet", "all", "--", *targets], cwd=folder, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        scheduler = psutil.Process(process.pid)
        due = started + draw.expovariate(1 / pause) if pause else float("inf")
        while process.poll() is None:
            memory.append(scheduler.memory_info().rss)
            if time.monotonic() >= due and (running := stages_of(scheduler)):
                victim = draw.choice(running)
                try:
                    killed.append(" ".join(victim.cmdline()[2:]))
                    victim.kill()
                except psutil.Error:
                    killed.pop()
                due = time.monotonic() + draw.expovariate(1 / pause)
            time.sleep(0.2)
    return Run(process.returncode, time.monotonic() - started, killed, [size for size in memory if size])


def left_behind(folder: Path) -> list[str]:
    """Drafts, states of stopped runs, markers of unfinished jobs, progress files and temporary files."""
    patterns = (
        "data/**/.[0-9]*", "models/**/.[0-9]*", "results/**/.[0-9]*", "reports/**/.[0-9]*", "**/*resume*.pt",
        ".snakemake/incomplete/*", ".snakemake/locks/*", "logs/progress/*", "tmp/*",
    )  # fmt: skip
    return sorted({str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern)})


def nothing_to_do(folder: Path) -> bool:
    """Whether Snakemake finds every output there and current."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return "Nothing to be done" in done.stdout + done.stderr


def main(pause: float) -> None:
    """Print what came out; exit status 1 if anything is missing or differs."""
    with tempfile.TemporaryDirectory() as name:
        folder, calm = Path(name) / "soak", Path(name) / "calm"
        for place in (folder, calm):
            place.mkdir()
            copy(place)
            make_tiny(place)
        ran = run(folder, pause)
        jobs = len(list((folder / "logs" / "benchmarks").rglob("*.tsv")))
        complete = ran.status == 0 and nothing_to_do(folder)
        models = [f"digits/{defense}/{seed}" for defense, seed in SAMPLE]
        attacks = yaml.safe_load((folder / "params.yaml").read_text())["run"]["attacks"]
        run(calm, 0, *(f"results/{model}/{attack}.json" for model in models for attack in attacks))
        sample = [path.relative_to(calm) for part in ("models", "results") for path in (calm / part).rglob("*.*")]
        differ = [path for path in sample if not (folder / path).exists()
                  or (calm / path).read_bytes() != (folder / path).read_bytes()]  # fmt: skip
        left = left_behind(folder)
        print("| | |\n| --- | --- |")
        print(f"| jobs finished | {jobs} in {ran.seconds:.0f} s |")
        print(f"| stages killed | {len(ran.killed)}, of {len(set(ran.killed))} jobs |")
        print(f"| every output there and current | {'yes' if complete else 'no'} |")
        print(f"| files of {len(SAMPLE)} models compared with a calm run | {len(sample)}, {len(differ)} differ |")
        quarter, half = (ran.memory[len(ran.memory) // part] / MB for part in (4, 2))
        last, most = ran.memory[-1] / MB, max(ran.memory) / MB
        print(f"| scheduler's MB after a quarter, half, all | {quarter:.0f}, {half:.0f}, {last:.0f}, most {most:.0f} |")
        print(f"| left behind | {', '.join(left) or 'nothing'} |")
        if not complete or differ or not sample:
            print((folder / "soak.log").read_text()[-3000:], file=sys.stderr)
            sys.exit("soak: not everything is complete and correct")


if __name__ == "__main__":
    main(float((sys.argv[1:] or ["6"])[0]))
