"""Which classes of a dataset take part."""

import pytest
import yaml
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


def items(**lists):
    """Two images of each of some classes in each list; "beside" holds a validation set."""
    named = [("" if part == "beside" else part, name) for part, names in lists.items() for name in names]
    numbers = {name: label for label, name in enumerate(dict.fromkeys(name for _, name in named))}
    return [
        Item(2 * i + j, numbers[name], name, f"{part or 'val'}/{name}/{j}.png", Image.Image, None, part)
        for i, (part, name) in enumerate(named)
        for j in range(2)
    ]


FOLDERS = items(train="abc", test="de")
WITH_VAL = items(train="abc", beside="de")
PUBLISHED = items(train="abcd", test="abcd")
SETS = items(train="abc", query="de", gallery="def")
CLASSES = "write {train: 3, test: 2} for the split that the folders make"


@pytest.mark.parametrize(
    ("images", "split", "found", "cure"),
    [
        (PUBLISHED, {"train": 2, "test": 2}, "train/c/0.png is of a class that would test", "write {by: lists}"),
        (SETS, {"train": 3, "test": 2}, "query/e/0.png is of a class that would test", "write {by: query_gallery}"),
        (SETS, {"by": "lists"}, "these files have gallery and query lists", "write {by: query_gallery}"),
        (FOLDERS, {"train": 4, "test": 1}, "test/d/0.png is of a class that would train", CLASSES),
        (FOLDERS, {"train": 2, "test": 1, "held_out": 2}, "train/c/0.png is of a class that would test", CLASSES),
        (FOLDERS, {"by": "lists"}, "class a is in the train list alone", CLASSES),
        (FOLDERS, {"by": "query_gallery"}, "these files have test lists", CLASSES),
        (WITH_VAL, {"by": "lists"}, "val/d/0.png is in none of the lists", CLASSES),
        (WITH_VAL, {"train": 2, "test": 3}, "train/c/0.png is of a class that would test", CLASSES),
        (items(train="abc", beside="d", test="ef"), {"by": "lists"}, "val/d/0.png is in none of the lists", CLASSES),
        (items(train="abc", test="bcd"), {"by": "lists"}, "class a is in the train list alone", "put images of it"),
    ],
)  # fmt: skip
def test_a_split_that_does_not_fit_says_which_one_does(images, split, found, cure):
    with pytest.raises(UserError) as told:
        chosen(images, split, "datasets.mine.split")
    assert f"{found}; {cure}" in str(told.value)
    if cure.startswith("write "):  # and what it says to write is taken
        said = cure.removeprefix("write ").partition("}")[0]
        assert chosen(images, yaml.safe_load(f"{said}}}"), "datasets.mine.split")


def test_a_list_with_fewer_classes_is_a_list_all_the_same():
    assert len(chosen(items(train="abc", test="ab"), {"by": "lists"}, "key")) == 10
