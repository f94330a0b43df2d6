"""Archives with a dataset's original files: unpacking them without letting them write where they should not."""

import errno
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from stages.runtime import artifacts
from stages.runtime.errors import UserError, reason

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
# Images hardly compress and lists of them tenfold; what swells beyond this is a decompression bomb.
LARGEST_RATIO, HARMLESS = 100, 64 << 20  # contents may be so many times the archive, or so many bytes
HEADER = 512  # what an entry costs besides its contents, so that a billion empty files count too
LONGEST_NAME = 1 << 16  # bytes that a tar spends on one entry's long name or extended header, which is read whole
NAMING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
UNNAMEABLE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


class Member(NamedTuple):
    """One entry of an archive; ``kind`` is "file", "folder" or "other" (links, devices)."""

    name: str
    kind: str
    size: int
    content: IO[bytes] | None


class Header(tarfile.TarInfo):
    """tarfile's reading of one entry, without its endless loop on negative sizes (CVE-2025-8194) and its trust in
    the size of names.
    """

    def _block(self, count: int) -> int:
        if count < 0 or (self.type in NAMING and count > LONGEST_NAME):
            raise tarfile.ReadError("an entry's size is out of range")
        return super()._block(count)  # type: ignore[misc]


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
    most = max(HARMLESS, LARGEST_RATIO * archive.stat().st_size)
    total = 0
    try:
        for member in members(archive):
            total += HEADER + member.size
            if total > most:
                raise UserError(f"{archive}: unpacks to over {LARGEST_RATIO} times its size; get it from its source")
            if total > free:
                raise UserError(f"{archive}: its contents do not fit the free disk space; make room")
            write(member, folder, archive)
    except DAMAGE as error:
        raise UserError(f"{archive}: not a readable archive ({reason(error)}); download it again") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the disk's own complaint: full, read-only
            raise
        raise UserError(f"{archive}: not a readable archive ({reason(error)}); download it again") from None


def write(member: Member, folder: Path, archive: Path) -> None:
    """Write one entry below ``folder``.

    Raises:
        UserError: it is a link or device, leaves the folder, or has a name that cannot be one.
    """
    path = PurePosixPath(member.name)
    problem = None
    if member.kind == "other":
        problem = "is a link or device"
    elif path.is_absolute() or ".." in path.parts or "\0" in member.name:
        problem = "leaves the folder"
    target = folder / path
    try:
        if problem is None and member.content is None:
            target.mkdir(parents=True, exist_ok=True)
        elif problem is None and member.content is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.content, target.open("wb") as file:
                shutil.copyfileobj(member.content, file, 1 << 20)
    except OSError as error:
        if error.errno not in UNNAMEABLE:
            raise
        problem = f"cannot be written ({error.strerror})"
    if problem:
        raise UserError(f"{archive}: entry {member.name!r} {problem}; get the archive from its official source")


def members(archive: Path) -> Iterator[Member]:
    """Entries of a tar or zip archive in its own order; each content is to be read before the next entry."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # zipfile bounds what one read of the other kinds expands to by nothing
                    raise zipfile.BadZipFile(f"compressed by method {info.compress_type}")
                linked = (info.external_attr >> 16) & 0o170000 == 0o120000
                kind = "other" if linked else "folder" if info.is_dir() else "file"
                yield Member(info.filename, kind, info.file_size, zipped.open(info) if kind == "file" else None)
    else:
        with tarfile.open(archive, tarinfo=Header) as tar:
            for entry in tar:
                kind = "file" if entry.isfile() else "folder" if entry.isdir() else "other"
                yield Member(entry.name, kind, entry.size, tar.extractfile(entry) if kind == "file" else None)
