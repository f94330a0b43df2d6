"""How many threads libraries get, and how many workers a stage may start. Set before torch and numpy are imported."""

import gc
import importlib
import os

LOADED_WITH = "CA_TRIDE_LOADED_WITH"  # the number of threads that libraries were imported with, in a forked process


class UnforkableError(Exception):
    """A job needs a process of its own: for more threads than the process that was forked had, or for a GPU."""


def limit(count: int) -> None:
    """Give the linear algebra libraries that are imported from here on ``count`` threads, whatever the machine has.

    Imports torch and pandas at once.

    Raises:
        UnforkableError: they were imported with another number, in the process that this one was forked from.
    """
    if int(os.environ.get(LOADED_WITH, count)) != count:
        raise UnforkableError
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)
    load("torch", "pandas")


def load(*modules: str) -> None:
    """Import modules without collecting garbage meanwhile: they leave a million objects, and next to none is garbage.

    What they left is never looked at again, in this process or in forked ones.
    """
    gc.disable()
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def workers() -> int:
    """How many things to do at once where it cannot change results: what Snakemake gave the job, or every core."""
    from joblib import cpu_count

    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else int(cpu_count())
