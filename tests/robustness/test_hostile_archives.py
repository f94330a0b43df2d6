"""Hostile archives: names, links, kinds and sizes that would write elsewhere or fill the machine."""

import gzip
import io
import tarfile
import zipfile

import pytest
from hostile_world import WORDS, answer, cases, damaged
from hypothesis import given
from hypothesis import strategies as st

from stages.data import archives

NAMES = WORDS | st.sampled_from(["a/b.jpg", "a", "a/../../x", "./a", "a//b", "a" * 200 + "/b"])


def tar_entry(name, kind, size):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "../../x"
    return info


KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]


@st.composite
def tars(draw):
    """A tar of hostile names, kinds and sizes."""
    content = io.BytesIO()
    with tarfile.open(
        fileobj=content, mode="w", format=draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    ) as tar:
        for _ in range(draw(st.integers(1, 4))):
            kinds = [
                tarfile.REGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.CHRTYPE,
                tarfile.FIFOTYPE,
            ]
            kind = draw(st.sampled_from(kinds))
            data = draw(st.binary(max_size=600)) if kind == tarfile.REGTYPE else b""
            try:
                tar.addfile(tar_entry(draw(NAMES), kind, len(data)), io.BytesIO(data))
            except (ValueError, UnicodeError):  # what tarfile itself cannot write
                tar.addfile(tar_entry("plain", tarfile.REGTYPE, 0))
    return content.getvalue()


@st.composite
def zips(draw):
    """A zip of hostile names, modes and methods."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for _ in range(draw(st.integers(1, 4))):
            info = zipfile.ZipInfo(draw(NAMES.map(lambda name: name.encode("ascii", "replace").decode())) or "x")
            info.compress_type = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
            info.external_attr = draw(st.sampled_from([0, 0o120777, 0o40755, 0o100644])) << 16
            if info.filename not in zipped.NameToInfo:  # zipfile warns of the same name twice
                zipped.writestr(info, draw(st.binary(max_size=600)))
    return content.getvalue()


def unpack_and_go(raw, beside):
    with archives.unpacked(raw, beside=beside) as folder:
        for path in folder.rglob("*"):
            assert not path.is_symlink()


def unpack_case(place, name, content):
    raw = place / "raw_archive"
    raw.mkdir(exist_ok=True)
    (raw / name).write_bytes(content)
    try:
        answer(place, unpack_and_go, raw, place / "data" / "x" / "raw")
    finally:
        (raw / name).unlink()
    assert [path.name for path in (place / "data" / "x").iterdir()] == []
    assert not (place.parent / "x").exists()


@cases(1500)
@given(tars() | damaged(tars()))
def test_tars(place, content):
    unpack_case(place, "x.tar", content)


@cases(1500)
@given(zips() | damaged(zips()))
def test_zips(place, content):
    unpack_case(place, "x.zip", content)


def header(name=b"x", size=b"00000000000", kind=b"0"):
    """One block of a tar, with its checksum."""
    numbers = b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0".ljust(12, b"\0")
    block = bytearray(name.ljust(100, b"\0") + numbers + b" " * 8 + kind)
    block = block.ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


BOMBS = {
    "negative.tar": lambda: header() + header(size=b"\xff" * 11 + b"\x00"),
    "name.tgz": lambda: gzip.compress(header(size=b"00400000000", kind=b"L") + bytes(64 << 20)),
    "swells.tgz": lambda: gzip.compress(header(size=b"01000000000") + bytes(128 << 20)),
    "many.tgz": lambda: gzip.compress(header() * 140_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_tar_bombs(place, name):
    """An endless loop, a name of 64 MB, contents of 128 MB in 0.1 MB, 140,000 files in 0.2 MB."""
    raw = place / "raw_bomb"
    raw.mkdir(exist_ok=True)
    (raw / name).write_bytes(BOMBS[name]())
    line = answer(place, unpack_and_go, raw, place / "data" / "x" / "raw")
    (raw / name).unlink()
    assert isinstance(line, str)
    assert name in line


def zip_of_zeros(method):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as zipped, zipped.open("x", "w") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    return content.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_bombs(place, method):
    raw = place / "raw_bomb"
    raw.mkdir(exist_ok=True)
    (raw / "x.zip").write_bytes(zip_of_zeros(method))
    line = answer(place, unpack_and_go, raw, place / "data" / "x" / "raw")
    (raw / "x.zip").unlink()
    assert "x.zip: " in line
    assert ("100 times its size" in line) == (method == zipfile.ZIP_DEFLATED)
