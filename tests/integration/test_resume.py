"""Killed at random moments, training and attacks end with the very same bytes. `make test-faults`."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from own_images import make_own

DEFENSES = ["vanilla", "est", "act", "hm", "hm_ics", "tride", "ca_tride"]
ATTACKS = ["ca_plus", "qa_minus", "tma", "es", "ltm", "gtm", "ltm_suite"]
KILLS = 3  # for each defense and each attack
BATCHES = 10  # of two pairs in each epoch
TRAIN = ("train", "own")
SLOWER = {  # so that a kill can hit every step
    "stages/core/training.py": ("            if keep is not None:\n", "            __import__('time').sleep(0.03)\n"),
    "stages/core/attacking.py": ("    values, size = ", "    __import__('time').sleep(0.1)\n"),
}
WENT_ON = re.compile(r"going on from \S+: (?:epoch (\d+), )?batch (\d+)")


def start(project, *words):
    environment = os.environ | {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{words[0]}", *words[1:]]
    return subprocess.Popen(command, cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True)


def finish(project, *words):
    """Run a stage to its end; what it said."""
    running = start(project, *words)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    return said


def written(project, folder):
    return {name: data for name, data in project.files(folder).items() if "aside" not in name}


def clear(folder, pattern="*"):
    for path in folder.glob(pattern):
        path.unlink()


def until_kept(running, state):
    """Wait until a state newer than the present one is there."""
    before = state.stat().st_mtime_ns if state.exists() else 0
    while running.poll() is None and not (state.exists() and state.stat().st_mtime_ns != before):
        time.sleep(0.005)


def kill_and_finish(project, state, draw, words, longest):
    """Kill a stage KILLS times after random times, then let it end; where each run after a kill went on from."""
    places = []
    for _ in range(KILLS):
        running = start(project, *words)
        until_kept(running, state)
        time.sleep(draw.uniform(0, longest))
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "was done before it was killed"
        said = running.stderr.read()
        running.stderr.close()
        places += WENT_ON.findall(said)
    places += WENT_ON.findall(finish(project, *words))
    return [(int(epoch or 0), int(batch)) for epoch, batch in places]


@pytest.fixture
def ready(project):
    """Forty images, prepared and valid; where a run stands is written after every step."""
    make_own(project, images=10)

    def short(params):
        own = params["datasets"]["own"]
        own["training"] |= {"epochs": 4, "evaluate_every": 3, "pairs_per_batch": 2}
        own["attack_batch"] = 1
        params["resume"]["minutes"] = 0
        for block in params["attacks"].values():
            block["steps"] = 4
        members = {"apgd": {"optimizer": "apgd", "start": "random", "restarts": 2}, "square": {"optimizer": "square"}}
        params["attacks"]["ltm_suite"] = {"extends": "ltm", "suite": {"same": {}, **members}}

    project.edit(short)
    project.stage("prepare", "own")
    project.stage("validate", "own")
    for name, (before, pause) in SLOWER.items():
        path = project.folder / name
        code = path.read_text()
        assert code.count(before) == 1
        path.write_text(code.replace(before, pause + before))
    return project


@pytest.mark.faults
@pytest.mark.parametrize("defense", DEFENSES)
def test_kills_in_training_do_not_change_a_byte(ready, defense):
    folder, words = ready.folder / f"models/own/{defense}/0", (*TRAIN, defense, "0")
    finish(ready, *words)
    whole = written(ready, f"models/own/{defense}")
    assert sorted(name.rpartition("/")[2] for name in whole) == ["history.csv", "model.safetensors"]
    clear(folder)
    places = kill_and_finish(ready, folder / "resume.pt", random.Random(defense), words, longest=0.3)
    assert len(places) == KILLS
    assert any(0 < batch < BATCHES for _, batch in places), places
    assert written(ready, f"models/own/{defense}") == whole


@pytest.mark.faults
@pytest.mark.parametrize("attack", ATTACKS)
def test_kills_in_an_attack_do_not_change_a_byte(ready, attack):
    finish(ready, *TRAIN, "vanilla", "0")
    finish(ready, "evaluate", "own", "vanilla", "0")
    folder, words = ready.folder / "results/own/vanilla/0", ("attack", "own", "vanilla", "0", attack)
    finish(ready, *words)
    whole = written(ready, "results")
    clear(folder, f"{attack}*")
    places = kill_and_finish(ready, folder / f"{attack}.resume.pt", random.Random(attack), words, longest=0.4)
    assert len(places) == KILLS
    assert written(ready, "results") == whole


@pytest.mark.faults
@pytest.mark.parametrize("precision", ["bf16"])
def test_kills_in_training_of_another_precision(ready, precision):
    ready.edit(lambda params: params["datasets"]["own"]["training"].update(precision=precision))
    test_kills_in_training_do_not_change_a_byte(ready, "ca_tride")


@pytest.mark.faults
def test_training_in_two_processes_goes_on(ready):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "stages.train")
    words = ("own", "ca_tride", "0")
    folder = ready.folder / "models/own/ca_tride/0"
    ready.run(sys.executable, *launcher, *words)
    whole = written(ready, "models")
    clear(folder)
    environment = os.environ | {"PYTHONPATH": str(ready.folder), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, *launcher, *words], cwd=ready.folder, env=environment, stderr=subprocess.DEVNULL
    )
    until_kept(running, folder / "resume.pt")
    time.sleep(0.5)
    for process in (*psutil.Process(running.pid).children(recursive=True), running):
        process.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = ready.run(sys.executable, *launcher, *words)
    assert WENT_ON.search(done.stderr)
    assert written(ready, "models") == whole


STAGES = {
    "training": (TRAIN, "ca_tride", "0"),
    "attack": (("attack", "own"), "vanilla", "0", "es"),
}


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES)
def test_sigterm_keeps_the_last_step_and_ends_with_a_status_to_retry(ready, stage):
    (first, *rest) = STAGES[stage]
    words = (*first, *rest)
    if stage == "attack":
        finish(ready, *TRAIN, "vanilla", "0")
        finish(ready, "evaluate", "own", "vanilla", "0")
    folder = "models/own/ca_tride/0" if stage == "training" else "results/own/vanilla/0"
    before = set(ready.files(folder))
    finish(ready, *words)
    whole = written(ready, folder)
    for name in set(whole) - before:
        (ready.folder / name).unlink()

    ready.edit(lambda params: params["resume"].update(minutes=60))  # nothing is kept until the signal comes
    running = start(ready, *words)
    said = ""
    while "read " not in said:  # its inputs are read: the next thing is the loop
        said += running.stderr.readline()
    time.sleep(1)
    running.send_signal(signal.SIGTERM)
    said += running.communicate()[1]
    assert running.returncode == 75
    assert "ended by SIGTERM; the same command goes on from what was kept" in said
    (kept,) = set(ready.files(folder)) - before
    assert kept.endswith("resume.pt")
    assert WENT_ON.search(finish(ready, *words))
    assert written(ready, folder) == whole


@pytest.mark.faults
def test_a_job_whose_shell_gets_the_signal_too_ends_after_its_stage(ready, without_fork_server):
    """Slurm kills what is left of a job when its shell has ended: the stage must have saved its state by then."""
    environment = os.environ | {"PYTHONPATH": str(ready.folder)}
    words = (sys.executable, "-m", "snakemake", "--cores", "1", "models/own/ca_tride/0/model.safetensors")
    ready.edit(lambda params: params["resume"].update(minutes=60))
    running = subprocess.Popen(words, cwd=ready.folder, env=environment, start_new_session=True)
    progress = ready.folder / "logs/progress/train-own-ca_tride-0.json"
    while not progress.exists():
        assert running.poll() is None
        time.sleep(0.05)
    stage = json.loads(progress.read_text())["process"]
    os.kill(stage, signal.SIGSTOP)  # a step that takes long
    try:
        os.killpg(running.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(5)
    finally:
        os.kill(stage, signal.SIGCONT)
    assert running.wait(60)
    assert (ready.folder / "models/own/ca_tride/0/resume.pt").exists()


def change_params(project, state):
    project.edit(lambda params: params["datasets"]["own"]["training"].update(learning_rate=0.002))


def damage(project, state):
    state.write_bytes(b"damaged")


def put_a_class_in(project, state):
    torch.save({"identity": "", "weights": project}, state)  # a pickle of a class, which must not be loaded


@pytest.mark.faults
@pytest.mark.parametrize("change", [change_params, damage, put_a_class_in])
def test_a_state_of_something_else_is_set_aside(ready, change):
    folder, words = ready.folder / "models/own/vanilla/0", (*TRAIN, "vanilla", "0")
    running = start(ready, *words)
    until_kept(running, folder / "resume.pt")
    running.kill()
    running.communicate()
    change(ready, folder / "resume.pt")
    said = finish(ready, *words)
    assert "set aside as models/own/vanilla/0/resume.aside.pt, this run starts anew" in said
    after = written(ready, "models/own/vanilla")
    clear(folder)
    finish(ready, *words)
    assert written(ready, "models/own/vanilla") == after
