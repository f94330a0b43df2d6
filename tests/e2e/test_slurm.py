"""The tiny study on a real one-node Slurm: `make test-slurm`. One job fails, one is pre-empted, the node restarts."""

import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from engine_world import byte_identical

FAILS_ONCE = """# What each Python process of the study runs first: the first evaluation fails, as on a broken node.
import os
import sys

if "stages.evaluate" in sys.orig_argv and not os.path.isdir("failed"):
    os.mkdir("failed")
    print("injected failure", file=sys.stderr, flush=True)
    os._exit(1)
"""


def stop(file):
    """End the process whose number a file holds, and wait until it is gone."""
    number = int(file.read_text())
    os.kill(number, signal.SIGTERM)
    for _ in range(100):
        if not Path(f"/proc/{number}").exists():
            return
        time.sleep(0.1)
    os.kill(number, signal.SIGKILL)


@pytest.fixture
def slurm(tmp_path):
    """State folder of a running one-node Slurm, stopped afterwards; the machine's own configuration is put back."""
    up = Path(os.environ.get("CA_TRIDE_TEST_TOOLS", "")) / "local-slurm" / "up.sh"
    if not up.is_file() or os.geteuid():
        pytest.skip("needs root, and local-slurm in the folder that CA_TRIDE_TEST_TOOLS names")
    if shutil.which("scontrol") and not subprocess.run(["scontrol", "ping"], capture_output=True).returncode:
        pytest.skip("a Slurm is running here already")
    configuration, munge = Path("/etc/slurm/slurm.conf"), Path("/run/munge/munged.pid")
    before, munged = configuration.read_bytes() if configuration.exists() else None, munge.exists()
    state = tmp_path / "slurm"
    with (tmp_path / "up.log").open("w") as log:  # a file: the daemons would keep a pipe open
        # nproc, which counts the node's cores, would see one
        all_cores = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        subprocess.run(["bash", up, state], check=True, stdout=log, stderr=log, env=all_cores)
    yield state
    for name in ("slurmd", "slurmctld"):
        stop(state / f"{name}.pid")
    if not munged and munge.exists():
        stop(munge)
    if before is None:
        configuration.unlink()
    else:
        configuration.write_bytes(before)


def restart_node(state, project, events):
    """Stop and start the node's daemon while an attack runs."""
    while not list((project.folder / "logs/attack").glob("*.log")):
        time.sleep(0.5)
    stop(state / "slurmd.pid")
    time.sleep(5)
    subprocess.run(["slurmd"], check=True)
    for _ in range(120):  # jobs that ended in the meantime complete first
        states = subprocess.run(["squeue", "-h", "-o", "%T"], capture_output=True, text=True).stdout.split()
        if "RUNNING" in states:
            break
        time.sleep(0.5)
    events.append(states)


def train_long(params):
    """Enough steps that the training still takes them when its signal comes."""
    params["datasets"]["digits"]["training"]["epochs"] = 20


def preempt_training(project):
    """Send the training, while it takes steps, what Slurm sends before it takes a node away.

    That is SIGTERM to the steps of the job, and not to its batch script, where srun would pass it on as SIGKILL.
    """
    while not (project.folder / "logs/progress/train-digits-ca_tride-0.json").exists():
        time.sleep(0.05)
    running = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%i"], capture_output=True, text=True, check=True)
    subprocess.run(["scancel", "--signal=TERM", *running.stdout.split()], check=True)


@pytest.mark.slurm
def test_a_run_on_slurm_survives_failures_and_makes_the_same_bytes(pair, slurm):
    local, cluster = pair
    for project in pair:
        project.edit(train_long)
    local.run("snakemake", "--cores", "2")
    (cluster.folder / "sitecustomize.py").write_text(FAILS_ONCE)

    events = []
    preempt = threading.Thread(target=preempt_training, args=(cluster,), daemon=True)
    preempt.start()
    restart = threading.Thread(target=restart_node, args=(slurm, cluster, events), daemon=True)
    restart.start()
    done = cluster.run(
        "snakemake", "--profile", "workflow/profiles/slurm",
        "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5",
        "--latency-wait", "5", "--set-threads", "prepare=2", timeout=1500,
    )  # fmt: skip
    print(done.stdout + done.stderr)
    assert (cluster.folder / "failed").is_dir()
    assert "Trying to restart job" in done.stderr
    assert (
        "going on from models/digits/ca_tride/0/resume.pt"
        in (cluster.folder / "logs/train/digits-ca_tride-0.log").read_text()
    )
    restart.join(timeout=1)
    assert "RUNNING" in events[0]
    assert byte_identical(local, cluster) == []
    again = cluster.run("snakemake", "--cores", "2", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
