"""MATLAB files, read by a process of their own: damaged or hostile ones crash scipy's parser (deep nesting ends in a
segmentation fault) or fill the memory (a few bytes may announce gigabytes), and neither must reach the stage.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from stages.data import matlab_process
from stages.runtime.errors import UserError, reason

PROCESS = Path(matlab_process.__file__)
PATIENCE = 300  # seconds; the lists of Cars-196 take one
CRASHES = tuple(-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT))


class Annotations(NamedTuple):
    """What the published files hold: names of classes, and (path, class id) of each image; None where absent."""

    class_names: list[str] | None
    images: list[tuple[str, int]] | None


def read(path: Path) -> Annotations:
    """The variables ``class_names`` and ``annotations`` of a MATLAB 5 file.

    Raises:
        UserError: the file is damaged, or not such a file.
        RuntimeError: the process failed for another reason.
    """
    # -I: nothing but installed packages can be imported, whatever the current folder contains.
    command = [sys.executable, "-I", str(PROCESS.resolve()), str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{path.name}: takes over {PATIENCE} s to read, so it is no list of images; put another copy there"
        ) from None
    told = reason(done.stderr) if done.stderr else f"exit status {done.returncode}"
    if done.returncode in CRASHES:
        told = "its contents break the parser"
    if done.returncode in (matlab_process.NOT_MATLAB, *CRASHES):
        raise UserError(f"{path.name}: not a MATLAB file ({told}); put another copy there")
    if done.returncode:
        raise RuntimeError(f"the process that reads {path.name} failed: {told}")
    found = json.loads(done.stdout)
    images = found["images"] and [(str(name), int(class_id)) for name, class_id in found["images"]]
    return Annotations(found["class_names"], images)


def class_names(found: Annotations, name: str) -> list[str]:
    """The names of classes in the file called ``name``.

    Raises:
        UserError: there are none.
    """
    if found.class_names is None:
        raise UserError(f"{name}: no `class_names`; put another copy there")
    return found.class_names


def images(found: Annotations, name: str) -> list[tuple[str, int]]:
    """The (path, class id) of each image in the file called ``name``.

    Raises:
        UserError: there are none.
    """
    if found.images is None:
        raise UserError(f"{name}: no `annotations` with class and path; put another copy there")
    return found.images
