"""Two engines, one truth: each recognises what the other finished, notices every edit, and survives being killed."""

import os
import signal
import subprocess
import time

import pytest
import yaml
from engine_world import REPORT, both_plan, git, of_defense, run_snakemake, start, sync, trained, wait_for


@pytest.mark.engines
def test_after_snakemake_dvc_runs_nothing_and_both_notice_the_same_edits(study, tmp_path_factory):
    done = run_snakemake(study)
    assert "sync: dvc.lock knows all results: 12 stages committed" in done.stdout + done.stderr
    before = trained(study)
    both_plan(study, set())
    assert "up to date" in study.run("dvc", "repro").stdout
    both_plan(study, set())

    original = (study.folder / "params.yaml").read_text()
    edits = {
        "one defense": (lambda p: p["defenses"]["act"]["options"].update(steps=4), of_defense("act")),
        "one attack": (
            lambda p: p["attacks"]["es"].update(steps=2),
            {"attack digits vanilla 0 es", "attack digits act 0 es", *REPORT},
        ),
        "a defense that is not run": (lambda p: p["defenses"]["hm"]["options"].update(steps=4), {"report"}),
    }
    for change, expected in edits.values():
        study.edit(change)
        both_plan(study, expected)
        (study.folder / "params.yaml").write_text(original)
    scores = study.folder / "stages" / "core" / "scores.py"
    scores.write_text(scores.read_text().replace("def ers(", "@(lambda same: same)\ndef ers("))
    both_plan(study, {"report"})

    done = run_snakemake(study)
    assert "sync: dvc.lock knows all results: 1 stages committed" in done.stdout + done.stderr
    both_plan(study, set())
    assert trained(study) == before

    # A better comment and docstring, to all code: nothing runs in either engine, and both records stay good.
    for path in (study.folder / "stages").rglob("*.py"):
        path.write_text(path.read_text() + "\n# a comment\n")
    both_plan(study, set())
    assert "snakemake knows all results" in sync(study, "snakemake").stdout
    both_plan(study, set())
    assert "recipes" not in study.run("dvc", "status").stdout

    study.edit(lambda p: p["attacks"]["es"].update(steps=2))
    run_snakemake(study)
    both_plan(study, set())

    remote, clone = tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("clone") / "study"
    study.run("dvc", "remote", "add", "-q", "-d", "store", str(remote))
    study.run("dvc", "push", "-q")
    git(study, "add", "-A")
    git(study, "commit", "-qm", "results")
    subprocess.run(["git", "clone", "-q", study.folder, clone], check=True)
    fresh = type(study).at(clone)
    fresh.run("dvc", "pull", "-q")
    asked = fresh.run("snakemake", "--cores", "1", check=False)
    assert asked.returncode == 1
    assert "dvc.lock: not what Snakemake last saw" in asked.stdout + asked.stderr
    assert "run `ca-tride sync snakemake` first" in asked.stdout + asked.stderr
    sync(fresh, "snakemake")
    both_plan(fresh, set())
    assert fresh.files("models", "results", "reports") == study.files("models", "results", "reports")


@pytest.mark.engines
def test_after_dvc_snakemake_runs_nothing_and_notices_edits(study):
    study.run("dvc", "repro", "-q")
    asked = study.run("snakemake", "--cores", "1", check=False)
    assert "run `ca-tride sync snakemake` first" in asked.stdout + asked.stderr
    assert "snakemake knows all results" in sync(study, "snakemake").stdout
    both_plan(study, set())
    study.edit(lambda p: p["defenses"]["act"]["options"].update(steps=4))
    both_plan(study, of_defense("act"))

    refused = sync(study, "snakemake", check=False)
    assert refused.returncode == 1
    assert "train@digits-act-0 (and" in refused.stderr
    assert "not as in dvc.lock; run `dvc repro` or `dvc checkout` first" in refused.stderr

    lock = (study.folder / "dvc.lock").read_bytes()
    assert "dvc.lock is left as it is: snakemake has jobs left to do" in sync(study, "dvc").stdout
    assert (study.folder / "dvc.lock").read_bytes() == lock


def test_a_partial_run_of_snakemake_commits_nothing(study, without_fork_server):
    done = study.run("snakemake", "--cores", "1", "--quiet", "rules", "--", "data/digits/manifest.parquet")
    assert "dvc.lock is left as it is: snakemake has jobs left to do" in done.stdout + done.stderr
    assert not (study.folder / "dvc.lock").exists()


def kill_when(project, path, *command):
    """Start an engine and kill it with all its children as soon as ``path`` exists."""
    with start(project, *command) as process:
        wait_for(lambda: path.exists() or process.poll() is not None, seconds=240)
        time.sleep(1)  # into the next job
        os.killpg(process.pid, signal.SIGKILL)
    assert path.exists()


@pytest.mark.engines
def test_snakemake_completes_after_being_killed(study):
    model = study.folder / "models/digits/vanilla/0/model.safetensors"
    kill_when(study, model, "snakemake", "--cores", "1")
    study.run("snakemake", "--unlock")
    run_snakemake(study)
    both_plan(study, set())


@pytest.mark.engines
def test_dvc_completes_after_being_killed(study):
    model = study.folder / "models/digits/vanilla/0/model.safetensors"
    kill_when(study, model, "dvc", "repro")
    study.run("dvc", "repro", "-q")
    sync(study, "snakemake")
    both_plan(study, set())


@pytest.mark.engines
def test_metrics_plots_and_experiments_of_dvc(study):
    run_snakemake(study)
    git(study, "add", "-A")
    git(study, "commit", "-qm", "results")
    assert "digits.act.0.recall_at_1" in study.run("dvc", "metrics", "show").stdout
    study.run("dvc", "plots", "show", "-o", "plots", "--json")
    study.run("dvc", "exp", "run", "-q", "-S", "defenses.act.options.steps=2", "-n", "fewer")
    shown = study.run("dvc", "exp", "show", "--csv").stdout
    assert "fewer" in shown
    assert yaml.safe_load((study.folder / "params.yaml").read_text())["defenses"]["act"]["options"]["steps"] == 2
    assert "digits.act.0.recall_at_1" in study.run("dvc", "metrics", "diff").stdout
    study.run("dvc", "exp", "run", "-q", "-S", "run.attacks=[qa_plus]", "-n", "one")  # another matrix
    assert not (study.folder / "recipes/attack/digits/act/es.json").exists()
    assert (study.folder / "recipes/attack/digits/act/qa_plus.json").exists()
