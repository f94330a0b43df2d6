"""Stages in a fork of the test's own process, which has torch: the same command without two seconds of imports."""

import atexit
import filecmp
import importlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stages.runtime import cli, forkserver, threads

ROOT = Path(__file__).resolve().parents[1]
STAGES = (*forkserver.FORKED, "prepare", "validate")


def has_the_same_code(folder: Path) -> bool:
    """Whether the code and the papers of a copy of the project are those of the tests' own process, file by file."""
    own = code_of(ROOT)
    return own == code_of(folder) and not any(filecmp.cmpfiles(ROOT, folder, own, shallow=False)[1:])


def code_of(folder: Path) -> set[Path]:
    """Code and papers of a project, as paths below its folder."""
    found = (path for part in ("stages", "workflow") for path in (folder / part).rglob("*.*"))
    return {path.relative_to(folder) for path in found if path.suffix in (".py", ".yaml", ".csv")}


def run(
    folder: Path, name: str, words: list[str], timeout: float, wrap: Callable[[Callable], None] | None = None
) -> subprocess.CompletedProcess | None:
    """``python -m stages.<name> <words>`` in a folder; None where a process of its own must do it.

    ``wrap`` is given the stage's ``main`` and calls it.
    """
    if name not in STAGES or sys.platform != "linux":
        return None
    if name == "validate":
        importlib.import_module("great_expectations")  # takes four seconds, once
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as told:
        outcome, answer = os.pipe()
        child = os.fork()
        if not child:
            try:
                _stage(folder, name, words, (said.fileno(), told.fileno()), answer, wrap)
            finally:
                os._exit(1)
        os.close(answer)
        status = _awaited(child, [name, *words], timeout)
        with os.fdopen(outcome) as read:
            if read.read() == forkserver.ALONE:
                return None
        said.seek(0), told.seek(0)
        return subprocess.CompletedProcess([name, *words], status, said.read(), told.read())


def _awaited(child: int, command: list[str], timeout: float) -> int:
    """The exit status of a child, negative for a signal."""
    until = time.monotonic() + timeout
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise subprocess.TimeoutExpired(command, timeout)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def _stage(
    folder: Path,
    name: str,
    words: list[str],
    files: tuple[int, int],
    answer: int,
    wrap: Callable[[Callable], None] | None,
) -> None:
    """Be the stage, in the forked process, and end."""
    atexit._clear()  # what the tests' process is to do at its own end
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    logging.getLogger().handlers.clear()
    warnings.resetwarnings()
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as -m does: a user's own modules are there
    os.environ[threads.LOADED_WITH] = "1"
    main = importlib.import_module(f"stages.{name}").main
    sys.argv = [f"stages/{name}.py", *words]
    cli.process(partial(wrap, main) if wrap else main, lambda status: os.write(answer, str(status).encode()))
