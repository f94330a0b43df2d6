"""Write docs/licenses.md: the license of every package that constraints.txt pins, as pip-licenses reads it."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from stages.runtime.artifacts import require, writing
from stages.runtime.errors import UserError

PINS, PAGE = Path("constraints.txt"), Path("docs") / "licenses.md"
HEAD = """# Licenses of the packages

This page lists what each installed package states, in the versions of constraints.txt; `ca-tride licenses` rewrites it.
The project itself is under Apache-2.0. It contains none of these packages; installing it fetches them. Two of them,
grandalf and pygit2 (with a linking exception), are under GPLv2; DVC uses them. Packages marked "not installed" belong
to another system, or to an extra that was not there when the table was made. Those called cuda or nvidia come with
torch for CUDA, under NVIDIA's own terms.

| package | version | license |
| --- | --- | --- |"""
COMMAND = ("pip-licenses", "--from=mixed", "--format=json", "--with-system", "--with-license-file", "--no-license-path")


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def pins() -> list[tuple[str, str]]:
    """(name, version) of each line of constraints.txt; a name may have several, one for each Python or system."""
    text = require(PINS, "the command in a clone of the repository").read_text()
    return sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)))


def installed() -> dict[tuple[str, str], str]:
    """The license of each installed package by its normalized name and its version without a local part (+cpu).

    A package that states none in its metadata gives the first line of its license file.

    Raises:
        UserError: pip-licenses is not installed.
    """
    program = Path(sys.executable).with_name(COMMAND[0])
    if not program.exists():
        raise UserError(f"{COMMAND[0]}: not installed; run `pip install -c constraints.txt -e '.[dev]'`")
    told = subprocess.run([program, *COMMAND[1:]], capture_output=True, text=True, check=True).stdout
    found = {}
    for package in json.loads(told):
        stated = package["License"]
        if stated == "UNKNOWN":
            stated = next((line.strip() for line in package["LicenseText"].splitlines() if line.strip()), stated)
        found[re.sub(r"[-_.]+", "-", package["Name"]).lower(), package["Version"].partition("+")[0]] = stated
    return found


def run() -> str:
    """Write the page; what was written, in one line.

    Raises:
        UserError: this is not a clone of the repository, or pip-licenses is not installed.
    """
    known, wanted = installed(), pins()
    rows = [f"| {name} | {version} | {known.get((name, version), 'not installed')} |" for name, version in wanted]
    with writing(PAGE) as (draft,):
        draft.write_text("\n".join([HEAD, *rows]) + "\n")
    return f"{PAGE}: {len(rows)} packages"
