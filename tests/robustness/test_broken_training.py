"""Training that goes wrong, processes of a group that die, and a clock that is set back under the engine.

`make test-faults`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from conftest import shrink
from own_images import make_own

pytestmark = pytest.mark.faults
FAKETIME = shutil.which("faketime")


def ready(project, **training):
    """A project whose images are prepared and valid."""
    make_own(project)
    project.edit(lambda params: params["datasets"]["own"]["training"].update(training))
    project.edit(lambda params: params["resume"].update(minutes=0))
    project.stage("prepare", "own")
    project.stage("validate", "own")
    return project


@pytest.mark.parametrize(
    ("key", "value"), [("learning_rate", 1e38), ("weight_decay", 1e39), ("learning_rate", 1e30)], ids=str
)
def test_steps_that_overflow_end_in_one_line(project, key, value):
    done = ready(project, **{key: value}, epochs=5).stage("train", "own", "act", 0, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train: own act 0: ")
    assert "lower" in last
    assert key in last.replace("learning rate", "learning_rate")
    assert "Traceback" not in done.stderr
    assert {name.rpartition("/")[2] for name in project.files("models")} <= {"resume.pt"}


def test_a_collapsed_model_is_named_by_training_and_by_the_report(tiny):
    """Steps so large that all images end in one point: a result, as HM towards zero is, but never a silent one."""
    tiny.edit(lambda params: params["datasets"]["digits"]["training"].update(learning_rate=1e6))
    tiny.edit(lambda params: params["run"].update(defenses=["vanilla"], attacks=["qa_plus"]))
    tiny.stage("prepare", "digits")
    tiny.stage("validate", "digits")
    said = tiny.stage("train", "digits", "vanilla", 0).stderr
    assert said.count("train: digits vanilla 0 has collapsed: ") == 1
    tiny.stage("evaluate", "digits", "vanilla", 0)
    tiny.stage("attack", "digits", "vanilla", 0, "qa_plus")
    said = tiny.stage("report").stderr
    assert said.count("report: digits vanilla 0 has collapsed: ") == 1
    assert "| Vanilla (collapsed) |" in (tiny.folder / "reports/tables/main.md").read_text()
    assert "These models collapsed and have no ranking left" in (tiny.folder / "reports/index.html").read_text()


def together(project):
    """Training in two processes that torch's launcher starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1", f"--master-port={port}"]
    words = ["--nproc-per-node=2", "-m", "stages.train", "own", "ca_tride", "0"]
    environment = os.environ | {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*launcher, *words], cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_of_a_group_that_is_killed(project, rank):
    """The other one ends within seconds in its line; the next run goes on and ends with the same bytes."""
    folder = ready(project, epochs=60, evaluate_every=30).folder / "models/own/ca_tride/0"
    assert together(project).wait() == 0
    whole = project.files("models")
    for path in folder.iterdir():
        path.unlink()
    running, state = together(project), folder / "resume.pt"
    while running.poll() is None and not state.exists():
        time.sleep(0.01)
    members = psutil.Process(running.pid).children(recursive=True)
    next(one for one in members if one.environ().get("RANK") == rank).send_signal(signal.SIGKILL)
    started = time.monotonic()
    said = running.communicate(timeout=60)[1]
    assert time.monotonic() - started < 30
    assert running.returncode != 0
    assert not [one for one in members if one.is_running()]
    ended = [line for line in said.splitlines() if line.startswith("train: ")][-1]
    assert ended.startswith(("train: another process of this job has ended; ", "train: ended by SIGTERM; "))
    # Killed while it wrote, the first process leaves a draft, which the next run removes.
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["resume.pt"]
    assert "going on from" in together(project).communicate()[1]
    assert project.files("models") == whole


@pytest.mark.skipif(not FAKETIME, reason="needs faketime, which Debian has")
def test_a_clock_set_back_under_snakemake(project, monkeypatch):
    """Snakemake refuses outputs that are older than their inputs, says so and removes them; new times mend it."""
    project.edit(shrink)
    make_own(project)
    project.edit(lambda params: params["run"].update(datasets=["own"], attacks=["qa_plus"]))
    project.run("snakemake", "--cores", "1", "--no-hooks")
    project.edit(lambda params: params["attacks"]["qa_plus"].update(steps=3))
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")  # a clock that is set back leaves that one alone
    yesterday = (FAKETIME, "-f", "-1d")
    again = (*yesterday, "snakemake", "--cores", "1", "--no-hooks")
    done = project.run(*again, check=False)
    assert done.returncode == 1
    assert "older modification time" in done.stderr
    assert "clock skew" in done.stderr
    assert not list((project.folder / "results/own/ca_tride/0").glob("qa_plus*"))
    project.run(*yesterday, "sh", "-c", "find data models results workflow stages -exec touch {} +")
    project.run(*again)
    made = project.files("models", "results", "reports")
    for name in ("results", "reports"):
        shutil.rmtree(project.folder / name)
    project.run("snakemake", "--cores", "1", "--no-hooks")
    assert project.files("models", "results", "reports") == made
