"""A run says how far it is: jobs leave their state in a file while they last, and the runner shows it."""

import json
import os
import subprocess
import sys

from own_images import raw

from stages.runtime import progress as bars
from workflow import progress


def test_a_job_says_how_far_it_is_and_takes_it_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(bars.time, "monotonic", lambda: float(next(clock)))
    seen = []
    for _ in bars.progress(range(4), total=4, label="train digits act 0"):
        seen += progress.states()
        assert [path.name for path in (tmp_path / "logs/progress").iterdir()] == ["train-digits-act-0.json"]
    assert [(state.label, state.done, state.total) for state in seen] == [
        ("train digits act 0", done, 4) for done in range(4)
    ]
    assert progress.states() == []
    assert list((tmp_path / "logs/progress").iterdir()) == []


def test_what_a_failed_job_said_goes_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = bars.progress(iter([1, 2]), total=2, label="train digits act 0")
    next(job)
    assert len(progress.states()) == 1
    job.close()
    assert progress.states() == []


def test_killed_and_garbled_states_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs/progress"
    folder.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state = {"label": "a", "done": 1, "total": 2, "seconds": 3.0}
    (folder / "killed.json").write_text(json.dumps(state | {"process": gone.pid}))
    (folder / "garbled.json").write_text("{")
    (folder / "alive.json").write_text(json.dumps(state | {"process": os.getpid()}))
    assert progress.states() == [progress.State("a", 1, 2, 3.0)]


def test_remaining_time_is_that_of_the_parts_left():
    assert progress.State("a", 0, 10, 5.0).remaining() == ""
    assert progress.State("a", 5, 10, 50.0).remaining() == "50 s left"
    running = [progress.State("train digits act 0", 10, 30, 300.0), progress.State("b", 0, 3, 1.0)]
    assert progress.line(3, 9, running) == "3 of 9 jobs done; train digits act 0 10/30 10 min left; b 0/3"


def test_failures_are_shown_and_nothing_of_the_scheduling(own):
    command = (sys.executable, "-m", "workflow", "compute", "--cores", "1", "--", "data/own/manifest.parquet")
    own.edit(lambda params: params["run"].update(datasets=["own"]))
    done = own.run(*command)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Job stats:" in said
    assert ["total", "1"] in [line.split() for line in said]
    assert len(said) < 12
    assert not [line for line in said if line.startswith(("Select", "Execute", "Finished", "[", "The report"))]

    raw(own, "class1/0.png").write_bytes(b"")
    done = own.run(*command, check=False)
    assert done.returncode == 1
    assert "\nprepare: data/raw/own: class1/0.png: cannot be decoded" in done.stderr
    assert "job execution failed" in done.stderr
