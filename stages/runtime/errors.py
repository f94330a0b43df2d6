"""The one exception that users cause and may see."""

import re
from difflib import get_close_matches

# Colors, cursor movements and titles, as libraries write them for terminals (ECMA-48).
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
CAUSE = re.compile(
    r"[\w. ]*(?:error|exception): \S", re.IGNORECASE
)  # the last line of a quoted traceback, and the like


class UserError(Exception):
    """Something the user can mend. The message is one line that names the key or file and the fix.

    Messages quote file names and contents that may come from strangers: what would break the line or steer a terminal
    is shown escaped.
    """

    def __init__(self, message: str):
        """Keep ``message`` as one printable line."""
        super().__init__(printable(message))


class ParameterError(Exception):
    """Something wrong at a key of the parameters; whoever read them says in which file, as a ``UserError``.

    ``file`` is given where the key alone does not tell it; ``below`` is the name of a key under ``key`` that is wrong.
    """

    def __init__(self, key: str, problem: str, file: str = "", below: str = ""):
        """Keep where and what."""
        super().__init__(f"{key}: {problem}")
        self.key, self.problem, self.file, self.below = key, problem, file, below


def printable(text: str) -> str:
    """``text`` with line breaks, control characters and broken encodings as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def reason(error: BaseException | str) -> str:
    """What another library complains of, in one line without control codes.

    Of several lines it is the one that names an error, else the first with what it announces by a colon at its end.
    """
    lines = [" ".join(line.split()) for line in CONTROL.sub("", str(error)).splitlines()]
    lines = [line for line in lines if line] or [type(error).__name__]
    causes = [line for line in lines[1:] if CAUSE.match(line)]
    announced = " ".join(lines) if lines[0].endswith(":") else lines[0]
    return (causes[-1] if causes else announced)[:300].rstrip(":;,. ") or type(error).__name__


LISTED = 20  # names in a message, of which there may be hundreds


def choose(word: str, known: list[str]) -> str:
    """Say what could have been meant by ``word``: the nearest of ``known``, or the first of them."""
    if near := get_close_matches(word, known, n=1):
        return f"did you mean {near[0]!r}?"
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"choose from {', '.join(sorted(known)[:LISTED])}{more}"
