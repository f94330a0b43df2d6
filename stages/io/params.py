"""The only reader of params.yaml: loads it, checks it, and resolves a block for a dataset."""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from stages.io import conflicts, registries
from stages.io.errors import UserError, choose, reason

Params = dict[str, Any]
FILE = "params.yaml"
SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "params.schema.yaml"
DEEPEST, MOST_VALUES = 20, 100_000  # the paper's study has 7 levels and 2,000 values
OWN = "own"  # the method of blocks that name a model
POSITIVE_OPTIONS = {"steps", "alpha_over_eps", "loss_bound"}  # at 0 there would be no attack, or no number


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader that refuses a key written twice (YAML itself would silently keep the last)."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
            raise UserError(f"{FILE}: line {key.start_mark.line + 1}: key {key.value!r} is written twice; remove one")
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def load(path: str | Path = FILE) -> Params:
    """Read and check the parameters.

    Raises:
        UserError: the file is absent, half merged, is not YAML, or breaks the schema or a reference between blocks.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run from the project's folder") from None
    conflicts.check(Path(path), text)
    try:
        params = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except UserError:
        raise
    except Exception as error:  # yaml lets through whatever Python says of `!!bool x` or `!!timestamp x`
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where else ""
        problem = getattr(error, "problem", None) or reason(error)
        raise UserError(f"{path}: {line}not valid YAML ({problem})") from None
    check(params)
    return params


def _check_values(value: Any, key: str, visited: Iterator[int], depth: int = 0) -> None:
    """Refuse what is no number, and what aliases of aliases swell to: a few lines can stand for billions of values."""
    if depth > DEEPEST or next(visited) > MOST_VALUES:
        raise UserError(f"{FILE}: {key[:100]}: nested too deeply or too many values; take out some aliases")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{FILE}: {key}: {value} is not a finite number; change it")
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        _check_values(child, f"{key}.{name}" if key else str(name), visited, depth + 1)


def check(params: Any) -> None:
    """Check parameters against the schema and against each other.

    Raises:
        UserError: names the first offending key and what it should be.
    """
    _check_values(params, "", count())
    _check_schema(params)
    _check_references(params)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))


def _check_schema(params: Any) -> None:
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(params))
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(name for name in error.instance if name not in known)
        raise UserError(f"{FILE}: {key}: unknown key {unknown!r}; {choose(str(unknown), known)}")
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        raise UserError(f"{FILE}: {key}: key {missing!r} is missing; add it")
    wanted = error.schema.get("description") if isinstance(error.schema, Mapping) else None
    raise UserError(f"{FILE}: {key}: {str(error.message)[:200]}" + (f"; write {wanted}" if wanted else ""))


def _check_references(params: Params) -> None:
    for kind in ("datasets", "defenses", "attacks"):
        for name in params["run"][kind]:
            _known(f"run.{kind}", name, list(params[kind]))
    for name, block in params["datasets"].items():
        _known(f"datasets.{name}.reader", block["reader"], registries.readers())
        _known(f"datasets.{name}.training.backbone", block["training"]["backbone"], registries.backbones())
        _check_weights(f"datasets.{name}.training.weights", block["training"])
        if block["crop"] > block["side"]:
            raise UserError(f"{FILE}: datasets.{name}.crop: {block['crop']} is larger than side; lower it")
    for name, block in params["defenses"].items():
        key = f"defenses.{name}"
        if _is_own(key, block):
            continue
        _known(f"{key}.method", block["method"], registries.defenses())
        _known(f"{key}.miner", block["miner"], registries.miners())
        if "backbone" in block.get("training", {}):
            _known(f"{key}.training.backbone", block["training"]["backbone"], registries.backbones())
        _check_options(f"{key}.options", block.get("options", {}), registries.options(block["method"]))
        for option, value in block.get("options", {}).items():
            for data in set(value) - {"default"} if isinstance(value, Mapping) else ():
                _known(f"{key}.options.{option}", data, list(params["datasets"]))
    for name in params["run"]["defenses"]:
        for data in params["run"]["datasets"]:
            _check_weights(f"defenses.{name}.training.weights", defense(params, name, data)["training"])
    for name, block in params["attacks"].items():
        _known(f"attacks.{name}.attack", block["attack"], list(registries.attacks()))
        family = registries.attacks()[block["attack"]]
        if block["family"] != family:
            raise UserError(f"{FILE}: attacks.{name}.family: {block['attack']} lives in {family!r}; write that")
    for name in params["gallery"]["attacks"]:
        _known("gallery.attacks", name, list(params["attacks"]))
        if params["attacks"][name]["family"] == "candidate":
            raise UserError(f"{FILE}: gallery.attacks: {name} perturbs candidates; name attacks that perturb the query")
    for name, block in params["tables"].items():
        for row in block["rows"]:
            _known(f"tables.{name}.rows", row, list(params["defenses"]))
        for key in ("columns", "intervals"):
            for column in block[key]:
                metric, _, attack = column.partition(":")
                _known(f"tables.{name}.{key}", metric, registries.columns())
                if attack:
                    _known(f"tables.{name}.{key}", attack, list(params["attacks"]))


def _is_own(key: str, block: Mapping[str, Any]) -> bool:
    """Whether a block of `defenses` names a model instead of training one; its keys are checked either way."""
    own = block["method"] == OWN
    if own and "model" not in block:
        raise UserError(f"{FILE}: {key}: key 'model' is missing; method {OWN} needs it")
    wrong = [name for name in ("miner", "options", "training") if own and name in block]
    if wrong:
        raise UserError(f"{FILE}: {key}.{wrong[0]}: a model that is not trained has none; remove it")
    if not own and "model" in block:
        raise UserError(f"{FILE}: {key}.method: {block['method']} trains a model; write {OWN} beside `model`")
    if not own and "miner" not in block:
        raise UserError(f"{FILE}: {key}: key 'miner' is missing; add it")
    return own


def _known(key: str, word: str, known: list[str]) -> None:
    if word not in known:
        raise UserError(f"{FILE}: {key}: {word!r} is not there; {choose(word, known)}")


def _check_weights(key: str, profile: Mapping[str, Any]) -> None:
    known = registries.pretrained_backbones()
    if profile["weights"] == "imagenet" and profile["backbone"] not in known:
        raise UserError(
            f"{FILE}: {key}: there are no ImageNet weights of {profile['backbone']!r}; "
            f"write none, or choose a backbone from {', '.join(known)}"
        )


def _check_options(key: str, options: Mapping[str, Any], known: Mapping[str, registries.Option]) -> None:
    for name, value in options.items():
        if name not in known:
            raise UserError(f"{FILE}: {key}: unknown key {name!r}; {choose(name, list(known) or ['no options'])}")
        values = value if isinstance(value, Mapping) else {"default": value}
        if "default" not in values:
            raise UserError(f"{FILE}: {key}.{name}: key 'default' is missing; add it")
        for one in values.values():
            if not known[name].admits(one):
                raise UserError(f"{FILE}: {key}.{name}: {one!r} is not of type {known[name].kind}; change it")
            number = isinstance(one, int | float) and not isinstance(one, bool)
            if number and (one < 0 or (one == 0 and name in POSITIVE_OPTIONS)):
                raise UserError(f"{FILE}: {key}.{name}: {one} is too small; give a number above 0")


def dataset(params: Params, name: str) -> Params:
    """The block of a dataset."""
    return params["datasets"][name]


def defense(params: Params, name: str, dataset: str) -> Params:
    """The block of a defense for one dataset: options reduced to that dataset's values, training profile merged."""
    block = params["defenses"][name]
    options = {
        key: value.get(dataset, value["default"]) if isinstance(value, Mapping) else value
        for key, value in block.get("options", {}).items()
    }
    profile = params["datasets"][dataset]["training"] | block.get("training", {})
    return block | {"options": options, "training": profile}


def attack(params: Params, name: str) -> Params:
    """The block of an attack."""
    return params["attacks"][name]


def lookup(params: Params, key: str) -> Any:
    """The value at a dotted key such as ``datasets.digits.eps``."""
    value: Any = params
    for part in key.split("."):
        value = value[part]
    return value


def text(value: Any) -> str:
    """A block as YAML, keys in their own order, for people to read."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
