"""Readers: from a dataset's original files to a list of images with labels. One function each, READERS at the foot."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from stages.io.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class Item(NamedTuple):
    """One original image: its id in the dataset, 0-based class label, class name, path for people, how to open it."""

    image_id: int
    label: int
    class_name: str
    source_path: str
    open: Callable[[], Image.Image]


Reader = Callable[[Path], list[Item]]


def digits(raw: Path) -> list[Item]:
    """scikit-learn's 1,797 bundled 8x8 grey digits; values 0..16 become 0..255. ``raw`` is not used."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = (bundle.images * (255 / 16)).round().astype("uint8")
    return [
        Item(i, int(label), str(label), f"sklearn.datasets.load_digits:{i}", partial(Image.fromarray, pixels[i]))
        for i, label in enumerate(bundle.target)
    ]


def folder(raw: Path) -> list[Item]:
    """A folder per class with images inside: ``raw/<class name>/<image>``. Classes and images in name order.

    Raises:
        UserError: the folder is absent or holds no images in class folders.
    """
    if not raw.is_dir():
        raise UserError(f"{raw}: missing; put one folder of images per class there")
    classes = sorted(path for path in raw.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [
        (label, path)
        for label, parent in enumerate(classes)
        for path in sorted(parent.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UserError(f"{raw}: no images in class folders; put one folder of images per class there")
    return [
        Item(i, label, path.parent.name, path.relative_to(raw).as_posix(), partial(Image.open, path))
        for i, (label, path) in enumerate(files)
    ]


READERS: dict[str, Reader] = {
    "digits": digits,
    "folder": folder,
}
