"""Archives made for a test, and what is in them once unpacked."""

import zipfile

from stages.data import archives


def zipped(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(raw):
    with archives.unpacked(raw, beside=raw.parents[1] / "own" / "raw") as folder:
        return folder, contents(folder)
