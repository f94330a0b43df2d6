"""Datasets with queries and gallery as two sets: DeepFashion's In-Shop, and Market-1501 and its like."""

import re
from functools import partial
from pathlib import Path

from stages.data import originals
from stages.data.annotations import Item, Tree, is_text, lines_of, listed, open_image
from stages.data.originals import and_more
from stages.runtime.errors import UserError

PARTITION = "list_eval_partition.txt"
COLUMNS = ["image_name", "item_id", "evaluation_status"]
COUNT = re.compile(r"[0-9]{1,9}")
ITEM = re.compile(r"id_([0-9]{1,18})")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
# 0002_c1s1_000451_03.jpg: identity and camera, then sequence, frame and box
PERSON = re.compile(r"(-1|[0-9]{1,18})_c([0-9]{1,9})[^0-9].*")
JUNK = "-1"  # neither right nor wrong: part of no ranking


def in_shop(raw: Path) -> list[Item]:
    """In-Shop Clothes Retrieval: ``list_eval_partition.txt`` and the folder ``img/`` that it names.

    The list has the number of images, a line of column names, and then image, item and train, query or gallery in each
    line. Images are numbered in its order.

    Raises:
        UserError: the list is missing or malformed, or does not fit the images.
    """
    tree = Tree(raw)
    (number, count), *lines = lines_of(tree.required(PARTITION)) or [(1, "")]
    if not COUNT.fullmatch(count) or not lines or lines[0][1].casefold().split() != COLUMNS:
        raise UserError(
            f"{PARTITION}: line {number}: does not begin with a number of images and a line `{' '.join(COLUMNS)}`; "
            "put the published list there"
        )
    rows, parts = [], []
    for image_id, (number, line) in enumerate(lines[1:]):
        fields = line.rsplit(maxsplit=2)
        item = ITEM.fullmatch(fields[1]) if len(fields) == 3 else None
        if item is None:
            raise UserError(
                f"{PARTITION}: line {number}: {line[:80]!r} is not an image, an item such as id_00000001, and train, "
                "query or gallery; mend the line"
            )
        if fields[2] not in FOLDERS:
            raise UserError(
                f"{PARTITION}: line {number}: {fields[2][:80]!r} is no status; write train, query or gallery"
            )
        rows.append((image_id, int(item[1]), fields[1], fields[0]))
        parts.append(fields[2])
    if len(rows) != int(count):
        raise UserError(f"{PARTITION}: says {int(count)} images and names {len(rows)}; put the whole list there")
    return [item._replace(split=part) for item, part in zip(listed(tree, rows), parts, strict=True)]


def market(raw: Path) -> list[Item]:
    """Market-1501: ``bounding_box_train/``, ``query/`` and ``bounding_box_test/``, identity and camera in file names.

    Identity -1 is junk and left out. Identity 0000 are distractors, a class of the gallery that has no query. Images
    are numbered in name order, those of training before queries and these before the gallery.

    Raises:
        UserError: a folder is missing, a name has no identity and camera, or an image is in two folders.
    """
    folders = {path.name.casefold(): entries for path, _, entries in reversed(list(originals.walk(raw)))}
    items: list[Item] = []
    seen: dict[str, str] = {}
    again = []
    for part, name in FOLDERS.items():
        images = [path for path in folders.get(name, []) if originals.is_image(path) and path.is_file()]
        if not images:
            raise UserError(f"no images in {name}/; put the folders {', '.join(FOLDERS.values())} there")
        for path in images:
            found = PERSON.fullmatch(path.name)
            if not found or not is_text(path.name):
                raise UserError(
                    f"{name}/{path.name}: the name does not begin with identity and camera, as 0002_c1s1_000451_03.jpg "
                    "does; rename it, or move it elsewhere"
                )
            identity, camera = found.groups()
            if path.name in seen:
                again.append(f"{seen[path.name]}/{path.name} and {name}/{path.name}")
            seen.setdefault(path.name, name)
            if identity != JUNK:
                source, opened = f"{name}/{path.name}", partial(open_image, path)
                items.append(Item(len(items), int(identity), identity, source, opened, path, part, int(camera)))
    if again:
        raise UserError(f"{again[0]}: an image in two lists{and_more(again)}; remove one")
    return items
