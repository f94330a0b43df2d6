"""Shared fixtures: a private copy of the project with a study small enough for a test."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import yaml
from batch_world import make_world
from engine_world import as_study, only_main
from own_images import make_own
from shared import made_once

from stages.runtime.cli import FORKSERVER

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "dvc.yaml", ".dvcignore", "params.yaml", "profiles", "workflow", "stages")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run side by side; each keeps to one core."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def same_draws():
    """What a test draws without a seed of its own is the same in every run and in any order of tests."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def world():
    """A training batch on a small model; see batch_world."""
    return make_world()


class Project:
    """A copy of the project in a folder of its own, with commands run the way a user runs them."""

    def __init__(self, folder: Path):
        self.folder = folder
        for note in (ROOT / "data" / "raw").glob("*/README.md"):
            target = folder / note.relative_to(ROOT)
            target.parent.mkdir(parents=True)
            shutil.copy(note, target)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """The project that a folder has."""
        project = object.__new__(cls)
        project.folder = folder
        return project

    def edit(self, change) -> None:
        """Apply ``change(params)`` to params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.load(path.read_text(), yaml.CSafeLoader)
        change(params)
        path.write_text(yaml.dump(params, Dumper=yaml.CSafeDumper, sort_keys=False))

    def run(self, *command: str, check: bool = True, timeout: int = 540) -> subprocess.CompletedProcess:
        """Run a command in the project, with this project's modules first and this interpreter's tools on the path."""
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "DVC_NO_ANALYTICS": "true",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(command)} exited with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def stage(self, name: str, *words: object, check: bool = True) -> subprocess.CompletedProcess:
        """Run ``python -m stages.<name> <words>``: in a fork of this process where the code is the same."""
        given = [*map(str, words)]
        done = forked.run(self.folder, name, given, 540) if forked.has_the_same_code(self.folder) else None
        if done is None:
            return self.run(sys.executable, "-m", f"stages.{name}", *given, check=check)
        if check and done.returncode:
            pytest.fail(f"stages.{name} {given} exited with {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}")
        return done

    def files(self, *folders: str) -> dict[str, bytes]:
        """Contents of all files under some folders, by relative path; notes on raw data left out."""
        found = (path for folder in folders for path in (self.folder / folder).rglob("*") if path.is_file())
        found = (path for path in found if path.name != "README.md")
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


def shrink(params) -> None:
    """One defense, one epoch, few attack steps: the whole graph in seconds."""
    params["run"] |= {"defenses": ["ca_tride"], "seeds": [0]}
    for block in params["attacks"].values():
        block["steps"] = 2
    params["datasets"]["digits"]["training"] |= {"epochs": 2, "evaluate_every": 1}
    only_main(params)


def few_queries(params) -> None:
    """Attack 30 test images, drawn by the seed."""
    params["datasets"]["digits"]["attack_queries"] = 30


@pytest.fixture
def project(tmp_path) -> Project:
    """A copy of the project with its own params."""
    return Project(tmp_path)


@pytest.fixture
def tiny(project) -> Project:
    """A copy of the project whose study takes seconds."""
    project.edit(shrink)
    return project


@pytest.fixture(scope="session")
def checked(tmp_path_factory) -> Path:
    """A folder with digits prepared and validated, and the records of both jobs."""

    def make(folder):
        project = Project(folder)
        project.stage("prepare", "digits")
        project.stage("validate", "digits")

    return made_once(tmp_path_factory, "checked", make)


def give_digits(project: Project, checked: Path) -> Project:
    """Put the digits there that ``checked`` has."""
    for name in ("data/digits", "logs"):
        shutil.copytree(checked / name, project.folder / name)
    return project


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory) -> Path:
    """A folder with the tiny project, of few queries, after a whole run of Snakemake."""

    def make(folder):
        project = Project(folder)
        project.edit(shrink)
        project.edit(few_queries)
        project.run("snakemake", "--cores", "2")

    return made_once(tmp_path_factory, "finished", make)


def copy_of(folder: Path, target: Path) -> Project:
    """A copy of a project with all that is in it."""
    return Project.at(shutil.copytree(folder, target, dirs_exist_ok=True))


@pytest.fixture
def finished(finished_folder, tmp_path) -> Project:
    """The tiny project, of few queries, after a whole run of Snakemake."""
    return copy_of(finished_folder, tmp_path)


@pytest.fixture
def study(project) -> Project:
    """A copy of the project as a git repository whose study both engines run in a minute."""
    return as_study(project)


@pytest.fixture
def pair(tmp_path) -> list[Project]:
    """Two copies of the tiny project in different folders."""
    projects = []
    for name in ("one", "elsewhere/other"):
        (tmp_path / name).mkdir(parents=True)
        projects.append(Project(tmp_path / name))
        projects[-1].edit(shrink)
    return projects


@pytest.fixture
def without_fork_server(monkeypatch):
    """Engines start no process that loads torch: for runs that do no more than prepare images."""
    monkeypatch.setenv(FORKSERVER, "none")


@pytest.fixture
def own(project, without_fork_server) -> Project:
    """A copy of the project with a user's dataset `own`: two training and two test classes of three images."""
    make_own(project)
    return project


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty project to stand in, as stages do; what a hostile file makes of it must stay inside."""
    folder, before = tmp_path_factory.mktemp("hostile") / "project", Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    yield folder
    os.chdir(before)
