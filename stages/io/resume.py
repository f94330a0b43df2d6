"""Where a training run stands, so that a killed one goes on from its last whole epoch and ends with the same bytes.

Kept are the weights, the optimiser's state, the next epoch and step, HM's previous loss and the history so far. No
state of a random generator is: every draw in training comes from a generator named by (seed, epoch, step), the
sampler's too, and the phase of CAP and ANP follows from the step.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stages.io import artifacts, cli

STAGES = Path(__file__).parents[1]
KEYS = {"identity", "weights", "optimiser", "epoch", "step", "previous_loss", "history"}


def identity(**facts: object) -> str:
    """SHA-256 of what a run is made of: ``facts`` (its parameters and data), the code, and the version of torch."""
    code = [*(STAGES / "core").rglob("*.py"), *(STAGES / "io").glob("*.py"), STAGES / "train.py"]
    hashes = {path.relative_to(STAGES).as_posix(): artifacts.sha256(path) for path in sorted(code)}
    text = json.dumps([facts, hashes, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path, own: str) -> Mapping[str, Any] | None:
    """What ``save`` wrote for the run ``own``, or None where training starts anew.

    A file of another run, or a damaged one, is set aside and said so, never used.
    """
    if not path.exists():
        return None
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        whole = isinstance(kept, dict) and set(kept) == KEYS
    except Exception:  # damaged or hostile bytes can raise anything
        whole = False
    if whole and kept["identity"] == own:
        cli.log.info("going on from %s after %d epochs", path, kept["epoch"])
        return kept
    aside = path.with_name("resume.aside.pt")
    path.replace(aside)
    why = "is of other parameters, data or code" if whole else "is damaged"
    cli.log.warning("%s %s; set aside as %s, training starts anew", path, why, aside)
    return None


def save(path: Path, **state: object) -> None:
    """Write all KEYS, whole or not at all."""
    with artifacts.writing(path) as (draft,):
        torch.save(state, draft)
