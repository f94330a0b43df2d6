"""The record of a job adds up the processes that worked on it."""

import json

import pytest
import torch

from stages.runtime import artifacts, provenance


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").write_text("made")
    return tmp_path


def test_a_record_adds_up_the_time_of_processes_that_were_ended(place):
    provenance.ended("train", ["digits", "act", "0"], 100.0)
    provenance.ended("train", ["digits", "act", "0"], 20.0)
    path = provenance.record("train", ["digits", "act", "0"], [place / "made"], 3.0)
    record = json.loads(path.read_text())
    assert record["seconds"] == pytest.approx(123.0)
    assert record["processor_seconds"] > 0
    assert record["processor"].endswith(" cores")
    assert [file.name for file in path.parent.iterdir()] == ["digits-act-0.json"]
    again = json.loads(provenance.record("train", ["digits", "act", "0"], [place / "made"], 3.0).read_text())
    assert again["seconds"] == pytest.approx(3.0)


def test_a_record_names_the_gpu_of_a_process_that_used_one(place, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    path = provenance.record("train", ["digits", "act", "0"], [], 1.0)
    assert json.loads(path.read_text())["processor"].endswith(" cores, NVIDIA H200")


def test_a_note_that_was_cut_off_counts_as_none(place):
    provenance.ended("attack", ["digits"], 5.0)
    (artifacts.LOGS / "provenance" / "attack" / "digits.ended").write_text('{"seconds": 5')
    path = provenance.record("attack", ["digits"], [], 2.0)
    assert json.loads(path.read_text())["seconds"] == pytest.approx(2.0)
