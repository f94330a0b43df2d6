"""Where things lie, how they are written (all or nothing), and where they came from."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.runtime.errors import UserError, reason

DATA, MODELS, RESULTS, REPORTS, LOGS = (Path(name) for name in ("data", "models", "results", "reports", "logs"))


def data_dir(dataset: str) -> Path:
    """Folder of a prepared dataset."""
    return DATA / dataset


def raw_dir(dataset: str) -> Path:
    """Folder that a user puts a dataset's original files into."""
    return DATA / "raw" / dataset


def model_dir(dataset: str, defense: str, seed: int) -> Path:
    """Folder of one trained model."""
    return MODELS / dataset / defense / str(seed)


def result_dir(dataset: str, defense: str, seed: int) -> Path:
    """Folder of one model's evaluation."""
    return RESULTS / dataset / defense / str(seed)


def figure_names(params: Mapping[str, Any]) -> list[str]:
    """Names of the report's figures, each an SVG and a PNG in reports/figures/."""
    datasets = params["run"]["datasets"]
    sweeps = [f"sweep_{name}" for name, block in params["tables"].items() if "sweep" in block]
    kinds = ("sub_scores", "history", "readings", *sweeps)
    return ["tradeoff", *(f"{kind}_{dataset}" for dataset in datasets for kind in kinds)]


def draft_of(path: Path) -> Path:
    """A temporary sibling's name, this process's own; what killed processes left of the same path is removed.

    It keeps the suffix, since some writers choose their format by it.
    """
    for left in path.parent.glob(f".*.{path.name}"):
        owner = left.name.split(".")[1]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f".{os.getpid()}.{path.name}")


def _runs(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


@contextmanager
def writing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give a temporary sibling for each path; on success sync and rename all of them, on failure remove them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    drafts = tuple(draft_of(path) for path in paths)
    try:
        yield drafts
        for draft in drafts:
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        for draft, path in zip(drafts, paths, strict=True):
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Give an empty temporary folder, a hidden sibling of a path, and remove it in the end."""
    draft = draft_of(beside)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty temporary sibling of a folder; on success it takes the folder's place, on failure it goes."""
    with scratch(folder) as draft:
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def rounded(value: Any) -> Any:
    """Floats to 10 significant digits, all through a JSON-like value: a fixed format, and enough for any reader."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def dump_json(value: Any, path: Path) -> None:
    """Write JSON with sorted keys and fixed float format."""
    path.write_text(json.dumps(rounded(value), indent=1, sort_keys=True, allow_nan=False) + "\n")


def load_json(path: Path, made_by: str, *keys: str) -> dict[str, Any]:
    """Read a JSON object that has at least ``keys``.

    Raises:
        UserError: it is absent or damaged; says which command makes it.
    """
    require(path, made_by)
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({reason(error)}); delete it and run `{made_by}`") from None
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise UserError(f"{path}: damaged (no key {missing[0]!r}); delete it and run `{made_by}`")
    return value


def require(path: Path, made_by: str) -> Path:
    """Return ``path``.

    Raises:
        UserError: it does not exist; says which command makes it.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; run `{made_by}` first")
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(*paths: Path) -> dict[str, str]:
    """SHA-256 of each file by its path relative to the project, for the provenance part of a result."""
    return {path.as_posix(): sha256(path) for path in paths}


def record_provenance(stage: str, words: list[str], outputs: list[Path], seconds: float) -> Path:
    """Write when, where and with what a job ran to the undeclared logs/provenance/; returns the file."""
    import platform
    import subprocess
    import sys
    from datetime import UTC, datetime
    from importlib.metadata import version

    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = asked.stdout.strip() or None
    except OSError:  # no git on this machine
        commit = None
    path = LOGS / "provenance" / stage / ("-".join(words) or "all")
    path = path.with_name(path.name + ".json")
    record = {
        "stage": stage,
        "words": words,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "commit": commit,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: version(name) for name in ("torch", "numpy", "scikit-learn", "pandas")},
        "outputs": hashes(*outputs),
    }
    with writing(path) as (draft,):
        dump_json(record, draft)
    return path
