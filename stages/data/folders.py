"""A user's own images: one folder per class, in the layouts that people have them in."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stages.data import originals
from stages.data.annotations import Item, is_text, open_image
from stages.data.originals import and_more
from stages.runtime.errors import UserError

# Folders of a split by images or by classes, and which part of ours their classes are for.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), ""),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("query", "queries"), "query"),
    "gallery": "gallery",
}
ORDER = ("train", "", "test", "query", "gallery")  # classes in this order, as `split` counts them


class Node(NamedTuple):
    """A folder with images somewhere below it: those directly inside, and the subfolders that have some."""

    path: Path
    images: list[Path]
    folders: list["Node"]


class Class(NamedTuple):
    """One class: the part it is for ("" for either), its name, and its images."""

    part: str
    name: str
    images: list[Path]


def folder(raw: Path) -> list[Item]:
    """A folder per class with images inside: ``<class name>/<image>``. Classes and images in name order.

    Folders around the class folders, as archives often have them, do not matter. ``train/<class>/`` and
    ``test/<class>/`` with different classes are read too, training classes first; and ``train/<class>/``,
    ``query/<class>/`` and ``gallery/<class>/``, where a class is what has one name.

    Raises:
        UserError: there are no images in class folders, a class is in two splits, or a name is one no text can hold.
    """
    root = _unwrapped(_tree(raw))
    classes = list(_classes(root, raw))
    numbers = {name: label for label, name in enumerate(dict.fromkeys(one.name for one in classes))}
    files = [(numbers[one.name], one, path) for one in classes for path in one.images]
    for _, _, path in files:
        if not is_text(path.relative_to(raw).as_posix()):
            raise UserError(f"{path.relative_to(raw)}: the name is not valid UTF-8; rename it")
    return [
        Item(i, label, one.name, path.relative_to(root.path).as_posix(), partial(open_image, path), path, one.part)
        for i, (label, one, path) in enumerate(files)
    ]


def _tree(raw: Path) -> Node:
    """The folders below ``raw`` that have images."""
    inside = {path: (folders, entries) for path, folders, entries in originals.walk(raw)}

    def node(path: Path) -> Node:
        folders, entries = inside.get(path, ([], []))
        images = [entry for entry in entries if originals.is_image(entry) and entry.is_file()]
        return Node(path, images, [below for below in map(node, folders) if below.images or below.folders])

    return node(raw)


def _unwrapped(node: Node) -> Node:
    """The folder of class folders: steps over folders that only hold one other."""
    while len(node.folders) == 1:
        (inner,) = node.folders
        if not inner.folders or (inner.images and len(inner.folders) == 1):
            break  # a class, or a class with more images in a folder
        node = inner
    return node


def _classes(root: Node, raw: Path) -> Iterator[Class]:
    """The classes in order; ``originals.left_out`` reports images in other places."""
    direct = [node for node in root.folders if node.images]
    if direct and all(node.path.name.lower() in SPLITS for node in root.folders):
        raise UserError(
            f"{direct[0].path.relative_to(raw)}: a split that holds {len(direct[0].images)} images without class "
            f"folders, such as {direct[0].images[0].name}; put one folder of images per class there, as class/image.jpg"
        )
    if direct:
        yield from (Class("", node.path.name, node.images) for node in direct)
        return
    if not root.folders:
        loose = f" ({len(root.images)} lie beside, such as {root.images[0].name})" if root.images else ""
        others = originals.left_out(raw, root.images, with_lists=False)
        found = "no images in class folders" if next(originals.files(raw), None) else "empty"
        raise UserError(
            f"{found}{loose}{f' ({others})' if others else ''}; put one folder of images per class "
            "there, as class/image.jpg"
        )
    deepest = root.folders[0].folders[0]
    if not all(node.path.name.lower() in SPLITS for node in root.folders):
        raise UserError(
            f"{deepest.path.relative_to(raw)}: class folders lie a level deeper than they should; move them up to "
            f"where {root.folders[0].path.name} is, or if that is a class itself, move its images up into it"
        )
    yield from _of_splits(root, raw)


def _of_splits(root: Node, raw: Path) -> Iterator[Class]:
    """Classes of ``train/<class>/``, ``val/<class>/`` and ``test/<class>/``, which must differ, or of three lists."""
    separate = _has_queries(root, raw)
    found: dict[str, Node] = {}
    again: list[tuple[Node, Node]] = []
    classes: list[Class] = []
    for split in root.folders:
        for node in (one for one in _unwrapped(split).folders if one.images):
            if node.path.name in found and not separate:
                again.append((found[node.path.name], node))
            found.setdefault(node.path.name, node)
            classes.append(Class(SPLITS[split.path.name.lower()], node.path.name, node.images))
    if again:
        one, other = (node.path.relative_to(raw).as_posix() for node in again[0])
        name = again[0][0].path.name
        raise UserError(
            f"{one} and {other}: the same class in two splits{and_more(again)}; here classes are split, not images: "
            f"put all images of a class into one folder, as {name}/, and let `split` say how many classes train and "
            "test (rename images that are called alike)"
        )
    if not classes:
        deep = next(path for path, _, _ in originals.walk(raw) if path.parent.parent.parent == root.path)
        raise UserError(f"{deep.relative_to(raw)}: class folders lie deeper than train/class/; move them up")
    yield from sorted(classes, key=lambda one: (ORDER.index(one.part), one.name))


def _has_queries(root: Node, raw: Path) -> bool:
    """Whether the splits are ``train/``, ``query/`` and ``gallery/``.

    Raises:
        UserError: there is one of the latter two, and not exactly these three.
    """
    parts = {SPLITS[split.path.name.lower()]: split.path.relative_to(raw) for split in root.folders}
    if not parts.keys() & {"query", "gallery"}:
        return False
    if absent := [name for name in ("train", "query", "gallery") if name not in parts]:
        here = next(path for part, path in parts.items() if part in ("query", "gallery"))
        raise UserError(f"{here}: there are no images in {absent[0]}/<class>/ beside it; put them there")
    if others := [path for part, path in parts.items() if part not in ("train", "query", "gallery")]:
        raise UserError(f"{others[0]}: a split beside query and gallery, which are the test images; move it elsewhere")
    return True
