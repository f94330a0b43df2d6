"""How far a job is: a bar on terminals, and a file in logs/progress/ for whoever watches from outside."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from stages.runtime import artifacts, checksums

log = logging.getLogger(__name__)
T = TypeVar("T")


def first_process() -> bool:
    """Whether this process speaks and writes for its job: the only one, or the first of those torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK") == "0"


def progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Pass ``items`` through, with a bar and the remaining time on a terminal.

    The progress is also in logs/progress/ while it lasts, for `workflow.progress`, because the output of a job that
    Snakemake started goes to a log file.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _bar(*columns) as bar:
        task = bar.add_task(label, total=total)
        with _published(label, total) as tell:
            for done, item in enumerate(items, start=1):
                yield item
                bar.advance(task)
                tell(done)


@contextmanager
def _published(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that writes how far a job is to logs/progress/, once a second at most; the file goes last."""
    path = artifacts.LOGS / "progress" / f"{label.replace(' ', '-')}.json"
    started, last = time.monotonic(), -1.0

    def tell(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if first_process() and now - last >= 1:
            last = now
            state = {"label": label, "done": done, "total": total, "seconds": now - started, "process": os.getpid()}
            with artifacts.writing(path) as (draft,):
                checksums.dump_json(state, draft)

    try:
        tell(0)
        yield tell
    finally:
        path.unlink(missing_ok=True)


def downloading(blocks: Iterable[bytes], *, total: int, done: int, label: str) -> Iterator[bytes]:
    """Pass blocks of a download through, with a bar in bytes; ``total`` is 0 where unknown, ``done`` what is there."""
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    log.info("fetching %s (%s)", label, decimal(total) if total else "size unknown")
    columns = (TextColumn("fetch"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bar(*columns) as bar:
        task = bar.add_task(label, total=total or None, completed=done)
        for block in blocks:
            yield block
            bar.advance(task, len(block))


def _bar(*columns: Any) -> Any:
    """A progress display on stderr that only terminals show."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not (console.is_terminal and first_process()), transient=True)
