"""A user's own images: one folder per class, made for a test."""

from functools import partial

import numpy as np
import pandas as pd
from PIL import Image


def use_folder(loaded, images=3):
    """A dataset `own` of two training and two test classes of ``images`` each."""
    block = loaded["datasets"]["digits"] | {
        "reader": "folder",
        "side": 12,
        "crop": 10,
        "flip": True,
        "split": {"train": 2, "test": 2},
    }
    block["expected"] = {
        "train": {"images": 2 * images, "classes": 2},
        "test": {"images": 2 * images, "classes": 2},
        "images_per_class": [images, images],
        "duplicates_across_splits": 0,
    }
    loaded["datasets"]["own"] = block


def make_own(project, images=3):
    """Give a project the dataset `own`."""
    project.edit(partial(use_folder, images=images))
    draw = np.random.default_rng(0)
    for label in range(4):
        folder = project.folder / "data" / "raw" / "own" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(images):
            pixels = draw.integers(0, 255, (20, 16 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")


def raw(project, name):
    """Path of an original image."""
    return project.folder / "data" / "raw" / "own" / name


def prepared(project):
    """The stored images and their manifest."""
    folder = project.folder / "data" / "own"
    return np.load(folder / "images.npy"), pd.read_parquet(folder / "manifest.parquet")
