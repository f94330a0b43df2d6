"""Preparing data from good and from broken files."""

import sys

import numpy as np
import pytest
from own_images import prepared, raw, use_folder
from PIL import Image

from stages.prepare import prepare
from stages.runtime import params
from stages.runtime.errors import UserError


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
    assert "replace the file by a whole JPEG or PNG, or move it elsewhere" in done.stderr
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
    assert "prepare: data/raw/own: empty; put one folder of images per class" in done.stderr


def add_image(own):
    picture = raw(own, "class1/9.png")
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(picture)


@pytest.mark.engines
def test_both_engines_notice_a_new_image(own):
    def planned():
        done = own.run("snakemake", "--cores", "1", "-n", "data/own/manifest.parquet")
        return "rule prepare" in done.stdout + done.stderr

    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    assert planned()
    own.run("snakemake", "--cores", "1", "--quiet", "all", "--", "data/own/manifest.parquet")
    own.run("dvc", "init", "--no-scm", "-q")
    own.run(sys.executable, "-m", "workflow.recipes")
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
