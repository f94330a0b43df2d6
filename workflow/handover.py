"""Tell one engine what the other has finished.

    python workflow/handover.py dvc         after snakemake, which does it by itself at the end of a run
    python workflow/handover.py snakemake   after dvc repro, pull or checkout

Both know a finished job by records of their own, dvc.lock and .snakemake/metadata. Each direction writes the other's
records only where the work is proven finished: Snakemake has nothing left to do, or `dvc status` is clean.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

LOCK = Path("dvc.lock")
SEEN = Path(".snakemake") / "dvc.lock.sha256"  # the dvc.lock that Snakemake's records agree with
COPIES = ("defense_code@", "attack_code@")  # small stages that only dvc.yaml has
NOTHING_TO_DO = "Nothing to be done"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A command of this environment, its output captured.

    Raises:
        SystemExit: the command fails; shows its last line.
    """
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        sys.exit(f"handover: {' '.join(command[:2])} failed: {said[-1] if said else 'no message'}")
    return done


def fingerprint() -> str:
    """SHA-256 of dvc.lock; "" where DVC has recorded nothing."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else ""


def remember() -> None:
    """Note that Snakemake's records agree with dvc.lock as it is now."""
    SEEN.parent.mkdir(exist_ok=True)
    SEEN.write_text(fingerprint())


def is_seen() -> bool:
    """Whether Snakemake's records agree with dvc.lock: it made them, was told, or DVC has none."""
    return not LOCK.exists() or (SEEN.exists() and SEEN.read_text() == fingerprint())


def changed_stages() -> dict[str, list[object]]:
    """Stages whose files or parameters differ from dvc.lock, by name, as `dvc status` reports them."""
    status: dict[str, list[object]] = json.loads(run("dvc", "status", "--json").stdout or "{}")
    return status


def to_dvc() -> str:
    """Commit what Snakemake finished to dvc.lock; what happened, in one line."""
    plan = run("snakemake", "--dry-run", "--cores", "1")
    if NOTHING_TO_DO not in plan.stdout + plan.stderr:
        return "dvc.lock is left as it is: snakemake has jobs left to do"
    changed = changed_stages()
    copies = [name for name in changed if name.startswith(COPIES)]
    finished = [name for name in changed if not name.startswith(COPIES) and not name.endswith(".dvc")]
    if copies:
        run("dvc", "repro", "--quiet", *copies)
    if finished:
        run("dvc", "commit", "--force", "--quiet", *finished)
    remember()
    return f"dvc.lock knows all results: {len(finished)} stages committed"


def to_snakemake() -> str:
    """Write Snakemake's records of everything DVC finished; what happened, in one line.

    Raises:
        SystemExit: a stage's files or parameters differ from dvc.lock.
    """
    changed = changed_stages()
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        sys.exit(f"handover: {min(changed)}{more}: not as in dvc.lock; run `dvc repro` or `dvc checkout` first")
    run("snakemake", "--touch", "--forceall", "--cores", "1")
    remember()
    return "snakemake knows all results"


DIRECTIONS = {"dvc": to_dvc, "snakemake": to_snakemake}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in DIRECTIONS:
        sys.exit(f"usage: python workflow/handover.py {{{','.join(DIRECTIONS)}}}")
    print(f"handover: {DIRECTIONS[sys.argv[1]]()}")
