"""Downloads: resumed where they broke off, verified before they get their name."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from stages.runtime.errors import UserError, reason
from stages.runtime.progress import transfer

CHUNK = 1 << 20
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
# md5 only guards against damage; it is what these datasets were published with. `unpacked_md5` is that of what a gzip
# file holds, since mirrors compress the same content anew.
CHECKSUMS = ("sha256", "md5", "unpacked_md5")

Source = Mapping[str, Any]  # one entry of `datasets.<name>.fetch`: url and one of CHECKSUMS


def file_name(source: Source) -> str:
    """The name a download is kept under: the last part of its address."""
    return PurePosixPath(urlsplit(source["url"]).path).name


def checksum(source: Source) -> tuple[str, str]:
    """Which of CHECKSUMS is given, and its value."""
    return next((name, source[name]) for name in CHECKSUMS if name in source)


def difference(path: Path, source: Source) -> str | None:
    """How a file differs from what its checksum promises, or None."""
    kind, expected = checksum(source)
    with path.open("rb") as file:
        start = file.read(512)
    packed = kind == "unpacked_md5" and start.startswith(b"\x1f\x8b")
    try:
        with gzip.open(path) if packed else path.open("rb") as content:
            actual = hashlib.file_digest(content, kind.removeprefix("unpacked_")).hexdigest()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"cannot be decompressed ({reason(error)}), expected {kind} {expected}"
    if actual == expected:
        return None
    page = start.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    return f"{'is a web page' if page else f'has {kind} {actual}'}, expected {kind} {expected}"


def verify(path: Path, source: Source) -> None:
    """Compare a file with its published checksum.

    Raises:
        UserError: it is another file; names both checksums, or says that it is a web page.
    """
    problem = difference(path, source)
    if problem:
        raise UserError(f"{path}: {problem}; delete it and get the original file")


def check_originals(raw: Path, sources: list[Source], dataset: str) -> None:
    """Compare what lies in ``raw`` with the checksums of the dataset's ``fetch`` list.

    Raises:
        UserError: nothing is there, or a published file is not the published one.
    """
    there = raw.is_dir() and any(path.name != "README.md" and path.suffix != ".dvc" for path in raw.glob("[!.]*"))
    if not there:
        raise UserError(f"{raw}: empty; run `python -m stages.fetch {dataset}` or put the original files there")
    for source in sources:
        path = raw / file_name(source)
        for form in (path, path.with_suffix("")) if "unpacked_md5" in source else (path,):
            if form.is_file():
                verify(form, source)


def by_hand(source: Source, folder: Path) -> str:
    """What to do where an address does not answer."""
    algorithm, expected = checksum(source)
    name = file_name(source)
    return f"get {name} ({algorithm} {expected}) by hand, put it at {folder / name}, and go on"


def download(source: Source, folder: Path) -> Path:
    """Fetch one file into ``folder``; a broken download goes on from its ``.part`` file.

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
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all of it is there already
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.RequestException("the server resumed at another place")
        total = int(answer.headers.get("Content-Length") or 0) + (have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            for block in transfer(chunks(answer), total=total, done=file.tell(), label=url):
                file.write(block)
        if total and part.stat().st_size < total:
            raise requests.RequestException(f"broke off after {part.stat().st_size} of {total} bytes")


def chunks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it was stored, not decompressed on the way."""
    while block := answer.raw.read(CHUNK, decode_content=False):
        yield block
