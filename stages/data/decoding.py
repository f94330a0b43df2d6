"""Image files to pixels: every image as people see it, of one size, uint8."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.data.annotations import Item
from stages.runtime import threads
from stages.runtime.errors import UserError, reason

CHUNK = 256  # images decoded before they are written: bounds memory whatever the size of the dataset
GRAY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F"}  # Pillow's names of modes


def channels_of(items: list[Item]) -> int:
    """1 where every image is gray, else 3; reads headers only.

    Raises:
        UserError: a file is not an image.
    """
    for item in items:
        with opened(item) as image:
            if image.mode not in GRAY:
                return 3
    return 1


@contextmanager
def opened(item: Item) -> Iterator[Image.Image]:
    """Open one image, and name it in what goes wrong with it.

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    try:
        with item.open() as image:
            yield image
    except Exception as error:  # besides its own errors, Pillow lets through what Python says of damaged headers
        raise UserError(
            f"{item.source_path}: cannot be decoded ({reason(error)}); replace or remove the file"
        ) from None


def decode(item: Item, side: int, channels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one image as people see it to uint8 (side, side, channels); also its stored (width, height).

    Upright, transparent parts on white, 16-bit gray scaled to 8 bits, then resized with bilinear interpolation
    without keeping the aspect ratio (method.md 1.2).

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    with opened(item) as original:
        size = original.size
        image = ImageOps.exif_transpose(original)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image, dtype=np.uint16) // 257).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("L" if channels == 1 else "RGB")
        resized = image.resize((side, side), Image.Resampling.BILINEAR) if image.size != (side, side) else image
        pixels = np.asarray(resized, dtype=np.uint8)
    return pixels.reshape(side, side, channels), size


def decoded(items: list[Item], side: int, channels: int) -> Iterator[tuple[NDArray[np.uint8], tuple[int, int]]]:
    """``decode`` over many images in order, on several threads (Pillow lets go of Python's lock), some at a time."""
    with ThreadPoolExecutor(threads.workers()) as pool:
        for start in range(0, len(items), CHUNK):
            yield from pool.map(lambda item: decode(item, side, channels), items[start : start + CHUNK])
