"""Put the report into one zip that opens without the repository.

It contains reports/, params.yaml and the parts of logs/ that the page links to: provenance, Data Docs and the jobs'
logs. Unpack it and open reports/index.html. Equal files give equal bytes.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

from stages.runtime import artifacts

PARTS = ("reports", "params.yaml", "logs")
LEFT_OUT = {"benchmarks", "crate", "progress"}  # folders of logs/ that the page does not link
DATE = (1980, 1, 1, 0, 0, 0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the zip goes."""
    parser.add_argument("target", nargs="?", type=Path, default=Path("report.zip"), help="default: report.zip")


def files() -> list[Path]:
    """What goes in, sorted."""
    found = [path for part in PARTS for path in [Path(part), *Path(part).rglob("*")] if path.is_file()]
    return sorted(
        path
        for path in found
        if not any(name.startswith(".") for name in path.parts)
        and not (path.parts[0] == "logs" and LEFT_OUT & set(path.parts))
    )


def run(target: Path) -> str:
    """Write the zip, whole or not at all; what it holds, in one line.

    Raises:
        UserError: there is no report.
    """
    artifacts.require(artifacts.REPORTS / "index.html", "ca-tride compute")
    found = files()
    with artifacts.writing(target) as (draft,), zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in found:
            entry = zipfile.ZipInfo(path.as_posix(), DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    size = target.stat().st_size / 1e6
    return f"{target}: {len(found)} files, {size:.1f} MB; unpack it and open reports/index.html"
