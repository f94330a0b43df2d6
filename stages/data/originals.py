"""The files of a dataset's folder, links followed: one walk for readers, both engines and messages, so that they agree.

Only the standard library is imported, because Snakemake needs a fingerprint of every dataset when it starts.
"""

import gzip
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from io import BufferedReader
from pathlib import Path

from stages.runtime.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
UNREAD = {
    *(".gif", ".heic", ".heif", ".hif", ".avif", ".svg", ".jxl", ".jp2", ".j2k", ".pdf", ".eps", ".ps", ".ai", ".psd"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".exr", ".hdr", ".pcx", ".xcf", ".dng", ".cr2", ".cr3", ".nef"),
    *(".arw", ".orf", ".rw2", ".raw", ".mp4", ".mov", ".avi"),
}
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")  # kinds that are unpacked
PACKED = (".7z", ".rar", ".tar.zst", ".tzst", ".tar.lz4", ".gz", ".bz2", ".xz", ".zst", ".z01", ".001", ".iso", ".dmg")
# Files that operating systems add to folders, besides names that start with a dot.
LITTER = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
# First bytes of kinds of images, for files whose names do not tell. ISO media name their brand after four bytes.
SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"%PDF": "PDF", b"%!PS": "PostScript", b"8BPS": "PSD", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}  # fmt: skip
BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
READ_KINDS = {"JPEG", "PNG", "BMP", "TIFF", "WebP"}
SMALL = 16 << 20  # bytes; up to this, a file that is neither image nor archive counts by its contents: lists are edited
BAD_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
DEEPEST = 64  # folders below each other; no dataset needs so many


def is_shown(name: str) -> bool:
    """Whether a user sees a file or folder of this name: not hidden, and nothing that a system leaves behind."""
    return not name.startswith(".") and name.lower() not in LITTER


def is_image(path: Path) -> bool:
    """Whether a file is called like an image of a kind that is read."""
    return path.suffix.lower() in SUFFIXES


def is_archive(path: Path) -> bool:
    """Whether a file is called like an archive of a kind that is unpacked."""
    return path.name.lower().endswith(ARCHIVES)


def is_note(path: Path, root: Path) -> bool:
    """Whether a file speaks of the data instead of being part of it: README.md at the top, or a pointer of DVC."""
    return path.suffix == ".dvc" or path == root / "README.md"


def walk(root: Path) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    """Each folder from ``root`` downwards with its visible subfolders and other entries, by name.

    Links are followed, except those that lead back to a folder around them. What leads nowhere is an entry.
    """
    if root.is_dir():
        yield from _walk(root, {_identity(root)})


def _walk(folder: Path, around: set[tuple[int, int]]) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    entries = sorted(Path(entry) for entry in os.scandir(folder) if is_shown(entry.name))
    folders = [path for path in entries if path.is_dir()]
    inside = [path for path in folders if _identity(path) not in around]
    known = set(folders)
    yield folder, inside, [path for path in entries if path not in known]
    for path in inside if len(around) < DEEPEST else ():
        yield from _walk(path, around | {_identity(path)})


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from all others, by whatever path it is reached."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def files(root: Path) -> Iterator[Path]:
    """Every visible entry below ``root`` that is no folder; notes are left out."""
    for _, _, entries in walk(root):
        yield from (path for path in entries if not is_note(path, root))


def fingerprint(root: Path) -> str:
    """A digest that changes when what ``prepare`` reads does: names and sizes of all files, contents of lists.

    Times are left out, so that a copy or a checkout of the same files prepares nothing anew.
    """
    digest = hashlib.sha256()
    for path in files(root):
        size = path.stat().st_size if path.exists() else -1
        digest.update(os.fsencode(path.relative_to(root)) + b"\0%d\0" % size)
        if path.is_file() and size <= SMALL and not is_image(path) and not is_archive(path):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def linked_folder(root: Path) -> Path | None:
    """The first folder below ``root`` that is a link, into which DVC does not look; None where there is none."""
    return next((path for _, folders, _ in walk(root) for path in folders if path.is_symlink()), None)


def require_reachable(root: Path) -> None:
    """Refuse links that lead nowhere, as those to a disk that is not mounted.

    Raises:
        UserError: names the first of them and where it leads.
    """
    dead = [path for path in files(root) if path.is_symlink() and not path.exists()]
    if dead:
        raise UserError(
            f"{dead[0].relative_to(root)}: a link to {os.readlink(dead[0])}, which is not there{and_more(dead)}; "
            "mount that disk, or point the link to where the files are now"
        )


def and_more(found: Collection[object]) -> str:
    """How many there are besides the one that was named, in brackets; "" where it was the only one."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def decompressed(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file for reading, one that is gzip by its first bytes for reading what it holds.

    Reading damaged gzip raises one of ``BAD_GZIP``.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def kind_of(path: Path) -> str:
    """The kind of a file by its first bytes, an image format or a document; "" if unknown."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return ""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if b"<svg" in head.lower():
        return "SVG"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "HTML"
    return next((kind for start, kind in SIGNATURES.items() if head.startswith(start)), "")


def left_out(root: Path, used: Collection[Path], *, with_lists: bool) -> str:
    """Files below ``root`` that are not read, for one warning: how many, why, and an example of each kind.

    Args:
        used: the image files that are read.
        with_lists: the dataset has lists of its own, so files that are no images are expected and not counted.
    """
    found: Counter[str] = Counter()
    example: dict[str, str] = {}
    taken = set(used)
    for path in files(root):
        why = "" if path in taken else _why_left(path, root, with_lists)
        if why:
            found[why] += 1
            example.setdefault(why, path.relative_to(root).as_posix())
    parts = [f"{count} {why.replace('{example}', example[why])}" for why, count in found.items()]
    return f"{found.total()} file{'s' * (found.total() != 1)} left out: {'; '.join(parts)}" if found else ""


def _why_left(path: Path, root: Path, with_lists: bool) -> str:
    """Why a file is not read, with a place for an example; "" where nobody would expect it to be."""
    if not path.is_file():
        return "neither file nor folder, such as {example}"
    if is_image(path) and with_lists:
        return "not in the lists that are used, such as {example}"
    if is_image(path):
        return "not directly in a class folder, such as {example} (move such images into the folders of their classes)"
    if path.suffix.lower() in UNREAD:
        return "of kinds that are not read, such as {example} (convert them to JPEG or PNG)"
    if is_archive(path):
        return "archives in folders, such as {example} (move them up to where the folders are)"
    if with_lists:
        return ""
    if path.name.lower().endswith(PACKED):
        return "archives of kinds that are not unpacked, such as {example} (unpack them)"
    if kind_of(path) in READ_KINDS:
        return "images by their contents but not by their names, such as {example} (give them an ending such as .jpg)"
    return "no images, such as {example}"
