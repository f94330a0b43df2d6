"""List results of blocks that were removed from params.yaml, and delete them on request.

The list has models, results and prepared data that no block names any more. Results of blocks that are merely not in
`run` are kept.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stages.runtime import params as parameters

KEPT = {"raw", "weights"}  # folders of data/ that no block names
TRANSFER = Path("results") / "transfer"  # of <dataset>/<attack>, beside the datasets' folders


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to delete."""
    parser.add_argument("--delete", action="store_true", help="delete the listed files")


def leftovers(loaded: parameters.Params) -> list[Path]:
    """Files and folders of datasets, defenses and attacks that are no longer in params.yaml."""
    found = [path for path in _folders(Path("data")) if path.name not in KEPT | set(loaded["datasets"])]
    for root in (Path("models"), Path("results")):
        for dataset in _folders(root):
            if dataset == TRANSFER:
                found += [path for path in sorted(dataset.glob("*/*")) if not _is_named(path, loaded)]
            elif dataset.name not in loaded["datasets"]:
                found.append(dataset)
            else:
                found += _of_dataset(dataset, loaded)
    return found


def _of_dataset(folder: Path, loaded: parameters.Params) -> list[Path]:
    """The same below a dataset's folder of models or results."""
    found = []
    for defense in _folders(folder):
        if defense.name not in loaded["defenses"]:
            found.append(defense)
        elif folder.parent.name == "results":
            found += [path for seed in _folders(defense) for path in _orphans(seed, loaded)]
    return found


def _is_named(path: Path, loaded: parameters.Params) -> bool:
    """Whether blocks name the dataset and the attack of a file of a transfer."""
    return path.parent.name in loaded["datasets"] and path.stem in loaded["attacks"]


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.glob("[!.]*") if child.is_dir())


def _orphans(seed: Path, loaded: parameters.Params) -> list[Path]:
    """Results of attacks that no block names."""
    known = {"benign", "gallery", *loaded["attacks"]}
    return [
        path for path in sorted(seed.glob("[!.]*")) if path.name.split(".")[0].removesuffix("_examples") not in known
    ]


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
