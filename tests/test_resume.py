"""Killed at random moments, training ends with the very same bytes. `make test-faults`."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from own_images import make_own

DEFENSES = ["vanilla", "est", "act", "hm", "hm_ics", "tride", "ca_tride"]
EPOCHS = 12
KILLS = 3  # for each of seven defenses


def start(project, defense):
    environment = os.environ | {"PYTHONPATH": str(project.folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stages.train", "own", defense, "0"]
    return subprocess.Popen(command, cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True)


def trained(project, defense):
    return {name: data for name, data in project.files(f"models/own/{defense}").items() if "aside" not in name}


@pytest.fixture
def ready(project):
    """Twelve images, prepared and valid, and epochs slowed down so that a kill can hit each of them."""
    make_own(project)
    project.edit(lambda params: params["datasets"]["own"]["training"].update(epochs=EPOCHS, evaluate_every=3))
    project.stage("prepare", "own")
    project.stage("validate", "own")
    path = project.folder / "stages/core/training.py"
    code = path.read_text().replace(
        "from math import isfinite\n", "from math import isfinite\nfrom time import sleep\n"
    )
    path.write_text(code.replace("        model.eval()\n", "        model.eval()\n        sleep(0.15)\n"))
    return project


@pytest.mark.faults
@pytest.mark.parametrize("defense", DEFENSES)
def test_kills_do_not_change_a_byte(ready, defense):
    folder, draw = ready.folder / f"models/own/{defense}/0", random.Random(defense)
    start(ready, defense).wait()
    whole = trained(ready, defense)
    assert sorted(name.rpartition("/")[2] for name in whole) == ["history.csv", "model.safetensors"]
    for path in folder.iterdir():
        path.unlink()
    for _ in range(KILLS):
        running, state = start(ready, defense), folder / "resume.pt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while running.poll() is None and not (state.exists() and state.stat().st_mtime_ns != before):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "was done before it was killed"
        running.stderr.close()
    last = start(ready, defense)
    assert "going on from" in last.communicate()[1]
    assert trained(ready, defense) == whole


@pytest.mark.faults
def test_sigterm_ends_with_a_status_to_retry_and_the_next_run_goes_on(ready):
    start(ready, "ca_tride").wait()
    whole, folder = trained(ready, "ca_tride"), ready.folder / "models/own/ca_tride/0"
    for path in folder.iterdir():
        path.unlink()
    running = start(ready, "ca_tride")
    while running.poll() is None and not (folder / "resume.pt").exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    said = running.communicate()[1]
    assert running.returncode == 75
    assert "ended by SIGTERM; run again" in said
    assert [path.name for path in folder.iterdir()] == ["resume.pt"]
    assert "going on from" in start(ready, "ca_tride").communicate()[1]
    assert trained(ready, "ca_tride") == whole


@pytest.mark.faults
@pytest.mark.parametrize("change", ["params", "damage"])
def test_a_state_of_something_else_is_set_aside(ready, change):
    folder = ready.folder / "models/own/vanilla/0"
    running = start(ready, "vanilla")
    while running.poll() is None and not (folder / "resume.pt").exists():
        time.sleep(0.01)
    running.kill()
    running.communicate()
    if change == "params":
        ready.edit(lambda params: params["datasets"]["own"]["training"].update(learning_rate=0.002))
    else:
        (folder / "resume.pt").write_bytes(b"damaged")
    said = start(ready, "vanilla").communicate()[1]
    assert "set aside as models/own/vanilla/0/resume.aside.pt, training starts anew" in said
    after = trained(ready, "vanilla")
    for path in folder.iterdir():
        path.unlink()
    start(ready, "vanilla").communicate()
    assert trained(ready, "vanilla") == after
