"""A small study under both engines, and what each of them would run."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import yaml

from stages.runtime.params import load

COMMAND = re.compile(r"python -m stages\.\w+(?: (?!2>)[a-z0-9_]+)*")
ATTACKS = ("es", "qa_plus")
REPORT = {"visualize digits", "report"}


@cache
def main_table():
    """The block of the main table, as YAML."""
    return yaml.safe_dump(load(Path(__file__).resolve().parents[1] / "params.yaml")["tables"]["main"])


def only_main(params):
    """No papers, and of their tables the main one."""
    params |= {"papers": [], "tables": {"main": yaml.safe_load(main_table())}}


def smallest(params):
    """Two defenses, two attacks, one epoch."""
    params["run"] |= {"defenses": ["vanilla", "act"], "seeds": [0], "attacks": list(ATTACKS)}
    for block in params["attacks"].values():
        block["steps"] = 1
    params["datasets"]["digits"]["training"] |= {"epochs": 1, "evaluate_every": 1}
    only_main(params)


def as_study(project):
    """Make a git repository of a project, with a study of 12 jobs, DVC initialised as in the original."""
    root = Path(__file__).resolve().parents[1]
    shutil.copy(root / ".gitignore", project.folder)
    shutil.copytree(root / ".dvc", project.folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    project.edit(smallest)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "study")
    return project


def git(project, *words):
    name = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return project.run("git", *name, *words)


def commands(text):
    """Stage commands in an engine's output."""
    return {match.removeprefix("python -m stages.") for match in COMMAND.findall(text)}


def snakemake_plan(project):
    """What Snakemake would run."""
    done = project.run("snakemake", "--cores", "1", "-n", "-p")
    return commands(done.stdout + done.stderr)


def dvc_plan(project):
    """What differs from dvc.lock and all that depends on it. (`--dry` alone stops at the first changed stage.)

    The recipes, on which all else depends, are written first, as `dvc repro` does.
    """
    project.run(sys.executable, "-m", "workflow.recipes")
    changed = set(json.loads(project.run("dvc", "status", "--json").stdout or "{}")) - {"recipes"}
    if not changed:
        return set()
    done = project.run("dvc", "repro", "--dry", "--force", "--downstream", *changed)
    return commands(done.stdout + done.stderr)


def sync(project, direction, check=True):
    return project.run(sys.executable, "-m", "workflow", "sync", direction, check=check)


def both_plan(project, expected):
    assert snakemake_plan(project) == expected
    assert dvc_plan(project) == expected


def of_defense(name):
    """All jobs of one defense, the gallery and the report."""
    words = f"digits {name} 0"
    return {f"train {words}", f"evaluate {words}", *(f"attack {words} {attack}" for attack in ATTACKS), *REPORT}


def trained(project):
    """Modification times of the models."""
    return {path: path.stat().st_mtime_ns for path in (project.folder / "models").rglob("model.safetensors")}


def run_snakemake(project, check=True):
    return project.run("snakemake", "--cores", "1", "--quiet", "rules", check=check)


def start(project, *command):
    """Start an engine in the background; its process leads a group of its own."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project.folder),
    }
    return subprocess.Popen(
        command, cwd=project.folder, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def byte_identical(first, second):
    """Declared outputs of two projects; both lists and contents must agree."""
    folders = ("data", "models", "results", "reports")
    one, two = first.files(*folders), second.files(*folders)
    for ignoring in [name for name in (*one, *two) if name.endswith(".gitignore")]:
        one.pop(ignoring, None), two.pop(ignoring, None)
    assert sorted(one) == sorted(two)
    return [name for name in one if one[name] != two[name]]
