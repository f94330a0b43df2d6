"""Memory that a stage freed is used again, so that a training step does not wait for the system to clear pages."""

import os
import subprocess
import sys

import pytest

from stages.runtime import allocator

STAGE = """
import resource
import sys
from stages.runtime import cli

def main():
    faults = []
    for _ in range(6):
        block = b"1" * (96 << 20)  # more than glibc keeps
        del block
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    print(faults[-1] - faults[0])

cli.process(main) if sys.argv[1:] else main()
"""


def faults(*words):
    """Pages that the system gave to the last five of six blocks of 96 MiB, as a stage or in a plain process."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", STAGE, *words], capture_output=True, text=True, check=True, env=own)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own limits are what is changed")
def test_a_stage_uses_freed_memory_again():
    plain, stage = faults(), faults("stage")
    assert plain > 5 * (96 << 20) / os.sysconf("SC_PAGE_SIZE") / 2
    assert stage < plain / 20


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()
