"""Which images of a dataset take part, their labels, and whether they train or test: the `split` of its block."""

from itertools import groupby
from operator import itemgetter
from typing import Any

from stages.data.annotations import Item
from stages.runtime.errors import UserError
from stages.runtime.params import FILE


def chosen(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The images that take part with label (from 0) and split, in manifest order.

    ``split`` is the block's; ``key`` its name for messages.

    Raises:
        UserError: there are fewer classes than asked for, or no lists to split by.
    """
    return by_lists(items, split, key) if "by" in split else by_class(items, split, key)


def by_lists(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The publisher's own training and test lists, each in its own order; labels by class id.

    ``images_per_class`` keeps the first so many images of each class in each list.

    Raises:
        UserError: the reader knows no such lists.
    """
    if not all(item.split for item in items):
        raise UserError(f"{FILE}: {key}: by lists, but these files have no train and test lists; give train and test")
    labels = {class_id: label for label, class_id in enumerate(sorted({item.class_id for item in items}))}
    most = split.get("images_per_class", len(items))
    rows: list[tuple[Item, int, str]] = []
    for part in ("train", "test"):
        seen = dict.fromkeys(labels, 0)
        for item in items:
            if item.split == part and seen[item.class_id] < most:
                seen[item.class_id] += 1
                rows.append((item, labels[item.class_id], part))
    return rows


def by_class(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """Classes in the order of their ids: the first ``train`` of them train, the last ``test`` of them test.

    Ordered by label, then by id. ``images_per_class`` keeps the first so many images of each.

    Raises:
        UserError: there are fewer classes than asked for.
    """
    classes = [list(members) for _, members in groupby(sorted(items, key=itemgetter(1, 0)), key=itemgetter(1))]
    train, test = split["train"], split["test"]
    if train + test > len(classes):
        raise UserError(f"{FILE}: {key}: {train} + {test} classes asked for, {len(classes)} are there; lower one")
    kept = [(members, "train") for members in classes[:train]]
    kept += [(members, "test") for members in classes[len(classes) - test :]]
    return [
        (item, label, part)
        for label, (members, part) in enumerate(kept)
        for item in members[: split.get("images_per_class")]
    ]
