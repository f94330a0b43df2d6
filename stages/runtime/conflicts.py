"""Files that git left half merged: named as such, where YAML's parsers would complain of something else."""

import re
from pathlib import Path

from stages.runtime.errors import UserError

START, END = re.compile(r"^<{7}(?: |$)", re.MULTILINE), re.compile(r"^>{7}(?: |$)", re.MULTILINE)
RECORDS = Path("dvc.lock")  # of finished work: the next run writes it anew
MERGED = ("params.yaml", "dvc.yaml", "dvc.lock", ".dvc/config", "data/raw/**/*.dvc")


def first_line(text: str) -> int:
    """Number of the line where the first conflict of a merge begins; 0 where there is none."""
    start = START.search(text)
    return text.count("\n", 0, start.start()) + 1 if start and END.search(text, start.end()) else 0


def check(path: Path, text: str) -> None:
    """Refuse the text of a file that has conflict markers.

    Raises:
        UserError: names the line and the way out.
    """
    if line := first_line(text):
        cure = "choose a side of each conflict in an editor, then `git add` it"
        if path == RECORDS:
            cure = f"it only records finished work: `git checkout --ours {path}`, or move it away, and run again"
        raise UserError(f"{path}: line {line}: conflict markers of a git merge; {cure}")


def check_all() -> None:
    """Refuse any file that both engines start from and that has conflict markers.

    Raises:
        UserError: names the first.
    """
    for path in (found for pattern in MERGED for found in sorted(Path().glob(pattern))):
        if path.is_file():
            check(path, path.read_text(encoding="utf-8", errors="replace"))
