"""Readers of queries and gallery as two sets: the published layouts read right, and what is wrong named in one line."""

import shutil

import pytest
from gallery_files import in_shop_lines, make_folders, make_in_shop, make_market, portrait

from stages.data.readers import READERS
from stages.data.selection import by_lists
from stages.runtime.errors import UserError


def refused(reader, raw):
    with pytest.raises(UserError) as told:
        READERS[reader](raw)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_in_shop(tmp_path):
    make_in_shop(tmp_path)
    items = READERS["in_shop"](tmp_path)
    assert [(item.source_path, item.class_name, item.split) for item in items] == in_shop_lines()
    assert [item.image_id for item in items] == list(range(28))
    assert items[-1].class_id == 31
    assert all(item.camera is None for item in items)
    with items[0].open() as image:
        assert image.size == (12, 16)


def test_market(tmp_path):
    make_market(tmp_path)
    items = READERS["market"](tmp_path)
    found = [(item.class_name, item.camera, item.split, item.source_path) for item in items]
    assert len(items) == 12 + 10 + 36
    assert found[0] == ("0002", 1, "train", "bounding_box_train/0002_c1s1_000152_52.jpg")
    assert found[12] == ("0001", 1, "query", "query/0001_c1s1_001000_00.jpg")
    assert [item.split for item in items] == 12 * ["train"] + 10 * ["query"] + 36 * ["gallery"]
    assert sum(item.class_name == "0000" for item in items) == 6
    assert not any("-1_" in item.source_path or "gt_bbox" in item.source_path for item in items)
    assert [item.image_id for item in items] == list(range(58))


def test_names_of_the_same_kind_from_another_collection(tmp_path):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        portrait(tmp_path / folder / f"{len(folder):04}_c6_f0046182.jpg", 0, len(folder))
    assert [(item.class_id, item.camera) for item in READERS["market"](tmp_path)] == [(18, 6), (5, 6), (17, 6)]


def test_folders(tmp_path):
    make_folders(tmp_path)
    items = READERS["folder"](tmp_path)
    found = [(item.class_id, item.class_name, item.split) for item in items]
    assert found[::2] == found[1::2]
    assert found[::2] == [
        (0, "ash", "train"), (1, "elm", "train"), (2, "oak", "train"), (3, "fir", "query"), (4, "yew", "query"),
        (3, "fir", "gallery"), (5, "ivy", "gallery"), (4, "yew", "gallery"),
    ]  # fmt: skip
    assert items[6].source_path == "query/fir/query0.png"


def test_lists_follow_each_other_in_their_own_order(tmp_path):
    make_in_shop(tmp_path)
    rows = by_lists(READERS["in_shop"](tmp_path), {"by": "query_gallery"}, "split")
    assert [part for _, _, part in rows] == 16 * ["train"] + 6 * ["query"] + 6 * ["gallery"]
    for part in ("train", "query", "gallery"):
        ids = [item.image_id for item, _, of in rows if of == part]
        assert ids == sorted(ids)
    assert [label for _, label, part in rows if part == "query"] == [4, 4, 5, 5, 6, 6]
    first = by_lists(READERS["in_shop"](tmp_path), {"by": "query_gallery", "images_per_class": 1}, "split")
    assert [part for _, _, part in first] == 4 * ["train"] + 3 * ["query"] + 3 * ["gallery"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({1: "img/MEN/Denim/id_00000002/01_1_front.jpg id_00000002 test"},
         "list_eval_partition.txt: line 4: 'test' is no status; write train, query or gallery"),
        ({1: "img/MEN/Denim/id_00000002/01_1_front.jpg train"}, "line 4: 'img/MEN/Denim/id_00000002/01_1_front.jpg"),
        ({1: "img/MEN/Denim/id_00000002/01_1_front.jpg 2 train"}, "is not an image, an item such as id_00000001, and"),
        ({1: "img/MEN/Denim/id_00000002/99_9_front.jpg id_00000002 train"},
         "img/MEN/Denim/id_00000002/99_9_front.jpg: listed but absent; 27 of 28 listed images are there"),
        ({19: "img/WOMEN/Dresses/id_00000011/00_0_front.jpg id_00000011 gallery"},
         "img/WOMEN/Dresses/id_00000011/00_0_front.jpg: an image is listed twice"),
        ({1: "../secret.jpg id_00000002 train"}, "path '../secret.jpg' leaves the dataset's folder"),
        ({27: ""}, "says 28 images and names 27; put the whole list there"),
        ({-2: "twenty"}, "line 1: does not begin with a number of images and a line `image_name item_id"),
        ({-1: "image item status"}, "line 1: does not begin with a number of images"),
    ],
    ids=["status", "short", "item", "absent", "twice", "outside", "cut", "count", "header"],
)  # fmt: skip
def test_a_wrong_line_of_in_shop(tmp_path, change, expected):
    listing = make_in_shop(tmp_path)
    lines = listing.read_text().split("\n")
    for number, text in change.items():
        lines[number + 2] = text
    listing.write_text("\n".join(lines))
    assert expected in refused("in_shop", tmp_path)


def test_lists_of_in_shop_that_are_none(tmp_path):
    listing = make_in_shop(tmp_path)
    for content in ("", "28\n", "28", "9" * 5000):
        listing.write_text(content)
        assert "line 1: does not begin with a number of images" in refused("in_shop", tmp_path)
    listing.unlink()
    assert "no list_eval_partition.txt (there are Img); put it there" in refused("in_shop", tmp_path)


def test_what_is_wrong_with_market(tmp_path):
    root = make_market(tmp_path)
    (root / "query" / "somebody.jpg").write_bytes(b"")
    assert "query/somebody.jpg: the name does not begin with identity and camera" in refused("market", tmp_path)
    (root / "query" / "somebody.jpg").unlink()
    shutil.copy(root / "query" / "0001_c1s1_001000_00.jpg", root / "bounding_box_test")
    assert refused("market", tmp_path) == (
        "query/0001_c1s1_001000_00.jpg and bounding_box_test/0001_c1s1_001000_00.jpg: an image in two lists; remove one"
    )
    shutil.rmtree(root / "query")
    assert "no images in query/; put the folders bounding_box_train, query, bounding" in refused("market", tmp_path)


def test_what_is_wrong_with_folders(tmp_path):
    make_folders(tmp_path)
    (tmp_path / "gallery").rename(tmp_path / "gallery.away")
    shutil.move(tmp_path / "gallery.away", tmp_path.parent / f"{tmp_path.name}.away")
    assert "query: there are no images in gallery/<class>/ beside it; put them there" in refused("folder", tmp_path)
    shutil.move(tmp_path.parent / f"{tmp_path.name}.away", tmp_path / "gallery")
    portrait(tmp_path / "val" / "elder" / "0.png", 0, 99)
    assert "val: a split beside query and gallery" in refused("folder", tmp_path)
    shutil.rmtree(tmp_path / "val")
    portrait(tmp_path / "query" / "loose.png", 0, 98)
    assert "query: a split that holds 1 images without class folders" in refused("folder", tmp_path)


@pytest.mark.parametrize(
    ("by", "make", "reader", "expected"),
    [
        ("lists", make_in_shop, "in_shop",
         "by lists, but these files have gallery and query lists; write {by: query_gallery}"),
        ("query_gallery", lambda raw: [portrait(raw / name / "0.png", 0, 0) for name in "ab"], "folder",
         "by query_gallery, but these files have no train, query and gallery lists"),
        ("query_gallery", lambda raw: make_in_shop(raw, [(*line[:2], "gallery" if line[2] == "query" else line[2])
                                                         for line in in_shop_lines()]), "in_shop",
         "by query_gallery, but the query list is empty"),
    ],
    ids=["two", "none", "empty"],
)  # fmt: skip
def test_a_split_that_does_not_fit(tmp_path, by, make, reader, expected):
    make(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml: datasets\.own\.split") as told:
        by_lists(READERS[reader](tmp_path), {"by": by}, "datasets.own.split")
    assert expected in str(told.value)
