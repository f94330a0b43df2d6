"""How many threads libraries get, and how many workers a stage may start. Set before torch and numpy are imported."""

import os


def limit(count: int) -> None:
    """Give the linear algebra libraries that are imported from here on ``count`` threads, whatever the machine has."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)


def workers() -> int:
    """How many things to do at once where it cannot change results: what Snakemake gave the job, or every core."""
    from joblib import cpu_count

    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else int(cpu_count())
