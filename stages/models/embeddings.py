"""What evaluate and attack leave as arrays: clean embeddings, and a few perturbed images."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stages.data.splits import read_array
from stages.runtime import artifacts
from stages.runtime.errors import UserError


def read_gallery(path: Path, count: int, made_by: str) -> torch.Tensor:
    """Clean embeddings (N, D) written by evaluate; ``made_by`` is the command that writes them.

    Raises:
        UserError: the file is missing, damaged or has another number of rows.
    """
    embeddings = _read(path, made_by)
    if embeddings.ndim != 2 or len(embeddings) != count:
        raise UserError(f"{path}: does not hold one embedding for each of {count} test images; run `{made_by}`")
    return torch.from_numpy(embeddings)


def read_examples(path: Path, made_by: str) -> torch.Tensor:
    """Perturbed images (E, C, H, W) in [0, 1] written by attack.

    Raises:
        UserError: the file is missing or damaged.
    """
    examples = _read(path, made_by)
    if examples.ndim != 4:
        raise UserError(f"{path}: does not hold images; run `{made_by}`")
    return torch.from_numpy(examples)


def _read(path: Path, made_by: str) -> NDArray[np.float32]:
    array = read_array(artifacts.require(path, made_by), f"run `{made_by}`")
    if array.dtype != np.float32:
        raise UserError(f"{path}: damaged (not an array of float32); delete it and run `{made_by}`")
    return array
