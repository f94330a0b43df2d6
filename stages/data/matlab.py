"""MATLAB files, read by a process of their own: damaged or hostile ones crash scipy's parser (deep nesting ends in a
segmentation fault) or fill the memory (a few bytes may announce gigabytes), and neither must reach the stage.

Run as a file, this is that process: it writes what it read to stdout as JSON.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from stages.runtime.errors import UserError, reason

MEMORY = 4 << 30  # bytes of address space; scipy and its libraries take a fourth of it
PATIENCE = 300  # seconds; the lists of Cars-196 take one


class Annotations(NamedTuple):
    """What the published files hold: names of classes, and (path, class id) of each image; None where absent."""

    class_names: list[str] | None
    images: list[tuple[str, int]] | None


def read(path: Path) -> Annotations:
    """The variables ``class_names`` and ``annotations`` of a MATLAB 5 file.

    Raises:
        UserError: the file is damaged, or not such a file.
    """
    # -I: nothing but installed packages can be imported, whatever the current folder contains.
    command = [sys.executable, "-I", __file__, str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        problem = done.stderr.strip().split("\n")[-1] if done.returncode > 0 else "its contents break the parser"
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{path.name}: takes over {PATIENCE} s to read, so it is no list of images; put another copy there"
        ) from None
    if done.returncode:
        raise UserError(f"{path.name}: not a MATLAB file ({problem}); put another copy there")
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


def parse(path: Path) -> Annotations:
    """Read the file in this process; raises anything on damaged files."""
    import numpy as np
    from scipy.io import loadmat

    contents = loadmat(path, squeeze_me=True, variable_names=["class_names", "annotations"])
    names = contents.get("class_names")
    records = contents.get("annotations")
    fields = getattr(getattr(records, "dtype", None), "names", None) or ()
    place = next((field for field in ("relative_im_path", "fname") if field in fields), None)
    return Annotations(
        None if names is None else [str(one) for one in np.atleast_1d(names)],
        None
        if records is None or place is None or "class" not in fields
        else [(str(one[place]), int(one["class"])) for one in np.atleast_1d(records)],
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        print(json.dumps(parse(Path(sys.argv[1]))._asdict()))
    except Exception as error:  # scipy raises anything from ValueError to zlib.error
        sys.exit(reason(error))
