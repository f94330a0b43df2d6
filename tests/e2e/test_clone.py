"""A finished study as git has it: a clone compares with it by DVC's own commands, before it has any data or cache."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from engine_world import both_plan, git, run_snakemake, snakemake_plan

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "reports/headline.csv",
    "reports/metrics.json",
    "models/digits/act/0/history.csv",
    "models/digits/vanilla/0/history.csv",
}


def recorded(study):
    """What git has of a study beside its code, parameters and notes."""
    made = ("dvc.lock", "data/digits", "recipes", "models", "results", "reports", "logs")
    return set(git(study, "ls-files", *made).stdout.split())


def clone_of(study, folder):
    """A clone made by git alone."""
    subprocess.run(["git", "clone", "-q", study.folder, folder], check=True)
    fresh = object.__new__(type(study))
    fresh.folder = folder
    return fresh


def json_of(project, *command):
    return json.loads(project.run("dvc", *command, "--json").stdout or "{}")


def compared(project, *revisions):
    """Old and new R@1 of ACT, as `dvc metrics diff` has them."""
    return json_of(project, "metrics", "diff", *revisions)["reports/metrics.json"]["digits.act.0.recall_at_1"]


@pytest.fixture
def clone(study, tmp_path_factory):
    """A clone of a study that was run and committed; no data, no model, no cache."""
    shutil.copy(ROOT / "Makefile", study.folder)
    git(study, "add", "Makefile")
    run_snakemake(study)
    git(study, "add", "dvc.lock", "reports", "models")
    git(study, "commit", "-qm", "the study's record")
    assert recorded(study) == SMALL | {"dvc.lock"}
    assert git(study, "status", "--porcelain").stdout == ""
    both_plan(study, set())
    return clone_of(study, tmp_path_factory.mktemp("clone") / "study")


@pytest.mark.engines
def test_a_clone_without_cache_runs_and_shows_old_and_new(clone):
    assert not (clone.folder / ".dvc/cache").exists()
    old = json_of(clone, "metrics", "show")[""]["data"]["reports/metrics.json"]["data"]
    old = old["digits"]["act"]["0"]["recall_at_1"]
    assert json_of(clone, "metrics", "diff") == {}
    assert len(snakemake_plan(clone)) == 12  # nothing to be told of first, and nothing taken as done

    clone.edit(lambda params: params["datasets"]["digits"]["training"].update(epochs=2))
    changed = json_of(clone, "params", "diff")["params.yaml"]
    assert changed["datasets.digits.training.epochs"] == {"old": 1, "new": 2, "diff": 1}
    run_snakemake(clone)
    both_plan(clone, set())
    found = compared(clone)
    new = json.loads((clone.folder / "reports/metrics.json").read_text())
    assert found["old"] == old
    assert found["new"] == new["digits"]["act"]["0"]["recall_at_1"] != found["old"]

    plots = json_of(clone, "plots", "diff", "--out", "plots")["data"]
    history = plots["models/digits/act/0/history.csv"][0]
    assert set(history["revisions"]) >= {"HEAD", "workspace"}
    assert "reports/headline.csv" in plots

    git(clone, "add", "dvc.lock", "reports", "models", "params.yaml")
    git(clone, "commit", "-qm", "two epochs")
    assert compared(clone, "HEAD~1", "HEAD") == found

    subprocess.run(["make", "clean"], cwd=clone.folder, check=True)
    assert git(clone, "status", "--porcelain", "dvc.lock", "reports", "models").stdout == ""
    assert set(clone.files("models", "results", "reports", "recipes", "logs")) == SMALL


@pytest.mark.engines
def test_an_experiment_in_a_clone_without_cache_is_compared_with_the_record(clone):
    """By DVC alone: `dvc exp run` makes what is missing, and its metrics are in the experiment's own commit."""
    clone.run("dvc", "exp", "run", "-q", "-S", "datasets.digits.training.epochs=3", "-n", "longer")
    found = compared(clone)
    assert found["old"] != found["new"]
    git(clone, "reset", "-q", "--hard")
    assert compared(clone, "HEAD", "longer") == found
    ref = git(clone, "for-each-ref", "--format=%(refname)", "refs/exps/**/longer").stdout.strip()
    assert set(git(clone, "ls-tree", "-r", "--name-only", ref, "models", "reports").stdout.split()) == SMALL
