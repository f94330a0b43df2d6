"""List results of blocks that were removed from params.yaml, and delete them on request.

The list has models, results and prepared data that no block names any more. Results of blocks that are merely not in
`run` are kept, and so is what no stage wrote, with the folders that it lies in.
"""

from __future__ import annotations

import argparse
import re
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
# What stages write there. People put originals and weights of their own into these folders, too.
WRITTEN = (
    "data/*/images.npy",
    "data/*/manifest.parquet",
    "data/*/validation.json",
    "models/*/*/*/model.safetensors",
    "models/*/*/*/history.csv",
    "models/*/*/*/resume*.pt",
    "results/transfer/*/*.json",
    "results/transfer/*/*.parquet",
    "results/*/*/*/*.json",
    "results/*/*/*/*.parquet",
    "results/*/*/*/gallery.npy",
    "results/*/*/*/*_examples.npy",
    "results/*/*/*/*.resume*.pt",
)
DRAFT = re.compile(r"^\.[0-9]+\.(?=.)")  # in front of the name of a file that a killed stage left half-written
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
        if hidden or path.is_symlink() or is_named(path, loaded) or set(path.parents) & set(found):
            continue
        files = files_of(path)
        if files and all(map(is_written, files)):
            found.append(path)
    return sorted(found)


def files_of(path: Path) -> list[Path]:
    """A file itself, or all files in a folder, links among them."""
    return [one for one in path.rglob("*") if one.is_symlink() or not one.is_dir()] if path.is_dir() else [path]


def is_written(path: Path) -> bool:
    """Whether a stage writes a file of this place and name, or left it half-written."""
    whole = Path("/", path.with_name(DRAFT.sub("", path.name)))
    return any(whole.match(f"/{pattern}") for pattern in WRITTEN)


def is_named(path: Path, loaded: parameters.Params) -> bool:
    """Whether blocks of params.yaml name all words of a path."""
    attack = path.name.removesuffix("_examples.npy").partition(".")[0]
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
    return sum(one.lstat().st_size for one in files_of(path))


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
