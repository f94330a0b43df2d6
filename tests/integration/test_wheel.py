"""What is installed without the repository works: code, schema, templates and published values are in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("stages", "workflow", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel of this repository installs."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out)
    return out


def test_every_file_beside_the_code_is_there(installed):
    for folder in ("stages", "workflow"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / path.relative_to(ROOT)).is_file(), path


def test_stages_run_in_a_folder_of_their_own(installed, project, tmp_path_factory):
    def small(params):
        params["run"] |= {"defenses": ["vanilla"], "attacks": ["es"]}
        params["datasets"]["digits"]["training"] |= {"epochs": 1}
        params["datasets"]["digits"] |= {"attack_queries": 10}

    project.edit(small)
    place = tmp_path_factory.mktemp("place")
    shutil.copy(project.folder / "params.yaml", place)
    shutil.copytree(project.folder / "data", place / "data")

    def run(*command):
        environment = os.environ | {"PYTHONPATH": str(installed)}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "usage: python -m stages.report" in run("stages.report", "--help")
    model = "digits vanilla 0"
    stages = ["prepare digits", "validate digits", f"train {model}", f"evaluate {model}", f"attack {model} es"]
    commands = " && ".join(f"{sys.executable} -m stages.{stage}" for stage in [*stages, "report"])
    run("stages.runtime.forkserver", "sh", "-c", commands)  # which loads torch once
    assert "R@1" in (place / "reports/index.html").read_text()
