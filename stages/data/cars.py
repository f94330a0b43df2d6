"""Cars-196 (method.md 1.1) in three forms, recognized by their lists."""

import csv
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.data import matlab
from stages.data.annotations import Item, Tree, inside, lines_of, listed, require_class
from stages.runtime.errors import UserError, reason

Row = tuple[str, int]  # path of an image, class id


class Lists(NamedTuple):
    """What a form's lists say: names of classes by id from 1, and images in their order; ``where`` they stand."""

    names: list[str]
    images: list[Row]
    where: str


class Form(NamedTuple):
    """One form of the dataset: its lists, the folders of its images, and how to read it."""

    lists: tuple[str, ...]
    images: str
    read: Callable[..., Lists]


def merged(annotations: Path) -> Lists:
    """One list of all images, and their names of classes."""
    names, images = matlab.read(annotations, "class_names", "images")
    return Lists(names, images, annotations.name)


def devkit(train: Path, test: Path, meta: Path) -> Lists:
    """Two lists that number their images alike, in folders of their own."""
    (names,) = matlab.read(meta, "class_names")
    images = [
        (f"{part}/{name}", class_id)
        for part, path in (("cars_train", train), ("cars_test", test))
        for name, class_id in matlab.read(path, "images")[0]
    ]
    return Lists(names, images, "cars_*_annos*.mat")


def by_classes(train: Path, test: Path, names: Path) -> Lists:
    """Two lists of (file, four corners, class id), which name bare files or paths, and one of names of classes."""
    known = [line.strip('"') for _, line in lines_of(names)]
    images = [row for part, path in (("train", train), ("test", test)) for row in _annotated(path, part, known)]
    return Lists(known, images, "anno_*.csv")


def _annotated(path: Path, part: str, known: list[str]) -> list[Row]:
    """One of the two lists, each image as ``<part>/<folder of its class>/<file>``."""
    rows: list[Row] = []
    names = dict(enumerate(known, start=1))
    for number, line in lines_of(path):
        try:
            fields = [field.strip() for field in next(csv.reader([line]))]
        except csv.Error as error:  # a field that is longer than any path
            raise UserError(f"{path.name}: line {number}: {reason(error)}; mend the line") from None
        first, last = fields[0], fields[-1]
        if not last.isdecimal() or len(last) > 9:
            if not rows and number == 1:
                continue  # names of columns
            raise UserError(f"{path.name}: line {number}: {line[:80]!r} does not end in a class id; mend the line")
        require_class(int(last), names, f"{path.name}: line {number}", "names.csv")
        *folders, file = inside(first, f"{path.name}: line {number}").parts
        bare = not folders or folders[-1] == part
        folder = names[int(last)].replace("/", "-") if bare else folders[-1]
        rows.append((f"{part}/{folder}/{file}", int(last)))
    return rows


FORMS = (
    Form(("cars_annos.mat",), "car_ims/", merged),
    Form(
        ("cars_train_annos.mat", "cars_test_annos_withlabels.mat", "cars_meta.mat"), "cars_train/, cars_test/", devkit
    ),
    Form(("anno_train.csv", "anno_test.csv", "names.csv"), "train/<class>/, test/<class>/", by_classes),
)


def cars(raw: Path) -> list[Item]:
    """Cars-196 in the first of its forms that is complete; images are numbered in the order of the lists from 1.

    ``cars_annos.mat`` with ``car_ims/``; the devkit's lists with ``cars_train/`` and ``cars_test/``; or the copy by
    classes, ``anno_train.csv``, ``anno_test.csv`` and ``names.csv`` with ``train/<class>/`` and ``test/<class>/``.

    Raises:
        UserError: no form is complete; says of each that is there in part what it lacks.
    """
    tree, problems = Tree(raw), []
    for form in FORMS:
        found = {name: tree.find(name) for name in form.lists}
        there = [name for name, path in found.items() if path]
        missing = [name for name, path in found.items() if not path]
        try:
            if there and missing:
                raise UserError(f"no {' and no '.join(missing)}; put that there")
            if there:
                return items(tree, form.read(*found.values()))
        except UserError as error:
            problems.append(f"recognized {' and '.join(there)} ({form.images}): {error}")
    if not problems:
        choice = ", or ".join(" + ".join(form.lists) + f" with {form.images}" for form in FORMS)
        raise UserError(f"no list of Cars-196{tree.seen()}; put one of its forms there: {choice}")
    raise UserError(" -- ".join(problems))


def items(tree: Tree, lists: Lists) -> list[Item]:
    """Items of one form.

    Raises:
        UserError: a label is out of range, or the lists do not fit the images.
    """
    known = dict(enumerate(lists.names, start=1))
    for path, class_id in lists.images:
        require_class(class_id, known, f"{lists.where}: {PurePosixPath(path)}", "class_names")
    return listed(tree, [(i, label, known[label], path) for i, (path, label) in enumerate(lists.images, start=1)])
