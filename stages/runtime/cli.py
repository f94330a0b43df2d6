"""The command line shared by all stages: words, log lines, one-line errors."""

import argparse
import atexit
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

from stages.runtime import allocator, params, threads
from stages.runtime.errors import UserError, choose, printable
from stages.runtime.termination import Terminated, terminate

PREEMPTED = 75  # exit status of a job that a scheduler ended: try again (EX_TEMPFAIL in sysexits.h)
FORKSERVER = "CA_TRIDE_FORKSERVER"  # names the socket of stages.runtime.forkserver, where there is one
ON_DEVICE = ("train", "evaluate", "attack", "transfer")  # stages that compute where a training profile says
Stage = Callable[..., list[Path]]
log = logging.getLogger("stages")

_HELP = {
    "dataset": "a block of `datasets` in params.yaml",
    "defense": "a block of `defenses` in params.yaml",
    "seed": "a whole number of at least 0",
    "attack": "a block of `attacks` in params.yaml",
}


def main(stage: Stage, argv: list[str] | None = None) -> None:
    """Run one stage from the command line: ``python -m stages.<name> <words>``.

    Its name is the function's, its words are the arguments after the parameters, its help is what its module says.
    Words are checked against params.yaml before any path is built from them. A ``UserError`` ends in one line on
    stderr and exit status 1.
    """
    name, words = stage.__name__, list(signature(stage).parameters)[1:]
    told = sys.modules[stage.__module__].__doc__
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=told)
    for word in words:
        parser.add_argument(word, help=_HELP[word], type=int if word == "seed" else str)
    given = vars(parser.parse_args(argv))
    if argv is None and FORKSERVER in os.environ:
        from stages.runtime.forkserver import delegated

        if (status := delegated(name, sys.argv[1:])) is not None:
            sys.exit(status)
    from stages.runtime.progress import first_process  # not before, because whoever delegates the job does without
    from stages.runtime.provenance import ended, record

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO if first_process() else logging.WARNING)
    log.propagate = False
    started, before = time.monotonic(), signal.signal(signal.SIGTERM, terminate)
    try:
        loaded = params.load()
        check_words(given, loaded)
        if threads.LOADED_WITH in os.environ and on_gpu(name, given, loaded):
            raise threads.UnforkableError
        outputs = stage(loaded, **given)
        seconds = time.monotonic() - started
        if outputs:  # none in the processes for which another one writes
            record(name, [str(word) for word in given.values()], outputs, seconds)
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
        if first_process():
            with suppress(OSError):  # the state was kept; its time is a note
                ended(name, [*map(str, given.values())], time.monotonic() - started)
        log.warning("ended by SIGTERM; the same command goes on from what was kept")
        sys.exit(PREEMPTED)
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")
    finally:
        signal.signal(signal.SIGTERM, before)
        log.removeHandler(handler)


def process(main: Callable[[], None], tell: Callable[[int | str], None] | None = None) -> NoReturn:
    """Run a stage as all that this process does, and end without taking the interpreter down piece by piece.

    With torch that takes half a second, and all files are written and closed by then. ``tell`` gets the exit status,
    or "alone" where a forked process cannot do the job.
    """
    allocator.keep_freed_memory()
    status: int | str = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            with suppress(OSError):
                print(ended.code, file=sys.stderr)
    except threads.UnforkableError:
        status = "alone"
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    if tell:
        with suppress(OSError):
            tell(status)
    os._exit(status if isinstance(status, int) else 0)


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


def on_gpu(stage: str, given: dict[str, Any], loaded: params.Params) -> bool:
    """Whether a job of these words computes on a GPU, whose driver does not survive a fork."""
    if stage not in ON_DEVICE:
        return False
    return params.profile(loaded, stage, given["dataset"], given.get("defense", "")).get("device") == "cuda"


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
