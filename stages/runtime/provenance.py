"""When, where and with what a job ran, in the undeclared logs/provenance/."""

import json
import os
import platform
import subprocess
import sys
import time
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
        **_times(ended, seconds),
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
    times = _times(path, seconds)
    with artifacts.writing(path) as (draft,):
        checksums.dump_json(times, draft)


def processor() -> str:
    """The processor's name and the number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _path(stage: str, words: list[str], suffix: str = ".json") -> Path:
    name = "-".join(words) or "all"
    return artifacts.LOGS / "provenance" / stage / f"{name}{suffix}"


def _times(ended: Path, seconds: float) -> dict[str, float]:
    """Wall-clock and processor seconds of this process and of earlier ones that ``ended`` has a note of."""
    try:
        before = json.loads(ended.read_text())
    except (OSError, ValueError):  # there was none, or it was cut off; it is only a note
        before = {}
    now = {"seconds": seconds, "cpu_seconds": time.process_time()}
    return {key: value + before.get(key, 0.0) for key, value in now.items()}
