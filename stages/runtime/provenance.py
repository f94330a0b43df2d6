"""When, where and with what a job ran, in the undeclared logs/provenance/."""

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from stages.runtime import artifacts, checksums

PACKAGES = ("torch", "numpy", "scikit-learn", "pandas")


def record(stage: str, words: list[str], outputs: list[Path], seconds: float) -> Path:
    """Write what a job ran with; returns the file."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = found.stdout.strip() or None
    except OSError:  # no git on this machine
        commit = None
    path = artifacts.LOGS / "provenance" / stage / ("-".join(words) or "all")
    path = path.with_name(path.name + ".json")
    facts = {
        "stage": stage,
        "words": words,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        **used(),
        "commit": commit,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "outputs": checksums.hashes(*outputs),
    }
    with artifacts.writing(path) as (draft,):
        checksums.dump_json(facts, draft)
    return path


def used() -> dict[str, float]:
    """Processor time and most memory of this process. Snakemake's own figures are of the process that waits for it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"processor_seconds": usage.ru_utime + usage.ru_stime, "memory_mib": usage.ru_maxrss / unit}
