"""Unpacking: the same files as a folder, and nothing outside it whatever an archive holds."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from archive_files import unpack, zipped

from stages.data import archives
from stages.runtime import artifacts
from stages.runtime.errors import UserError


def tar(path, *entries, mode="w:gz"):
    """An archive of (name, content) or of ready TarInfo entries."""
    with tarfile.open(path, mode) as file:
        for entry in entries:
            info, content = (
                (entry, b"") if isinstance(entry, tarfile.TarInfo) else (tarfile.TarInfo(entry[0]), entry[1])
            )
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "data" / "raw" / "own"
    folder.mkdir(parents=True)
    return folder


def left(tmp_path):
    """What is in the project besides data/raw/own."""
    return [path for path in tmp_path.rglob("*") if path.is_file() and "raw/own" not in path.as_posix()]


def test_a_folder_is_used_as_it_is(raw):
    (raw / "a.txt").write_text("hello")
    assert unpack(raw) == (raw, {"a.txt": b"hello"})


@pytest.mark.parametrize("name", ["a**b.zip", "a[1].zip", "a?.zip"])
def test_a_name_that_is_a_pattern(raw, tmp_path, name):
    zipped(raw / name, ("top/a.txt", b"hello"))
    assert unpack(raw)[1] == {"top/a.txt": b"hello"}
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tgz", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.tar.xz", "w:xz")]
)
def test_tar(raw, tmp_path, name, mode):
    tar(raw / name, ("top/a.txt", b"hello"), ("top/deep/b.txt", b"x" * 3_000_000), mode=mode)
    folder, found = unpack(raw)
    assert found == {"top/a.txt": b"hello", "top/deep/b.txt": b"x" * 3_000_000}
    assert not folder.exists()
    assert left(tmp_path) == []


def test_zip_tar_and_loose_files_together(raw):
    zipped(raw / "one.ZIP", ("images/", b""), ("images/a.jpg", b"a"))
    tar(raw / "two.tgz", ("images/b.jpg", b"b"))
    (raw / "labels.txt").write_text("loose")
    assert unpack(raw)[1] == {"images/a.jpg": b"a", "images/b.jpg": b"b", "labels.txt": b"loose"}


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def linked_zip(path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    zipped(path, (info, "/etc/passwd"))


BAD = {
    "parent.tgz": lambda path: tar(path, ("../evil.txt", b"!")),
    "deep.tgz": lambda path: tar(path, ("a/../../evil.txt", b"!")),
    "absolute.tgz": lambda path: tar(path, (str(path.parents[3] / "evil.txt"), b"!")),
    "symlink.tgz": lambda path: tar(path, link("out", "/tmp"), ("out/evil.txt", b"!")),
    "hardlink.tgz": lambda path: tar(path, link("out", "/etc/passwd", tarfile.LNKTYPE)),
    "device.tgz": lambda path: tar(path, link("dev", "", tarfile.CHRTYPE)),
    "parent.zip": lambda path: zipped(path, ("../evil.txt", b"!")),
    "absolute.zip": lambda path: zipped(path, ("/evil.txt", b"!")),
    "symlink.zip": linked_zip,
}


@pytest.mark.parametrize("name", BAD)
def test_entries_that_leave_the_folder_or_link_are_refused(raw, tmp_path, name):
    BAD[name](raw / name)
    with pytest.raises(UserError, match=f"{name}: entry .*; pack it again") as caught:
        unpack(raw)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["x.tgz", "x.tar", "x.zip", "x.tar.xz", "x.tar.bz2"])
@pytest.mark.parametrize("damage", ["page", "cut", "empty"])
def test_damaged_archives_are_named(raw, tmp_path, name, damage):
    path = raw / name
    if name.endswith("zip"):
        zipped(path, ("a.txt", os.urandom(50_000)))
    else:
        tar(
            path,
            ("a.txt", os.urandom(50_000)),
            mode=f"w:{name.rpartition('.')[2].replace('tgz', 'gz').replace('tar', '')}",
        )
    whole = path.read_bytes()
    path.write_bytes({"page": b"<html>moved</html>", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    with pytest.raises(UserError, match=rf"{name}: not a readable archive \(.*; get another copy"):
        unpack(raw)
    assert left(tmp_path) == []


def test_contents_larger_than_the_disk_are_refused(raw, monkeypatch):
    tar(raw / "x.tgz", ("a", b"0" * 1000), ("b", b"0" * 1000))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1500}))
    with pytest.raises(UserError, match=r"x.tgz: its contents do not fit the free disk space"):
        unpack(raw)


@pytest.mark.parametrize("name", ["images.npy", "a[1].npy"])
def test_what_a_killed_process_left_is_removed_and_a_living_ones_stays(tmp_path, name):
    target = tmp_path / name
    dead, alive = tmp_path / f".999999999.{name}", tmp_path / f".{os.getppid()}.{name}"
    dead.write_bytes(b"half")
    alive.write_bytes(b"at work")
    (tmp_path / ".999999999.raw").mkdir()
    with artifacts.writing(target) as (draft,), artifacts.scratch(tmp_path / "raw"):
        draft.write_bytes(b"done")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, name]
    assert Path(target).read_bytes() == b"done"
