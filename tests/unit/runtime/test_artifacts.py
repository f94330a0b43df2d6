"""Folders that are replaced: whatever interrupts it, one whole folder is in place and no draft is left."""

import shutil
from pathlib import Path

import pytest

from stages.runtime import artifacts
from stages.runtime.termination import Terminated


@pytest.fixture
def place(tmp_path):
    """A folder of two files."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("old")
    return folder


def replace(folder):
    with artifacts.replacing(folder) as draft:
        for name in ("a", "b", "c"):
            (draft / name).write_text("new")


def content(folder):
    """What is in place, after a check that nothing else is beside it."""
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return {path.name: path.read_text() for path in folder.iterdir()}


OLD, NEW = dict.fromkeys("ab", "old"), dict.fromkeys("abc", "new")


def test_a_folder_takes_the_place_of_another_or_of_none(place):
    replace(place)
    assert content(place) == NEW
    shutil.rmtree(place)
    replace(place)
    assert content(place) == NEW


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [1, 2])
def test_an_interruption_of_a_step_leaves_one_whole_folder(place, monkeypatch, step, done):
    """Of either rename: the old folder stays, or the new one has arrived."""
    rename, came = Path.rename, []

    def interrupted(path, target):
        came.append(path)
        if len(came) == step and not done:
            raise Terminated
        found = rename(path, target)
        if len(came) == step:
            raise Terminated
        return found

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(Terminated):
        replace(place)
    assert content(place) == (NEW if (step, done) == (2, True) else OLD)


def test_an_interruption_while_the_old_folder_is_removed_leaves_the_new_one(place, monkeypatch):
    remove, came = shutil.rmtree, []

    def interrupted(path, **how):
        came.append(path)
        if len(came) == 1:
            raise Terminated
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(Terminated):
        replace(place)
    assert {path.name: path.read_text() for path in place.iterdir()} == NEW
    monkeypatch.undo()
    replace(place)
    assert content(place) == NEW
