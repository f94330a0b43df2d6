"""What params.yaml and the papers' files write in short, written out: every block complete, under its own name.

Nothing here knows what a key means; what comes out is checked by ``stages.runtime.checks``.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import Any, NamedTuple

from stages.runtime import registries
from stages.runtime.errors import ParameterError, choose

Block = dict[str, Any]
Files = dict[tuple[str, str], str]  # of each block, by section and name

INHERITING = ("training", "datasets", "defenses", "attacks", "tables")  # sections whose blocks may say `extends`
BY_KEY = ("options", "training", "expected", "suite")  # keys of a block that a block extending it changes key by key
ALTERNATIVES = ("split", "model")  # each is one of several kinds, whose keys do not go together
WHOLE = ("extends", "method", "attack", "reader", "backbone", "title")  # each says what a block is
FRACTIONS = ("eps", "alpha_over_eps", "eps_scale")
MOST_OF_A_GRID = 1000
MISSPELT = 0.8  # a likeness (difflib) of one letter in five; `strong_small` is not meant to be `strong`


class Origins(NamedTuple):
    """Where blocks come from, by section and name.

    ``files`` has the paper's file of each block that is not in params.yaml; ``own`` what params.yaml wrote of a block
    and of all that it extends, the nearest first, each with the key that it is written at.
    """

    files: Files
    own: dict[tuple[str, str], list[tuple[str, Any]]]

    def place(self, fault: ParameterError) -> tuple[str, str]:
        """The file that a fault is to be mended in, "" for params.yaml, and the key in it."""
        section, name, *path = [*fault.key.split("."), ""]
        path = [key for key in path if key]
        wrong = [*path, *([fault.below] if fault.below else [])]
        for key, block in self.own.get((section, name), ()) if wrong else ():
            if _has(block, wrong):
                return "", ".".join((key, *path))
        return fault.file or self.files.get((section, name), ""), fault.key


def _has(block: Any, path: list[str]) -> bool:
    """Whether a value, and not a mapping of further keys, is written at a path of keys."""
    for key in path:
        if not isinstance(block, Mapping) or key not in block:
            return False
        block = block[key]
    return not isinstance(block, Mapping)


def write_out(own: Mapping[str, Any], papers: Mapping[str, Mapping[str, Any]], origins: Origins) -> dict[str, Any]:
    """Parameters with all blocks complete: the sections of params.yaml without `papers` and `bases`.

    Args:
        own: the content of params.yaml.
        papers: by file name, the sections that a paper's files hold.
        origins: is filled with where the blocks come from.

    Raises:
        ParameterError: a name that is not there, or a block that is written in a way that has no meaning.
    """
    sections = {name: section for name, section in own.items() if name != "papers"}
    changes: dict[str, dict[str, Block]] = {name: {} for name in ("bases", *INHERITING)}
    for name in ("bases", *INHERITING):
        if name in own or any(name in paper for paper in papers.values()):
            sections[name] = _collect(name, own.get(name, {}), papers, origins.files, changes[name])
    bases = sections.pop("bases", {})
    if not isinstance(bases, Mapping):
        raise ParameterError("bases", "is no mapping of blocks; write {} or remove it")
    extended: set[str] = set()
    for name in INHERITING:
        if isinstance(section := sections.get(name), dict):
            known = {key: ("bases", block) for key, block in bases.items()}
            known |= {key: (name, block) for key, block in section.items()}
            chains = {block: _chain(block, known, origins.files) for block in section}
            for block, chain in chains.items():
                origins.own[name, block] = _written(chain, changes, origins.files)
                extended |= {one for where, one, _ in chain if where == "bases"}
            sections[name] = {block: _inherited(chain, changes) for block, chain in chains.items()}
    _refuse_misspelt(bases, extended)
    for name in ("datasets", "defenses"):
        for key, block in _mappings(sections, name):
            _set_profile(f"{name}.{key}.training", block, sections.get("training"))
    for name in ("datasets", "defenses", "attacks"):
        if name in sections:
            sections[name] = _with_numbers(sections[name])
    for _, block in _mappings(sections, "attacks"):
        if isinstance(attack := block.get("attack"), str) and attack in registries.attacks():
            block.setdefault("family", registries.attacks()[attack])
    return sections


def _mappings(sections: Mapping[str, Any], name: str) -> list[tuple[str, Block]]:
    """The blocks of a section that are mappings; the schema complains of others."""
    section = sections.get(name)
    blocks = section.items() if isinstance(section, Mapping) else ()
    return [(key, block) for key, block in blocks if isinstance(block, dict)]


def _collect(
    section: str, own: Any, papers: Mapping[str, Mapping[str, Any]], files: Files, changes: dict[str, Block]
) -> Any:
    """A section's blocks, grids written out: those of params.yaml, and those of papers that it does not replace.

    What params.yaml only changes of a paper's block goes into ``changes``, by name, and waits for what that extends.
    """
    if own is None and section in ("bases", "tables"):
        own = {}
    if not isinstance(own, Mapping):
        return own
    found: dict[str, Any] = {}
    for file, sections in papers.items():
        for name, block in ungridded(section, sections.get(section, {}), file).items():
            if name in found and found[name] != block:
                other = files[section, name]
                raise ParameterError(f"{section}.{name}", f"is another block in {other}; rename one", file)
            found[name] = block
            files.setdefault((section, name), file)
    for name, block in ungridded(section, own).items():
        files.pop((section, name), None)
        if name in found and isinstance(block, dict) and not any(key in block for key in WHOLE):
            changes[name] = block
        else:
            found[name] = block
    return found


def _laid_over(below: Any, above: Any) -> Any:
    """Two mappings as one, key by key at every depth; anything else is the upper one.

    So are a value that differs by dataset, which has a `default`, and what ALTERNATIVES name.
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping) or _by_dataset(above):
        return above
    return {**below, **{key: _upper(below, key, value) for key, value in above.items()}}


def _upper(below: Mapping[str, Any], key: str, value: Any) -> Any:
    return value if key in ALTERNATIVES else _laid_over(below.get(key), value)


def _by_dataset(value: Mapping[str, Any]) -> bool:
    return "default" in value and not isinstance(value["default"], Mapping)


def ungridded(section: str, blocks: Mapping[str, Any], file: str = "") -> dict[str, Any]:
    """A section's blocks with each `grid` as the blocks that it stands for.

    Raises:
        ParameterError: a grid has no values or too many, or makes a block that is there already.
    """
    found: dict[str, Any] = {}
    for name, block in blocks.items():
        series = {name: block}
        if isinstance(block, Mapping) and "grid" in block:
            series = _series(f"{section}.{name}", str(name), block, file)
        for one, content in series.items():
            if one in found:
                raise ParameterError(f"{section}.{one}", "is there twice, once of a grid; rename one", file)
            found[one] = content
    return found


def _series(key: str, name: str, block: Mapping[str, Any], file: str) -> dict[str, Block]:
    """The blocks of a grid by name, in the order of its values, the last key's first."""
    grid, axes = block["grid"], []
    for path, values in grid.items() if isinstance(grid, Mapping) else ():
        pairs = values.items() if isinstance(values, Mapping) else [(value, value) for value in _listed(values)]
        axes.append([(str(path).split("."), str(suffix), value) for suffix, value in pairs])
    count = prod(map(len, axes)) if axes else 0
    if not 0 < count <= MOST_OF_A_GRID:
        example = "write {options.steps: [2, 4]}, keys with their values"
        raise ParameterError(f"{key}.grid", f"makes {count} blocks; {example}", file)
    found = {}
    for chosen in product(*axes):
        one = {other: deepcopy(value) for other, value in block.items() if other != "grid"}
        for path, _, value in chosen:
            if not _put(one, path, value):
                raise ParameterError(f"{key}.grid", f"{'.'.join(path)[:100]!r} leads through a value; name a key", file)
        found[name + "_".join(suffix for _, suffix, _ in chosen)] = one
    return found


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _put(block: Block, path: list[str], value: Any) -> bool:
    """Set a value at a path of keys, with mappings on the way; False where another value is in the way."""
    *parents, last = path
    for parent in parents:
        block = block.setdefault(parent, {})
        if not isinstance(block, dict):
            return False
    block[last] = deepcopy(value)
    return True


Link = tuple[str, str, Any]  # the section, the name and the content of a block that another one extends, or of itself


def _chain(name: str, known: Mapping[str, tuple[str, Any]], files: Files) -> list[Link]:
    """A block, what it extends, what that extends, and so on; ``known`` has the section and the content of each."""
    chain: list[Link] = []
    while True:
        where, block = known[name]
        chain.append((where, name, block))
        if not isinstance(block, Mapping) and len(chain) > 1:
            raise ParameterError(f"{where}.{name}", "is no mapping of keys; write what it has, or remove it")
        if not isinstance(block, Mapping) or "extends" not in block:
            return chain
        met, asked = [one for _, one, _ in chain], block["extends"]
        if not isinstance(asked, str) or asked not in known:
            names = sorted(str(one) for one in known if one not in met)
            raise ParameterError(f"{where}.{name}.extends", f"{asked!r} is not there; {choose(str(asked), names)}")
        if asked in met:
            raise _circle(chain[met.index(asked) :], files)
        name = asked


def _circle(links: list[Link], files: Files) -> ParameterError:
    """What is wrong with blocks that extend each other in a circle, said of one in params.yaml where there is any."""
    section, name, block = min(links, key=lambda link: link[:2] in files)
    return ParameterError(f"{section}.{name}.extends", f"{block['extends']!r} extends this block; break the circle")


def _inherited(chain: list[Link], changes: Mapping[str, Mapping[str, Block]]) -> Any:
    """A block with all that it extends, and with what is changed of each; a copy of its own."""
    if not isinstance(chain[0][2], Mapping):
        return deepcopy(chain[0][2])
    found: Block = {}
    for section, name, block in reversed(chain):
        merged = {key: {**found[key], **block[key]} for key in BY_KEY if _both_mappings(found, block, key)}
        found = _laid_over({**found, **block, **merged}, changes[section].get(name, {}))
    found.pop("extends", None)
    return deepcopy(found)


def _both_mappings(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    return isinstance(one.get(key), Mapping) and isinstance(other.get(key), Mapping)


def _written(chain: list[Link], changes: Mapping[str, Mapping[str, Block]], files: Files) -> list[tuple[str, Any]]:
    """What of a chain is in params.yaml, with its key: changes of papers' blocks, and blocks of its own."""
    found = []
    for section, name, block in chain:
        changed = changes[section].get(name)
        if changed is not None or (section, name) not in files:
            found.append((f"{section}.{name}", block if changed is None else changed))
    return found


def _refuse_misspelt(bases: Mapping[str, Any], extended: set[str]) -> None:
    """Refuse a base that no block extends and that is nearly called like one that some do."""
    for name in bases:
        if name not in extended and (near := get_close_matches(str(name), extended, n=1, cutoff=MISSPELT)):
            raise ParameterError(f"bases.{name}", f"nothing extends it; did you mean {near[0]!r}?")


def _set_profile(key: str, block: Block, profiles: Any) -> None:
    """Put the keys of the profile that a block's `training` names under those that it gives itself."""
    training = block.get("training")
    if not isinstance(training, dict) or "profile" not in training:
        return
    name = training["profile"]
    if not isinstance(name, str) or not isinstance(profiles, Mapping) or not isinstance(profiles.get(name), Mapping):
        known = sorted(map(str, profiles)) if isinstance(profiles, Mapping) else []
        raise ParameterError(f"{key}.profile", f"{name!r} is not in `training`; {choose(str(name), known)}")
    block["training"] = {**profiles[name], **{one: value for one, value in training.items() if one != "profile"}}


def _with_numbers(value: Any, share: bool = False) -> Any:
    """A value in which text such as 8/255 is the number, below the keys that are shares of something."""
    if isinstance(value, dict):
        return {key: _with_numbers(one, share or key in FRACTIONS) for key, one in value.items()}
    found = re.fullmatch(r"(\d{1,6})/([1-9]\d{0,5})", value) if share and isinstance(value, str) else None
    return int(found[1]) / int(found[2]) if found else value
