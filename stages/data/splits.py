"""Prepared data: reading it and turning stored pixels into batches."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.sets import ONE_SET, Sets
from stages.runtime import artifacts, checksums
from stages.runtime.arrays import read_array
from stages.runtime.errors import UserError, reason

COLUMNS = ("image_id", "label", "class_name", "split", "source_path", "width", "height", "sha256")
NUMBERS = ("image_id", "label", "width", "height")
CAMERA = "camera"  # a column of whole numbers, only where the reader knows which camera took an image
CPU = torch.device("cpu")
Rows = NDArray[np.int64] | Tensor
TEST = ("test", "query", "gallery")  # what is no training image


class Split(NamedTuple):
    """The rows of one split: ``pixels`` uint8 (N, H, W, C) of the whole dataset, ``rows`` into it, labels, ids.

    ``sets`` says which of the test images search, and which are searched.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    sets: Sets = ONE_SET

    def perturbed(self, kind: str) -> "Split":
        """The test images that an attack on a "query" or a "candidate" perturbs: with one set all of them."""
        chosen = self.sets.queries if kind == "query" else self.sets.gallery
        if chosen is None:
            return self
        return Split(self.pixels, *(part[chosen.numpy()] for part in self[1:4]))


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Open images.npy as a memory map, uint8 (N, H, W, C).

    Raises:
        UserError: it is damaged or not such an array.
    """
    pixels = read_array(path, memory_map=True)
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape or pixels.shape[3] not in (1, 3):
        raise artifacts.damaged(path, "not a uint8 array of shape (N, H, W, 1 or 3)")
    return pixels


def read_manifest(path: Path) -> pd.DataFrame:
    """Read manifest.parquet.

    Raises:
        UserError: it is damaged or lacks a column of the right kind.
    """
    try:
        manifest = pd.read_parquet(path)
        kinds = {str(column): kind.kind for column, kind in manifest.dtypes.items()}
        signed = checksums.is_signed(manifest)
    except Exception as error:  # pyarrow raises its own family of errors
        raise artifacts.damaged(path, f"damaged ({reason(error)})") from None
    numbers = (*NUMBERS, CAMERA)
    for column in (*COLUMNS, *(name for name in kinds if name == CAMERA)):
        if column not in kinds or list(manifest.columns).count(column) > 1:
            raise artifacts.damaged(path, f"no column {column!r}")
        if (kinds[column] in "iu") != (column in numbers):
            kind = "whole numbers" if column in numbers else "texts"
            raise artifacts.damaged(path, f"column {column!r} does not hold {kind}")
    if not signed:
        raise artifacts.damaged(path, "damaged (not the rows that were written)")
    return manifest


def data_files(dataset: str) -> tuple[Path, Path]:
    """images.npy and manifest.parquet of a prepared dataset.

    Raises:
        UserError: one of them is missing.
    """
    folder = artifacts.data_dir(dataset)
    return artifacts.require(folder / "images.npy"), artifacts.require(folder / "manifest.parquet")


def read_prepared(dataset: str) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """The images (N, H, W, C) of a prepared dataset and its manifest (N rows).

    Raises:
        UserError: a file is missing or damaged, or they are not of as many images.
    """
    images, table = data_files(dataset)
    pixels, manifest = read_pixels(images), read_manifest(table)
    if len(pixels) != len(manifest):
        told = f"{len(pixels)} images but {len(manifest)} manifest rows"
        raise UserError(f"{images}: {told}; run `{artifacts.made_by(images)}`")
    return pixels, manifest


def validated(dataset: str) -> dict[str, str]:
    """Hashes of a prepared dataset's files, which great-expectations has passed as they are now.

    Raises:
        UserError: validation is missing, failed, or was of other files.
    """
    path = artifacts.data_dir(dataset) / "validation.json"
    report = checksums.load(path, "success")
    now = checksums.hashes(*data_files(dataset))
    if not report["success"] or report["inputs"] != now:
        raise UserError(f"{path}: is not of the present images and manifest; run `{artifacts.made_by(path)}` again")
    return now


def load_split(dataset: str, split: str) -> Split:
    """Load the ``train`` or ``test`` split, in manifest order; queries and gallery as two sets are the test split."""
    pixels, manifest = read_prepared(dataset)
    chosen = of_split(manifest, split)
    return Split(
        pixels,
        chosen.index.to_numpy(dtype=np.int64),
        chosen["label"].to_numpy(dtype=np.int64),
        chosen["image_id"].to_numpy(dtype=np.int64),
        sets_of(chosen),
    )


def of_split(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of the ``train`` or ``test`` split; queries and gallery belong to the latter."""
    return manifest[manifest["split"].isin(TEST if split == "test" else (split,))]


def sets_of(chosen: pd.DataFrame) -> Sets:
    """What the images of some rows of a manifest are for: queries and gallery where its splits say so."""
    if "query" not in set(chosen["split"]):
        return ONE_SET
    queries, gallery = (torch.from_numpy(np.flatnonzero(chosen["split"] == part)) for part in ("query", "gallery"))
    known = CAMERA in chosen
    return Sets(queries, gallery, torch.from_numpy(chosen[CAMERA].to_numpy(dtype=np.int64)) if known else None)


def class_names(dataset: str, split: str) -> list[str]:
    """The name of each image's class in a split, in manifest order."""
    return list(of_split(read_manifest(data_files(dataset)[1]), split)["class_name"])


def to_tensor(stored: NDArray[np.uint8]) -> Tensor:
    """Stored pixels uint8 (B, H, W, C) to images float32 (B, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(stored)).permute(0, 3, 1, 2).float().div_(255)


def central_crop(split: Split, rows: Rows, crop: int) -> Tensor:
    """Images (B, C, crop, crop) of some rows of a split, cut from the center: the test transform (method.md 1.2)."""
    height, width = split.pixels.shape[1:3]
    top, left = (height - crop) // 2, (width - crop) // 2
    return to_tensor(split.pixels[split.rows[np.asarray(rows)], top : top + crop, left : left + crop])


def central_crops(split: Split, crop: int, device: torch.device = CPU) -> Callable[[Rows], Tensor]:
    """``central_crop`` of a split as a function of rows, its images (B, C, crop, crop) on ``device``."""
    return lambda rows: central_crop(split, rows, crop).to(device)
