"""Tell one engine what the other has finished.

ca-tride sync dvc         after Snakemake, which runs it at the end of a run
ca-tride sync snakemake   after dvc repro, pull or checkout
"""

from __future__ import annotations

import argparse

from stages.runtime import conflicts
from workflow import sync


def configure(parser: argparse.ArgumentParser) -> None:
    """Which engine is told."""
    parser.add_argument("engine", choices=sync.DIRECTIONS, help="the engine that is told")


def run(engine: str) -> str:
    """Bring one engine's records up to date; what happened, in one line.

    Raises:
        SystemExit: the other engine's work is not finished, or was edited by hand.
    """
    conflicts.check_all()
    return f"sync: {sync.DIRECTIONS[engine]()}"
