"""Tell one engine what the other has finished.

    ca-tride sync dvc         after Snakemake, which runs it at the end of a run
    ca-tride sync snakemake   after dvc repro, pull or checkout

Each engine has its own records of finished jobs, dvc.lock and .snakemake/metadata. Each direction writes the other's
records only when the work is proven finished: Snakemake has nothing left to do, or `dvc status` is clean. A file that
matches neither its job's record (logs/provenance) nor dvc.lock was edited by hand and is never recorded.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stages import STAGES
from stages.data import originals
from stages.runtime import artifacts

LOCK = Path("dvc.lock")
SEEN = Path(".snakemake") / "dvc.lock.sha256"  # the dvc.lock that Snakemake's records agree with
PROVENANCE = Path("logs") / "provenance"  # what each job wrote, with hashes: <stage>/<words>.json
RECIPES = "recipes"  # the stage that only dvc.yaml has, and the folder it writes
MADE = (RECIPES, "data", "models", "results", "reports")  # what jobs write to
NOTHING_TO_DO = "Nothing to be done"
NO_GIT = "is not a git repository"  # DVC's words
WITHOUT_GIT = "`dvc config core.no_scm true` lets it work without, or `git init`"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment and capture its output.

    Raises:
        SystemExit: the command fails; shows its message.
    """
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        if any(NO_GIT in line for line in said):
            sys.exit(f"sync: no git repository here, which DVC wants; {WITHOUT_GIT}")
        errors = [line for line in said if line.startswith("ERROR: ")]  # DVC goes on with advice in further lines
        told = (errors or said or ["no message"])[0 if errors else -1]
        sys.exit(f"sync: {' '.join(command[:2])} failed: {told.removeprefix('ERROR: ')}")
    return done


def fingerprint() -> str:
    """SHA-256 of dvc.lock; "" where DVC has recorded nothing."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else ""


def remember() -> None:
    """Note that Snakemake's records agree with dvc.lock as it is now."""
    SEEN.parent.mkdir(exist_ok=True)
    SEEN.write_text(fingerprint())


def is_seen() -> bool:
    """Whether Snakemake's records agree with dvc.lock: it made them, was told, or DVC has none.

    Nor is there anything to be told of in a clone that has dvc.lock and metrics from git, but no model.
    """
    if not LOCK.exists() or not any(Path("models").glob("*/*/*/model.safetensors")):
        return True
    return SEEN.exists() and SEEN.read_text() == fingerprint()


def changed_stages() -> set[str]:
    """DVC's stages that are not as in dvc.lock, by today's parameters and code."""
    run("workflow.recipes")
    return set(json.loads(run("dvc", "status", "--json").stdout or "{}"))


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def written(record: Path) -> dict[str, str]:
    """SHA-256 of each output of one job by its path; empty where the record is missing or damaged."""
    try:
        outputs: dict[str, str] = json.loads(record.read_text())["outputs"]
    except (OSError, ValueError, KeyError):
        return {}
    return outputs


def differs(record: Path) -> Iterator[Path]:
    """Outputs of one job that exist and are not what its provenance record says."""
    for path, sha256 in ((Path(name), sha256) for name, sha256 in written(record).items()):
        if path.exists() and digest(path, "sha256") != sha256:
            yield path


def locked() -> str:
    """All MD5 hashes that dvc.lock names, those of files inside its folders included, somewhere in a text."""
    text = LOCK.read_text() if LOCK.exists() else ""
    folders = re.findall(r"md5: (\w\w)(\w+\.dir)", text)
    annotations = (Path(".dvc") / "cache" / "files" / "md5" / first / rest for first, rest in folders)
    return text + "".join(path.read_text() for path in annotations if path.exists())


def edited() -> list[Path]:
    """Outputs that changed since their job wrote them and not by DVC: files edited by hand.

    Only files younger than their record are read, so that the check costs next to nothing.
    """
    found = []
    for record in sorted(PROVENANCE.glob("*/*.json")):
        age = record.stat().st_mtime
        if any(os.path.exists(name) and os.path.getmtime(name) > age for name in written(record)):
            changed = [path for path in differs(record) if digest(path, "md5") not in locked()]
            found += changed
            if not changed:
                os.utime(record)  # checked: next time its files are older
    return found


def refuse_edited(paths: list[Path]) -> None:
    """Name a file that was edited by hand, and the fix.

    Raises:
        SystemExit: there is one.
    """
    if paths:
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        sys.exit(
            f"{min(paths)}{more}: not what its job wrote, so it was edited by hand; "
            f"move it away, then `dvc checkout` (`git checkout` if git has it) or `snakemake --cores 1 {min(paths)}` "
            "brings the original back"
        )


@contextmanager
def exclusive() -> Iterator[None]:
    """Lock DVC out of what jobs write while the block runs, by DVC's own lock file, which names this process.

    A killed process leaves an entry behind that DVC removes by itself. Without DVC in this folder nothing is locked.

    Raises:
        SystemExit: DVC is running here.
    """
    if not Path(".dvc").is_dir():
        yield
        return
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    temporary = Path(".dvc") / "tmp"
    temporary.mkdir(exist_ok=True)
    with ExitStack() as held:
        try:
            made = [os.path.abspath(name) for name in MADE]
            held.enter_context(rwlock(str(temporary), localfs, "snakemake", [], made, False))
        except LockError as error:
            who = next((line.strip() for line in str(error).splitlines() if "PID" in line), "a dvc command")
            sys.exit(f"dvc is at work in this folder: {who}; start snakemake when it has ended")
        yield


def upstream(name: str) -> int:
    """The position of a DVC stage in the graph: of several that changed, the first is the cause."""
    stage = name.partition("@")[0]
    return STAGES.index(stage) if stage in STAGES else -1


def link_out_of_sight(names: Iterable[str]) -> Path | None:
    """A link to a folder among the originals of a dataset that one of these DVC stages prepares; None without any.

    DVC would record the data as prepared from what lies beside the link, and never see a change behind it.
    """
    datasets = [dataset for stage, _, dataset in (name.partition("@") for name in names) if stage == "prepare"]
    links = (originals.linked_folder(artifacts.raw_dir(dataset)) for dataset in datasets)
    return next((link for link in links if link), None)


def to_dvc() -> str:
    """Commit what Snakemake finished to dvc.lock; what happened, in one line.

    Raises:
        SystemExit: a file to be committed is not what its job wrote.
    """
    plan = run("snakemake", "--dry-run", "--cores", "1")
    if NOTHING_TO_DO not in plan.stdout + plan.stderr:
        return "dvc.lock is left as it is: snakemake has jobs left to do"
    changed = {name for name in changed_stages() if not name.endswith(".dvc")}
    if link := link_out_of_sight(changed):
        remember()
        return (
            f"dvc.lock is left as it is: {link} is a link to a folder, into which DVC does not look; go on with "
            "snakemake, or copy the folder there"
        )
    finished = sorted(changed - {RECIPES})
    records = [
        PROVENANCE / stage / f"{words or 'all'}.json" for stage, _, words in (n.partition("@") for n in finished)
    ]
    if unknown := [record for record in records if not written(record)]:
        sys.exit(f"sync: {min(unknown)}: missing, so nobody knows what that job wrote; run `snakemake -F`")
    refuse_edited([path for record in records for path in differs(record)])
    if changed:  # all stages at once, because DVC reads everything anew for each one named
        run("dvc", "commit", "--force", "--quiet", "dvc.yaml")
    remember()
    return f"dvc.lock knows all results: {len(finished)} stages committed"


def to_snakemake() -> str:
    """Write Snakemake's records of everything DVC finished; what happened, in one line.

    Raises:
        SystemExit: a stage's files or recipe differ from dvc.lock.
    """
    changed = changed_stages()
    if stale := changed - {RECIPES}:
        more = f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""
        first = min(stale, key=lambda name: (upstream(name), name))
        sys.exit(f"sync: {first}{more}: not as in dvc.lock; run `dvc repro` or `dvc checkout` first")
    if changed:  # by an edit that changed no recipe: of a comment, say
        run("dvc", "commit", "--force", "--quiet", RECIPES)
    run("snakemake", "--touch", "--forceall", "--no-hooks", "--cores", "1")
    remember()
    return "snakemake knows all results"


DIRECTIONS = {"dvc": to_dvc, "snakemake": to_snakemake}
