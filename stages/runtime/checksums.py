"""Reports that prove themselves: each holds a hash of its own contents, of its inputs, and of the files beside it.

So a stage notices before it computes that a file it is about to use is not the one that was written: cut short, altered
on the disk, or left from another model. This finds damage and mix-ups; whoever forges a file can forge its seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runtime import artifacts
from stages.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Report = dict[str, Any]


def digest(report: Mapping[str, Any]) -> str:
    """SHA-256 of a report without its own ``sha256``, in a fixed spelling."""
    rest = {key: value for key, value in report.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(artifacts.rounded(rest), sort_keys=True).encode()).hexdigest()


def dump(report: Report, path: Path, beside: Mapping[str, Path] | None = None) -> None:
    """Write a report sealed; ``beside`` are further outputs by their final names, where they lie now."""
    sealed = report | {"outputs": {name: artifacts.sha256(file) for name, file in (beside or {}).items()}}
    artifacts.dump_json(sealed | {"sha256": digest(sealed)}, path)


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


def load(path: Path, made_by: str, *keys: str) -> Report:
    """Read a sealed report that has at least ``keys``.

    Raises:
        UserError: it is missing, damaged or altered; says which command makes it.
    """
    report = artifacts.load_json(path, made_by, "sha256", "inputs", "outputs", *keys)
    whole = all(isinstance(report[key], dict) for key in ("inputs", "outputs"))
    try:
        whole = whole and report["sha256"] == digest(report)
    except RecursionError:
        whole = False
    if not whole:
        raise UserError(f"{path}: its contents changed after it was written; delete it and run `{made_by}`")
    return report


def check_beside(report: Report, path: Path, made_by: str, *names: str) -> None:
    """Compare files beside the report at ``path`` with what it says of them.

    Raises:
        UserError: one is missing or another one than was written.
    """
    for name in names:
        file = artifacts.require(path.with_name(name), made_by)
        if report["outputs"].get(name) != artifacts.sha256(file):
            raise UserError(f"{file}: damaged (not what {path.name} was written with); delete it and run `{made_by}`")


def check_inputs(report: Report, path: Path, made_by: str, now: Mapping[str, str]) -> None:
    """Compare the inputs that the report at ``path`` was made of with the hashes of the present ones.

    Raises:
        UserError: they differ; names the first.
    """
    then = report["inputs"]
    changed = [name for name in now if then.get(name) != now[name]]
    if changed or len(then) != len(now):
        named = changed[0] if changed else "another list of inputs"
        raise UserError(f"{path}: is not of the present {named}; run `{made_by}` again")
