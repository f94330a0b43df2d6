"""Paths of files, and atomic writes."""

import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.runtime.errors import UserError

DATA, MODELS, RESULTS, REPORTS, LOGS = (Path(name) for name in ("data", "models", "results", "reports", "logs"))


def data_dir(dataset: str) -> Path:
    """Folder of a prepared dataset."""
    return DATA / dataset


def raw_dir(dataset: str) -> Path:
    """Folder that a user puts a dataset's original files into."""
    return DATA / "raw" / dataset


def model_dir(dataset: str, defense: str, seed: int) -> Path:
    """Folder of one trained model."""
    return MODELS / dataset / defense / str(seed)


def result_dir(dataset: str, defense: str, seed: int) -> Path:
    """Folder of one model's evaluation."""
    return RESULTS / dataset / defense / str(seed)


def transfer_files(dataset: str, attack: str) -> tuple[Path, Path]:
    """The report and the per-query values of an attack's transfer between the defenses of a run."""
    # Beside the datasets' folders: inside one, what a transfer writes would be in the folder that DVC has it depend on.
    folder = RESULTS / "transfer" / dataset
    return folder / f"{attack}.json", folder / f"{attack}.parquet"


def figure_names(params: Mapping[str, Any]) -> list[str]:
    """Names of the report's figures, each an SVG and a PNG in reports/figures/."""
    datasets = params["run"]["datasets"]
    sweeps = [f"sweep_{name}" for name, block in params["tables"].items() if "sweep" in block]
    kinds = ("sub_scores", "history", "variants", *sweeps, *(["transfer"] if params["run"]["transfer"] else []))
    return ["tradeoff", *(f"{kind}_{dataset}" for dataset in datasets for kind in kinds)]


def made_by(path: Path) -> str:
    """The command that makes a file of a stage, whose place consists of the command's words.

    Of any other path it is the command that makes Snakemake's target of that name.
    """
    match path.parts:
        case ("data", dataset, name):
            stage, words = "validate" if name == "validation.json" else "prepare", [dataset]
        case ("models", *words, _):
            stage = "train"
        case ("results", "transfer", dataset, name):
            stage, words = "transfer", [dataset, name.partition(".")[0]]
        case ("results", *words, "benign.json" | "benign.parquet" | "gallery.npy"):
            stage = "evaluate"
        case ("results", *words, name):
            stage, words = "attack", [*words, name.removesuffix("_examples.npy").partition(".")[0]]
        case _:
            return f"snakemake --cores 8 {path}"
    return " ".join([f"python -m stages.{stage}", *words])


def require(path: Path, command: str = "") -> Path:
    """Return ``path``.

    Raises:
        UserError: it does not exist; says which ``command`` makes it, by default the one of ``made_by``.
    """
    if not path.exists():
        raise UserError(f"{path}: missing; run `{command or made_by(path)}` first")
    return path


def damaged(path: Path, problem: str) -> UserError:
    """The error to raise of a file that is not as its stage wrote it."""
    return UserError(f"{path}: {problem}; delete it and run `{made_by(path)}`")


def draft_of(path: Path) -> Path:
    """A temporary sibling's name, this process's own; what killed processes left of the same path is removed.

    It keeps the suffix, since some writers choose their format by it.
    """
    for left in path.parent.glob(f".*.{glob.escape(path.name)}"):
        owner = left.name.split(".")[1]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.with_name(f".{os.getpid()}.{path.name}")


def _runs(process: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


@contextmanager
def writing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give a temporary sibling for each path; on success sync and rename all of them, on failure remove them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    drafts = tuple(draft_of(path) for path in paths)
    try:
        yield drafts
        for draft in drafts:
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        for draft, path in zip(drafts, paths, strict=True):
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Give an empty temporary folder, a hidden sibling of a path, and remove it in the end."""
    draft = draft_of(beside)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty temporary sibling of a folder; on success it takes the folder's place, on failure it goes.

    The folder as it was is moved aside for this, and back where an interruption comes before the new one is there.
    """
    with scratch(folder) as draft:
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        with scratch(folder.with_name(f"old.{folder.name}")) as aside:
            old = aside / folder.name
            try:
                if folder.exists():
                    folder.rename(old)
                draft.rename(folder)
            except BaseException:
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise
