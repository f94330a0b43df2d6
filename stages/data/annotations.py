"""What readers share: published lists as any system writes them, opening images, and finding what a list names."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from stages.data import originals
from stages.data.originals import and_more
from stages.runtime.errors import UserError

# Pillow goes by contents, not by name, and for some kinds starts other programs (Ghostscript for EPS): only these.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
LONGEST_LIST = 256 << 20  # bytes; the longest published list, of SOP, has 5 MB
LARGEST_NUMBER = 2**63 - 1  # what the manifest can hold
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}  # byte-order marks
NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f]")  # a list may end in the \x1a of old systems


class Item(NamedTuple):
    """One original image: its id in the dataset, class id, class name, path for people, how to open it.

    Class ids only order the classes; ``prepare`` numbers the classes that it keeps from 0. ``file`` is None where the
    image is no file of its own. ``split`` is "train", "test", "query" or "gallery" where the publisher's lists or a
    user's folders say so. ``camera`` is the number of the camera that took the image, None where it is not known.
    """

    image_id: int
    class_id: int
    class_name: str
    source_path: str
    open: Callable[[], Image.Image]
    file: Path | None = None
    split: str = ""
    camera: int | None = None


def open_image(path: Path) -> Image.Image:
    """Open an image file of one of FORMATS."""
    return Image.open(path, formats=FORMATS)


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; Python keeps bytes of file names that are none as surrogates."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def folded(path: str) -> str:
    """A path without what systems disagree on: letter case, and how accents are composed."""
    return unicodedata.normalize("NFC", path).casefold()


def inside(path: str, entry: str) -> PurePosixPath:
    """A path from a list, in the notation of any system, as one that stays below the dataset's folder.

    ``entry`` names the list and the line.

    Raises:
        UserError: it leaves the folder, or names none.
    """
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\0" in path or not is_text(path):
        raise UserError(f"{entry}: path {path!r} leaves the dataset's folder; mend the list")
    return parts


class Tree:
    """Everything below a dataset's folder, found by name whatever the letter case and the folders around it."""

    def __init__(self, root: Path):
        """Walk ``root`` once."""
        self.root = root
        self.files = list(originals.files(root))
        self.images = {path.relative_to(root).as_posix(): path for path in self.files if originals.is_image(path)}
        alike: dict[str, list[Path]] = defaultdict(list)
        for name, path in self.images.items():
            alike[folded(name)].append(path)
        self._alike = {name: paths[0] for name, paths in alike.items() if len(paths) == 1}
        self._parents: dict[str, set[str]] = defaultdict(set)  # of folders with images, by the name of the folder
        for folder in {parent for name in self.images for parent in PurePosixPath(name).parents[:-1]}:
            self._parents[folded(folder.name)].add(folder.parent.as_posix())

    def find(self, name: str, beside: Path | None = None) -> Path | None:
        """The file called ``name``, of several the one ``beside`` another or the nearest to the root.

        A browser may have added ` (1)` to its name.
        """
        stem, dot, suffix = name.rpartition(".")
        called = re.compile(rf"{re.escape(stem)}(| ?\(\d+\)){re.escape(dot + suffix)}", re.IGNORECASE)
        found = [path for path in self.files if called.fullmatch(path.name)]

        def order(path: Path) -> tuple[bool, int, bool, Path]:
            return beside is None or path.parent != beside.parent, len(path.parts), path.name != name, path

        return min(found, key=order, default=None)

    def required(self, name: str, beside: Path | None = None) -> Path:
        """Like ``find``, for what must be there.

        Raises:
            UserError: it is not there.
        """
        found = self.find(name, beside)
        if not found:
            raise UserError(f"no {name}{self.seen()}; put it there, and the images beside it")
        return found

    def seen(self) -> str:
        """What is there instead, for messages; "" where nothing is."""
        names = sorted({path.relative_to(self.root).parts[0] for path in self.files})
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return f" (there are {', '.join(names[:4])}{more})" if names else ""

    def image(self, path: str) -> Path | None:
        """The image at a path below the root: exactly so written, or else the only one that differs in letter case."""
        return self.images.get(path) or self._alike.get(folded(path))

    def base(self, paths: list[PurePosixPath]) -> PurePosixPath | None:
        """The folder below the root under which most of ``paths``, which begin alike, are images; None without any."""
        known = self._parents.get(folded(paths[0].parts[0]), set()) if len(paths[0].parts) > 1 else {"."}
        places = sorted(known, key=lambda place: (place.count("/"), place))
        counts = {
            place: sum(self.image((PurePosixPath(place) / path).as_posix()) is not None for path in paths)
            for place in places
        }
        best = max(places, key=lambda place: counts[place], default=None)
        return PurePosixPath(best) if best is not None and counts[best] else None


def text_of(path: Path) -> str:
    """The contents of a list that any system may have written: UTF-8 or UTF-16 with or without mark, or Windows-1252.

    Raises:
        UserError: it is missing, too long, or no text.
    """
    try:
        if path.stat().st_size > LONGEST_LIST:
            raise UserError(f"{path.name}: longer than {LONGEST_LIST >> 20} MB, so no list of images; replace it")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no {path.name}; put it there, and the images beside it") from None
    marked = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    guesses = [marked] if marked else ["utf-8", "cp1252"]
    if not marked and b"\0" in content[:2]:
        guesses = ["utf-16-be" if content[:1] == b"\0" else "utf-16-le"]
    for encoding in guesses:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not NO_TEXT.search(text) and is_text(text):
            return text
    raise UserError(f"{path.name}: not a text file; replace it by the list it should be")


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Lines of a list that are not blank, with their numbers.

    Raises:
        UserError: as of ``text_of``.
    """
    lines = re.split(r"\r\n|\r|\n", text_of(path).rstrip("\x1a"))
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def table(path: Path, *kinds: type, header: str = "") -> list[tuple[Any, ...]]:
    """Rows of a published list: fields separated by blanks, one of each kind; the last may hold blanks.

    Raises:
        UserError: the file is missing, or a line does not fit or repeats an id.
    """
    rows: list[tuple[Any, ...]] = []
    seen = set()
    for number, line in lines_of(path):
        if not rows and line.casefold().split() == header.casefold().split():
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


def listed(tree: Tree, rows: Iterable[tuple[int, int, str, str]]) -> list[Item]:
    """Items of a list (image id, class id, class name, path below a folder), after comparing it with the disk.

    The first folders of the paths may be anywhere below the root.

    Raises:
        UserError: a path leaves its folder, an image is listed and absent or listed twice, or is there and not listed.
    """
    entries = [(*row[:3], inside(row[3], f"image {row[0]}")) for row in rows]
    if not entries:
        raise UserError("the list of images is empty; put one there that names them")
    twice = [path for path, count in Counter(entry[3] for entry in entries).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: an image is listed twice{and_more(twice)}; mend the list")
    by_top: dict[str, list[PurePosixPath]] = defaultdict(list)
    for *_, path in entries:
        by_top[path.parts[0]].append(path)
    bases = {top: tree.base(paths) for top, paths in by_top.items()}
    items, absent, taken = [], [], set()
    for image_id, class_id, class_name, path in entries:
        base = bases[path.parts[0]]
        file = tree.image((base / path).as_posix()) if base is not None else None
        if file is None or file in taken:
            absent.append(path.as_posix())
            continue
        taken.add(file)
        items.append(Item(image_id, class_id, class_name, path.as_posix(), partial(open_image, file), file))
    if absent:
        raise UserError(
            f"{min(absent)}: listed but absent{and_more(absent)}; {len(items)} of {len(entries)} listed images are "
            f"there{tree.seen()}; put the others there, or take their lines out of the lists"
        )
    tops = {(base / top).as_posix() + "/" for top, base in bases.items() if base is not None}
    strange = [name for name, file in tree.images.items() if file not in taken and name.startswith(tuple(tops))]
    if strange:
        raise UserError(
            f"{min(strange)}: there but not listed{and_more(strange)}; move such images elsewhere, or add them to the "
            "lists"
        )
    return items
