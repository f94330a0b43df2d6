"""What each job depends on besides its data: the values of params.yaml that it reads, and the code that it runs.

    python -m workflow.recipes     writes the recipe of every job of the run to recipes/, and prints changes

Snakemake has a job's recipe among its rule's `params`. For DVC the stage `recipes` writes them to files, which other
stages name among their `deps`: recipes/train/digits/act.json for `python -m stages.train digits act <seed>`.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

from stages.runtime import artifacts, checksums
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from stages.runtime.params import Params
from workflow import code

FOLDER = Path("recipes")
SHOWN = 10  # changes that are printed
NO_RESULT = {"resume"}  # sections of params.yaml that change no result
COMPUTING = ("threads", "device", "deterministic")  # keys of a training profile that evaluations and attacks use too
FILES = {  # what a stage reads besides its data, or prints
    "report": ("stages/reporting/templates/*", "workflow/**/published.csv", "stages/core/evaluation_checks.py")
}

Values = dict[str, Any]


def prepare(params: Params, dataset: str) -> Values:
    """Values that preparing a dataset reads."""
    return of_dataset(params, dataset, "reader", "side", "split")


def validate(params: Params, dataset: str) -> Values:
    """Values that checking a dataset reads."""
    return of_dataset(params, dataset, "expected", "split")


def train(params: Params, dataset: str, defense: str) -> Values:
    """Values that a training reads; of a user's own model the model."""
    if own := own_model(params, dataset, defense):
        return own | of_dataset(params, dataset, "crop")
    block = parameters.defense(params, defense, dataset)
    return {f"defenses.{defense}": block} | of_dataset(params, dataset, "crop", "flip", "eps")


def evaluate(params: Params, dataset: str, defense: str) -> Values:
    """Values that an evaluation reads, and what the network is made of."""
    return network(params, dataset, defense) | computing(params, dataset) | of_dataset(params, dataset, "crop")


def attack(params: Params, dataset: str, defense: str, attack: str) -> Values:
    """Values that an attack reads, and what the network is made of."""
    budget = of_dataset(params, dataset, "eps", "attack_batch", "attack_queries")
    block = {f"attacks.{attack}": parameters.attack(params, attack, dataset)}
    return evaluate(params, dataset, defense) | budget | block


def transfer(params: Params, dataset: str, attack: str) -> Values:
    """Values that the transfer of an attack depends on, and what its networks are made of."""
    run = {f"run.{key}": params["run"][key] for key in ("defenses", "seeds")}
    block = {f"attacks.{attack}": parameters.attack(params, attack, dataset)}
    data = of_dataset(params, dataset, "crop", "attack_batch")
    return networks(params, dataset) | computing(params, dataset) | data | run | block


def visualize(params: Params, dataset: str) -> Values:
    """Values that the pictures of a dataset depend on, and what its networks are made of."""
    shown = {key: params[key] for key in ("visualize", "run")}
    return networks(params, dataset) | of_dataset(params, dataset, "crop") | shown


def report(params: Params) -> Values:
    """All values that the report may print."""
    return {key: value for key, value in params.items() if key not in NO_RESULT}


READS: dict[str, Callable[..., Values]] = {
    reads.__name__: reads for reads in (prepare, validate, train, evaluate, attack, transfer, visualize, report)
}
# The words that a stage's recipe is of: the arguments after the parameters. A seed changes no recipe.
WORDS = {stage: tuple(signature(reads).parameters)[1:] for stage, reads in READS.items()}


def of_dataset(params: Params, dataset: str, *keys: str) -> Values:
    """Some values of a dataset's block."""
    block = params["datasets"][dataset]
    return {f"datasets.{dataset}.{key}": block[key] for key in keys}


def computing(params: Params, dataset: str) -> Values:
    """Settings of computing that evaluations and attacks on a dataset use."""
    profile = params["datasets"][dataset]["training"]
    values = {f"datasets.{dataset}.training.{key}": profile[key] for key in COMPUTING}
    return values | of_dataset(params, dataset, "precision")


def own_model(params: Params, dataset: str, defense: str) -> Values:
    """The model that a block names instead of training one; empty where it trains one."""
    block = parameters.defense(params, defense, dataset)
    return {f"defenses.{defense}.model": block["model"]} if "model" in block else {}


def network(params: Params, dataset: str, defense: str) -> Values:
    """What determines the code of a model's network: its backbone, or a user's own model."""
    profile = parameters.defense(params, defense, dataset)["training"]
    own = own_model(params, dataset, defense)
    return own or {f"defenses.{defense}.training.backbone": profile["backbone"]}


def networks(params: Params, dataset: str) -> Values:
    """The same of all networks of a dataset in the run."""
    run = params["run"]
    return {key: value for defense in run["defenses"] for key, value in network(params, dataset, defense).items()}


def recipe(params: Params, stage: str, words: Mapping[str, Any]) -> Values:
    """What a job depends on besides its data: values of params.yaml by dotted key, resolved, and hashes.

    ``params`` are those of ``stages.runtime.params.load``; ``words`` the job's, of which those that change no recipe
    are ignored. ``code`` is the hash of the code that the job runs, ``files`` that of files of the repository that it
    reads, where it reads some.
    """
    values = READS[stage](params, *(str(words[word]) for word in WORDS[stage]))
    flat = dict(flattened(values))
    own = any(re.fullmatch(r"defenses\.[^.]+\.model\..*", key) for key in flat)
    named = None if own else frozenset(strings(flat))  # an own model's file says by itself which backbone it has
    hashes = {"code": code.digest(f"stages.{stage}", named)}
    if stage in FILES:
        hashes["files"] = hash_of_files(code.ROOT, *FILES[stage])
    return flat | hashes


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys and values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def strings(value: Any) -> Iterator[str]:
    """All strings among values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from strings(item)


def hash_of_files(root: Path, *patterns: str) -> str:
    """SHA-256 over names and contents of the files that match; of code without comments and docstrings."""
    found = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    whole = "".join(f"{path.relative_to(root).as_posix()} {_hash_of(path)}\n" for path in found)
    return hashlib.sha256(whole.encode()).hexdigest()


def _hash_of(path: Path) -> str:
    return code.digest_of_file(path) if path.suffix == ".py" else checksums.sha256(path)


def of_run(params: Params) -> dict[Path, Values]:
    """The recipe of every job of the run, by its place below ``FOLDER``; jobs that differ by seed alone share one."""
    run = params["run"]
    found = {}
    for stage, words in WORDS.items():
        of_transfer = {"attack": run["transfer"]} if stage == "transfer" else {}
        for chosen in product(*(of_transfer.get(word, run[f"{word}s"]) for word in words)):
            path = Path(stage, *chosen)
            found[path.with_name(f"{path.name}.json")] = recipe(params, stage, dict(zip(words, chosen, strict=True)))
    return found


def read(path: Path) -> Values | None:
    """A recipe that was written before; None if it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def changes(before: Values, now: Values) -> list[str]:
    """What differs between two recipes, in words."""
    differ = [key for key in sorted(before | now) if before.get(key) != now.get(key)]
    values = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in differ if key not in ("code", "files")]
    return values + [f"other {key}" for key in differ if key in ("code", "files")]


def write(params: Params, folder: Path = FOLDER) -> list[str]:
    """Write the recipes of the run to ``folder`` and remove all others; changes of those that stay, in words.

    Recipes that did not change keep their files.
    """
    said = []
    wanted = of_run(params)
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside a folder comes before it
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder) not in wanted:
            path.unlink()
    for place, now in wanted.items():
        before = read(folder / place)
        if before != now:
            with artifacts.writing(folder / place) as (draft,):
                draft.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
            if before is not None:
                said.append(f"{folder / place}: {'; '.join(changes(before, now))}")
    return said


def main() -> None:
    """Command line: ``python -m workflow.recipes``."""
    said = write(parameters.load())
    more = [f"and {len(said) - SHOWN} more recipes"] if len(said) > SHOWN else []
    for line in [*said[:SHOWN], *more]:
        print(f"recipes: {line[:500]}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"recipes: {error}")
