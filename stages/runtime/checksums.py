"""Checksums of files, JSON in a fixed form, and reports that hold checksums of themselves, their inputs and outputs.

So a stage notices before it computes that a file it is about to use is not the one that was written: cut short, altered
on the disk, or left from another model. This finds damage and mix-ups; whoever forges a file can forge its checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runtime import artifacts
from stages.runtime.errors import UserError, reason

if TYPE_CHECKING:
    import pandas as pd

Report = dict[str, Any]


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(*paths: Path) -> dict[str, str]:
    """SHA-256 of each file by its path relative to the project, for the provenance part of a result."""
    return {path.as_posix(): sha256(path) for path in paths}


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


def load_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that has at least ``keys``.

    Raises:
        UserError: it is absent or damaged; says which command makes it.
    """
    artifacts.require(path)
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise artifacts.damaged(path, f"not valid JSON ({reason(error)})") from None
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise artifacts.damaged(path, f"damaged (no key {missing[0]!r})")
    return value


def digest(report: Mapping[str, Any]) -> str:
    """SHA-256 of a report without its own ``sha256``, in a fixed spelling."""
    rest = {key: value for key, value in report.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rounded(rest), sort_keys=True).encode()).hexdigest()


def dump(report: Report, path: Path, beside: Mapping[str, Path] | None = None) -> None:
    """Write a report with its checksums; ``beside`` maps final names of further outputs to their present paths."""
    complete = report | {"outputs": {name: sha256(file) for name, file in (beside or {}).items()}}
    dump_json(complete | {"sha256": digest(complete)}, path)


def sign(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with a hash of its rows among its attributes, which parquet keeps."""
    table.attrs = {"sha256": rows_digest(table)}
    return table


def is_signed(table: pd.DataFrame) -> bool:
    """Whether the rows are those that were signed."""
    return bool(table.attrs.get("sha256") == rows_digest(table))


def rows_digest(table: pd.DataFrame) -> str:
    """SHA-256 of a table's columns and rows."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def load(path: Path, *keys: str) -> Report:
    """Read a report with its checksums that has at least ``keys``.

    Raises:
        UserError: it is missing, damaged or altered; says which command makes it.
    """
    report = load_json(path, "sha256", "inputs", "outputs", *keys)
    whole = all(isinstance(report[key], dict) for key in ("inputs", "outputs"))
    try:
        whole = whole and report["sha256"] == digest(report)
    except RecursionError:
        whole = False
    if not whole:
        raise artifacts.damaged(path, "its contents changed after it was written")
    return report


def check_beside(report: Report, path: Path, *names: str) -> None:
    """Compare files beside the report at ``path`` with the hashes in it.

    Raises:
        UserError: one is missing, or is not the one that was written.
    """
    for name in names:
        file = artifacts.require(path.with_name(name))
        if report["outputs"].get(name) != sha256(file):
            raise artifacts.damaged(file, f"damaged (not what {path.name} was written with)")


def check_inputs(report: Report, path: Path, now: Mapping[str, str]) -> None:
    """Compare the inputs that the report at ``path`` was made of with the hashes of the present ones.

    Raises:
        UserError: they differ; names the first.
    """
    then = report["inputs"]
    changed = [name for name in now if then.get(name) != now[name]]
    if changed or len(then) != len(now):
        named = changed[0] if changed else "another list of inputs"
        raise UserError(f"{path}: is not of the present {named}; run `{artifacts.made_by(path)}` again")
