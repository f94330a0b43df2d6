"""Jobs forked from one process end, fail, log and die as jobs that start by themselves. A stand-in is the stage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import Project

from stages.runtime import cli, forkserver, params

STAGE = '''"""A stand-in that does what the environment says."""

import os
import sys
import time
from pathlib import Path

from stages.runtime import artifacts, cli, resume, threads
from stages.runtime.errors import UserError


def train(params, dataset, defense, seed):
    threads.limit(int(os.environ.get("THREADS", "1")))
    out = Path("models/digits/vanilla/0/model.safetensors")
    does = os.environ.get("DOES", "write")
    with artifacts.writing(out, out.with_name("history.csv")) as drafts:
        drafts[0].write_text(f"{threads.LOADED_WITH in os.environ} {os.getpid()}")
        drafts[1].write_text("epoch\\n")
        print("on standard output")
        if does == "fail":
            raise UserError("params.yaml: wrong; write it right")
        if does == "crash":
            raise ValueError("a bug")
        if does == "wait":
            cli.log.info("waiting")
            time.sleep(60)
    return [out]


def main():
    cli.main(train)


if __name__ == "__main__":
    cli.process(main)
'''
WORDS = ("digits", "vanilla", "0")
OUT = Path(*("models", *WORDS), "model.safetensors")


def stood_in(folder):
    """A project whose training is the stand-in."""
    project = Project(folder)
    (folder / "stages" / "train.py").write_text(STAGE)
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return stood_in(tmp_path_factory.mktemp("forked"))


def heed_ctrl_c():
    """In a started process: as at a terminal, also where a shell runs the tests in the background and ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_server(folder):
    """A fork server in a folder, held by a process that is waiting for its standard input to end; its socket."""
    shown = f"import os; print(os.environ['{cli.FORKSERVER}'], flush=True); input()"
    command = [sys.executable, "-m", "stages.runtime.forkserver", sys.executable, "-c", shown]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen(command, cwd=folder, env=environment, text=True, preexec_fn=heed_ctrl_c, **pipes)
    return holder, holder.stdout.readline().strip()


def server_of(holder):
    """The server among the processes that a holder started."""
    below = psutil.Process(holder.pid).children(recursive=True)
    return next(process for process in below if forkserver.LISTEN in process.cmdline())


@pytest.fixture(scope="module")
def server(project):
    holder, path = start_server(project.folder)
    yield path
    holder.stdin.close()
    assert holder.wait(20) == 1  # that of its command, whose input ended
    holder.stdout.close()
    assert not Path(path).parent.exists()


@pytest.fixture(autouse=True)
def clean(project):
    shutil.rmtree(project.folder / "models", ignore_errors=True)
    shutil.rmtree(project.folder / "logs", ignore_errors=True)


def start(project, server="", words=WORDS, **environment):
    environment = os.environ | {"PYTHONPATH": str(project.folder), cli.FORKSERVER: server} | environment
    command = [sys.executable, "-m", "stages.train", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=project.folder, env=environment, text=True, preexec_fn=heed_ctrl_c, **pipes)


def waiting(project, server):
    """A job in its middle: the process that was started, and the one that works."""
    job = start(project, server, DOES="wait")
    assert job.stderr.readline() == "train: waiting\n"
    draft = next((project.folder / OUT.parent).glob(f".*.{OUT.name}"))
    return job, psutil.Process(int(draft.name.split(".")[1]))


def processes_in(folder):
    return {process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)}


def was_forked(project):
    return (project.folder / OUT).read_text().split()[0] == "True"


def ended(process, seconds=20):
    """Whether a process that is no child of this one is gone, or will be soon."""
    until = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("does", ["write", "fail", "crash"])
def test_a_forked_job_says_and_leaves_what_one_by_itself_does(project, server, does):
    told = []
    for where in ("", server):
        job = start(project, where, DOES=does)
        said, error = job.communicate(timeout=60)
        lines = [line for line in error.splitlines() if "done in" not in line and not line.startswith("  ")]
        left = sorted(path.name for path in (project.folder / OUT.parent).iterdir())
        told.append((job.returncode, said, lines, left))
        if does == "write":
            assert was_forked(project) is bool(where)
            record = json.loads((project.folder / "logs/provenance/train/digits-vanilla-0.json").read_text())
            assert record["words"] == list(WORDS)
            assert record["processor_seconds"] > 0
            assert record["memory_mib"] > 50
    assert told[0] == told[1]
    assert told[0][0] == {"write": 0, "fail": 1, "crash": 1}[does]
    if does == "fail":
        assert told[0][2:] == (["train: params.yaml: wrong; write it right"], [])


def test_wrong_words_end_in_one_line_and_wrong_usage_in_status_2(project, server):
    job = start(project, server, words=("digits", "nix", "0"))
    error = job.communicate(timeout=60)[1]
    assert (job.returncode, error.count("\n"), error[:44]) == (1, 1, "train: params.yaml: defenses: no block named")
    usage = start(project, server, words=("digits",))
    assert "usage: python -m stages.train" in usage.communicate(timeout=60)[1]
    assert usage.returncode == 2


def test_sigterm_reaches_the_job_which_cleans_up_and_says_try_again(project, server):
    job, worker = waiting(project, server)
    assert worker.pid != job.pid
    job.send_signal(signal.SIGTERM)
    assert "ended by SIGTERM" in job.communicate(timeout=120)[1]
    assert job.returncode == cli.PREEMPTED
    assert ended(worker)
    assert not list((project.folder / OUT.parent).iterdir())


def test_ctrl_c_reaches_the_job(project, server):
    job, worker = waiting(project, server)
    job.send_signal(signal.SIGINT)
    assert job.communicate(timeout=120)[1] == "train: interrupted\n"
    assert job.returncode == 1
    assert ended(worker)


def test_a_killed_command_takes_its_job_with_it(project, server):
    job, worker = waiting(project, server)
    job.kill()
    assert ended(worker)
    job.communicate()
    after = start(project, server)
    after.communicate(timeout=60)
    assert after.returncode == 0
    assert was_forked(project)


def test_a_killed_job_ends_its_command_by_the_same_signal(project, server):
    job, worker = waiting(project, server)
    worker.kill()
    job.communicate(timeout=120)
    assert job.returncode == -signal.SIGKILL


@pytest.mark.parametrize("environment", [{"THREADS": "2"}, {"WORLD_SIZE": "1"}, {cli.FORKSERVER: "/nowhere/socket"}])
def test_a_job_that_cannot_be_forked_starts_by_itself(project, server, environment):
    """More threads, torchrun's processes, and a server that is gone."""
    job = start(project, **{"server": server, **environment} if cli.FORKSERVER not in environment else environment)
    assert "wrote models/" in job.communicate(timeout=60)[1]
    assert job.returncode == 0
    assert not was_forked(project)


def test_a_job_on_a_gpu_starts_by_itself(project, server):
    before = (project.folder / "params.yaml").read_text()
    project.edit(lambda params: params["datasets"]["digits"]["training"].update(device="cuda"))
    job = start(project, server)
    job.communicate(timeout=60)
    (project.folder / "params.yaml").write_text(before)
    assert job.returncode == 0
    assert not was_forked(project)


@pytest.mark.parametrize(
    ("stage", "words", "of_dataset", "of_defense"),
    [
        ("prepare", {}, False, False),
        ("train", {"defense": "act"}, True, True),
        ("evaluate", {"defense": "act"}, True, False),
        ("attack", {"defense": "act", "attack": "es"}, True, False),
        ("transfer", {"attack": "qa_plus"}, True, False),
        ("visualize", {}, False, False),
    ],
)
def test_the_profile_that_puts_a_job_on_a_gpu(stage, words, of_dataset, of_defense):
    """A training's is its defense's; what measures models has the dataset's."""
    given = {"dataset": "digits"} | words
    for section, name, expected in (("datasets", "digits", of_dataset), ("defenses", "act", of_defense)):
        loaded = params.load()
        assert not cli.on_gpu(stage, given, loaded)
        loaded[section][name].setdefault("training", {})["device"] = "cuda"
        assert cli.on_gpu(stage, given, loaded) == expected


def test_a_server_does_only_the_jobs_of_its_own_project(server, tmp_path):
    other = stood_in(tmp_path / "other")
    job = start(other, server)
    job.communicate(timeout=60)
    assert job.returncode == 0
    assert not was_forked(other)


def test_two_jobs_at_once_do_not_wait_for_each_other(project, server):
    first, worker = waiting(project, server)
    second = start(project, server)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert first.poll() is None
    first.terminate()
    first.communicate(timeout=120)
    assert ended(worker)


def test_a_server_whose_run_was_killed_ends_after_its_last_job(project):
    """Jobs of a killed run go on, as they do without a server; nothing is left of it afterwards."""
    holder, path = start_server(project.folder)
    job, worker = waiting(project, path)
    server = server_of(holder)
    assert server.num_threads() == 1  # others would not survive a fork
    command = psutil.Process(holder.pid).children()
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    deadline = time.monotonic() + 20
    while Path(path).parent.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(path).parent.exists()
    assert worker.is_running()
    assert job.poll() is None
    job.terminate()
    job.communicate(timeout=120)
    assert job.returncode == cli.PREEMPTED
    assert ended(server)
    assert all(ended(process) for process in command)


def test_snakemake_forks_its_jobs_and_leaves_no_process(project):
    (project.folder / "data/digits").mkdir(parents=True)
    for name in ("images.npy", "manifest.parquet", "validation.json"):
        (project.folder / "data/digits" / name).write_text("made\n")
    before = processes_in(project.folder)
    done = project.run("snakemake", "--cores", "2", "--allowed-rules", "train", "--", str(OUT))
    assert was_forked(project), done.stderr
    assert "wrote models/" in (project.folder / "logs/train/digits-vanilla-0.log").read_text()
    assert processes_in(project.folder) <= before
