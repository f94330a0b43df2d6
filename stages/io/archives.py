"""Archives with a dataset's original files: unpacking them without letting them write where they should not."""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from stages.io import artifacts
from stages.io.errors import UserError, reason

DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,  # zipfile: encrypted, or compressed by a method it does not know
)
SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")


class Member(NamedTuple):
    """One entry of an archive; ``kind`` is "file", "folder" or "other" (links, devices)."""

    name: str
    kind: str
    size: int
    content: IO[bytes] | None


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


@contextmanager
def unpacked(raw: Path, beside: Path) -> Iterator[Path]:
    """The folder with a dataset's files: ``raw`` itself, or where it holds archives a temporary one with all contents.

    Args:
        raw: what the user put there; is never written to.
        beside: the temporary folder is a hidden sibling of this path, and goes when the block ends.

    Raises:
        UserError: an archive is damaged, does not fit the disk, or holds a link or a path that leaves the folder.
    """
    archives = sorted(path for path in raw.glob("*") if is_archive(path))
    if not archives:
        yield raw
        return
    with artifacts.scratch(beside) as folder:
        for path in archives:
            unpack(path, folder)
        for path in raw.iterdir():
            if path not in archives and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path.resolve())
        yield folder


def unpack(archive: Path, folder: Path) -> None:
    """Write an archive's files below ``folder``, refusing all that is neither a file nor a folder inside it.

    Raises:
        UserError: names the archive and the entry.
    """
    free = shutil.disk_usage(folder).free
    try:
        for member in members(archive):
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or member.kind == "other":
                problem = "is a link or device" if member.kind == "other" else "leaves the folder"
                raise UserError(f"{archive}: entry {member.name!r} {problem}; get the archive from its official source")
            free -= member.size
            if free < 0:
                raise UserError(f"{archive}: its contents do not fit the free disk space; make room")
            target = folder / path
            if member.content is None:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.content, target.open("wb") as file:
                    shutil.copyfileobj(member.content, file, 1 << 20)
    except DAMAGE as error:
        raise UserError(f"{archive}: not a readable archive ({reason(error)}); download it again") from None
    except OSError as error:
        if error.errno is not None:  # the disk's own complaint: full, read-only
            raise
        raise UserError(f"{archive}: not a readable archive ({reason(error)}); download it again") from None


def members(archive: Path) -> Iterator[Member]:
    """Entries of a tar or zip archive in its own order; each content is to be read before the next entry."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                linked = (info.external_attr >> 16) & 0o170000 == 0o120000
                kind = "other" if linked else "folder" if info.is_dir() else "file"
                yield Member(info.filename, kind, info.file_size, zipped.open(info) if kind == "file" else None)
    else:
        with tarfile.open(archive) as tar:
            for entry in tar:
                kind = "file" if entry.isfile() else "folder" if entry.isdir() else "other"
                yield Member(entry.name, kind, entry.size, tar.extractfile(entry) if kind == "file" else None)
