"""A finished study to damage, stages run in this process the way a user runs them, and faults that the system makes."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import Project, shrink
from own_images import make_own

from stages import attack, evaluate, prepare, report, train, validate
from stages.runtime import cli

RUNS = {
    "prepare": ("own",),
    "validate": ("own",),
    "train": ("own", "ca_tride", "0"),
    "evaluate": ("own", "ca_tride", "0"),
    "attack": ("own", "ca_tride", "0", "qa_plus"),
    "report": (),
}
FOLDERS = ("data/own", "models", "results", "reports")


def make_study(folder):
    """A project whose whole graph, on twelve images, has run."""
    project = Project(folder)
    project.edit(shrink)
    make_own(project)
    project.edit(lambda params: params["run"].update(datasets=["own"], attacks=["qa_plus"]))
    with standing_in(project):
        for name, words in RUNS.items():
            assert run(name, *words) == ""
    return project


@contextlib.contextmanager
def standing_in(project):
    """The project as the present folder."""
    before = Path.cwd()
    os.chdir(project.folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(name, *words):
    """Run a stage in this process; the line that it ends in, or "" where it went well. A traceback fails the test."""
    stage = {"prepare": prepare.prepare, "validate": validate.validate, "train": train.train,
             "evaluate": evaluate.evaluate, "attack": attack.attack, "report": report.report}[name]  # fmt: skip
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            cli.main(stage, list(words))
    except SystemExit as end:
        line = end.code
    else:
        return ""
    finally:
        cli.log.handlers.clear()
    assert isinstance(line, str)
    assert line.isprintable()
    assert line.startswith(f"{name}: ")
    return line


def mend(name):
    """Run a stage, following the advice of each error line, until it goes well; the lines on the way."""
    lines, todo = [], [(name, RUNS[name])]
    while todo:
        assert len(lines) < 12, lines
        line = run(todo[-1][0], *todo[-1][1])
        if not line:
            todo.pop()
            continue
        lines.append(line)
        if "delete it" in line or "move it away" in line:
            Path(line.split(": ")[1]).unlink()
        said = re.search(r"`python -m stages\.(\w+)([^`]*)`", line)
        assert said, line
        todo.append((said[1], said[2].split()))
    return lines


def outputs(project):
    """All files of the study's stages, drafts included."""
    return project.files(*FOLDERS)


def copy_of(study, folder):
    """A copy of a study, to damage."""
    shutil.copytree(study.folder, folder, dirs_exist_ok=True)
    copied = Project.__new__(Project)
    copied.folder = folder
    return copied


def apart(project, name, *, limits="", mounts=""):
    """Run a stage in a process of its own: after ``limits``, Python code, or ``mounts``, shell seen by it alone."""
    start = f"import resource, sys\nfrom stages.{name} import main"
    lines = [start, limits, f"sys.argv[1:] = {list(RUNS[name])!r}", "main()"]
    environment = os.environ | {"PYTHONPATH": str(project.folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "\n".join(lines)]
    if mounts:
        command = ["unshare", "--mount", "sh", "-ec", f'{mounts}\nexec "$@"', "sh", *command]
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)


def can_mount():
    """Whether this user may mount in a namespace of its own, as root may."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
