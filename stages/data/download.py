"""Downloads: resumed where they broke off, verified before they get their name."""

import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from stages.data import originals
from stages.data.originals import is_shown, kind_of
from stages.runtime.errors import UserError, reason
from stages.runtime.progress import downloading

log = logging.getLogger(__name__)
CHUNK = 1 << 20
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
# md5 only guards against damage; it is what these datasets were published with. `unpacked_md5` is that of what a gzip
# file holds, since mirrors compress the same content again.
CHECKSUMS = ("sha256", "md5", "unpacked_md5")

Source = Mapping[str, Any]  # an entry of `datasets.<name>.fetch`: url, perhaps name, and one of CHECKSUMS or holds


def file_name(source: Source) -> str:
    """The name a download is kept under: its own, or the last part of its address."""
    return str(source["name"]) if "name" in source else PurePosixPath(urlsplit(source["url"]).path).name


def promised(source: Source) -> str:
    """What a file is known by, for messages: its checksum, or what it holds where none was published."""
    for kind in CHECKSUMS:
        if kind in source:
            return f"{kind} {source[kind]}"
    return f"a zip with {', '.join(f'{count} files *{ending}' for ending, count in source['holds'].items())}"


def difference(path: Path, source: Source) -> str | None:
    """How a file differs from what was promised of it, or None."""
    actual = held(path, source["holds"]) if "holds" in source else hashed(path, source)
    if actual is None:
        return None
    return f"{'is a web page' if kind_of(path) == 'HTML' else actual}, expected {promised(source)}"


def hashed(path: Path, source: Source) -> str | None:
    """The checksum of a file where it is not the promised one, or None."""
    kind = next(name for name in CHECKSUMS if name in source)
    try:
        with originals.decompressed(path) if kind == "unpacked_md5" else path.open("rb") as content:
            actual = hashlib.file_digest(content, kind.removeprefix("unpacked_")).hexdigest()
    except originals.BAD_GZIP as error:
        return f"cannot be decompressed ({reason(error)})"
    return None if actual == source[kind] else f"has {kind} {actual}"


def held(path: Path, wanted: Mapping[str, int]) -> str | None:
    """What a zip has too few of, by the ending of names whatever their letter case, or None."""
    try:
        with zipfile.ZipFile(path) as zipped:
            entries = [
                PurePosixPath(info.filename.replace("\\", "/")) for info in zipped.infolist() if not info.is_dir()
            ]
    except (zipfile.BadZipFile, ValueError) as error:
        return f"is no zip ({reason(error)})"
    except (OSError, NotImplementedError) as error:  # no access, or a version of the format that Python does not read
        return f"cannot be read as a zip ({reason(error)})"
    names = [entry.name.lower() for entry in entries if is_shown(entry.name)]
    for ending, count in wanted.items():
        found = sum(name.endswith(ending.lower()) for name in names)
        if found < count:
            return f"holds {found} files *{ending}"
    return None


def verify(path: Path, source: Source) -> None:
    """Compare a file with its published checksum, or with what it should hold.

    Raises:
        UserError: it is another file; names both checksums, or says that it is a web page.
    """
    problem = difference(path, source)
    if problem:
        raise UserError(
            f"{path}: {problem}; put that file there, or if this is another copy of the dataset, give it another name: "
            "then only its lists and images are compared"
        )


def check_originals(raw: Path, sources: list[Source], dataset: str) -> None:
    """Compare the files in ``raw`` with the checksums of the dataset's ``fetch`` list.

    Raises:
        UserError: nothing is there, or a published file is not the published one.
    """
    if next(originals.files(raw), None) is None:
        raise UserError(f"{raw}: empty; run `python -m stages.fetch {dataset}` or put the original files there")
    for source in sources:
        path = raw / file_name(source)
        for form in (path, path.with_suffix("")) if "unpacked_md5" in source else (path,):
            if form.is_file():
                verify(form, source)


def by_hand(source: Source, folder: Path) -> str:
    """What to do where an address does not answer."""
    name = file_name(source)
    return f"get {name} ({promised(source)}) by hand, put it at {folder / name}, and go on"


def download(source: Source, folder: Path) -> Path:
    """Fetch one file into ``folder``; a broken download resumes from its ``.part`` file.

    Raises:
        UserError: the server does not give it or what came is not it; says what to get by hand and where to put it.
    """
    path = folder / file_name(source)
    part = folder / f".{path.name}.part"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            receive(source["url"], part)
        except (requests.RequestException, HTTPError) as error:
            raise UserError(f"{source['url']}: {reason(error)}; run again, or {by_hand(source, folder)}") from None
        problem = difference(part, source)
        if problem:
            part.unlink()
            raise UserError(f"{source['url']}: what came {problem}; run again, or {by_hand(source, folder)}")
        part.replace(path)
    else:
        verify(path, source)
    return path


def receive(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of ``url``, from the start where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    # Not compressed for the way: the body is stored as it comes, and checksums are of the file itself.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there already
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.RequestException("the server resumed at another place")
        total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            for block in downloading(chunks(answer), total=total, done=file.tell(), label=url):
                file.write(block)
        if total and part.stat().st_size < total:
            raise requests.RequestException(f"broke off after {part.stat().st_size} of {total} bytes")


def chunks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it was stored, not decompressed on the way."""
    while block := answer.raw.read(CHUNK, decode_content=False):
        yield block


def fetch_all(sources: list[Source], folder: Path) -> tuple[list[Path], list[str]]:
    """Download several files; those that came, and what went wrong with the others."""
    fetched, problems = [], []
    for source in sources:
        try:
            fetched.append(download(source, folder))
        except UserError as error:
            problems.append(str(error))
    return fetched, problems


def fetch_either(first: list[Source], second: list[Source], folder: Path) -> tuple[list[Path], list[str]]:
    """``fetch_all`` of the first list, or where one of it cannot be had, of the second."""
    if second and all((folder / file_name(source)).exists() for source in second):
        return fetch_all(second, folder)  # what an earlier run had to take
    fetched, problems = fetch_all(first, folder)
    if not problems or not second:
        return fetched, problems
    for problem in problems:
        log.warning("%s", problem)
    log.info("trying the second choice, `fetch_instead`")
    instead, still = fetch_all(second, folder)
    return fetched + instead, [*still, *problems] if still else []
