"""The parameters: params.yaml with the blocks and tables of the papers that it names, all written out and checked.

``load`` gives them; ``defense`` and ``attack`` give a block as a job on one dataset needs it.
"""

from collections.abc import Iterable, Mapping
from itertools import count, product
from pathlib import Path
from typing import Any

from stages.runtime import blocks, checks, documents, registries
from stages.runtime.documents import text as text
from stages.runtime.errors import ParameterError, UserError, choose

Params = dict[str, Any]
FILE = "params.yaml"
PAPERS = Path(__file__).parents[2] / "workflow" / "papers"
STRENGTH = (
    "steps",
    "alpha_over_eps",
    "optimizer",
    "start",
    "restarts",
    "surrogate",
)  # of an attack, or of one of a suite
PAPER_FILES = {  # and the sections that each may hold
    "blocks.yaml": ("bases", "datasets", "training", "defenses", "attacks"),
    "tables.yaml": ("bases", "tables"),
}
PROTOCOL = {"steps": 32, "alpha_over_eps": 0.375}  # of an attack where no params.yaml says it (method.md 1.6)
RENAMED = {"gallery": "visualize"}  # keys at the top, as older files have them


def load(path: str | Path = FILE) -> Params:
    """Read, write out and check the parameters.

    What comes out is complete: it has no `extends`, `grid`, `profile`, `papers` or `bases` any more, and written to a
    file it would be read as the same.

    Raises:
        UserError: a file is absent, is not YAML, or breaks the schema or a reference between blocks.
    """
    own = read(path)
    origins = blocks.Origins({}, {})
    try:
        checks.check_values(own, "", count())
        if not isinstance(own, Mapping):
            checks.check_schema(own)
        for old, new in RENAMED.items():
            if old in own:
                raise ParameterError(old, f"is called `{new}` now; rename the key")
        params = blocks.write_out(own, read_papers(_papers(own)), origins)
        _check(params)
    except ParameterError as fault:
        raise UserError(_located(fault, origins, own)) from None
    return params


def read(path: str | Path = FILE) -> Any:
    """The content of params.yaml as it is written.

    Raises:
        UserError: it is absent or not YAML.
    """
    return documents.read(Path(path), FILE)


def _papers(own: Mapping[str, Any]) -> list[str]:
    """The papers that params.yaml names."""
    named, known = own.get("papers", []), papers_there()
    if not isinstance(named, list) or len(set(map(str, named))) < len(named):
        raise ParameterError(
            "papers", f"is no list of names without repeats; write [{', '.join(known)}], or [] for none"
        )
    for name in named:
        if name not in known:
            raise ParameterError("papers", f"{name!r} is no folder of workflow/papers; {choose(str(name), known)}")
    return named


def papers_there() -> list[str]:
    """The papers that have a folder."""
    return sorted(path.name for path in PAPERS.glob("[!._]*/") if path.is_dir())


def read_papers(names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The sections in some papers' files of blocks and tables, by the files' names in the project.

    Raises:
        UserError: a file is not YAML, or has a section that does not belong there.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name, (part, sections) in product(names, PAPER_FILES.items()):
        path, file = PAPERS / name / part, f"workflow/papers/{name}/{part}"
        if not path.exists():
            continue
        content = documents.read(path, file) or {}
        if not isinstance(content, Mapping) or not all(isinstance(below, Mapping) for below in content.values()):
            raise UserError(f"{file}: is no mapping of sections; write {sections[-1]}: and its blocks below")
        if wrong := [str(section) for section in content if section not in sections]:
            raise UserError(f"{file}: unknown key {wrong[0]!r}; {choose(wrong[0], list(sections))}")
        try:
            checks.check_values(content, "", count())
        except ParameterError as fault:
            raise UserError(f"{file}: {fault}") from None
        found[file] = content
    return found


def _located(fault: ParameterError, origins: blocks.Origins, own: Any) -> str:
    """What is wrong, with the file to mend; where `run` names a block of a paper that is not read, which paper."""
    section, name, *_ = [*fault.key.split("."), ""]
    if section == "run":
        for paper in sorted(set(papers_there()) - set(own.get("papers", []))):
            if any(fault.problem.startswith(f"{one!r} is not there") for one in _blocks_of(paper, name)):
                return f"{FILE}: {fault.key}: {fault.problem.split('; ')[0]}; add {paper} to `papers`, which has it"
    file, key = origins.place(fault)
    return f"{file or FILE}: {key}: {fault.problem}"


def _blocks_of(paper: str, section: str) -> list[str]:
    """The names of a paper's blocks in a section; none where its files cannot be read."""
    try:
        parts = read_papers([paper]).values()
        return [one for part in parts for one in blocks.ungridded(section, part.get(section, {}))]
    except (ParameterError, UserError):
        return []


def check(params: Any) -> None:
    """Check parameters, all blocks written out, against the schema and against each other.

    Raises:
        UserError: names the first offending key and what it should be.
    """
    try:
        _check(params)
    except ParameterError as fault:
        raise UserError(f"{FILE}: {fault}") from None


def _check(params: Any) -> None:
    checks.check_values(params, "", count())
    checks.check_schema(params)
    checks.check_references(params)


def defense(params: Params, name: str, dataset: str) -> Params:
    """The block of a defense for one dataset: options reduced to that dataset's values, training profile merged."""
    block = params["defenses"][name]
    options = {key: for_dataset(value, dataset) for key, value in block.get("options", {}).items()}
    profile = params["datasets"][dataset]["training"] | block.get("training", {})
    return block | {"options": options, "training": profile}


def profile(params: Params, stage: str, dataset: str, name: str) -> Params:
    """The training profile that a job of a stage has its threads and its device from.

    A training has that of its defense, ``name``. Whatever measures models has the dataset's alone, so that all defenses
    are measured alike.
    """
    return defense(params, name, dataset)["training"] if stage == "train" else params["datasets"][dataset]["training"]


def attack(params: Params, name: str, dataset: str) -> Params:
    """The block of an attack for one dataset: values that differ by dataset reduced to that dataset's.

    The members of a suite have all keys of strength: what one leaves out is the block's.
    """
    block = dict(params["attacks"][name])
    suite = block.pop("suite", {})
    found = {key: for_dataset(value, dataset) for key, value in block.items()}
    shared = {key: found[key] for key in STRENGTH if key in found}
    members = {
        member: shared | {key: for_dataset(value, dataset) for key, value in changed.items()}
        for member, changed in suite.items()
    }
    return found | ({"suite": members} if members else {})


def attacks_without_file(asked: Mapping[str, Any], changes: Mapping[str, Any], dataset: str) -> dict[str, Params]:
    """Blocks of attacks for one dataset where there is no params.yaml, by name.

    Args:
        asked: blocks as one writes them under `attacks` in params.yaml. They may extend or change every block of the
            papers in workflow/papers, and the protocol's, which are called like the entries of ATTACKS; {} changes
            nothing.
        changes: values for all of ``asked`` that do not give their own.
        dataset: of values that differ by dataset, the one to take.

    Raises:
        ParameterError: a block that is not there or cannot be used; names its key.
        UserError: a paper's file cannot be read.
    """
    papers = {
        file: {name: content[name] for name in ("bases", "attacks") if name in content}
        for file, content in read_papers(papers_there()).items()
    }
    known = {
        name for file, part in papers.items() for name in blocks.ungridded("attacks", part.get("attacks", {}), file)
    }
    steps, alpha = PROTOCOL["steps"], {"alpha_over_eps": PROTOCOL["alpha_over_eps"]}
    plain = {name: {"extends": "pgd_attack", "attack": name, "steps": steps} for name in registries.names("ATTACKS")}
    papers["the protocol"] = {"attacks": {name: block for name, block in plain.items() if name not in known}}
    for name, block in asked.items():
        if not isinstance(block, Mapping):
            raise ParameterError(f"attacks.{name}", f"{block!r} is no mapping; write what it changes, or {{}}")
        if name not in {*known, *plain} and not {"extends", "attack"} & {*block}:
            new = "; a new block says what it `extends`" if block else ""
            raise ParameterError(
                "attacks", f"{name!r} is not there; {choose(str(name), sorted({*known, *plain}))}{new}"
            )
    own = {name: _dicts({**changes, **block}) for name, block in asked.items()}
    checks.check_values(own, "attacks", count())
    found = blocks.write_out({"bases": {"pgd_attack": alpha}, "attacks": own}, papers, blocks.Origins({}, {}))
    checks.check_attacks({name: found["attacks"][name] for name in blocks.ungridded("attacks", own)})
    return {name: attack(found, name, dataset) for name in blocks.ungridded("attacks", own)}


def _dicts(value: Any) -> Any:
    """A value whose mappings are dicts at every depth, as YAML gives them."""
    return {key: _dicts(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def for_dataset(value: Any, dataset: str) -> Any:
    """A value that may be a mapping ``{default: ..., <dataset>: ...}``, reduced to that dataset's."""
    return value.get(dataset, value["default"]) if isinstance(value, Mapping) else value
