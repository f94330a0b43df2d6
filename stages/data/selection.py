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
        UserError: the reader knows no such lists, or others, or train and test lists of different classes.
    """
    parts, found = LISTS[split["by"]], {item.split for item in items}
    if found == {""}:
        told = "no train and test lists" if split["by"] == "lists" else "no train, query and gallery lists"
        raise UserError(f"{FILE}: {key}: by {split['by']}, but these files have {told}; give train and test")
    if not found <= set(parts):
        beside = next((item.source_path for item in items if not item.split), "")  # a validation set
        others = " and ".join(sorted(found - {"train"}))
        told = f"{beside} is in none of the lists" if beside else f"these files have {others} lists"
        raise UserError(f"{FILE}: {key}: by {split['by']}, but {told}; {advice(items)}")
    if absent := [part for part in parts if part not in found]:
        raise UserError(f"{FILE}: {key}: by {split['by']}, but the {absent[0]} list is empty; put its images there")
    if split["by"] == "lists":
        require_shared(items, key)
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


def require_shared(items: list[Item], key: str) -> None:
    """Refuse train and test lists of which neither has every class.

    Raises:
        UserError: says which class only one of them has, and what to write where they share none.
    """
    train, test = ({item.class_id: item for item in items if item.split == part} for part in LISTS["lists"])
    if len(train | test) > max(len(train), len(test)):
        name = next(item for class_id, item in train.items() if class_id not in test).class_name
        cure = "put images of it into the test list" if train.keys() & test else advice(items)
        raise UserError(f"{FILE}: {key}: by lists, but class {name} is in the train list alone; {cure}")


def advice(items: list[Item], held_out: int = 0) -> str:
    """What to write for the split that lists or folders make, with ``held_out`` classes left out if possible."""
    parts: dict[int, set[str]] = {}
    for item in items:
        parts.setdefault(item.class_id, set()).add(item.split)
    if any(one & {"query", "gallery"} for one in parts.values()):
        return "write {by: query_gallery}"
    if any(len(one) > 1 for one in parts.values()):
        return "write {by: lists}"
    for left_out in (held_out, 0):
        counts = Counter("".join(parts[class_id]) for class_id in sorted(parts)[: len(parts) - left_out])
        train, test = (counts[part] or counts[""] for part in ("train", "test"))
        if train and test:
            kept_out = f", held_out: {left_out}" if left_out else ""
            return f"write {{train: {train}, test: {test}{kept_out}}} for the split that the folders make"
    return "put all classes into one folder"


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
        raise UserError(f"{FILE}: {key}: {item.source_path} is of a class that would {part}; {advice(items, held_out)}")
    return [
        (item, label, part)
        for label, (members, part) in enumerate(kept)
        for item in members[: split.get("images_per_class")]
    ]
