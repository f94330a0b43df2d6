"""Readers: from a dataset's original files to a list of images with class ids. One function each, READERS at the foot.

A reader gets the folder with a dataset's files, as published or as a user laid them out, and checks the lists against
the images before anything is decoded. Its messages name files relative to that folder.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from stages.io import matlab
from stages.io.errors import UserError
from stages.io.listings import (
    Item,
    find,
    inside,
    is_text,
    listed,
    open_image,
    parent_of,
    require_class,
    required,
    shown,
    subfolders,
    table,
)

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
    """A folder per class with images inside: ``<class name>/<image>``. Classes and images in name order.

    Folders around the class folders, as archives often have them, do not matter.

    Raises:
        UserError: there are no images in class folders, or one has a name that no text can hold.
    """
    classes = subfolders(raw)
    while len(classes) == 1:
        raw = classes[0]
        classes = subfolders(raw)
    files = [(label, path) for label, parent in enumerate(classes) for path in sorted(parent.iterdir()) if shown(path)]
    if not files:
        found = "no images in class folders" if raw.is_dir() and any(map(shown, raw.iterdir())) else "empty"
        raise UserError(f"{found}; put one folder of images per class there")
    for _, path in files:
        if not is_text(path.relative_to(raw).as_posix()):
            raise UserError(f"{path.relative_to(raw)}: the name is not valid UTF-8; rename it")
    return [
        Item(i, label, path.parent.name, path.relative_to(raw).as_posix(), partial(open_image, path))
        for i, (label, path) in enumerate(files)
    ]


def cub(raw: Path) -> list[Item]:
    """CUB-200-2011 (method.md 1.1): ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``.

    Raises:
        UserError: a list is missing or malformed, names an unknown class, or does not fit the images.
    """
    root = parent_of(raw, "images.txt")
    paths = dict(table(root / "images.txt", int, str))
    classes = dict(table(root / "image_class_labels.txt", int, int))
    names = dict(table(root / "classes.txt", int, str))
    for image, path in paths.items():
        if image not in classes:
            raise UserError(f"image_class_labels.txt: no class for image {image} ({path}); restore the original file")
        require_class(classes[image], names, f"image_class_labels.txt: image {image}", "classes.txt")
    for image in classes:
        if image not in paths:
            raise UserError(f"images.txt: no path for image {image}; restore the original file")
    return listed(root, [(i, classes[i], names[classes[i]], f"images/{path}") for i, path in paths.items()])


def cars(raw: Path) -> list[Item]:
    """Cars-196 (method.md 1.1) in either published form; images are numbered in the order of the lists from 1.

    ``cars_annos.mat`` lists all images under the folder it lies in (or the one above). Else the devkit: its
    ``cars_train_annos.mat``, ``cars_meta.mat`` and ``cars_test_annos_withlabels.mat`` with ``cars_train/`` and
    ``cars_test/``.

    Raises:
        UserError: a file is missing or damaged, a label is out of range, or a list does not fit the images.
    """
    merged = find(raw, "cars_annos.mat")
    if merged:
        found = matlab.read(merged)
        where, names = merged.name, matlab.class_names(found, merged.name)
        entries = matlab.images(found, merged.name)
        first = inside(entries[0][0], f"{where}: image 1") if entries else ""
        root = merged.parent if (merged.parent / first).exists() else raw
    else:
        parts = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
        meta = required(raw, "cars_meta.mat", instead="cars_annos.mat")
        names, where = matlab.class_names(matlab.read(meta), meta.name), "cars_*_annos*.mat"
        entries = []
        for part, name in parts.items():
            found = matlab.read(required(raw, name, instead="cars_annos.mat"))
            entries += [(f"{part}/{file}", class_id) for file, class_id in matlab.images(found, name)]
        root = parent_of(raw, "cars_train")
    known = dict(enumerate(names, start=1))
    for path, class_id in entries:
        require_class(class_id, known, f"{where}: {path}", "class_names")
    rows = [(i, class_id, known[class_id], path) for i, (path, class_id) in enumerate(entries, start=1)]
    return listed(root, rows)


def sop(raw: Path) -> list[Item]:
    """Stanford Online Products (method.md 1.1): ``Ebay_train.txt``, ``Ebay_test.txt`` and the image folders they name.

    Classes have no names; they are called by their kind of product and id, as in ``bicycle_1``.

    Raises:
        UserError: a list is missing or malformed, a class is in both lists, or a list does not fit the images.
    """
    root = parent_of(raw, "Ebay_train.txt")
    rows: list[tuple[int, int, str, str]] = []
    last = 0
    for name in ("Ebay_train.txt", "Ebay_test.txt"):
        entries = table(root / name, int, int, int, str, header="image_id class_id super_class_id path")
        for image, class_id, _, path in entries:
            if class_id <= last:
                raise UserError(f"{name}: class {class_id} also belongs to Ebay_train.txt; restore the original files")
            kind = inside(path, f"{name}: image {image}").parts[0].removesuffix("_final")
            rows.append((image, class_id, f"{kind}_{class_id}", path))
        last = max((class_id for _, class_id, _, _ in entries), default=0)
    return listed(root, rows)


READERS: dict[str, Reader] = {
    "digits": digits,
    "folder": folder,
    "cub": cub,
    "cars": cars,
    "sop": sop,
}
