"""Download a dataset's original files to data/raw/<dataset>/ and verify them; run it once, before the study."""

from __future__ import annotations

import argparse
import subprocess
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    """Which dataset."""
    parser.add_argument("dataset", help="a block of `datasets` in params.yaml")


def run(dataset: str) -> str:
    """Run the stage, which says what it does.

    Raises:
        SystemExit: it failed; it said why.
    """
    if status := subprocess.run([sys.executable, "-m", "stages.fetch", dataset], check=False).returncode:
        raise SystemExit(status)
    return ""
