"""What both engines, the plan and the hand-over make of originals: links, changes behind them, and kinds of images."""

import os

import pytest
from original_files import picture
from own_images import prepared, raw
from PIL import Image
from test_inputs import classes_of, fill

from stages.data import originals

# Links ---------------------------------------------------------------------------------------------------------------


def test_links_are_followed_but_not_in_circles(tmp_path):
    disk, mine = tmp_path / "disk", tmp_path / "mine"
    fill(disk, "a/0.png", "b/0.png", "single.png")
    mine.mkdir()
    (mine / "a").symlink_to(disk / "a")
    (mine / "b").symlink_to(os.path.relpath(disk / "b", mine))
    (mine / "around").symlink_to(mine)
    (disk / "a" / "up").symlink_to(mine)
    (disk / "b" / "1.png").symlink_to(disk / "single.png")
    assert classes_of(mine) == [("a", "a/0.png"), ("b", "b/0.png"), ("b", "b/1.png")]
    before = originals.fingerprint(mine)
    picture(disk / "single.png", 99)
    (disk / "single.png").write_bytes((disk / "single.png").read_bytes() + b"more")
    assert originals.fingerprint(mine) != before


def test_a_link_that_leads_nowhere_is_named(own):
    raw(own, "class9").symlink_to("/not/mounted/class9")
    done = own.stage("prepare", "own", check=False)
    assert done.returncode == 1
    line = "prepare: data/raw/own: class9: a link to /not/mounted/class9, which is not there; mount that disk, or point"
    assert line in done.stderr


@pytest.mark.engines
def test_both_engines_see_behind_links_or_refuse_them(own, tmp_path_factory):
    """Snakemake follows a link of a class folder; DVC does not, so under it the stage refuses to record half the data;
    a link of the whole folder both follow."""
    disk = tmp_path_factory.mktemp("disk")
    own.edit(lambda loaded: loaded["run"].update(datasets=["own"]))
    folder = own.folder / "data" / "raw" / "own"
    (folder / "class1").rename(disk / "class1")
    (folder / "class1").symlink_to(disk / "class1")
    planned = ("snakemake", "--cores", "1", "-n", "data/own/manifest.parquet")
    own.run("snakemake", "--cores", "1", "--quiet", "all", "--", "data/own/manifest.parquet")
    assert "rule prepare" not in own.run(*planned).stdout
    (disk / "class1" / "2.png").rename(disk / "class1" / "8.png")
    assert "rule prepare" in own.run(*planned).stdout

    own.run("dvc", "init", "--no-scm", "-q")
    done = own.run("dvc", "repro", "prepare@own", check=False)
    assert done.returncode
    assert (
        "data/raw/own: class1: a link to a folder, into which DVC does not look; copy the folder there" in done.stderr
    )
    (folder / "class1").unlink()
    for path in sorted(folder.iterdir()):
        path.rename(disk / path.name)
    folder.rmdir()
    folder.symlink_to(disk)
    own.run("dvc", "repro", "-q", "prepare@own")
    assert len(prepared(own)[1]) == 12
    picture(disk / "class1" / "9.png", 9)
    assert "data/raw/own" in own.run("dvc", "status", "prepare@own").stdout


def test_a_fingerprint_changes_with_what_is_read_and_with_nothing_else(tmp_path):
    fill(tmp_path, "a/0.png", "b/0.png")
    (tmp_path / "list.txt").write_text("1 a")
    seen = {originals.fingerprint(tmp_path)}
    os.utime(tmp_path / "a" / "0.png", (1, 1))
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "README.md").write_text("a note")
    assert {originals.fingerprint(tmp_path)} == seen
    (tmp_path / "list.txt").write_text("2 a")
    seen.add(originals.fingerprint(tmp_path))
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "1.png")
    seen.add(originals.fingerprint(tmp_path))
    (tmp_path / "b" / "0.png").write_bytes((tmp_path / "b" / "0.png").read_bytes() + b"\0")
    seen.add(originals.fingerprint(tmp_path))
    assert len(seen) == 4
    assert originals.fingerprint(tmp_path / "absent") == originals.fingerprint(tmp_path / "absent too")


# What follows from them ----------------------------------------------------------------------------------------------


def test_plan_looks_whether_a_folder_of_images_is_grey(own, monkeypatch):
    from workflow.cost import channels_of

    monkeypatch.chdir(own.folder)
    channels_of.cache_clear()
    assert (channels_of("own", "folder"), channels_of("digits", "digits"), channels_of("absent", "cub")) == (3, 1, 3)
    for path in (own.folder / "data" / "raw" / "own").rglob("*.png"):
        with Image.open(path) as image:
            image.convert("L").save(path)
    channels_of.cache_clear()
    assert channels_of("own", "folder") == 1
    own.stage("prepare", "own")
    (own.folder / "data" / "raw" / "own").rename(own.folder / "elsewhere")
    channels_of.cache_clear()
    assert channels_of("own", "folder") == 1


def test_data_behind_links_are_not_handed_over_to_dvc(own, tmp_path, monkeypatch):
    from workflow.sync import link_out_of_sight

    monkeypatch.chdir(own.folder)
    assert link_out_of_sight(["prepare@own", "train@own-act-0"]) is None
    raw(own, "class1").rename(own.folder / "disk")
    raw(own, "class1").symlink_to(own.folder / "disk")
    assert link_out_of_sight(["train@own-act-0", "validate@own"]) is None
    assert link_out_of_sight(["prepare@digits", "prepare@own"]).name == "class1"
