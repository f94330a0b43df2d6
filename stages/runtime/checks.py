"""Whether parameters make sense: against the schema, and against each other and the registries of the code."""

import math
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from stages.runtime import documents, registries
from stages.runtime.errors import ParameterError, choose

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "params.schema.yaml"
DEEPEST, MOST_VALUES = 20, 100_000  # the paper's study has 7 levels and 4,000 values
OWN = "own"  # the method of blocks that name a model
REGISTRIES_OF = {"optimizer": ("WHITE_BOX", "BLACK_BOX"), "start": ("STARTS",), "surrogate": ("SURROGATES",)}
POSITIVE_OPTIONS = {"steps", "alpha_over_eps", "loss_bound"}  # at 0 there would be no attack, or no number


def check_values(value: Any, key: str, visited: Iterator[int], depth: int = 0) -> None:
    """Refuse what is no number, and what aliases of aliases swell to: a few lines can stand for billions of values.

    Raises:
        ParameterError: names the value.
    """
    if depth > DEEPEST or next(visited) > MOST_VALUES:
        raise ParameterError(key[:100], "nested too deeply or too many values; take out some aliases")
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(key, f"{value} is not a finite number; change it")
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        check_values(child, f"{key}.{name}" if key else str(name), visited, depth + 1)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(documents.read(SCHEMA, SCHEMA.name))


def check_schema(params: Any) -> None:
    """Compare parameters, all blocks written out, with the schema.

    Raises:
        ParameterError: the most telling of its complaints.
    """
    _refuse(_validator().iter_errors(params))


def check_attacks(blocks: Any) -> None:
    """Check the section of attacks by itself, all blocks written out: against the schema and the code's registries.

    Raises:
        ParameterError: names the first key that is wrong.
    """
    _refuse(_validator().descend(blocks, {"$ref": "#/properties/attacks"}, path="attacks"))
    for name, block in blocks.items():
        _check_attack(f"attacks.{name}", block, [])


def _refuse(complaints: Iterable[Any]) -> None:
    from jsonschema.exceptions import best_match, relevance

    def telling(complaint: Any) -> tuple[Any, ...]:
        order: Any = relevance(complaint)
        depth, path, *rest = order
        return depth, [(type(key).__name__, key) for key in path], *rest  # keys of several kinds have no order

    error = best_match(complaints, key=telling)
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        raise ParameterError(key, f"unknown key {unknown!r}; {choose(str(unknown), known)}", below=str(unknown))
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        raise ParameterError(key, f"key {missing!r} is missing; {_remedy(key, missing)}")
    if error.validator == "dependentRequired":
        given, missing = next(
            (one, other)
            for one, needed in error.validator_value.items()
            for other in needed
            if one in error.instance and other not in error.instance
        )
        raise ParameterError(key, f"key {missing!r} is missing; `{given}` needs it")
    wanted = error.schema.get("description") if isinstance(error.schema, Mapping) else None
    raise ParameterError(key, f"{str(error.message)[:200]}" + (f"; write {wanted}" if wanted else ""))


def _remedy(key: str, missing: str) -> str:
    if key.startswith("datasets.") and key.endswith(".training"):
        return "name a profile, such as {profile: small}, or write all keys"
    if missing in ("method", "attack", "title") or key.startswith("tables."):
        return "add it, or name the block that this one `extends`"
    if missing == "transfer":
        return "add it, with [] for no attack"
    return "add it, or name a paper in `papers`" if missing == "tables" else "add it"


def check_references(params: Mapping[str, Any]) -> None:
    """Check that every name is a block of its section, or an entry of the code's registries, and fits its place.

    Raises:
        ParameterError: names the first that does not.
    """
    for kind in ("datasets", "defenses", "attacks"):
        for name in params["run"][kind]:
            _known(f"run.{kind}", name, list(params[kind]))
    _check_transfer(params)
    for name, block in params["datasets"].items():
        _check_dataset(f"datasets.{name}", block)
    for name, block in params["defenses"].items():
        _check_defense(f"defenses.{name}", block, list(params["datasets"]))
    for name in params["run"]["defenses"]:
        for data in params["run"]["datasets"]:
            training = params["datasets"][data]["training"] | params["defenses"][name].get("training", {})
            _check_weights(f"defenses.{name}.training.weights", training)
    for name, block in params["attacks"].items():
        _check_attack(f"attacks.{name}", block, list(params["datasets"]))
    for name in params["visualize"]["attacks"]:
        _known("visualize.attacks", name, list(params["attacks"]))
        if registries.attacks()[params["attacks"][name]["attack"]] == "candidate":
            raise ParameterError(
                "visualize.attacks", f"{name} perturbs candidates; name attacks that perturb the query"
            )
    for name, block in params["tables"].items():
        if name == "differences":
            raise ParameterError("tables.differences", "is the name of the report's table of pairs; rename the block")
        _check_table(f"tables.{name}", block, params)


def _check_transfer(params: Mapping[str, Any]) -> None:
    run = params["run"]
    for name in run["transfer"]:
        if name not in run["attacks"]:
            raise ParameterError("run.transfer", f"{name!r} is not in run.attacks; {choose(name, run['attacks'])}")
        if f"transfer_{name}" in params["tables"]:
            raise ParameterError(f"tables.transfer_{name}", "is the name of a transfer matrix; rename the block")


def _check_dataset(key: str, block: Mapping[str, Any]) -> None:
    _known(f"{key}.reader", block["reader"], registries.names("READERS"))
    _known(f"{key}.training.backbone", block["training"]["backbone"], registries.names("BACKBONES"))
    _check_weights(f"{key}.training.weights", block["training"])
    _check_expected(key, block)
    if block["crop"] > block["side"]:
        raise ParameterError(f"{key}.crop", f"{block['crop']} is larger than side; lower it")


def _check_expected(key: str, block: Mapping[str, Any]) -> None:
    """What is expected is of the lists that the split makes; where they are not of queries, a class needs a pair."""
    separate, expected = block["split"].get("by") == "query_gallery", block["expected"]
    missing = [name for name in (("query", "gallery") if separate else ("test",)) if name not in expected]
    if missing:
        raise ParameterError(f"{key}.expected", f"key {missing[0]!r} is missing; add it")
    strange = [name for name in (("test",) if separate else ("query", "gallery", "shared_classes")) if name in expected]
    if strange:
        cure = "remove it" if separate else "remove it, or write `split: {by: query_gallery}`"
        raise ParameterError(f"{key}.expected.{strange[0]}", f"not what this split makes; {cure}")

    if not separate and (least := expected["images_per_class"][0]) < 2:
        raise ParameterError(
            f"{key}.expected.images_per_class.0",
            f"{least} is less than the minimum of 2; write a whole number of at least 2: retrieval needs another image",
        )


def _check_defense(key: str, block: Mapping[str, Any], datasets: list[str]) -> None:
    if _is_own(key, block):
        return
    _known(f"{key}.method", block["method"], registries.names("DEFENSES"))
    _known(f"{key}.miner", block["miner"], registries.names("MINERS"))
    if "backbone" in block.get("training", {}):
        _known(f"{key}.training.backbone", block["training"]["backbone"], registries.names("BACKBONES"))
    options, known = block.get("options", {}), registries.options(block["method"])
    for name, value in options.items():
        if name not in known:
            raise ParameterError(
                f"{key}.options", f"unknown key {name!r}; {choose(name, list(known) or ['no options'])}"
            )
        values = _by_dataset(f"{key}.options.{name}", value, datasets)
        for one in values:
            if not known[name].admits(one):
                raise ParameterError(f"{key}.options.{name}", f"{one!r} is not of type {known[name].kind}; change it")
            number = isinstance(one, int | float) and not isinstance(one, bool)
            if number and (one < 0 or (one == 0 and name in POSITIVE_OPTIONS)):
                raise ParameterError(f"{key}.options.{name}", f"{one} is too small; give a number above 0")


def _by_dataset(key: str, value: Any, datasets: list[str]) -> list[Any]:
    """All values of one that may be a mapping by dataset; a word that looks like a dataset's name is refused.

    Others are let pass: a paper's block may speak of a dataset that these parameters leave out.
    """
    if not isinstance(value, Mapping):
        return [value]
    if "default" not in value:
        raise ParameterError(key, "key 'default' is missing; add it")
    for name in value:
        if name in ("default", *datasets):
            continue
        if not isinstance(name, str) or get_close_matches(name, datasets, n=1, cutoff=0.75):
            raise ParameterError(key, f"{name!r} is not there; {choose(str(name), datasets)}")
    return list(value.values())


def _is_own(key: str, block: Mapping[str, Any]) -> bool:
    """Whether a block of `defenses` names a model instead of training one; its keys are checked either way."""
    own = block["method"] == OWN
    if own and "model" not in block:
        raise ParameterError(key, f"key 'model' is missing; method {OWN} needs it")
    wrong = [name for name in ("miner", "options", "training") if own and name in block]
    if wrong:
        raise ParameterError(f"{key}.{wrong[0]}", "a model that is not trained has none; remove it")
    if not own and "model" in block:
        raise ParameterError(f"{key}.method", f"{block['method']} trains a model; write {OWN} beside `model`")
    if not own and "miner" not in block:
        raise ParameterError(key, "key 'miner' is missing; add it")
    return own


def _check_attack(key: str, block: Mapping[str, Any], datasets: list[str]) -> None:
    _known(f"{key}.attack", block["attack"], registries.names("ATTACKS"))
    family = registries.attacks()[block["attack"]]
    if block.get("family", family) != family:
        raise ParameterError(f"{key}.family", f"{block['attack']} lives in {family!r}; write that or leave it out")
    _check_strength(key, {name: value for name, value in block.items() if name != "suite"}, datasets)
    for member, strength in block.get("suite", {}).items():
        _check_strength(f"{key}.suite.{member}", strength, datasets)


def _check_strength(key: str, strength: Mapping[str, Any], datasets: list[str]) -> None:
    for name, value in strength.items():
        _by_dataset(f"{key}.{name}", value, datasets)
        if name in REGISTRIES_OF:
            _known(f"{key}.{name}", value, registries.names(*REGISTRIES_OF[name]))


def _check_table(key: str, block: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    for row in block["rows"]:
        _known(f"{key}.rows", row, list(params["defenses"]))
    for part in ("columns", "intervals"):
        for column in block[part]:
            metric, _, attack = column.partition(":")
            _known(f"{key}.{part}", metric, registries.names("COLUMNS"))
            if attack:
                _known(f"{key}.{part}", attack, list(params["attacks"]))
                _check_pair(f"{key}.{part}", metric, attack, params["attacks"][attack]["attack"])
    if "sweep" in block:
        _check_sweep(f"{key}.columns", block, params["attacks"])


def _check_pair(key: str, metric: str, block: str, attack: str) -> None:
    """Refuse ``metric:block`` of an ``attack`` where no result has that name, since it would always read "not run"."""
    column, measured_by = f"{metric}:{block}", registries.literals("ATTACK_OF", "FURTHER")
    if metric not in registries.names("ATTACK_DIRECTIONS"):
        raise ParameterError(key, f"{column!r}: no attack measures {metric}; write {metric} alone")
    # What the attacks of this project measure is known; one of your own may measure any metric.
    own = [name for name, by in measured_by.items() if by == attack.removesuffix("_exact")]
    if own and metric in measured_by and metric not in own:
        raise ParameterError(key, f"{column!r}: {block} measures {', '.join(own)}; name another block or metric")
    if block in registries.literals("ATTACK_OF").values() or measured_by.get(metric) == block:
        raise ParameterError(key, f"{column!r}: what {block} measures is named without it; write {metric}")


def _check_sweep(key: str, block: Mapping[str, Any], attacks: Mapping[str, Any]) -> None:
    """Each column has the strength of the attack block that it is measured by."""
    measured_by = registries.literals("ATTACK_OF", "FURTHER")
    for column in block["columns"]:
        metric, _, attack = column.partition(":")
        attack = attack or measured_by.get(metric, "")
        if not attack:
            told = f"no attack measures {metric!r}, so it has no {block['sweep']}"
            raise ParameterError(key, f"{told}; take it out, or `sweep`")
        if attack not in attacks:
            raise ParameterError(key, f"{metric!r} is of the block {attack!r} of `attacks`, which is not there; add it")


def _known(key: str, word: str, known: list[str]) -> None:
    if word not in known:
        raise ParameterError(key, f"{word!r} is not there; {choose(word, known)}")


def _check_weights(key: str, profile: Mapping[str, Any]) -> None:
    known = registries.pretrained_backbones()
    if profile["weights"] == "imagenet" and profile["backbone"] not in known:
        raise ParameterError(
            key,
            f"there are no ImageNet weights of {profile['backbone']!r}; "
            f"write none, or choose a backbone from {', '.join(known)}",
        )
