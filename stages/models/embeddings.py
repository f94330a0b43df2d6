"""What evaluate and attack leave as arrays: clean embeddings, and a few perturbed images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.attacks.base import Gallery
from stages.core.sets import Sets
from stages.runtime import artifacts, checksums
from stages.runtime.arrays import read_array
from stages.runtime.errors import UserError


def read_gallery(path: Path, count: int) -> torch.Tensor:
    """Clean embeddings (N, D) written by evaluate.

    Raises:
        UserError: the file is missing, damaged or has another number of rows.
    """
    embeddings = _read(path)
    if embeddings.ndim != 2 or len(embeddings) != count:
        told = f"does not hold one embedding for each of {count} test images"
        raise UserError(f"{path}: {told}; run `{artifacts.made_by(path)}`")
    return torch.from_numpy(embeddings)


def gallery(
    folder: Path,
    labels: NDArray[np.int64],
    inputs: Mapping[str, str],
    device: torch.device,
    *,
    sets: Sets,
    perturbs: str,
) -> Gallery:
    """A model's clean embeddings on a device, as an attack sees them that ``perturbs`` a "query" or a "candidate".

    ``labels`` (N,) and ``sets`` are those of the test split.

    Raises:
        UserError: they are missing, damaged, or were made of other ``inputs`` (SHA-256 by path).
    """
    path = folder / "benign.json"
    benign = checksums.load(path)
    checksums.check_inputs(benign, path, inputs)
    checksums.check_beside(benign, path, "gallery.npy")
    embeddings = read_gallery(folder / "gallery.npy", len(labels))
    return Gallery.of_sets(embeddings.to(device), torch.from_numpy(labels).to(device), sets, perturbs)


def read_examples(folder: Path, attack: str) -> tuple[torch.Tensor, float]:
    """Perturbed images (E, C, H, W) in [0, 1] that attack wrote to a model's folder, and the eps of the attack.

    Raises:
        UserError: a file is missing or damaged.
    """
    report, path = folder / f"{attack}.json", folder / f"{attack}_examples.npy"
    facts = checksums.load(report, "eps")
    checksums.check_beside(facts, report, path.name)
    examples = _read(path, memory_map=True)  # `keep: all` makes large files
    if examples.ndim != 4:
        raise UserError(f"{path}: does not hold images; run `{artifacts.made_by(path)}`")
    return torch.from_numpy(examples), float(facts["eps"])


def _read(path: Path, *, memory_map: bool = False) -> NDArray[np.float32]:
    array = read_array(artifacts.require(path), memory_map=memory_map)
    if array.dtype != np.float32:
        raise artifacts.damaged(path, "damaged (not an array of float32)")
    return array
