"""Preparing, validating and reading data, with good and with broken files."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages.io import params
from stages.io.data import Split, batch_buffer, central_crop, random_crop
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
        "split": {"train": 2, "test": 2},
    }
    block["expected"] = {
        "train": {"images": 6, "classes": 2},
        "test": {"images": 6, "classes": 2},
        "images_per_class": [3, 3],
        "duplicates_across_splits": 0,
    }
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
    assert "prepare: data/raw/own: class2/1.png: cannot be decoded" in done.stderr
    assert "replace or remove the file" in done.stderr
    assert own.files("data/own") == {}


def test_transparent_parts_are_white_and_16_bit_grey_keeps_its_range(own):
    see_through = np.zeros((20, 20, 4), dtype=np.uint8)
    see_through[:10, :, 3] = 255
    Image.fromarray(see_through).save(raw(own, "class0/0.png"))
    Image.fromarray(see_through).convert("P").save(raw(own, "class0/1.png"), transparency=0)
    deep = np.zeros((20, 20), dtype=np.uint16)
    deep[10:] = 65535
    deep[5:10] = 128 * 257
    Image.fromarray(deep).save(raw(own, "class0/2.png"))
    own.stage("prepare", "own")
    images, _ = prepared(own)
    assert images[0, 0].max() < 10
    assert images[0, -1].min() > 245
    assert images[1, -1].min() > 245
    assert images[2, 0].max() < 10
    assert abs(int(images[2, 4, 0, 0]) - 128) < 10
    assert images[2, -1].min() > 245


def test_a_dataset_of_grey_images_has_one_channel(own):
    for path in (own.folder / "data" / "raw" / "own").rglob("*.png"):
        with Image.open(path) as image:
            image.convert("L").save(path)
    own.stage("prepare", "own")
    assert prepared(own)[0].shape == (12, 12, 12, 1)


@pytest.mark.parametrize(
    ("split", "kept"),
    [
        ({"train": 1, "test": 1}, [("class0", 3, "train"), ("class3", 3, "test")]),
        ({"train": 2, "test": 1, "images_per_class": 2},
         [("class0", 2, "train"), ("class1", 2, "train"), ("class3", 2, "test")]),
    ],
)  # fmt: skip
def test_a_split_takes_the_first_and_the_last_classes(own, split, kept):
    own.edit(lambda loaded: loaded["datasets"]["own"].update(split=split))
    own.stage("prepare", "own")
    _, manifest = prepared(own)
    found = manifest.groupby(["label", "class_name", "split"]).size().reset_index(name="count")
    assert list(zip(found["class_name"], found["count"], found["split"], strict=True)) == kept
    assert sorted(set(found["label"])) == list(range(len(kept)))


def test_more_classes_than_there_are(own):
    own.edit(lambda loaded: loaded["datasets"]["own"].update(split={"train": 3, "test": 2}))
    done = own.stage("prepare", "own", check=False)
    assert "prepare: params.yaml: datasets.own.split: 3 + 2 classes asked for, 4 are there; lower one" in done.stderr
    assert own.files("data/own") == {}


def test_the_number_of_workers_does_not_matter(own, monkeypatch):
    own.stage("prepare", "own")
    first = own.files("data/own")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    own.stage("prepare", "own")
    assert own.files("data/own") == first


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits on Windows")
def test_a_full_disk_leaves_nothing_behind(own):
    """A limit on file sizes stands for the disk: the array's writes fail half-way."""
    own.edit(lambda loaded: loaded["datasets"]["own"].update(side=120, crop=100))
    own.stage("prepare", "own")
    before = own.files("data/own")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); "
    stage = "sys.argv = ['prepare', 'own']; from stages.prepare import main; main()"
    done = own.run(sys.executable, "-c", limit + stage, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 2  # the number of images read, then the error
    assert "File too large; nothing was left half-written" in done.stderr
    assert own.files("data/own") == before


def test_an_array_larger_than_the_free_space_is_not_begun(own, monkeypatch):
    monkeypatch.chdir(own.folder)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5000}))
    with pytest.raises(UserError, match=r"^data/own/images.npy: needs 0.0 GB, 0.0 GB are free; make room or lower"):
        prepare(params.load(), "own")
    assert own.files("data/own") == {}


def test_missing_raw_data_says_where_to_put_it(project):
    project.edit(use_folder)
    done = project.stage("prepare", "own", check=False)
    assert done.returncode == 1
    assert "prepare: data/raw/own: no images in class folders; put one folder of images per class" in done.stderr


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


def lonely_class(images, manifest):
    keep = [row for row in range(12) if row not in (9, 10)]
    return images[keep], manifest.iloc[keep]


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
        (dropped_row, ("images_of_class", "image ids 9, 10")),
        (lonely_class, ("images_of_class", "image ids 11")),
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
    with pytest.raises(UserError, match=r"splits_of_image.*image ids 0, 11"):
        validate(params.load(), "own")
    for allowed in (1, 2):
        own.edit(lambda loaded, n=allowed: loaded["datasets"]["own"]["expected"].update(duplicates_across_splits=n))
        if allowed == 1:
            with pytest.raises(UserError, match="splits_of_image"):
                validate(params.load(), "own")
        else:
            validate(params.load(), "own")


def add_image(own):
    picture = raw(own, "class1/9.png")
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(picture)


def test_both_engines_notice_a_new_image(own):
    def planned():
        done = own.run("snakemake", "--cores", "1", "-n", "data/own/manifest.parquet")
        return "rule prepare" in done.stdout + done.stderr

    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    assert planned()
    own.run("snakemake", "--cores", "1", "--quiet", "all", "--", "data/own/manifest.parquet")
    own.run("dvc", "init", "--no-scm", "-q")
    own.run("dvc", "commit", "-f", "-q", "prepare@own")
    assert not planned()
    assert "up to date" in own.run("dvc", "status", "prepare@own").stdout
    add_image(own)
    assert planned()
    assert "data/raw/own" in own.run("dvc", "status", "prepare@own").stdout
    own.stage("prepare", "own")
    assert len(prepared(own)[1]) == 13


def test_snakemake_shows_the_one_line_of_a_failed_stage(own):
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    raw(own, "class2/1.png").write_bytes(b"")
    done = own.run("snakemake", "--cores", "1", "--quiet", "rules", check=False)
    assert done.returncode == 1
    assert "\nprepare: data/raw/own: class2/1.png: cannot be decoded" in done.stdout + done.stderr
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


def test_a_buffer_is_reused_and_changes_nothing():
    data, rows = split(), torch.tensor([2, 0])
    buffer = batch_buffer(data, 5, 4)

    def crop(out):
        return random_crop(data, rows, torch.Generator().manual_seed(3), crop=4, flip=True, out=out)

    images = crop(buffer)
    assert torch.equal(images, crop(None))
    assert images.data_ptr() == crop(buffer).data_ptr() == buffer.data_ptr()
    assert images.is_contiguous(memory_format=torch.channels_last)
