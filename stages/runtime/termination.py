"""SIGTERM, by which schedulers end a job: unwind, or first write what the job can go on from."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """SIGTERM came: unwind, so that drafts are removed. No Exception, which stages may catch to name a damaged file."""


def terminate(number: int, frame: object) -> None:
    """Handler of SIGTERM."""
    raise Terminated


@contextmanager
def postponed_termination() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM wait while the block runs: gives a function that says whether it came. A second one ends it."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        if came:
            raise Terminated
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)
