"""A user's own folder, in every layout that people have: read, refused in one line, or told in one warning."""

import os
import subprocess
import sys

import numpy as np
import pytest
from original_files import picture
from own_images import prepared, raw
from PIL import Image

from stages.data import originals
from stages.data.readers import READERS
from stages.runtime.errors import UserError


def classes_of(folder):
    return [(item.class_name, item.source_path) for item in READERS["folder"](folder)]


def fill(folder, *names):
    for seed, name in enumerate(names):
        picture(folder / name, seed)


def left(folder):
    return originals.left_out(folder, [item.file for item in READERS["folder"](folder)], with_lists=False)


def refused(folder):
    with pytest.raises(UserError) as caught:
        READERS["folder"](folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


# What is left out ----------------------------------------------------------------------------------------------------


def test_everything_that_is_not_read_is_counted_once_with_an_example_and_a_reason(tmp_path):
    fill(tmp_path, "a/0.png", "a/young/1.png", "a/young/2.png", "b/0.JPG", "loose.png")
    (tmp_path / "a" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "a" / "x.svg").write_text("<svg/>")
    (tmp_path / "b" / "scan").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    (tmp_path / "b" / "notes.txt").write_text("seen in May")
    (tmp_path / "b" / "more.zip").write_bytes(b"PK")
    (tmp_path / "all.rar").write_bytes(b"Rar!")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    told = left(tmp_path)
    assert told.startswith("10 files left out: ")
    for part in (
        "3 not directly in a class folder, such as loose.png",
        "2 of kinds that are not read, such as a/x.heic (convert them to JPEG or PNG)",
        "1 images by their contents but not by their names, such as b/scan",
        "1 no images, such as b/notes.txt",
        "1 archives in folders, such as b/more.zip",
        "1 archives of kinds that are not unpacked, such as all.rar",
        "1 neither file nor folder, such as b/pipe.png",
    ):
        assert part in told


def test_hidden_files_notes_and_what_systems_leave_are_no_omission(tmp_path):
    fill(tmp_path, "a/0.png", "b/0.png", "a/.hidden.png", "a/._0.png", "__MACOSX/a/1.png", "@eaDir/0.png")
    for name in (".DS_Store", "Thumbs.db", "a/desktop.ini", "README.md", "a.dvc"):
        (tmp_path / name).write_text("x")
    assert left(tmp_path) == ""
    assert [name for name, _ in classes_of(tmp_path)] == ["a", "b"]


def test_prepare_and_snakemake_show_the_warning(own):
    picture(raw(own, "class1/young/0.png"), 1)
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    frames[0].putpixel((0, 0), (0, 0, 0))
    frames[0].save(raw(own, "class2/9.webp"), save_all=True, append_images=frames[1:])
    done = own.stage("prepare", "own")
    warning = (
        "prepare: warning: data/raw/own: 1 file left out: 1 not directly in a class folder, such as class1/young/0.png"
    )
    assert warning in done.stderr
    animated = "prepare: warning: 1 files are animated or have pages, such as class2/9.webp; the first picture"
    assert animated in done.stderr
    (own.folder / "data" / "own" / "manifest.parquet").unlink()
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    done = own.run("snakemake", "--cores", "1", "data/own/manifest.parquet")
    assert warning in done.stdout + done.stderr


# Layouts -------------------------------------------------------------------------------------------------------------


def test_side_folders_without_images_do_not_matter(tmp_path):
    fill(tmp_path, "birds/images/a/0.png", "birds/images/b/0.png")
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "deep" / "licence.txt").write_text("free")
    (tmp_path / "birds" / "empty").mkdir()
    assert classes_of(tmp_path) == [("a", "a/0.png"), ("b", "b/0.png")]
    assert "1 no images, such as docs/deep/licence.txt" in left(tmp_path)


@pytest.mark.parametrize("splits", [("train", "test"), ("Training", "testing"), ("train", "val", "test")])
def test_splits_with_different_classes_train_first(tmp_path, splits):
    names = [f"{split}/{label}/0.png" for i, split in enumerate(splits) for label in (f"z{9 - i}", f"a{9 - i}")]
    fill(tmp_path, *names)
    items = READERS["folder"](tmp_path)
    assert [item.class_name for item in items] == [f"{one}{9 - i}" for i in range(len(splits)) for one in "az"]
    assert {item.split for item in items} == {"train", "test"} | ({""} if "val" in splits else set())


def test_a_split_by_folders_that_params_contradict(own):
    folder = own.folder / "data" / "raw" / "own"
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    for label in range(4):
        (folder / f"class{label}").rename(folder / ("train" if label < 1 else "test") / f"class{label}")
    done = own.stage("prepare", "own", check=False)
    assert (
        "datasets.own.split: test/class1/0.png is of a class that would train; write {train: 1, test: 3}" in done.stderr
    )
    own.edit(lambda loaded: loaded["datasets"]["own"].update(split={"train": 1, "test": 3}))
    own.stage("prepare", "own")
    assert prepared(own)[1]["split"].tolist() == ["train"] * 3 + ["test"] * 9


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/a/0.png", "train/b/0.png", "val/a/1.png", "val/b/1.png"],
         "train/a and val/a: the same class in two splits (and 1 more); here classes are split, not images: put all"),
        (["songs/wren/0.png", "songs/finch/0.png", "prey/kite/0.png"], "prey/kite: class folders lie a level deeper"),
        (["train/0.png", "test/1.png"], "test: a split that holds 1 images without class folders, such as 1.png"),
        (["0.png", "1.png"], "no images in class folders (2 lie beside, such as 0.png); put one folder of images per"),
        (["train/x/a/0.png", "train/y/a/0.png", "test/x/b/0.png", "test/y/b/0.png"], "class folders lie deeper"),
    ],
    ids=["same classes", "classes of classes", "no classes", "loose", "deeper"],
)  # fmt: skip
def test_layouts_that_are_not_read_say_what_to_do(tmp_path, names, expected):
    fill(tmp_path, *names)
    assert expected in refused(tmp_path)


def test_a_folder_of_kinds_that_are_not_read_says_so(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.avif").write_bytes(b"\0\0\0\x18ftypavif")
    assert "1 of kinds that are not read, such as a/x.avif (convert them to JPEG or PNG)" in refused(tmp_path)


# Names ---------------------------------------------------------------------------------------------------------------

NAMES = ["wren {m}", "{", "100 % {{x}}", "a\nb", "quote'\"s", "tab\tbell\x07", "Grünspecht ♀", "[!x]*?", "$(x) `y` \\z"]


@pytest.mark.engines
def test_any_name_works_in_both_engines(own):
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    own.edit(lambda loaded: loaded["datasets"]["own"].update(split={"train": 4, "test": 5}))
    folder = own.folder / "data" / "raw" / "own"
    for label in range(4):
        subprocess.run(["mv", folder / f"class{label}", folder / NAMES[label]], check=True)
    draw = np.random.default_rng(5)
    for name in NAMES[4:]:
        (folder / name).mkdir()
        for i in range(3):
            Image.fromarray(draw.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / name / f"{i} {name}.png")
    own.run("snakemake", "--cores", "1", "--quiet", "all", "--", "data/own/manifest.parquet")
    images, manifest = prepared(own)
    assert set(manifest["class_name"]) == set(NAMES)
    own.run("dvc", "init", "--no-scm", "-q")
    own.run("dvc", "repro", "-q", "prepare@own")
    assert (prepared(own)[0] == images).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names themselves")
def test_a_name_that_is_no_text_is_refused(own):
    os.rename(os.fsencode(raw(own, "class1")), os.fsencode(raw(own, "x")) + b"\xff")
    done = own.stage("prepare", "own", check=False)
    assert r"prepare: data/raw/own: x\udcff/0.png: the name is not valid UTF-8; rename it" in done.stderr
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    done = own.run("snakemake", "--cores", "1", "data/own/manifest.parquet", check=False)
    assert "the name is not valid UTF-8; rename it" in done.stdout + done.stderr


# Broken images -------------------------------------------------------------------------------------------------------


def test_one_run_finds_all_broken_images(own):
    for i in range(4):
        for name in (f"class{i}/1.png", f"class{i}/2.png"):
            raw(own, name).write_bytes(raw(own, name).read_bytes()[:60])
    raw(own, "class0/1.png").write_bytes(b"")
    raw(own, "class0/2.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    raw(own, "class1/1.png").write_text("<!DOCTYPE html><html>gone</html>")
    done = own.stage("prepare", "own", check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert "prepare: data/raw/own: 8 images cannot be decoded: class0/1.png (" in line
    assert "class0/2.png (a HEIC file, which is not read), class1/1.png (a HTML file, which is not read)" in line
    assert ", and 3 more; replace these files by whole JPEG or PNG files, or move them elsewhere" in line
    assert own.files("data/own") == {}
