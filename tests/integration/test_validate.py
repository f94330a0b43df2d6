"""Validation: what violates an expectation stops everything behind it and is named."""

import numpy as np
import pytest
from own_images import prepared

from stages.prepare import prepare
from stages.runtime import checksums, params
from stages.runtime.errors import UserError
from stages.validate import validate


def violate(project, change):
    """Change the prepared images or manifest, then validate."""
    folder = project.folder / "data" / "own"
    images, manifest = prepared(project)
    images, manifest = change(images.copy(), manifest)
    np.save(folder / "images.npy", images)
    checksums.sign(manifest).to_parquet(folder / "manifest.parquet", index=False)
    with pytest.raises(UserError) as caught:
        validate(params.load(), "own")
    return str(caught.value)


def duplicate_across_splits(images, manifest):
    images[11] = images[0]
    manifest.loc[11, "sha256"] = manifest["sha256"][0]
    return images, manifest


def constant_image(images, manifest):
    import hashlib

    images[3] = 7
    manifest.loc[3, "sha256"] = hashlib.sha256(images[3].tobytes()).hexdigest()
    return images, manifest


def changed_pixels(images, manifest):
    images[5, 0, 0, 0] ^= 1
    return images, manifest


def class_in_both_splits(images, manifest):
    manifest.loc[5, "split"] = "test"
    return images, manifest


def same_id(images, manifest):
    manifest.loc[4, "image_id"] = 3
    return images, manifest


def lonely_class(images, manifest):
    keep = [row for row in range(12) if row not in (9, 10)]
    return images[keep], manifest.iloc[keep]


def dropped_row(images, manifest):
    return images[:-1], manifest[:-1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            duplicate_across_splits,
            ("2 images occur in both splits, not 0", "expected.duplicates_across_splits", "ids 0, 11"),
        ),
        (constant_image, ("column=pixel_range", "image ids 3")),
        (changed_pixels, ("pair_values_to_be_equal", "image ids 5")),
        (class_in_both_splits, ("splits_of_class", "image ids 3, 4, 5")),
        (same_id, ("be_unique", "image ids 3")),
        (
            dropped_row,
            (
                "classes have 2 to 3 images, not 3 to 3 (expected.images_per_class: write [2, 3])",
                "image ids 9, 10, such as class3/0.png",
                "test has 5 images, not 6 (expected.test.images)",
                "3 expectations fail",
            ),
        ),
        (lonely_class, ("classes have 1 to 3 images", "a class needs two images at least", "image ids 11")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_violated_expectations_stop_and_name_the_rows(own, change, expected, monkeypatch):
    monkeypatch.chdir(own.folder)
    prepare(params.load(), "own")
    validate(params.load(), "own")  # an earlier pass must not outlive the failure
    message = violate(own, change)
    assert "\n" not in message
    found = [part for part in expected if part in message]
    assert found == list(expected), message
    assert not (own.folder / "data" / "own" / "validation.json").exists()


def test_known_duplicates_can_be_allowed(own, monkeypatch):
    monkeypatch.chdir(own.folder)
    pictures = own.folder / "data" / "raw" / "own"
    (pictures / "class3" / "2.png").write_bytes((pictures / "class0" / "0.png").read_bytes())
    prepare(params.load(), "own")
    with pytest.raises(UserError, match=r"2 images occur in both splits, not 0 .*: image ids 0, 11"):
        validate(params.load(), "own")
    for allowed in (1, 2):
        own.edit(lambda loaded, n=allowed: loaded["datasets"]["own"]["expected"].update(duplicates_across_splits=n))
        if allowed == 1:
            with pytest.raises(UserError, match="2 images occur in both splits, not 1"):
                validate(params.load(), "own")
        else:
            validate(params.load(), "own")


def test_training_refuses_data_that_changed_after_validation(own):
    own.stage("prepare", "own")
    own.stage("validate", "own")
    images, _ = prepared(own)
    images[0, 0, 0, 0] ^= 1
    np.save(own.folder / "data" / "own" / "images.npy", images)
    done = own.stage("train", "own", "vanilla", 0, check=False)
    assert done.returncode == 1
    assert (
        "validation.json: is not of the present images and manifest; run `python -m stages.validate own`" in done.stderr
    )


@pytest.mark.parametrize("name", ["images.npy", "manifest.parquet"])
def test_damaged_files_are_named(own, name):
    own.stage("prepare", "own")
    path = own.folder / "data" / "own" / name
    path.write_bytes(path.read_bytes()[:100])
    done = own.stage("validate", "own", check=False)
    assert done.returncode == 1
    assert f"validate: data/own/{name}: damaged" in done.stderr
    assert not (own.folder / "data" / "own" / "validation.json").exists()
    assert len(done.stderr.strip().splitlines()) == 1


def test_counts_that_differ_in_several_places_are_all_told(own, monkeypatch):
    """Guesses of every key of `expected`, one split with a class too many; the message says what to write."""
    monkeypatch.chdir(own.folder)
    (own.folder / "data" / "raw" / "own" / "class1" / "0.png").unlink()
    guess = {
        "train": {"images": 60, "classes": 3},
        "test": {"images": 6, "classes": 1},
        "images_per_class": [10, 20],
        "duplicates_across_splits": 0,
    }
    own.edit(lambda loaded: loaded["datasets"]["own"].update(expected=guess))
    prepare(params.load(), "own")
    with pytest.raises(UserError) as caught:
        validate(params.load(), "own")
    message = str(caught.value)
    for part in (
        "train has 5 images, not 60 (expected.train.images)",
        "train has 2 classes, not 3 (expected.train.classes)",
        "test has 2 classes, not 1 (expected.test.classes)",
        "there are 11 images, not 66",
        "classes have 2 to 3 images, not 10 to 20 (expected.images_per_class: write [2, 3])",
    ):
        assert part in message
    assert "test has 6 images" not in message
    assert "under datasets.own.expected if that is right" in message
    written = {
        "train": {"images": 5, "classes": 2},
        "test": {"images": 6, "classes": 2},
        "images_per_class": [2, 3],
        "duplicates_across_splits": 0,
    }
    own.edit(lambda loaded: loaded["datasets"]["own"].update(expected=written))
    validate(params.load(), "own")
