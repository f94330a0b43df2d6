"""Preparing, validating and reading data, with good and with broken files."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.io import params
from stages.io.data import Split, central_crop, random_crop
from stages.io.errors import UserError
from stages.prepare import prepare
from stages.validate import validate


def use_folder(loaded):
    """A dataset `own` of two training and two test classes of three images."""
    block = loaded["datasets"]["digits"] | {
        "reader": "folder",
        "side": 12,
        "crop": 10,
        "flip": True,
        "train_classes": 2,
    }
    block["expected"] = {"train": {"images": 6, "classes": 2}, "test": {"images": 6, "classes": 2}}
    loaded["datasets"]["own"] = block


@pytest.fixture
def own(project):
    """A project with images of many kinds in one folder per class."""
    project.edit(use_folder)
    draw = np.random.default_rng(0)
    for label in range(4):
        folder = project.folder / "data" / "raw" / "own" / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(3):
            pixels = draw.integers(0, 255, (20, 16 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return project


def raw(project, name):
    return project.folder / "data" / "raw" / "own" / name


def prepared(project):
    folder = project.folder / "data" / "own"
    return np.load(folder / "images.npy"), pd.read_parquet(folder / "manifest.parquet")


def test_folder_dataset_is_prepared_and_valid(own):
    own.stage("prepare", "own")
    images, manifest = prepared(own)
    assert images.shape == (12, 12, 12, 3)
    assert manifest["label"].tolist() == sorted(manifest["label"])
    assert manifest["split"].tolist() == ["train"] * 6 + ["test"] * 6
    assert manifest["width"].tolist()[:3] == [16, 17, 18]
    assert manifest["source_path"][0] == "class0/0.png"
    own.stage("validate", "own")
    assert (own.folder / "logs" / "validation" / "own" / "index.html").exists()


@pytest.mark.parametrize("position", ["class0/0.png", "class3/2.png"])
def test_one_grey_image_among_coloured_ones_is_stored_in_colour(own, position):
    grey = np.full((20, 20), 77, dtype=np.uint8)
    grey[0, 0] = 0
    Image.fromarray(grey).save(raw(own, position))
    own.stage("prepare", "own")
    images, manifest = prepared(own)
    assert images.shape == (12, 12, 12, 3)
    row = manifest["source_path"].tolist().index(position)
    assert (images[row, 6] == 77).all()


def test_exif_rotation_palette_grey_and_cmyk_images(own):
    upright = np.zeros((20, 20, 3), dtype=np.uint8)
    upright[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to see it upright
    Image.fromarray(np.rot90(upright).copy()).save(raw(own, "class0/0.png"), exif=exif)
    Image.fromarray(upright).convert("P").save(raw(own, "class0/1.png"))
    Image.fromarray(upright[:, :, 0]).save(raw(own, "class0/2.png"))
    Image.fromarray(upright).convert("CMYK").save(raw(own, "class1/0.jpg"), quality=100)
    raw(own, "class1/0.png").unlink()
    own.stage("prepare", "own")
    images, _ = prepared(own)
    for row in range(4):
        assert images[row, 0].min() > 245, row
        assert images[row, -1].max() < 10, row


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", None], ids=["empty", "html", "truncated"])
def test_an_image_that_cannot_be_decoded_is_named(own, content):
    path = raw(own, "class2/1.png")
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    done = own.stage("prepare", "own", check=False)
    assert done.returncode == 1
    assert "prepare: class2/1.png: cannot be decoded" in done.stderr
    assert "replace or remove the file" in done.stderr
    assert own.files("data/own") == {}


def test_missing_raw_data_says_where_to_put_it(project):
    project.edit(use_folder)
    done = project.stage("prepare", "own", check=False)
    assert done.returncode == 1
    assert "prepare: data/raw/own: missing; put one folder of images per class there" in done.stderr


def violate(project, change):
    """Change the prepared images or manifest, then validate."""
    folder = project.folder / "data" / "own"
    images, manifest = prepared(project)
    images, manifest = change(images.copy(), manifest)
    np.save(folder / "images.npy", images)
    manifest.to_parquet(folder / "manifest.parquet", index=False)
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


def dropped_row(images, manifest):
    return images[:-1], manifest[:-1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (duplicate_across_splits, ("column=splits_of_image", "image ids 0, 11")),
        (constant_image, ("column=pixel_range", "image ids 3")),
        (changed_pixels, ("pair_values_to_be_equal", "image ids 5")),
        (class_in_both_splits, ("splits_of_class", "image ids 3, 4, 5")),
        (same_id, ("be_unique", "image ids 3")),
        (dropped_row, ("row_count",)),
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


def test_snakemake_shows_the_one_line_of_a_failed_stage(own):
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    raw(own, "class2/1.png").write_bytes(b"")
    done = own.run("snakemake", "--cores", "1", "--quiet", "rules", check=False)
    assert done.returncode == 1
    assert "\nprepare: class2/1.png: cannot be decoded" in done.stdout + done.stderr
    assert own.files("data/own", "models", "results", "reports") == {}


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


def split():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 6, 3), dtype=np.uint8)
    rows = np.array([1, 3, 4])
    return Split(pixels, rows, np.zeros(3, dtype=np.int64), rows)


def test_central_crop_by_loop():
    data = split()
    images = central_crop(data, torch.tensor([0, 2]), 4)
    assert images.shape == (2, 3, 4, 4)
    for position, row in enumerate((1, 4)):
        for channel in range(3):
            for y in range(4):
                for x in range(4):
                    expected = data.pixels[row, y + 1, x + 1, channel] / 255
                    assert images[position, channel, y, x].item() == pytest.approx(expected)


def test_random_crops_are_windows_of_the_image_sometimes_mirrored():
    data, mirrored = split(), 0
    for seed in range(40):
        (image,) = random_crop(data, torch.tensor([1]), torch.Generator().manual_seed(seed), crop=4, flip=True)
        stored = torch.from_numpy(data.pixels[3]).permute(2, 0, 1).float() / 255
        windows = [stored[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        plain = any(torch.allclose(image, window) for window in windows)
        flipped = any(torch.allclose(image.flip(2), window) for window in windows)
        assert plain or flipped
        mirrored += flipped
    assert 10 < mirrored < 30
