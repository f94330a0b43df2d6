"""What a plain `pytest` runs, and how the marked tests are run instead."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
MARKERS = sorted(line.partition(":")[0] for line in SETTINGS["markers"])


def test_every_marker_is_left_out_by_default_and_has_a_make_target():
    left_out = re.search(r"-m 'not \((.+)\)'", SETTINGS["addopts"])
    assert left_out
    assert sorted(left_out[1].split(" or ")) == MARKERS
    assert sorted(re.findall(r"pytest -m (\w+)", (ROOT / "Makefile").read_text())) == MARKERS


def test_marked_tests_run_when_asked_for():
    files = {"faults": "robustness/test_broken_training.py", "engines": "e2e/test_sync.py"}
    plain = ["--collect-only", "-p", "no:cacheprovider"]
    asked = [[*plain, f"tests/{file}", *mark] for name, file in files.items() for mark in ([], ["-m", name])]
    # One process for all four calls, because importing torch takes most of the time.
    code = f"import pytest\nfor words in {asked!r}:\n    pytest.main(words)\n    print('====')"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("====\n")
    for file, default, by_mark in zip(files.values(), said[::2], said[1::2], strict=False):
        assert "deselected" in default
        assert f"{file}::test_" in by_mark
    assert len(said) == 5
