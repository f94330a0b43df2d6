"""The command line shared by all stages: words, log lines, progress, one-line errors."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stages.runtime import artifacts, params
from stages.runtime.errors import UserError, choose, printable

if TYPE_CHECKING:
    import torch

PREEMPTED = 75  # exit status of a job that a scheduler ended: try again (EX_TEMPFAIL in sysexits.h)
Stage = Callable[..., list[Path]]
T = TypeVar("T")
log = logging.getLogger("stages")

_HELP = {
    "dataset": "a block of `datasets` in params.yaml",
    "defense": "a block of `defenses` in params.yaml",
    "seed": "a whole number of at least 0",
    "attack": "a block of `attacks` in params.yaml",
}


def main(stage: Stage, name: str, description: str, *words: str, argv: list[str] | None = None) -> None:
    """Run one stage from the command line: ``python -m stages.<name> <words>``.

    Words are checked against params.yaml before any path is built from them. A ``UserError`` ends in one line on
    stderr and exit status 1.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=description)
    for word in words:
        parser.add_argument(word, help=_HELP[word], type=int if word == "seed" else str)
    given = vars(parser.parse_args(argv))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO if first_process() else logging.WARNING)
    log.propagate = False
    started, before = time.monotonic(), signal.signal(signal.SIGTERM, terminate)
    try:
        loaded = params.load()
        check_words(given, loaded)
        outputs = stage(loaded, **given)
        seconds = time.monotonic() - started
        if outputs:  # none in the processes for which another one writes
            artifacts.record_provenance(name, [str(word) for word in given.values()], outputs, seconds)
        for path in outputs:
            log.info("wrote %s", path)
        log.info("done in %.1f s", seconds)
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        place = printable(str(error.filename or "files"))
        sys.exit(f"{name}: {place}: {error.strerror or error}; nothing was left half-written")
    except (MemoryError, RuntimeError) as error:
        if not (known := explained(error)):
            raise
        sys.exit(f"{name}: {known}")
    except Terminated:
        log.warning("ended by SIGTERM; the same command goes on from what was kept")
        sys.exit(PREEMPTED)
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")
    finally:
        signal.signal(signal.SIGTERM, before)
        log.removeHandler(handler)


class Terminated(BaseException):
    """SIGTERM came: unwind, so that drafts are removed. No Exception, which stages may catch to name a damaged file."""


def terminate(number: int, frame: object) -> None:
    """Handler of SIGTERM."""
    raise Terminated


@contextmanager
def postponed_termination() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM wait while the block runs: gives a function that says whether it came. A second one ends it."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        if came:
            raise Terminated
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)


def explained(error: Exception) -> str:
    """What to do about an error that torch raises as a plain RuntimeError; "" where it is none of those known."""
    told = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told:
        return f"out of memory; give it more, or lower `pairs_per_batch` or `attack_batch` in {params.FILE}"
    if "deterministic" in told and "implementation" in told:
        what = str(error).split(" does not have", 1)[0]
        return f"{params.FILE}: deterministic: {printable(what)} has no such form on this device; write false"
    return ""


def check_words(given: dict[str, Any], loaded: params.Params) -> None:
    """Check command-line words against the parameters.

    Raises:
        UserError: a word is not a block of its section, or the seed is out of range.
    """
    for word, value in given.items():
        if word == "seed":
            if not 0 <= value < 2**32:
                raise UserError(f"seed {value}: out of range; give a whole number from 0 to 4294967295")
        elif value not in loaded[f"{word}s"]:
            known = list(loaded[f"{word}s"])
            raise UserError(f"{params.FILE}: {word}s: no block named {value!r}; {choose(value, known)}")


def cell(name: str, loaded: params.Params) -> tuple[str, str, int, str]:
    """The words of a cell ``dataset/defense/seed/attack``, with benign for the attack where none is meant.

    Raises:
        UserError: it has another form, or a word is not a block of its section.
    """
    words = name.split("/")
    if len(words) != 4 or not words[2].isdigit():
        raise UserError(f"{name}: not a cell; write dataset/defense/seed/attack, or benign for the attack")
    dataset, defense, seed, attack = words
    given = {"dataset": dataset, "defense": defense, "seed": int(seed)}
    check_words(given if attack == "benign" else given | {"attack": attack}, loaded)
    return dataset, defense, int(seed), attack


def first_process() -> bool:
    """Whether this process speaks and writes for its job: the only one, or the first of those torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK") == "0"


def limit_threads(count: int) -> None:
    """Give torch and the linear algebra libraries ``count`` threads, whatever the machine has."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)
    import torch

    torch.set_num_threads(count)


def device(name: str, dataset: str) -> torch.device:
    """Where a stage on ``dataset`` computes: the CPU, or for ``cuda`` the GPU that the launcher gave this process.

    Raises:
        UserError: there is no such GPU.
    """
    import torch

    if name == "cpu":
        return torch.device(name)
    place = int(os.environ.get("LOCAL_RANK", "0"))  # torchrun numbers the processes of a machine, one GPU each
    if place >= torch.cuda.device_count():
        raise UserError(
            f"{params.FILE}: datasets.{dataset}.training.device: asks for {name} device {place}, but torch finds "
            f"{torch.cuda.device_count()} on this machine; write cpu, or go to one with enough GPUs and torch for CUDA"
        )
    return torch.device(name, place)


def workers() -> int:
    """How many things to do at once where it cannot change results: what Snakemake gave the job, or every core."""
    from joblib import cpu_count

    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else int(cpu_count())


def progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """Pass ``items`` through, with a bar and the remaining time on a terminal.

    How far it is also stands in logs/progress/ while it lasts, for `workflow.progress`, since the terminal of a job
    that Snakemake started is a log file.
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
                artifacts.dump_json(state, draft)

    try:
        tell(0)
        yield tell
    finally:
        path.unlink(missing_ok=True)


def transfer(blocks: Iterable[bytes], *, total: int, done: int, label: str) -> Iterator[bytes]:
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
