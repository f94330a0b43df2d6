"""IDX files, the form in which MNIST and Fashion-MNIST are published: one array of bytes behind a short header."""

import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data import originals
from stages.data.annotations import Item, Tree
from stages.runtime.errors import UserError, reason

# Published names of each list's images and labels; the lists split the images, with every class in both.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
KINDS = {3: "images", 1: "labels"}  # by the number of dimensions
LARGEST = 1 << 30  # bytes of one array, twenty times MNIST's training images


def published_file(tree: Tree, name: str) -> Path:
    """The file called ``name``, as published (``.gz``) or decompressed, with ``-`` or ``.`` before ``idx``.

    Raises:
        UserError: there is none.
    """
    spelled = [stem + suffix for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    found = next(filter(None, map(tree.find, spelled)), None)
    if found is None:
        raise UserError(f"no {name}.gz (nor {name}); put the four published files there")
    return found


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes with so many dimensions, gzipped or plain.

    Raises:
        UserError: the file is no such array, or ends before or after what its header promises.
    """
    kind = KINDS[dimensions]
    try:
        with originals.decompressed(path) as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]):
                raise UserError(f"{path.name}: {told(header[:4], kind)}; put the published file there")
            if len(header) < 4 + 4 * dimensions:
                raise UserError(f"{path.name}: ends within its header; get it once more")
            shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, len(header), 4))
            size = math.prod(shape)
            if size > LARGEST:
                raise UserError(f"{path.name}: its header promises {size} bytes, more than any such dataset has")
            content, more = file.read(size), file.read(1)
    except originals.BAD_GZIP as error:
        raise UserError(f"{path.name}: cannot be decompressed ({reason(error)}); get it once more") from None
    if len(content) < size or more:
        found = f"{len(content)}" if len(content) < size else f"more than {size}"
        raise UserError(f"{path.name}: its header promises {size} bytes and it holds {found}; get it once more")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def told(magic: bytes, kind: str) -> str:
    """What the first four bytes say a file is, where IDX ``kind`` was expected."""
    if len(magic) == 4 and magic[:3] == b"\x00\x00\x08":
        other = KINDS.get(magic[3], f"an array of {magic[3]} dimensions")
        return f"holds {other} where {kind} belong; perhaps two files were exchanged"
    return f"is not an IDX file of {kind} (it begins with {magic.hex() or 'nothing'})"


def idx(raw: Path) -> list[Item]:
    """MNIST's and Fashion-MNIST's four files (method.md 8); images are numbered in file order, test after training.

    Raises:
        UserError: a file is missing or malformed, or images and labels do not belong together.
    """
    tree = Tree(raw)
    items: list[Item] = []
    for split, (images_name, labels_name) in FILES.items():
        images_path, labels_path = published_file(tree, images_name), published_file(tree, labels_name)
        images, labels = read(images_path, 3), read(labels_path, 1)
        if len(images) != len(labels):
            raise UserError(
                f"{images_path.name}: {len(images)} images, but {labels_path.name} has {len(labels)} labels; "
                "put two files there that were published together"
            )
        if 0 in images.shape:
            raise UserError(f"{images_path.name}: holds no image; put the published file there")
        start = len(items)
        items += [
            Item(
                start + i,
                int(label),
                str(label),
                f"{images_name}:{i}",
                partial(Image.fromarray, images[i]),
                split=split,
            )
            for i, label in enumerate(labels)
        ]
    return items
