"""The saved state of a stage, from which a killed one resumes and ends with the same bytes.

Training keeps the weights, the optimizer's state, the epoch, its next batch, its log so far, the step, HM's
previous loss and the history; an attack keeps the results of finished queries. No state of a random
generator is kept: every draw, the sampler's too, comes from a generator named by (seed, epoch, step) or by the query,
and the phase of CAP and ANP follows from the step.
"""

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stages.runtime import artifacts, checksums
from stages.runtime.progress import first_process
from stages.runtime.termination import Terminated, postponed_termination

STAGES = Path(__file__).parents[1]
State = Mapping[str, Any]
log = logging.getLogger(__name__)


def identity(stage: str, **facts: object) -> str:
    """SHA-256 of what a run of ``stage`` is made of: ``facts`` (parameters and data), the code, torch's version."""
    rooms = ("core", "data", "models", "runtime")
    code = [path for room in rooms for path in (STAGES / room).rglob("*.py")] + [STAGES / f"{stage}.py"]
    hashes = {path.relative_to(STAGES).as_posix(): checksums.sha256(path) for path in sorted(code)}
    text = json.dumps([facts, hashes, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Saved(NamedTuple):
    """The file that a job resumes from, the identity of its run, and the minutes between two writes."""

    path: Path
    identity: str
    minutes: float

    def load(self, *keys: str) -> State | None:
        """What was kept of this run, which has these keys, or None where the run starts anew.

        A file of another run, or a damaged one, is set aside with a warning and never used.
        """
        if not self.path.exists():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            whole = isinstance(kept, dict) and set(kept) == {"identity", *keys}
        except Exception:  # damaged or hostile bytes can raise anything
            whole = False
        if whole and kept["identity"] == self.identity:
            return kept
        aside = self.path.with_name(f"{self.path.stem}.aside.pt")
        self.path.replace(aside)
        why = "is of other parameters, data or code" if whole else "is damaged"
        log.warning("%s %s; set aside as %s, this run starts anew", self.path, why, aside)
        return None

    @contextmanager
    def keeping(self) -> Iterator[Callable[[Callable[[], State]], None]]:
        """Give ``keep(state)`` to a loop, which calls it at every point from which it could resume.

        Every ``minutes`` (always, at 0) it writes what ``state()`` returns, atomically. After a SIGTERM it writes at
        once and ends the block.
        """
        with postponed_termination() as asked:
            last = time.monotonic()

            def keep(state: Callable[[], State]) -> None:
                nonlocal last
                if asked() or time.monotonic() - last >= 60 * self.minutes:
                    if first_process():
                        save(self.path, {"identity": self.identity, **state()})
                    last = time.monotonic()
                if asked():
                    raise Terminated

            yield keep


def save(path: Path, state: State) -> None:
    """Write a state atomically."""
    with artifacts.writing(path) as (draft,):
        whole = io.BytesIO()
        torch.save(state, whole)
        draft.write_bytes(whole.getbuffer())  # by Python, whose errors on a full disk all stages report
