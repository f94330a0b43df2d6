"""Conda environments: what each rule's stages import, in the versions of constraints.txt; and a run through conda."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from engine_world import byte_identical
from imports_world import imports, module_file
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ENVS = {
    "data": ("prepare", "validate"),
    "model": ("train", "evaluate", "attack", "transfer", "visualize"),
    "report": ("report",),
}
BEHIND = {  # what pandas imports behind its methods, and what provenance looks up by name
    "read_parquet": {"pyarrow"},
    "to_parquet": {"pyarrow"},
    "to_markdown": {"tabulate"},
    "version": {"torch", "numpy", "scikit-learn", "pandas"},
}


def environment(name):
    """Channels, conda packages and pip requirements of an environment."""
    block = yaml.safe_load((ROOT / f"workflow/envs/{name}.yaml").read_text())
    *conda, pip = block["dependencies"]
    return block["channels"], conda, [Requirement(line) for line in pip["pip"]]


def used(stages):
    """Distributions that stages import anywhere in the files they reach, by name or behind a method."""
    seen, todo, found = set(), [ROOT / "stages" / f"{stage}.py" for stage in stages], set()
    distributions = packages_distributions()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports(path):
            top = name.split(".")[0]
            if file := module_file(name):
                todo.append(file)
            elif top not in sys.stdlib_module_names and top != "stages":
                found |= set(distributions[top])
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            found |= BEHIND.get(name, set())
    return {canonicalize_name(name) for name in found}


@pytest.mark.parametrize("name", ENVS)
def test_an_environment_holds_what_its_stages_import_as_pinned(name):
    channels, conda, pip = environment(name)
    assert channels == ["conda-forge", "nodefaults"]
    assert conda == ["python=3.11", "pip>=23"]
    assert {canonicalize_name(requirement.name) for requirement in pip} == used(ENVS[name])
    constraints = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().split("\n") if line]
    python = {"python_version": "3.11", "python_full_version": "3.11.0"}
    pins = {pin.name: pin.specifier for pin in constraints if pin.marker is None or pin.marker.evaluate(python)}
    assert {requirement.name: requirement.specifier for requirement in pip} == {
        requirement.name: pins[requirement.name] for requirement in pip
    }


def test_every_rule_runs_in_the_environment_of_its_stage():
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    named = dict(re.findall(r"^rule (\w+):.*?^    conda:\s+\"\.\./envs/(\w+)\.yaml\"", text, re.DOTALL | re.MULTILINE))
    assert named == {stage: name for name, stages in ENVS.items() for stage in stages}
    assert {path.name for path in (ROOT / "workflow/envs").iterdir()} == {
        f"{name}.{kind}" for name in ENVS for kind in ("yaml", "post-deploy.sh")
    }


@pytest.fixture
def conda(tmp_path_factory):
    """The folder of a `conda` command: the one on the path, or one that the test tools set up."""
    if found := shutil.which("conda"):
        return Path(found).parent
    setup = Path(os.environ.get("CA_TRIDE_TEST_TOOLS", "")) / "local-conda" / "setup.sh"
    if not setup.is_file():
        pytest.skip("needs conda on the path, or local-conda in the folder that CA_TRIDE_TEST_TOOLS names")
    root = tmp_path_factory.mktemp("conda")
    # By the system's Python, as a user would: that of a virtual environment may lack the wheel of pip that it packs.
    own = str(Path(sys.executable).parent)
    path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != own)
    made = subprocess.run(["bash", setup, root], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    folder = root / "condabin"  # apart from the root's own python, which must not hide this one
    folder.mkdir()
    (folder / "conda").symlink_to("../bin/conda")
    return folder


@pytest.mark.conda
def test_a_run_through_conda_makes_the_same_bytes(pair, conda, monkeypatch):
    plain, isolated = pair
    for part in ("pyproject.toml", "README.md", "LICENSE"):  # what an installation of the project takes
        shutil.copy(ROOT / part, isolated.folder)
    plain.run("snakemake", "--cores", "2")
    monkeypatch.setenv("PATH", os.environ["PATH"] + os.pathsep + str(conda))
    isolated.run("snakemake", "--cores", "2", "--use-conda", "--conda-prefix", str(conda.parent / "made"), timeout=1800)
    assert byte_identical(plain, isolated) == []
    assert len(list((conda.parent / "made").glob("*.yaml"))) == len(ENVS)
