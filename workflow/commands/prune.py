"""List results of blocks that were removed from params.yaml, and delete them on request.

The list has models, results and prepared data that no block names any more. Results of blocks that are merely not in
`run` are kept.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stages.runtime import params as parameters

PLACES = (  # from the outer to the inner ones: what lies in a folder that is left over is not listed beside it
    "data/*/",
    "models/*/",
    "models/*/*/",
    "results/*/",
    "results/*/*/",
    "results/transfer/*/*",
    "results/*/*/*/*",
)
# What lies there and belongs to no block.
NO_BLOCKS = {"datasets": {"raw", "weights", "transfer"}, "attacks": {"benign", "gallery"}}


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to delete."""
    parser.add_argument("--delete", action="store_true", help="delete the listed files")


def leftovers(loaded: parameters.Params) -> list[Path]:
    """Files and folders of datasets, defenses and attacks that are no longer in params.yaml."""
    found: list[Path] = []
    for path in (path for place in PLACES for path in sorted(Path().glob(place))):
        hidden = any(name.startswith(".") for name in path.parts)
        if not hidden and not is_named(path, loaded) and not set(path.parents) & set(found):
            found.append(path)
    return sorted(found)


def is_named(path: Path, loaded: parameters.Params) -> bool:
    """Whether blocks of params.yaml name all words of a path."""
    attack = path.name.split(".")[0].removesuffix("_examples")
    match path.parts:
        case ("results", "transfer", dataset, _):
            words = {"datasets": dataset, "attacks": attack}
        case ("results", "transfer", dataset) | (_, dataset):
            words = {"datasets": dataset}
        case (_, dataset, defense):
            words = {"datasets": dataset, "defenses": defense}
        case (_, dataset, defense, _, _):
            words = {"datasets": dataset, "defenses": defense, "attacks": attack}
    return all(word in loaded[section] or word in NO_BLOCKS.get(section, ()) for section, word in words.items())


def size(path: Path) -> int:
    """Bytes in a file or in a folder."""
    return (
        path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    )


def run(*, delete: bool) -> str:
    """List what is left over, and remove it if asked to; what happened in words."""
    found = leftovers(parameters.load())
    if not found:
        return "Nothing is left over: every result belongs to a block of params.yaml."
    lines = [f"{size(path) / 1e6:>9.1f} MB  {path}" for path in found]
    if not delete:
        return "\n".join([*lines, "Add --delete to remove them."])
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "\n".join([*lines, f"{len(found)} removed."])
