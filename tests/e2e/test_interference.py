"""What a user can do wrong between two engines: one clear line, the way out, and nothing lost."""

import json
import os
import signal
import sys

import pytest
from engine_world import both_plan, git, run_snakemake, start, sync, wait_for

SLOW = "import time; time.sleep(60)\n"  # put before a stage's own code, so that its job is still running


@pytest.fixture
def slow(study, without_fork_server):
    """The study with `prepare` that takes a minute, and both engines' processes ended afterwards."""
    path = study.folder / "stages" / "prepare.py"
    path.write_text(SLOW + path.read_text().replace("from __future__ import annotations\n", ""))
    running = []
    yield study, running
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def holds(project, process):
    """Whether DVC's lock file names a process as one that writes data/."""
    path = project.folder / ".dvc" / "tmp" / "rwlock"
    try:
        written = json.loads(path.read_text())["write"]
    except (FileNotFoundError, ValueError, KeyError):  # not yet there, or just being written
        return False
    data = str(project.folder / "data")
    return any(entry["pid"] == process.pid for name, entry in written.items() if name.startswith(data))


def test_dvc_keeps_away_while_snakemake_runs_and_comes_back_after_a_kill(slow):
    study, running = slow
    running.append(start(study, "snakemake", "--cores", "1"))
    wait_for(lambda: holds(study, running[0]))
    refused = study.run("dvc", "repro", check=False)
    assert refused.returncode == 255
    assert f"(PID {running[0].pid}): snakemake" in refused.stderr
    os.killpg(running[0].pid, signal.SIGKILL)
    running.pop().wait()
    running.append(start(study, "dvc", "repro"))
    wait_for(lambda: holds(study, running[0]))


def test_snakemake_keeps_away_while_dvc_runs(slow):
    study, running = slow
    running.append(start(study, "dvc", "repro", "prepare"))
    wait_for(lambda: holds(study, running[0]))
    refused = study.run("snakemake", "--cores", "1", check=False)
    assert refused.returncode == 1
    said = refused.stdout + refused.stderr
    assert f"dvc is at work in this folder: (PID {running[0].pid}):" in said
    assert "start snakemake when it has ended" in said
    assert "Traceback" not in said
    assert not list((study.folder / ".snakemake" / "locks").glob("*"))


def test_two_snakemakes_at_once(slow):
    study, running = slow
    running.append(start(study, "snakemake", "--cores", "1"))
    wait_for(lambda: holds(study, running[0]))
    refused = study.run("snakemake", "--cores", "1", check=False)
    assert refused.returncode == 1
    assert "Directory cannot be locked" in refused.stderr
    assert "--unlock" in refused.stderr


def test_a_missing_remote_is_named(study):
    git(study, "commit", "-q", "--allow-empty", "-m", "nothing")
    study.stage("prepare", "digits")
    study.run(sys.executable, "-m", "workflow.recipes")
    study.run("dvc", "commit", "-q", "-f", "recipes", "prepare")
    pushed, pulled = (study.run("dvc", command, check=False) for command in ("push", "pull"))
    assert pushed.returncode == 1
    assert "no remote specified" in pushed.stderr
    assert "dvc remote add -d <remote name> <remote url>" in pushed.stderr
    assert "No remote provided and no default remote set" in pulled.stdout + pulled.stderr
    assert (study.folder / "data" / "digits" / "images.npy").exists()


def replace(path, content):
    """Write a file as an editor does: what DVC keeps is the same file, read-only for all but root, and must stay."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.engines
def test_results_edited_by_hand_are_never_taken_for_results(study):
    run_snakemake(study)
    lock = (study.folder / "dvc.lock").read_bytes()
    path = study.folder / "results" / "digits" / "act" / "0" / "es.json"
    original = path.read_bytes()
    replace(path, original.replace(b'"queries"', b'"queries" '))
    asked = study.run("snakemake", "--cores", "1", check=False)
    assert asked.returncode == 1
    assert asked.stderr.count("\n") <= 3
    assert (
        "results/digits/act/0/es.json: not what its job wrote, so it was edited by hand; move it away" in asked.stderr
    )
    assert "attack@digits-act-0-es" in study.run("dvc", "status").stdout
    assert path.read_bytes() != original  # nothing is lost: a person may want to keep it

    path.rename(study.folder / "kept.json")
    study.run("snakemake", "--cores", "1", "results/digits/act/0/es.json")
    both_plan(study, set())
    path.unlink()
    study.run("dvc", "checkout", "-q")
    both_plan(study, set())
    assert path.read_bytes() == original
    assert (study.folder / "dvc.lock").read_bytes() == lock

    # A first hand-over, with nothing in dvc.lock to compare with, refuses as well.
    (study.folder / "dvc.lock").unlink()
    replace(path, original + b"\n")
    refused = sync(study, "dvc", check=False)
    assert refused.returncode == 1
    assert not (study.folder / "dvc.lock").exists()
    replace(path, original)
    (study.folder / "logs" / "provenance" / "attack" / "digits-act-0-es.json").unlink()
    refused = sync(study, "dvc", check=False)
    assert "digits-act-0-es.json: missing" in refused.stderr


@pytest.mark.engines
def test_a_checkout_of_other_results_is_not_an_edit(study):
    run_snakemake(study)
    git(study, "add", "-A")
    git(study, "commit", "-qm", "four steps")
    study.edit(lambda p: p["defenses"]["act"]["options"].update(steps=4))
    run_snakemake(study)
    git(study, "add", "-A")
    git(study, "commit", "-qm", "eight steps")
    git(study, "checkout", "-q", "HEAD~1")
    study.run("dvc", "checkout", "-q")
    sync(study, "snakemake")
    both_plan(study, set())
