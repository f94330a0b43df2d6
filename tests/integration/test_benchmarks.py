"""The scripts behind figures run; what they print at toy sizes means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.core.defenses import DEFENSES
from stages.core.scores import STANDARD_ATTACKS

ROOT = Path(__file__).resolve().parents[2]


def gpu(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_gpu_benchmark_at_toy_size_prints_one_table_and_resumes(tmp_path):
    first = gpu(tmp_path, "--toy")
    assert first.returncode == 0, first.stderr
    kept = next((tmp_path / "logs/benchmarks").glob("gpu-toy-*.json"))
    known = json.loads(kept.read_text())
    assert {"fp32 floor", "bf16 train ca_tride", "fp32 train act", "bf16 attack gtt"} <= set(known)
    assert all(figures["seconds per step"] > 0 for figures in known.values())
    assert first.stdout.count("CUB in full") == 1
    assert "Toy sizes" in first.stdout

    del known["fp32 attack es"]
    kept.write_text(json.dumps(known))
    assert gpu(tmp_path, "--toy").returncode == 0
    again = json.loads(kept.read_text())
    assert again.pop("fp32 attack es")
    assert again == known


def test_without_a_gpu_the_real_sizes_are_refused_in_one_line(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    refused = gpu(tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        "torch finds no GPU on this machine; --toy runs everything at tiny sizes on the CPU"
    )


@pytest.mark.slow
def test_peers_at_toy_size_print_a_ratio_for_each_of_the_same_works():
    command = [sys.executable, "-m", "benchmarks.peers", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    ratios = {cells[0]: cells[3] for cells in table}
    works = {"NMI", "the same; theirs mAP", *DEFENSES, *STANDARD_ATTACKS}
    assert works <= ratios.keys()
    assert all(float(ratios[name]) > 0.2 for name in works)
    assert "Measured elsewhere" in done.stdout


def test_nmi_over_many_starts_lies_between_its_extremes(monkeypatch, capsys):
    from benchmarks import nmi

    labels = np.arange(3).repeat(50)
    apart = torch.nn.functional.one_hot(torch.from_numpy(labels), 4).float() + 0.01 * torch.randn(150, 4)
    monkeypatch.setattr(nmi, "load_split", lambda *_: SimpleNamespace(labels=labels))
    monkeypatch.setattr(nmi.embeddings, "read_gallery", lambda *_: apart)
    monkeypatch.setattr(sys, "argv", ["nmi", "digits", "vanilla", "0"])
    nmi.main()
    starts, on_cpu, on_gpu = capsys.readouterr().out.splitlines()
    *_, least, low, median, high, most = starts.split()
    assert float(least) <= float(low) <= float(median) <= float(high) <= float(most) == 100.0
    assert on_cpu.startswith("the reference on a CPU, seed 123: ")
    assert on_gpu.startswith("the reference on a GPU, seed 1234: ")
    assert all(0 < float(line.split()[-1]) <= 100 for line in (on_cpu, on_gpu))


def test_galleries_at_toy_size_have_queries_apart_and_print_both_rows(monkeypatch, capsys):
    from benchmarks import gallery

    monkeypatch.setattr(gallery, "TWO_SETS", {"Toy": (30, 90, 12, 6, 3)})
    monkeypatch.setattr(gallery, "DIMENSION", 8)
    gallery.two_sets()
    said = capsys.readouterr().out
    assert "Toy: 30 queries, a gallery of 90, 8 dimensions" in said
    assert said.count("| R@1, R@2") == said.count("| NMI |") == 1
    labels = torch.arange(12).repeat_interleave(10)
    sets = gallery.roles(labels, 30, 6, 3)
    assert (len(sets.queries), len(sets.gallery)) == (30, 90)
    assert sorted([*sets.queries.tolist(), *sets.gallery.tolist()]) == list(range(120))
    assert int(labels[sets.queries].max()) < 6
    assert set(sets.cameras.tolist()) == {0, 1, 2}
