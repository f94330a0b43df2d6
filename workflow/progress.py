"""Run Snakemake and show how far it is: jobs done, and each running job with its remaining time.

    python workflow/progress.py --cores 8       all arguments are Snakemake's

On a terminal the lines stay in place; elsewhere one is written a minute. What Snakemake says of its scheduling is left
out (its complete log is in .snakemake/log), what it says of failures is shown.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

STATES = Path("logs") / "progress"
STEPS = re.compile(r"^(\d+) of (\d+) steps")
NOISE = re.compile(
    r"^(Assuming unrestricted|Building DAG|Complete log|Conda environments: ignored|Elapsed time|"
    r"Execute \d+ jobs|Finished jobid|"
    r"Provided cores|Rules claiming|Select jobs|The report is|Using (shell|workflow)|\[[A-Z][a-z]{2} |\s*$)"
)
EVERY = 60  # seconds between lines where there is no terminal


class State(NamedTuple):
    """A running job: what it is, and how many of its parts are done after how many seconds."""

    label: str
    done: int
    total: int
    seconds: float

    def remaining(self) -> str:
        """The remaining time in words, from the mean time of a part; "" before the first is done."""
        if not self.done:
            return ""
        left = self.seconds / self.done * (self.total - self.done)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"


def states() -> list[State]:
    """What the running jobs last said, those of killed processes left out."""
    found = []
    for path in sorted(STATES.glob("[!.]*.json")):
        try:
            state: dict[str, Any] = json.loads(path.read_text())
            os.kill(state.pop("process"), 0)
        except (OSError, ValueError, KeyError):
            continue
        found.append(State(**state))
    return found


def line(done: int, total: int, running: Iterable[State]) -> str:
    """How far everything is, in one line."""
    jobs = [f"{job.label} {job.done}/{job.total} {job.remaining()}".strip() for job in running]
    return "; ".join([f"{done} of {total} jobs done", *jobs])


def show(bar: Progress, tasks: dict[str, Any], running: list[State]) -> None:
    """Bring the running jobs' lines up to date."""
    for label in set(tasks) - {job.label for job in running}:
        bar.remove_task(tasks.pop(label))
    for job in running:
        if job.label not in tasks:
            tasks[job.label] = bar.add_task(job.label, total=job.total)
        bar.update(tasks[job.label], completed=job.done)


def run(arguments: list[str]) -> int:
    """Run Snakemake with some arguments; its exit status."""
    begin = [] if not arguments or arguments[0].startswith("-") else ["--"]  # or --quiet would take a target as a word
    command = [sys.executable, "-m", "snakemake", "--quiet", "rules", "host", *begin, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    console, counts = Console(stderr=True), [0, 0]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        whole, tasks = bar.add_task("jobs", total=None), dict[str, Any]()
        ended = threading.Event()

        def watch() -> None:
            said = time.monotonic()
            while not ended.wait(0.5):
                if console.is_terminal:
                    show(bar, tasks, states())
                    bar.update(whole, completed=counts[0], total=counts[1] or None)
                elif time.monotonic() - said >= EVERY:
                    said = time.monotonic()
                    console.print(line(*counts, states()), soft_wrap=True, markup=False, highlight=False)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for text in process.stdout or ():
                if steps := STEPS.match(text):
                    counts[:] = [int(steps[1]), int(steps[2])]
                elif not NOISE.match(text):
                    console.print(text.rstrip("\n"), soft_wrap=True, markup=False, highlight=False)
            status = process.wait()
        except KeyboardInterrupt:
            status = process.wait()  # Snakemake got the same signal and puts its jobs away
        finally:
            ended.set()
            watcher.join()
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
