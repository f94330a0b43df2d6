"""Several processes train like one: the same global batch, weights and history."""

import csv
import socket
import sys
from functools import cache, partial

import pytest
import torch
from process_world import CASES, NETWORKS, everything, given_by_each, in_three_processes, split_network, study
from shared import made_once


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    return given_by_each(made_once(tmp_path_factory, "processes", partial(in_three_processes, everything)))


alone = cache(study)  # for comparison with two processes and with three


def gap(found, expected):
    assert list(found) == list(expected)
    return max((found[key].double() - value.double()).abs().max().item() for key, value in expected.items())


def relative_gap(found, expected):
    assert list(found) == list(expected)
    # A bias in front of another BatchNorm has gradient zero, so what is small is compared with 1.
    return max(((found[key] - value).norm() / (1 + value.norm())).item() for key, value in expected.items())


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", list(CASES))
def test_processes_train_like_one(members, name, count):
    """Six steps in float64; among them uneven shares and, of three processes, one without any row."""
    weights, rows = alone(name)
    first = members[0][count][name][0]
    for found, found_rows in (member[count][name] for member in members[:count]):
        assert gap(found, weights) < 1e-9
        assert all(torch.equal(found[key], first[key]) for key in first)  # the processes never drift apart
        for row, expected in zip(found_rows, rows, strict=True):
            assert row == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", NETWORKS)
def test_network_of_which_a_process_has_no_row(members, case):
    """Gradients of images and parameters, embeddings and statistics; of four images the third process has none."""
    expected = split_network(*case)
    for member in members:
        assert relative_gap(member["networks"][case], expected) < 1e-9


def torchrun(project, *words, check=True, count=2):
    """Run a stage in several processes by the standard launcher, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = (sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1", f"--master-port={port}")
    return project.run(*launcher, f"--nproc-per-node={count}", "-m", "stages.train", *map(str, words), check=check)


@pytest.fixture
def prepared(tiny):
    tiny.stage("prepare", "digits")
    tiny.stage("validate", "digits")
    return tiny


@pytest.mark.slow
def test_train_stage_under_torchrun(prepared):
    folder = prepared.folder / "models/digits/ca_tride/0"
    prepared.stage("train", "digits", "ca_tride", 0)
    alone = list(csv.DictReader((folder / "history.csv").open()))
    model = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    done = torchrun(prepared, "digits", "ca_tride", 0)
    assert done.stderr.count("train: wrote models/digits/ca_tride/0/model.safetensors") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "model.safetensors"]
    assert len((folder / "model.safetensors").read_bytes()) == len(model)
    together = list(csv.DictReader((folder / "history.csv").open()))
    assert len(together) == len(alone) == 2
    # The second epoch perturbs, and signs of gradients amplify float32's rounding. In float64 all agrees, see above.
    for row, expected, loose in zip(together, alone, (1e-3, 0.2), strict=True):
        for key, value in expected.items():
            assert float(row[key]) == pytest.approx(float(value), rel=loose), key


@pytest.mark.slow
def test_an_error_ends_the_whole_job_in_its_line(prepared):
    (prepared.folder / "data/digits/images.npy").write_bytes(b"")
    done = torchrun(prepared, "digits", "ca_tride", 0, check=False)
    assert done.returncode != 0
    assert "train: data/digits/validation.json: is not of the present images and manifest; run" in done.stderr
    assert not (prepared.folder / "models").exists()
