"""What hostile input may do to a reader: end in one printable line, and write nothing outside the project.

Used by test_hostile.py; how many cases each test draws is chosen by `make test` (few) and `make fuzz` (over 20,000).
"""

import os
import sys
import traceback
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from stages.runtime.errors import UserError

FUZZ = "CA_TRIDE_FUZZ" in os.environ  # `make fuzz`
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
# Python's own events for what changes a file system, with the positions of their paths.
CHANGES = {
    "os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.link": (0, 1), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"}


class Watch:
    """Writes outside a folder, programs started and classes unpickled while it is on."""

    def __init__(self):
        self.on, self.folder, self.seen, self.cases = False, "", [], 0
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if not self.on:
            return
        if event == "open" and not isinstance(arguments[0], int) and (arguments[2] or 0) & WRITES:
            self.note(event, arguments[0])
        elif event in CHANGES:
            for position in CHANGES[event]:
                self.note(event, arguments[position])
        elif event in STARTS or event == "pickle.find_class":
            self.add(event, str(arguments)[:200])

    def note(self, event, path):
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else str(path)
        if not path.startswith(self.folder + os.sep) and path != os.devnull and "__pycache__" not in path:
            self.add(event, path)

    def add(self, event, what):
        """Note an event with where it came from: a finalizer of an earlier case can be behind it."""
        self.on = False
        self.seen.append((event, what, "".join(traceback.format_stack(limit=20))))
        self.on = True

    @contextmanager
    def over(self, folder, starts=False):
        """Watch one case; fails on what was seen."""
        self.cases += 1
        self.folder, self.seen, self.on = str(folder), [], True
        try:
            yield
        finally:
            self.on = False
        harmful = [one for one in self.seen if not (starts and one[0] in STARTS)]
        assert not harmful, "\n".join("\n".join(one) for one in harmful)


WATCH = Watch()


def answer(folder, call, *arguments, starts=False):
    """What a call gives on hostile input, or the one line it ends in; everything else fails the test.

    ``starts``: the call may start a program.
    """
    with WATCH.over(folder, starts):
        try:
            return call(*arguments)
        except UserError as error:
            line = str(error)
    assert line.isprintable()
    assert 0 < len(line) < 2000
    return line


def cases(count):
    """Draw ``count`` cases under `make fuzz`, and a fortieth of them, the same ones each time, under `make test`."""
    return settings(
        max_examples=count if FUZZ else count // 40,
        derandomize=not FUZZ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw, whole):
    """Bytes of a good file with some changed, put in, taken out or cut off."""
    content = bytearray(draw(whole) if isinstance(whole, st.SearchStrategy) else whole)
    for _ in range(draw(st.integers(1, 6))):
        # Headers are where it hurts, and they stand at either end.
        place = draw(st.integers(0, len(content)) | st.integers(0, min(len(content), 200)))
        place = len(content) - place if draw(st.booleans()) else place
        kind = draw(st.sampled_from(["set", "number", "insert", "delete", "cut"]))
        if kind == "set":
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "number":
            value = draw(st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]))
            size = draw(st.sampled_from([2, 4, 8]))
            content[place : place + size] = value.to_bytes(8, "little")[:size]
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=64))
        elif kind == "delete":
            del content[place : place + draw(st.integers(1, 64))]
        else:
            del content[place:]
    return bytes(content)


# Words as attackers write them: ways out of a folder, shell, control characters, broken encodings, too long.
NASTY = [
    "../x", "/etc/passwd", "..", ".", "", "digits\n", "digits; touch hit", "$(touch hit)", "`touch hit`", "a\0b", "-rf",
    "{item}", "${run}", "\x1b[2J", "\udcff", "a" * 300, "NUL", "a/b", "\u202egpj", "%s%n", "~", "*",
]  # fmt: skip
WORDS = st.sampled_from(NASTY) | st.text(max_size=12)
