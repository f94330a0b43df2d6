"""From image files to pixels: each decoded once, all that cannot be decoded named at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.data import originals
from stages.data.annotations import Item
from stages.runtime import threads
from stages.runtime.errors import UserError, reason

CHUNK = 256  # images decoded before they are written: bounds memory whatever the size of the dataset
SHOWN = 5  # images named that cannot be decoded
GRAY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F"}  # Pillow's names of modes


class Decoded(NamedTuple):
    """One image: uint8 (side, side, channels), its stored (width, height), and how many pictures its file holds."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    frames: int


def channels_of(items: list[Item]) -> int:
    """1 where every image is gray, else 3; reads headers only, and passes over files that are no images."""
    for item in items:
        with suppress(UserError), opened(item) as image:
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
        kind = originals.kind_of(item.file) if item.file else ""
        said = reason(error).replace(str(item.file), item.source_path)
        why = f"a {kind} file, which is not read" if kind and kind not in originals.READ_KINDS else said
        raise UserError(f"{item.source_path}: cannot be decoded ({why})") from None


def frames_of(image: Image.Image) -> int:
    """How many pictures an image file holds: more than one where it is animated, or has pages.

    What cameras add to a JPEG file, a preview or a view for the other eye, does not count.
    """
    try:
        return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    except Exception:  # the first one may be whole where later ones are not
        return 1


def decode(item: Item, side: int, channels: int) -> Decoded:
    """Decode one image, of several in a file the first, as people see it.

    Upright, transparent parts on white, 16-bit gray scaled to 8 bits, then resized with bilinear interpolation
    without keeping the aspect ratio (method.md 1.2).

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    with opened(item) as original:
        size, frames = original.size, frames_of(original)
        image = ImageOps.exif_transpose(original)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image, dtype=np.uint16) // 257).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("L" if channels == 1 else "RGB")
        resized = image.resize((side, side), Image.Resampling.BILINEAR) if image.size != (side, side) else image
        pixels = np.asarray(resized, dtype=np.uint8)
    return Decoded(pixels.reshape(side, side, channels), size, frames)


def decoded(items: list[Item], side: int, channels: int) -> Iterator[Decoded]:
    """``decode`` over many images in order, on several threads (Pillow lets go of Python's lock), some at a time.

    Raises:
        UserError: some cannot be decoded; only after all were tried, so that one run finds them all.
    """

    def attempt(item: Item) -> Decoded | UserError:
        try:
            return decode(item, side, channels)
        except UserError as problem:
            return problem

    problems = []
    with ThreadPoolExecutor(threads.workers()) as pool:
        for start in range(0, len(items), CHUNK):
            for result in pool.map(attempt, items[start : start + CHUNK]):
                if isinstance(result, UserError):
                    problems.append(str(result))
                elif not problems:
                    yield result
    if problems:
        raise UserError(described(problems))


def described(problems: list[str]) -> str:
    """What cannot be decoded, in one line: how many, the first few with the reasons, and what to do."""
    if len(problems) == 1:
        return f"{problems[0]}; replace the file by a whole JPEG or PNG, or move it elsewhere"
    more = f", and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    first = ", ".join(problem.replace(": cannot be decoded", "") for problem in problems[:SHOWN])
    return (
        f"{len(problems)} images cannot be decoded: {first}{more}; replace these files by whole JPEG or PNG files, or "
        "move them elsewhere"
    )
