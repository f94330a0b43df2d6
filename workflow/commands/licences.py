"""Licences of everything constraints.txt pins, as the installed packages state them: `make licences` writes the table.

python workflow/commands/licences.py > docs/licences.md
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PINS = Path(__file__).parents[2] / "constraints.txt"
HEAD = """# Licences of the packages

As each installed package states it, in the versions of constraints.txt; `make licences` rewrites this page. The
project itself is under Apache-2.0. It contains none of these packages; installing it fetches them. Two are under GPLv2,
grandalf and pygit2 (with linking exception): DVC uses them. Packages marked "not installed" belong to another system or
to an extra that was not there when the table was made; those called cuda or nvidia come with torch for CUDA, under
NVIDIA's own terms.

| package | version | licence |
| --- | --- | --- |"""
LONGEST = 60  # some packages put the whole text of their licence into the field


def pins() -> list[tuple[str, str]]:
    """(name, version) of each line of constraints.txt; a name may have several, one for each Python or system."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", PINS.read_text(), re.MULTILINE)
    return sorted(set(found))


def licence(package: Distribution) -> str:
    """What a package says of itself: its SPDX expression, else its classifiers, else its free text."""
    stated = package.metadata
    if expression := stated.get("License-Expression"):
        return str(expression)
    classes = [one.rpartition(" :: ")[2] for one in stated.get_all("Classifier") or [] if one.startswith("License ::")]
    classes = [one for one in classes if one != "OSI Approved"]
    if classes:
        return ", ".join(classes)
    text = " ".join((stated.get("License") or "").split())
    if 0 < len(text) <= LONGEST:
        return text
    for file in package.files or []:
        if "licen" in file.name.lower() and ".dist-info" in file.as_posix():
            first = next((line.strip() for line in file.read_text().splitlines() if line.strip()), "")
            return first[:LONGEST]
    return "see the package"


def row(name: str, version: str) -> str:
    """One line of the table."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return f"| {name} | {version} | not installed |"
    # A local build, such as 2.13.0+cpu, is the same release.
    same = package.version.partition("+")[0] == version
    return f"| {name} | {version} | {licence(package) if same else 'not installed'} |"


if __name__ == "__main__":
    print("\n".join([HEAD, *(row(*pin) for pin in pins())]))
