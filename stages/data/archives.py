"""Archives with a dataset's original files: unpacking them without letting them write where they should not.

Python's ``data`` filter for tar archives is not used: it lets links within the folder through, and tar and zip archives
must meet the same limits on sizes and names here.
"""

import errno
import filecmp
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from stages.data.originals import is_archive, is_image, is_note, is_shown, walk
from stages.runtime import artifacts
from stages.runtime.errors import UserError, reason

DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,  # zipfile: what else it finds wrong
)
DEEPEST = 3  # archives inside each other
METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}  # of zip, not unpacked here
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


BY_HAND = "unpack it by hand, as with 7-Zip or unzip, and move the archive out of the dataset's folder"


class UnreadFormError(Exception):
    """An archive is in a form that is not read here, and says nothing of damage."""


class Member(NamedTuple):
    """One entry of an archive; ``kind`` is "file", "folder" or "other" (links, devices)."""

    name: str
    kind: str
    size: int
    content: IO[bytes] | None


class Header(tarfile.TarInfo):
    """tarfile's parser of one entry, without its endless loop on negative sizes (CVE-2025-8194) and its trust in
    the size of names.
    """

    def _block(self, count: int) -> int:
        if count < 0 or (self.type in NAMING and count > LONGEST_NAME):
            raise tarfile.ReadError("an entry's size is out of range")
        return super()._block(count)  # type: ignore[misc]


class Budget:
    """What may be written: so many times the size of the archive that was brought, and no more than is free."""

    def __init__(self, archive: Path, folder: Path):
        """Count for one archive, and all that are inside it, unpacked to ``folder``."""
        self.archive = archive
        self.most = max(HARMLESS, LARGEST_RATIO * archive.stat().st_size)
        self.free = shutil.disk_usage(folder).free
        self.total = 0

    def spend(self, size: int) -> None:
        """Count an entry before it is written.

        Raises:
            UserError: it is too much.
        """
        self.total += HEADER + size
        if self.total > self.most:
            raise UserError(
                f"{self.archive}: unpacks to over {LARGEST_RATIO} times its size; unpack it by hand if that is right"
            )
        if self.total > self.free:
            raise UserError(f"{self.archive}: its contents do not fit the free disk space; make room")


@contextmanager
def unpacked(raw: Path, beside: Path) -> Iterator[Path]:
    """The folder with a dataset's files: ``raw`` itself, or if it has archives a temporary one with all contents.

    It also has the files beside the archives; archives inside archives are unpacked in place.

    Args:
        raw: what the user put there; is never written to.
        beside: the temporary folder is a hidden sibling of this path, and goes when the block ends.

    Raises:
        UserError: an archive cannot be unpacked, does not fit the disk, or holds a link or a path that leaves the
            folder, or a file is there twice with different contents.
    """
    archives = sorted(path for path in raw.glob("*") if is_shown(path.name) and is_archive(path) and path.is_file())
    if not archives:
        yield raw
        return
    with artifacts.scratch(beside) as folder:
        for path in archives:
            unpack_into(path, folder, str(path), Budget(path, folder))
        for path in raw.iterdir():
            if path not in archives and not is_note(path, raw):
                merge(path, folder / path.name, str(raw), lambda one, target: target.symlink_to(one.resolve()))
        yield folder


def unpack_into(archive: Path, folder: Path, name: str, budget: Budget, depth: int = 1) -> None:
    """Unpack an archive and those inside it, and add the contents to ``folder``.

    An archive of bare images gets a folder of its own name, so that one archive per class makes one folder per class.

    Raises:
        UserError: as of ``unpacked``.
    """
    with artifacts.scratch(folder / f"{archive.name}.unpacked") as own:
        unpack(archive, own, name, budget)
        inner = [path for _, _, files in walk(own) for path in files if is_archive(path)]
        if inner and depth == DEEPEST:
            raise UserError(f"{name}: holds {inner[0].name}, archives inside each other over {DEEPEST} deep; {BY_HAND}")
        for path in inner:
            hidden = path.rename(path.with_name(f".{path.name}"))  # its name may be that of a folder inside
            inside = f"{name}: {path.relative_to(own)}"
            unpack_into(hidden, path.parent, inside, budget, depth + 1)
            hidden.unlink()
        bare = any(is_shown(path.name) and is_image(path) for path in own.iterdir())
        target = folder / stem(archive) if bare else folder
        target.mkdir(exist_ok=True)
        for path in sorted(own.iterdir()):
            merge(path, target / path.name, name, lambda one, place: one.rename(place))


def stem(archive: Path) -> str:
    """The name of an archive without its ending."""
    return re.sub(r"\.(tar\.\w+|tar|tgz|zip)$", "", archive.name.lstrip("."), flags=re.IGNORECASE)


def merge(source: Path, target: Path, origin: str, place: Callable[[Path, Path], object]) -> None:
    """Put a file or folder at ``target`` by ``place``; where a folder is there already, its entries into that.

    Raises:
        UserError: a file of other contents is there; ``origin`` is where this one comes from.
    """
    if not target.exists() and not target.is_symlink():
        place(source, target)
    elif source.is_dir() and target.is_dir():
        for path in sorted(source.iterdir()):
            merge(path, target / path.name, origin, place)
    elif is_shown(source.name) and (
        source.is_dir() or target.is_dir() or not filecmp.cmp(source, target, shallow=False)
    ):
        raise UserError(f"{origin}: {source.name} is also in an archive beside it, with other contents; {BY_HAND}")


def unpack(archive: Path, folder: Path, name: str, budget: Budget) -> None:
    """Write an archive's files below ``folder``, refusing all that is neither a file nor a folder inside it.

    ``name`` is what messages call the archive.

    Raises:
        UserError: names the archive and the entry.
    """
    try:
        for member in members(archive):
            budget.spend(member.size)
            write(member, folder, name)
    except UnreadFormError as error:
        raise UserError(
            f"{name}: {error}, which is not unpacked here; the archive may well be whole: {BY_HAND}"
        ) from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk: full, read-only
            raise
        raise UserError(f"{name}: not a readable archive ({reason(error)}); get another copy, or {BY_HAND}") from None


def write(member: Member, folder: Path, name: str) -> None:
    """Write one entry of the archive called ``name`` below ``folder``.

    Raises:
        UserError: it is a link or device, leaves the folder, or has a name that cannot be one.
    """
    path, entry = PurePosixPath(member.name), f"{name}: entry {member.name!r}"
    if member.kind == "other":
        raise UserError(f"{entry} is a link or device; pack it again without links (tar --dereference)")
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise UserError(f"{entry} leaves the folder; pack it again with names below one folder")
    target = folder / path
    try:
        if member.content is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.content, target.open("wb") as file:
            shutil.copyfileobj(member.content, file, 1 << 20)
    except OSError as error:
        if error.errno not in UNNAMEABLE:
            raise
        raise UserError(f"{entry} cannot be written ({error.strerror}); pack it again under another name") from None


def members(archive: Path) -> Iterator[Member]:
    """Entries of a tar or zip archive in its own order; each content is to be read before the next entry."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                require_readable(info)
                name = info.filename.replace("\\", "/")  # as some programs of Windows write it
                linked = (info.external_attr >> 16) & 0o170000 == 0o120000
                kind = "other" if linked else "folder" if name.endswith("/") else "file"
                yield Member(name, kind, info.file_size, zipped.open(info) if kind == "file" else None)
    else:
        with tarfile.open(archive, tarinfo=Header) as tar:
            for entry in tar:
                kind = "file" if entry.isfile() else "folder" if entry.isdir() else "other"
                yield Member(entry.name, kind, entry.size, tar.extractfile(entry) if kind == "file" else None)


def require_readable(info: zipfile.ZipInfo) -> None:
    """Refuse what zipfile cannot or should not unpack: it bounds what one read of other methods expands to by nothing.

    Raises:
        UnreadFormError: the entry is encrypted or compressed by another method, which damages nothing.
    """
    if info.flag_bits & 0x1:
        raise UnreadFormError(f"entry {info.filename!r} is protected by a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = METHODS.get(info.compress_type, "another method")
        raise UnreadFormError(f"entry {info.filename!r} is compressed by {method} (method {info.compress_type} of zip)")
