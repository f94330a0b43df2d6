"""Which classes of a dataset take part."""

import pytest
from PIL import Image

from stages.data.annotations import Item
from stages.data.selection import chosen
from stages.runtime.errors import UserError

ITEMS = [Item(i, i % 6 + 1, f"class {i % 6 + 1}", f"{i}.png", Image.Image) for i in range(18)]


def classes(split):
    rows = chosen(ITEMS, split, "datasets.mine.split")
    return {part: sorted({item.class_id for item, _, of in rows if of == part}) for part in ("train", "test")}


def test_the_first_classes_train_and_the_last_test():
    assert classes({"train": 3, "test": 2}) == {"train": [1, 2, 3], "test": [5, 6]}


def test_classes_held_out_take_no_part():
    """What a study is tuned on lies before them, so it has seen nothing of what the final study tests."""
    tuned, final = classes({"train": 3, "test": 1, "held_out": 2}), classes({"train": 4, "test": 2})
    assert tuned == {"train": [1, 2, 3], "test": [4]}
    assert not set(tuned["train"] + tuned["test"]) & set(final["test"])
    assert {label for _, label, _ in chosen(ITEMS, {"train": 3, "test": 1, "held_out": 2}, "key")} == {0, 1, 2, 3}


def test_more_classes_than_there_are():
    with pytest.raises(UserError, match=r"datasets.mine.split: 3 \+ 2 \+ 2 held out classes asked for, 6 are there"):
        chosen(ITEMS, {"train": 3, "test": 2, "held_out": 2}, "datasets.mine.split")
