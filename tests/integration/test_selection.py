"""What a plain `pytest` runs, and how the marked tests are run instead."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
MARKERS = sorted(line.partition(":")[0] for line in SETTINGS["markers"])


def test_every_marker_is_left_out_by_default_and_has_a_make_target():
    left_out = re.search(r"-m 'not \((.+)\)'", SETTINGS["addopts"])
    assert left_out
    assert sorted(left_out[1].split(" or ")) == MARKERS
    assert sorted(re.findall(r"pytest -m (\w+)", (ROOT / "Makefile").read_text())) == MARKERS


@pytest.mark.parametrize("file", ["robustness/test_broken_training.py", "e2e/test_sync.py"])
def test_marked_tests_run_when_asked_for(file):
    def collected(*words):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", f"tests/{file}", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    marker = {"robustness/test_broken_training.py": "faults", "e2e/test_sync.py": "engines"}[file]
    assert "deselected" in collected()
    assert f"{file}::test_" in collected("-m", marker)
