"""Which images of a dataset take part, their labels, and what they are for: the `split` of its block."""

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any

from stages.data.annotations import Item
from stages.runtime.errors import UserError
from stages.runtime.params import FILE

LISTS = {"lists": ("train", "test"), "query_gallery": ("train", "query", "gallery")}  # by the `by` of a block's split


def chosen(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The images that take part with label (from 0) and split, in manifest order.

    ``split`` is the block's; ``key`` its name for messages.

    Raises:
        UserError: there are fewer classes than asked for, or no lists to split by.
    """
    return by_lists(items, split, key) if "by" in split else by_class(items, split, key)


def by_lists(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The publisher's own lists, each in its own order: training and test images, or training, query and gallery
    images; labels by class id.

    ``images_per_class`` keeps the first so many images of each class in each list.

    Raises:
        UserError: the reader knows no such lists, or others.
    """
    parts, found = LISTS[split["by"]], {item.split for item in items}
    if not all(found):
        told = "no train and test lists" if split["by"] == "lists" else "no train, query and gallery lists"
        raise UserError(f"{FILE}: {key}: by {split['by']}, but these files have {told}; give train and test")
    if not found <= set(parts):
        fitting = next(name for name, names in LISTS.items() if found <= set(names))
        raise UserError(
            f"{FILE}: {key}: by {split['by']}, but these files have {' and '.join(sorted(found - {'train'}))} lists; "
            f"write {{by: {fitting}}}"
        )
    if absent := [part for part in parts if part not in found]:
        raise UserError(f"{FILE}: {key}: by {split['by']}, but the {absent[0]} list is empty; put its images there")
    labels = {class_id: label for label, class_id in enumerate(sorted({item.class_id for item in items}))}
    most = split.get("images_per_class", len(items))
    rows: list[tuple[Item, int, str]] = []
    for part in parts:
        seen = dict.fromkeys(labels, 0)
        for item in items:
            if item.split == part and seen[item.class_id] < most:
                seen[item.class_id] += 1
                rows.append((item, labels[item.class_id], part))
    return rows


def by_class(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """Classes in the order of their ids: the first ``train`` of them train, the last ``test`` of them test.

    Ordered by label, then by id. ``images_per_class`` keeps the first so many images of each. The very last
    ``held_out`` classes take no part: with as many as the final study tests, parameters are chosen on other classes.

    Raises:
        UserError: there are fewer classes than asked for, or one lies in a folder for the other split.
    """
    classes = [list(members) for _, members in groupby(sorted(items, key=itemgetter(1, 0)), key=itemgetter(1))]
    train, test, held_out = split["train"], split["test"], split.get("held_out", 0)
    if train + test + held_out > len(classes):
        asked = f"{train} + {test}" + (f" + {held_out} held out" if held_out else "")
        raise UserError(f"{FILE}: {key}: {asked} classes asked for, {len(classes)} are there; lower one")
    classes = classes[: len(classes) - held_out]
    kept = [(members, "train") for members in classes[:train]]
    kept += [(members, "test") for members in classes[len(classes) - test :]]
    astray = [(members[0], part) for members, part in kept if members[0].split not in ("", part)]
    if astray:
        item, part = astray[0]
        counts = Counter(members[0].split for members in classes)
        kept_out = f", held_out: {held_out}" if held_out else ""
        raise UserError(
            f"{FILE}: {key}: {item.source_path} is of a class that would {part}; "
            f"write {{train: {counts['train']}, test: {counts['test']}{kept_out}}} for the split that the folders make"
        )
    return [
        (item, label, part)
        for label, (members, part) in enumerate(kept)
        for item in members[: split.get("images_per_class")]
    ]
