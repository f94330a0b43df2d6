"""Run Snakemake and show progress: finished jobs, and each running job with its remaining time.

A logger plugin, `LogHandler`, receives Snakemake's messages, and running jobs write their progress to logs/progress/.
On a terminal the lines stay in place; elsewhere one line is written per minute. Of Snakemake's messages only the list
of jobs and failures are shown; .snakemake/log has all of them.
"""

import json
import os
import sys
import threading
from collections.abc import Iterable
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

STATES = Path("logs") / "progress"
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
    """The last states of running jobs, without those of killed processes."""
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
    """The progress of the whole run, in one line."""
    jobs = [f"{job.label} {job.done}/{job.total} {job.remaining()}".strip() for job in running]
    return "; ".join([f"{done} of {total} jobs done", *jobs])


class LogHandler(LogHandlerBase):
    """Snakemake's logger plugin: shows the list of jobs, their progress, and failures, on stderr."""

    writes_to_stream, writes_to_file, needs_rulegraph = True, False, False
    has_filter, has_formatter = True, False  # messages are selected here; Snakemake formats them

    def __post_init__(self) -> None:
        """Start the display; Snakemake calls `close` when the run has ended."""
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = self.console.is_terminal
        self.bar = Progress(*columns, console=self.console, disable=not live, transient=True)
        self.whole, self.tasks = self.bar.add_task("jobs", total=None), dict[str, Any]()
        self.done, self.total, self.ended = 0, 0, threading.Event()
        self.watcher = threading.Thread(target=self._show_live if live else self._write_lines, daemon=True)
        self.bar.start()
        self.watcher.start()

    def emit(self, record: LogRecord) -> None:
        """Take note of a message, and show it if it is the list of jobs or a failure."""
        event = getattr(record, "event", None)
        if event == LogEvent.PROGRESS:
            self.done, self.total = vars(record)["done"], vars(record)["total"]
        elif event == LogEvent.JOB_ERROR:
            self._print(failure(vars(record)))
        elif event == LogEvent.RUN_INFO or record.levelno >= WARNING or record.msg == NOTHING_TO_BE_DONE_MSG:
            self._print(self.format(record))

    def close(self) -> None:
        """End the display and give the terminal back."""
        self.ended.set()
        self.watcher.join()
        self.bar.stop()
        super().close()

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _show_live(self) -> None:
        """Update the lines on the terminal."""
        while not self.ended.wait(0.5):
            running = states()
            for label in set(self.tasks) - {job.label for job in running}:
                self.bar.remove_task(self.tasks.pop(label))
            for job in running:
                if job.label not in self.tasks:
                    self.tasks[job.label] = self.bar.add_task(job.label, total=job.total)
                self.bar.update(self.tasks[job.label], completed=job.done)
            self.bar.update(self.whole, completed=self.done, total=self.total or None)

    def _write_lines(self) -> None:
        """Write a line every ``EVERY`` seconds."""
        while not self.ended.wait(EVERY):
            self._print(line(self.done, self.total, states()))


def failure(job: dict[str, Any]) -> str:
    """A failed job in one line: what its log ends with, and where that is.

    Args:
        job: fields of Snakemake's message: `rule_name`, `log` (files).
    """
    log = next((Path(name) for name in job["log"] if Path(name).exists()), None)
    last = log.read_text(errors="replace").rstrip().rpartition("\n")[2] if log else ""
    return f"{job['rule_name']} failed: {last or 'it said nothing'}" + (f" (all it said: {log})" if log else "")


def run(arguments: list[str]) -> None:
    """Run Snakemake in this process with some arguments.

    Raises:
        SystemExit: it failed, and said why.
    """
    from snakemake.cli import main
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    # Snakemake finds installed plugins by their names; this one is no package of its own.
    LoggerPluginRegistry().register_plugin("progress", sys.modules[__name__])
    dry = {"-n", "--dry-run", "--dryrun"} & set(arguments)  # then its messages are all there is
    try:
        main(arguments if dry else [*arguments, "--logger", "progress"])
    except SystemExit as ended:
        if ended.code:
            raise
