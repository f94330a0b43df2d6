"""What readers share: published lists, opening images, and comparing a list with the images on disk."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from stages.runtime.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
# Pillow goes by contents, not by name, and for some kinds starts other programs (Ghostscript for EPS): only these.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
LONGEST_LIST = 256 << 20  # bytes; the longest published list, of SOP, has 5 MB
LARGEST_NUMBER = 2**63 - 1  # what the manifest can hold


class Item(NamedTuple):
    """One original image: its id in the dataset, class id, class name, path for people, how to open it.

    Class ids only order the classes; ``prepare`` numbers the classes that it keeps from 0. ``split`` is the publisher's
    list that names the image, "train" or "test", where there are such lists.
    """

    image_id: int
    class_id: int
    class_name: str
    source_path: str
    open: Callable[[], Image.Image]
    split: str = ""


def open_image(path: Path) -> Image.Image:
    """Open an image file of one of FORMATS."""
    return Image.open(path, formats=FORMATS)


def shown(path: Path) -> bool:
    """Whether a path is an image that its owner sees: a known suffix, not hidden (macOS leaves ``._`` files).

    Folders, pipes and devices of that name are not: opening one can wait for ever.
    """
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; Python keeps bytes of file names that are none as surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def inside(path: str, entry: str) -> PurePosixPath:
    """A path from a list as one that stays below the dataset's folder; ``entry`` says where it stands.

    Raises:
        UserError: it leaves the folder, or names none.
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\0" in path or not is_text(path):
        raise UserError(f"{entry}: path {path!r} leaves the dataset's folder; restore the original list")
    return parts


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder by name, hidden ones left out."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def find(raw: Path, name: str) -> Path | None:
    """The entry called ``name`` in ``raw`` or up to two folders below; archives hold one or two folders around it."""
    return next((path for pattern in ("", "*/", "*/*/") for path in sorted(raw.glob(pattern + name))), None)


def required(raw: Path, name: str, instead: str = "") -> Path:
    """Like ``find``, for what must be there.

    Raises:
        UserError: it is not there.
    """
    found = find(raw, name)
    if not found:
        raise UserError(f"no {name}{f' (nor {instead})' if instead else ''}; put the dataset's original files there")
    return found


def parent_of(raw: Path, name: str) -> Path:
    """The folder that holds ``name``: a dataset's root."""
    return required(raw, name).parent


def table(path: Path, *kinds: type, header: str | None = None) -> list[tuple[Any, ...]]:
    """Rows of a published list: fields separated by blanks, one of each kind; the last may hold blanks.

    Raises:
        UserError: the file is missing, or a line does not fit or repeats an id.
    """
    try:
        if path.stat().st_size > LONGEST_LIST:
            raise UserError(f"{path.name}: longer than {LONGEST_LIST >> 20} MB; restore the original file")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"no {path.name}; put the dataset's original files there") from None
    except UnicodeDecodeError:
        raise UserError(f"{path.name}: not a text file; restore the original file") from None
    rows, seen = [], set()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.split() == (header or "").split()):
            continue
        fields = line.split(maxsplit=len(kinds) - 1)
        try:
            row = tuple(kind(field.strip()) for kind, field in zip(kinds, fields, strict=True))
            if not all(0 <= value <= LARGEST_NUMBER for value in row if isinstance(value, int)):
                raise ValueError
        except ValueError:
            wanted = ", ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{path.name}: line {number}: {line[:80]!r} is not `{wanted}`; mend the line") from None
        if row[0] in seen:
            raise UserError(f"{path.name}: line {number}: id {row[0]} is there twice; remove one")
        seen.add(row[0])
        rows.append(row)
    return rows


def require_class(class_id: int, names: dict[int, str], entry: str, where: str) -> None:
    """Refuse a class id that has no name.

    Raises:
        UserError: says which entry has it.
    """
    if class_id not in names:
        raise UserError(f"{entry}: class {class_id} is out of range: {where} names no such class; mend the list")


def listed(root: Path, rows: Iterable[tuple[int, int, str, str]]) -> list[Item]:
    """Items of a list (image id, class id, class name, path below ``root``), after comparing it with the disk.

    Raises:
        UserError: a path leaves ``root``, an image is listed and absent or listed twice, or is there and not listed.
    """
    items = []
    for image_id, class_id, class_name, path in rows:
        parts = inside(path, f"image {image_id}")
        items.append(Item(image_id, class_id, class_name, parts.as_posix(), partial(open_image, root / parts)))
    wanted = {item.source_path for item in items}
    if len(wanted) < len(items):
        raise UserError("an image is listed twice; restore the original list")
    tops = {PurePosixPath(path).parts[0] for path in wanted}
    present = {path.relative_to(root).as_posix() for top in tops for path in (root / top).rglob("*") if shown(path)}
    for problem, names in (("listed but absent", wanted - present), ("there but not listed", present - wanted)):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError(f"{min(names)}: {problem}{more}; restore the original files")
    if not items:
        raise UserError("the list of images is empty; restore the original files")
    return items
