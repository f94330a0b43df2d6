"""The hash of the code that a job runs, followed from definition to definition through imports.

A definition is what binds a name at the top level of a module: a function, a class, a constant, an import. From a
stage's ``main`` every name that a definition uses leads to the next one, in the same module or another of the project;
imports inside functions count. Of a registry only the entries count that the job names, so that another entry, or a
function beside it, leaves the job alone. Comments, docstrings and layout are not part of the hash.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from copy import copy
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# Dict literals of which a job uses the entries that its parameters name.
REGISTRIES = (
    "ATTACKS", "BACKBONES", "BLACK_BOX", "DEFENSES", "MINERS", "READERS", "STARTS", "SURROGATES", "WHITE_BOX",
)  # fmt: skip
# Modules that are not followed, because otherwise every new message would retrain everything, each with the reason why
# it cannot change a result. If a change of one is meant to, use `snakemake --forceall`.
CANNOT_CHANGE_A_RESULT = {
    "stages.core.evaluation_checks": "warns of attacks that look weak; the report, which prints it, has it as a file",
    "stages.core.selfchecks": "refuses a model whose output does not depend on its images alone",
    "stages.models.state_dicts": "reports weights that do not fit",
    "stages.runtime.allocator": "where tensors lie in memory",
    "stages.runtime.artifacts": "paths of files, and atomic writes",
    "stages.runtime.blocks": "writes out the values that are in the recipe",
    "stages.runtime.checks": "refuses wrong parameters",
    "stages.runtime.checksums": "compares files with recorded hashes, and ends the job if they differ",
    "stages.runtime.cli": "words and messages",
    "stages.runtime.conflicts": "refuses files that git left half merged",
    "stages.runtime.documents": "reads the values that are in the recipe",
    "stages.runtime.errors": "messages",
    "stages.runtime.forkserver": "starts the process in which a job runs",
    "stages.runtime.params": "gives the values that are in the recipe",
    "stages.runtime.progress": "bars, and files in logs/",
    "stages.runtime.provenance": "files in logs/",
    "stages.runtime.registries": "names, for checks of parameters",
    "stages.runtime.termination": "when a job ends, not what it computes",
    "stages.runtime.threads": "gives libraries the number that is in the recipe",
}
RUN_ON_IMPORT, ALL = "", "*"  # in place of a definition's name: statements that bind no name, and the whole module

Reference = tuple[str, str]  # a module's dotted name, and a definition in it


class Definition(NamedTuple):
    """The text of a definition, the definitions that it uses, and its strings, which may name registry entries."""

    text: str
    uses: frozenset[Reference]
    strings: frozenset[str]


def canonical(node: object) -> str:
    """A syntax tree as text without comments, docstrings and positions.

    Unlike ``ast.dump`` it leaves out empty fields, as new versions of Python add some.
    """
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={canonical(value)}"
            for name, value in ast.iter_fields(node)
            if value is not None and value != [] and name not in ("ctx", "kind", "type_comment")
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(canonical(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    """Whether a statement is a string and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def source(root: Path, module: str) -> Path | None:
    """The file of a module of the project, or None for any other."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


class Reader:
    """One module of the project as definitions by name."""

    def __init__(self, root: Path, module: str):
        """Read the module's source."""
        path = source(root, module)
        assert path is not None
        self.root, self.module = root, module
        self.package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        body = [node for node in tree.body if not _is_docstring(node) and not _never_runs(node)]
        self.bound: dict[str, list[ast.stmt]] = {}
        for node in body:
            for name in set(_binds(node)) or {RUN_ON_IMPORT}:
                self.bound.setdefault(name, []).append(node)
        self.imported = {name: target for node in body for name, target in self.imports(ast.walk(node))}
        self.entries = {
            f"{name}[{key}]": value
            for name in REGISTRIES
            for registry in self.bound.get(name, ())
            for key, value in _entries(registry)
        }

    def definitions(self) -> dict[str, Definition]:
        """All definitions, entries of registries as ``REGISTRY[key]``."""
        found = {name: self._definition(name, nodes) for name, nodes in self.bound.items()}
        return found | {name: self._definition(name, [node]) for name, node in self.entries.items()}

    def imports(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Reference]]:
        """Names that import statements among some nodes bind, with what they stand for in the project."""
        for inner in nodes:
            if isinstance(inner, ast.Import):
                for alias in inner.names:
                    if source(self.root, alias.name):
                        yield alias.asname or alias.name.partition(".")[0], (alias.name, ALL)
            elif isinstance(inner, ast.ImportFrom):
                name = "." * inner.level + (inner.module or "")
                origin = resolve_name(name, self.package) if inner.level else name
                for alias in inner.names if source(self.root, origin) else ():
                    below = f"{origin}.{alias.name}"
                    target = (below, ALL) if source(self.root, below) else (origin, alias.name)
                    yield alias.asname or alias.name, target

    def _definition(self, name: str, nodes: list[ast.stmt] | list[ast.expr]) -> Definition:
        """The definition that the nodes binding a name make up."""
        if name and all(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes):
            target = self.imported.get(name)
            text = f"{target}" if target else canonical(nodes)
            return Definition(text, frozenset([target] if target else ()), frozenset())
        kept = [_without_entries(node) if name in REGISTRIES else node for node in nodes]
        uses: set[Reference] = set()
        strings: set[str] = set()
        for node in kept:
            inside = list(ast.walk(node))
            uses.update(self._uses(node, inside))
            constants = (inner.value for inner in inside if isinstance(inner, ast.Constant))
            strings.update(value for value in constants if isinstance(value, str))
        return Definition(canonical(kept), frozenset(uses - {(self.module, name)}), frozenset(strings))

    def _uses(self, node: ast.AST, parts: list[ast.AST]) -> Iterator[Reference]:
        """Definitions that a node of these parts refers to: by name, by ``module.name``, or by importing them."""
        inside = dict(self.imports(parts))
        known = self.imported | inside
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from inside.values()  # names that an `if` or a `try` imports are used elsewhere
        one_of = set()  # names of modules that are asked for one definition
        for part in parts:  # breadth first, so that an attribute comes before the name it is of
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                module, name = known.get(part.value.id, ("", ""))
                if name == ALL:
                    one_of.add(part.value)
                    yield module, part.attr
            elif isinstance(part, ast.Name) and part not in one_of:
                if part.id in inside:
                    yield inside[part.id]
                elif part.id in self.bound:
                    yield self.module, part.id


def _never_runs(node: ast.stmt) -> bool:
    """Whether a statement at the top level is for type checkers, or for running the module by itself."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = ast.unparse(node.test)
    return test in ("TYPE_CHECKING", "typing.TYPE_CHECKING") or test.startswith("__name__ ==")


def _binds(node: ast.AST) -> Iterator[str]:
    """Names that a statement at the top level binds; none where it only does something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Import | ast.ImportFrom):
        yield RUN_ON_IMPORT
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.alias):
            yield RUN_ON_IMPORT if inner.name == "*" else inner.asname or inner.name.partition(".")[0]


def _entries(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """Keys and values of a registry's dict literal; none where it is not one with plain keys."""
    literal = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if not isinstance(literal, ast.Dict):
        return []
    pairs = zip(literal.keys, literal.values, strict=True)
    found = [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return found if len(found) == len(literal.keys) else []


def _without_entries(node: ast.AST) -> ast.AST:
    """A registry's statement with an empty dict literal in place of its own."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and _entries(node):
        node = copy(node)
        node.value = ast.Dict([], [])
    return node


@cache
def read(root: Path, module: str) -> dict[str, Definition]:
    """The definitions of a module of the project by name."""
    return Reader(root, module).definitions()


def reached(root: Path, start: Reference, named: Iterable[str] | None) -> set[Reference]:
    """All definitions that running ``start`` can reach; of registries the entries ``named``, or all for None.

    Strings in the code name entries as well: a default of an option does.
    """
    found: set[Reference] = set()
    words = set(named or ())
    todo = [start]
    waiting: dict[str, list[Reference]] = {}  # entries of registries that were reached, by key
    while todo:
        reference = todo.pop()
        module, name = reference
        if reference in found or module in CANNOT_CHANGE_A_RESULT:
            continue
        found.add(reference)
        definitions = read(root, module)
        todo += [(above, RUN_ON_IMPORT) for above in _packages(module) if source(root, above)]
        if name == ALL or name not in definitions:
            todo += [(module, one) for one in definitions if name == ALL or one == RUN_ON_IMPORT]
            if name not in (ALL, RUN_ON_IMPORT):
                todo.append((module, ALL))  # made in a way that the source does not show
            continue
        todo += definitions[name].uses
        new = definitions[name].strings - words
        words |= new
        todo += [entry for word in new for entry in waiting.get(word, ())]
        for one in definitions if name in REGISTRIES else ():
            if one.startswith(f"{name}["):
                key = one[len(name) + 1 : -1]
                waiting.setdefault(key, []).append((module, one))
                if named is None or key in words:
                    todo.append((module, one))
    return found


def _packages(module: str) -> Iterator[str]:
    """A module and the packages that it lies in, all of which run when it is imported."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def digest_of_file(path: Path) -> str:
    """SHA-256 of all code of one file, comments, docstrings and layout left out."""
    return hashlib.sha256(canonical(ast.parse(path.read_text(encoding="utf-8"))).encode()).hexdigest()


@cache
def digest(module: str, named: frozenset[str] | None, root: Path = ROOT) -> str:
    """SHA-256 of the code that ``python -m <module>`` runs; of registries the entries ``named``, or all for None."""
    lines = sorted(
        f"{where}.{name} {read(root, where)[name].text}\n"
        for where, name in reached(root, (module, "main"), named)
        if name in read(root, where)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
