"""When, where and with what a job ran, in the undeclared logs/provenance/."""

import json
import os
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
    """Write what a job ran with; returns the file. Its times include those of earlier processes that were ended."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = found.stdout.strip() or None
    except OSError:  # no git on this machine
        commit = None
    path, ended = _path(stage, words), _path(stage, words, ".ended")
    facts = {
        "stage": stage,
        "words": words,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **_used(ended, seconds),
        "commit": commit,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor(),
        "packages": {name: version(name) for name in PACKAGES},
        "outputs": checksums.hashes(*outputs),
    }
    with artifacts.writing(path) as (draft,):
        checksums.dump_json(facts, draft)
    ended.unlink(missing_ok=True)
    return path


def ended(stage: str, words: list[str], seconds: float) -> None:
    """Note the time of a process that ends before its job is done, for the record of the one that finishes it."""
    path = _path(stage, words, ".ended")
    used = _used(path, seconds)
    with artifacts.writing(path) as (draft,):
        checksums.dump_json(used, draft)


def processor() -> str:
    """The processor's name, the number of cores, and the GPU where this process used one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    torch = sys.modules.get("torch")
    gpu = f", {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_initialized() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}"


def _path(stage: str, words: list[str], suffix: str = ".json") -> Path:
    name = "-".join(words) or "all"
    return artifacts.LOGS / "provenance" / stage / f"{name}{suffix}"


def _used(ended: Path, seconds: float) -> dict[str, float]:
    """Time and most memory of this process, with those of earlier ones that ``ended`` has a note of.

    Snakemake's own measurements are of the process that waits for this one.
    """
    try:
        before = json.loads(ended.read_text())
    except (OSError, ValueError):  # there was none, or it was cut off; it is only a note
        before = {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "seconds": seconds + before.get("seconds", 0.0),
        "processor_seconds": usage.ru_utime + usage.ru_stime + before.get("processor_seconds", 0.0),
        "memory_mib": max(usage.ru_maxrss / unit, before.get("memory_mib", 0.0)),
    }
