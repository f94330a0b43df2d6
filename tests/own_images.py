"""A user's own images: one folder per class, made for a test."""

import numpy as np
import pandas as pd
from PIL import Image


def use_folder(loaded):
    """A dataset `own` of two training and two test classes of three images."""
    block = loaded["datasets"]["digits"] | {
        "reader": "folder",
        "side": 12,
        "crop": 10,
        "flip": True,
        "split": {"train": 2, "test": 2},
    }
    block["expected"] = {
        "train": {"images": 6, "classes": 2},
        "test": {"images": 6, "classes": 2},
        "images_per_class": [3, 3],
        "duplicates_across_splits": 0,
    }
    loaded["datasets"]["own"] = block


def make_own(project):
    """Give a project the dataset `own`."""
    project.edit(use_folder)
    draw = np.random.default_rng(0)
    for label in range(4):
        folder = project.folder / "data" / "raw" / "own" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(3):
            pixels = draw.integers(0, 255, (20, 16 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")


def raw(project, name):
    """Path of an original image."""
    return project.folder / "data" / "raw" / "own" / name


def prepared(project):
    """The stored images and their manifest."""
    folder = project.folder / "data" / "own"
    return np.load(folder / "images.npy"), pd.read_parquet(folder / "manifest.parquet")
