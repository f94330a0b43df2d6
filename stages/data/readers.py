"""Readers: from a dataset's original files to a list of images with class ids. One function each, READERS at the foot.

A reader gets the folder with a dataset's files, as published or as a user laid them out, and checks the lists against
the images before anything is decoded. Its messages name files relative to that folder.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from stages.data.annotations import Item, Tree, inside, listed, require_class, table
from stages.data.cars import cars
from stages.data.folders import folder
from stages.data.galleries import in_shop, market
from stages.data.idx import idx
from stages.runtime.errors import UserError

Reader = Callable[[Path], list[Item]]


def digits(raw: Path) -> list[Item]:
    """scikit-learn's 1,797 bundled 8x8 gray digits; values 0..16 become 0..255. ``raw`` is not used."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = (bundle.images * (255 / 16)).round().astype("uint8")
    return [
        Item(i, int(label), str(label), f"sklearn.datasets.load_digits:{i}", partial(Image.fromarray, pixels[i]))
        for i, label in enumerate(bundle.target)
    ]


def cub(raw: Path) -> list[Item]:
    """CUB-200-2011 (method.md 1.1): ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``.

    Raises:
        UserError: a list is missing or malformed, names an unknown class, or does not fit the images.
    """
    tree = Tree(raw)
    first = tree.required("images.txt")
    paths = dict(table(first, int, str))
    classes = dict(table(tree.required("image_class_labels.txt", beside=first), int, int))
    names = dict(table(tree.required("classes.txt", beside=first), int, str))
    for image, path in paths.items():
        if image not in classes:
            raise UserError(f"image_class_labels.txt: no class for image {image} ({path}); mend the list")
        require_class(classes[image], names, f"image_class_labels.txt: image {image}", "classes.txt")
    for image in classes:
        if image not in paths:
            raise UserError(f"images.txt: no path for image {image}; mend the list")
    return listed(tree, [(i, classes[i], names[classes[i]], f"images/{path}") for i, path in paths.items()])


def sop(raw: Path) -> list[Item]:
    """Stanford Online Products (method.md 1.1): ``Ebay_train.txt``, ``Ebay_test.txt`` and the image folders they name.

    Classes have no names; they are called by their kind of product and id, as in ``bicycle_1``.

    Raises:
        UserError: a list is missing or malformed, a class is in both lists, or a list does not fit the images.
    """
    tree = Tree(raw)
    first = tree.required("Ebay_train.txt")
    rows: list[tuple[int, int, str, str]] = []
    last = 0
    for name in ("Ebay_train.txt", "Ebay_test.txt"):
        entries = table(
            tree.required(name, beside=first), int, int, int, str, header="image_id class_id super_class_id path"
        )
        for image, class_id, _, path in entries:
            if class_id <= last:
                raise UserError(f"{name}: class {class_id} also belongs to Ebay_train.txt; mend the lists")
            kind = inside(path, f"{name}: image {image}").parts[0].removesuffix("_final")
            rows.append((image, class_id, f"{kind}_{class_id}", path))
        last = max((class_id for _, class_id, _, _ in entries), default=0)
    return listed(tree, rows)


READERS: dict[str, Reader] = {
    "digits": digits,
    "folder": folder,
    "cub": cub,
    "cars": cars,
    "sop": sop,
    "idx": idx,
    "in_shop": in_shop,
    "market": market,
}
