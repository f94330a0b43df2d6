"""Prepared data: reading it, and turning stored pixels into batches."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.io import artifacts
from stages.io.errors import UserError, reason

COLUMNS = ("image_id", "label", "class_name", "split", "source_path", "width", "height", "sha256")


class Split(NamedTuple):
    """The rows of one split: ``pixels`` uint8 (N, H, W, C) of the whole dataset, ``rows`` into it, labels, ids."""

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    image_ids: NDArray[np.int64]


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Open images.npy as a private memory map, uint8 (N, H, W, C): no write reaches the file.

    Raises:
        UserError: it is damaged or not such an array.
    """
    try:
        pixels = np.load(path, mmap_mode="c", allow_pickle=False)  # torch shares only writable arrays
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and prepare the dataset again") from None
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 4 or pixels.dtype != np.uint8:
        raise UserError(f"{path}: not a uint8 array of shape (N, H, W, C); delete it and prepare the dataset again")
    return pixels


def read_manifest(path: Path) -> pd.DataFrame:
    """Read manifest.parquet.

    Raises:
        UserError: it is damaged or lacks a column.
    """
    try:
        manifest = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises its own family of errors
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and prepare the dataset again") from None
    missing = [column for column in COLUMNS if column not in manifest.columns]
    if missing:
        raise UserError(f"{path}: no column {missing[0]!r}; delete it and prepare the dataset again")
    return manifest


def data_files(dataset: str) -> tuple[Path, Path]:
    """images.npy and manifest.parquet of a prepared dataset.

    Raises:
        UserError: one of them is missing.
    """
    folder, command = artifacts.data_dir(dataset), f"python -m stages.prepare {dataset}"
    return artifacts.require(folder / "images.npy", command), artifacts.require(folder / "manifest.parquet", command)


def load_split(dataset: str, split: str) -> Split:
    """Load the ``train`` or ``test`` split, in manifest order (by label, then id)."""
    images, manifest_path = data_files(dataset)
    pixels, manifest = read_pixels(images), read_manifest(manifest_path)
    if len(pixels) != len(manifest):
        raise UserError(f"{images}: {len(pixels)} images but {len(manifest)} manifest rows; prepare the dataset again")
    rows = np.flatnonzero(manifest["split"].to_numpy() == split)
    chosen = manifest.iloc[rows]
    return Split(pixels, rows, chosen["label"].to_numpy(dtype=np.int64), chosen["image_id"].to_numpy(dtype=np.int64))


def to_tensor(stored: NDArray[np.uint8]) -> Tensor:
    """Stored pixels uint8 (B, H, W, C) to images float32 (B, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(stored)).permute(0, 3, 1, 2).float().div_(255)


def central_crop(split: Split, rows: NDArray[np.int64] | Tensor, crop: int) -> Tensor:
    """Images (B, C, crop, crop) of some rows of a split, cut from the centre: the test transform (method.md 1.2)."""
    height, width = split.pixels.shape[1:3]
    top, left = (height - crop) // 2, (width - crop) // 2
    return to_tensor(split.pixels[split.rows[np.asarray(rows)], top : top + crop, left : left + crop])
