"""Put the report into one zip that opens without the repository.

    python workflow/commands/bundle.py [report.zip]

It holds reports/, params.yaml and of logs/ what the page links: provenance, Data Docs and what the jobs said. Unpack it
and open reports/index.html. Equal files give equal bytes.
"""

import sys
import zipfile
from pathlib import Path

PARTS = ("reports", "params.yaml", "logs")
LEFT_OUT = {"benchmarks", "crate", "progress"}  # folders of logs/ that the page does not link
DATE = (1980, 1, 1, 0, 0, 0)


def files() -> list[Path]:
    """What goes in, sorted."""
    found = [path for part in PARTS for path in [Path(part), *Path(part).rglob("*")] if path.is_file()]
    return sorted(
        path
        for path in found
        if not any(name.startswith(".") for name in path.parts)
        and not (path.parts[0] == "logs" and LEFT_OUT & set(path.parts))
    )


def bundle(target: Path) -> int:
    """Write the zip, whole or not at all; the number of its files."""
    found, draft = files(), target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in found:
            entry = zipfile.ZipInfo(path.as_posix(), DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    draft.replace(target)
    return len(found)


if __name__ == "__main__":
    if not Path("reports/index.html").exists():
        sys.exit("reports/index.html: missing; run `snakemake --cores 8` first")
    name = Path(sys.argv[1] if len(sys.argv) > 1 else "report.zip")
    count = bundle(name)
    print(f"{name}: {count} files, {name.stat().st_size / 1e6:.1f} MB; unpack it and open reports/index.html")
