"""MATLAB files, read by a process of their own: damaged or hostile ones crash scipy's parser (deep nesting ends in a
segmentation fault) or fill the memory (a few bytes may announce gigabytes), and neither must reach the stage.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.data import matlab_process
from stages.runtime.errors import UserError, reason

PROCESS = Path(matlab_process.__file__)
PATIENCE = 300  # seconds; the lists of Cars-196 take one
VARIABLES = {"class_names": "`class_names`", "images": "`annotations` with class and path"}  # where each list is
CRASHES = tuple(-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT))


def read(path: Path, *wanted: str) -> list[list[Any]]:
    """Lists in a MATLAB 5 file: ``class_names``, and ``images`` with the path and class id of each.

    Raises:
        UserError: the file is damaged, not such a file, or has no list that is ``wanted``.
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
    if missing := [name for name in wanted if found[name] is None]:
        raise UserError(f"{path.name}: no {VARIABLES[missing[0]]}; put another copy there")
    return [found[name] for name in wanted]
