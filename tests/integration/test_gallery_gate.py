"""Queries and gallery as two sets: what the data gate asks of them, and blocks that contradict themselves."""

import shutil
from functools import partial

import pandas as pd
import pytest
from gallery_files import FOLDERS, IN_SHOP, MARKET, make_folders, make_in_shop, make_market, portrait, set_up

from stages import prepare, validate
from stages.runtime import params
from stages.runtime.errors import UserError


@pytest.mark.parametrize(
    ("data", "make"), [(IN_SHOP, make_in_shop), (FOLDERS, make_folders)], ids=["in_shop", "folders"]
)
def test_other_layouts_pass_the_gate(project, monkeypatch, caplog, data, make):
    set_up(project, data, make)
    monkeypatch.chdir(project.folder)
    loaded = params.load()
    prepare.prepare(loaded, data[0])
    caplog.set_level("INFO")
    validate.validate(loaded, data[0])
    assert "camera" not in pd.read_parquet(f"data/{data[0]}/manifest.parquet")
    distractors = 2 if data is FOLDERS else 0
    assert f"; {distractors} images of {distractors // 2} classes without a query are distractors" in caplog.text
    assert "each query needs an image of its class in the gallery" in caplog.text


def gate(project, monkeypatch, change):
    """What the data gate says of the copy of Market-1501 after a change to its files or to its block."""
    set_up(project, MARKET, make_market)
    change(project)
    monkeypatch.chdir(project.folder)
    loaded = params.load()
    prepare.prepare(loaded, "persons")
    with pytest.raises(UserError) as told:
        validate.validate(loaded, "persons")
    assert not (project.folder / "data/persons/validation.json").exists()
    return str(told.value)


def expect(project, **values):
    project.edit(lambda loaded: loaded["datasets"]["persons"]["expected"].update(values))


def folder_of(project, name):
    return project.folder / "data/raw/persons/Market-1501-v15.09.15" / name


def only_from_camera_one(project):
    for path in folder_of(project, "bounding_box_test").glob("0003_c[23]*"):
        path.unlink()
    expect(project, gallery={"images": 32, "classes": 6})


def without_one_identity(project):
    for path in folder_of(project, "bounding_box_test").glob("0005_*"):
        path.unlink()
    expect(project, gallery={"images": 30, "classes": 5}, images_per_class=[2, 8])


def train_on_a_queried_one(project):
    portrait(folder_of(project, "bounding_box_train") / "0001_c4s1_000100_00.jpg", 1, 7000)
    portrait(folder_of(project, "bounding_box_train") / "0001_c5s1_000100_00.jpg", 1, 7001)
    expect(project, train={"images": 14, "classes": 5}, images_per_class=[2, 8])


def found_again(project):
    query = folder_of(project, "query") / "0004_c1s1_001000_00.jpg"
    shutil.copy(query, folder_of(project, "bounding_box_test") / "0004_c1s1_001000_01.jpg")
    expect(project, gallery={"images": 37, "classes": 6}, images_per_class=[3, 9])


def one_query(project):
    for path in sorted(folder_of(project, "query").iterdir())[1:]:
        path.unlink()
    expect(project, query={"images": 1, "classes": 1}, images_per_class=[3, 8])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (only_from_camera_one, "1 queries have no image of their class from another camera in the gallery: image"),
        (without_one_identity, "2 queries have no image of their class from another camera in the gallery"),
        (train_on_a_queried_one, "1 classes of queries or gallery train, too, not 0 (expected.shared_classes)"),
        (partial(expect, query={"images": 12, "classes": 5}),
         "2 expectations fail: query has 10 images, not 12 (expected.query.images); there are 58 images, not 60 (the "
         "sum of expected.train.images and .query.images and .gallery.images)"),
        (partial(expect, gallery={"images": 36, "classes": 5}), "gallery has 6 classes, not 5 (expected.gallery.c"),
        (partial(expect, images_per_class=[4, 8]), "classes have 3 to 8 images, not 4 to 8"),
        (one_query, "all queries are of one class and one camera, so no ranking has the 2 gallery images of both, such "
                    "as bounding_box_test/0001_c1"),
        (found_again, "2 images occur in more than one split, not 0 (expected.duplicates_across_splits): image ids "),
    ],
    ids=["camera", "class", "shared", "images", "classes", "sizes", "alone", "duplicates"],
)  # fmt: skip
def test_the_gate_says_what_is_wrong(project, monkeypatch, change, expected):
    assert expected in gate(project, monkeypatch, change)


def test_shared_classes_can_be_right(project, monkeypatch):
    set_up(project, MARKET, make_market)
    train_on_a_queried_one(project)
    expect(project, shared_classes=1)
    monkeypatch.chdir(project.folder)
    prepare.prepare(params.load(), "persons")
    validate.validate(params.load(), "persons")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda block: block["expected"].pop("gallery"), "datasets.persons.expected: key 'gallery' is missing; add it"),
        (
            lambda block: block["expected"].update(test={"images": 1, "classes": 1}),
            "expected.test: not what this split",
        ),
        (lambda block: block.update(split={"by": "lists"}), "datasets.persons.expected: key 'test' is missing; add it"),
        (lambda block: block.update(split={"by": "queries"}), "write lists, the publisher's own of training and test"),
        (lambda block: block.update(split={"by": "query_gallery", "train": 3}), "datasets.persons.split"),
    ],
    ids=["missing", "strange", "lists", "unknown", "both"],
)
def test_a_block_that_contradicts_itself(project, monkeypatch, change, expected):
    set_up(project, MARKET, make_market)
    project.edit(lambda loaded: change(loaded["datasets"]["persons"]))
    monkeypatch.chdir(project.folder)
    with pytest.raises(UserError) as told:
        params.load()
    assert expected in str(told.value)
