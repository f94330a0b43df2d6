"""What the code offers by name, read from its source so that nothing heavy is imported to check a name."""

import ast
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from stages.runtime.errors import UserError

STAGES = Path(__file__).parents[1]
CORE = STAGES / "core"


MODULES = {  # below stages/, by the name of the dict literal in each
    "ATTACKS": "core/attacks/__init__.py",
    "ATTACK_DIRECTIONS": "core/directions.py",
    "ATTACK_OF": "core/scores.py",
    "BACKBONES": "core/models.py",
    "BLACK_BOX": "core/search/__init__.py",
    "COLUMNS": "reporting/tables.py",
    "DEFENSES": "core/defenses/__init__.py",
    "FURTHER": "core/scores.py",
    "MINERS": "core/mining.py",
    "READERS": "data/readers.py",
    "STARTS": "core/search/__init__.py",
    "SURROGATES": "core/attacking.py",
    "WHITE_BOX": "core/search/__init__.py",
}


@cache
def _entries(registry: str) -> dict[str, ast.expr]:
    for node in ast.parse((STAGES / MODULES[registry]).read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", ast.Name(""))]
        literal = getattr(node, "value", None)
        if isinstance(literal, ast.Dict) and registry in map(ast.unparse, targets):
            pairs = zip(literal.keys, literal.values, strict=True)
            return {ast.literal_eval(key): value for key, value in pairs if key is not None}
    raise KeyError(f"{MODULES[registry]} defines no dict literal {registry}")


def names(*registries: str) -> list[str]:
    """Keys of some of the registries of ``MODULES``, in their order.

    Raises:
        KeyError: a module has no such dict literal.
    """
    return [name for registry in registries for name in _entries(registry)]


def attacks() -> dict[str, str]:
    """Names in ATTACKS and the family, that is the file, each comes from."""
    return {name: ast.unparse(value).partition(".")[0] for name, value in _entries("ATTACKS").items()}


def literals(*registries: str) -> dict[str, Any]:
    """Values of registries that are written out, by name.

    Raises:
        KeyError: a module has no such dict literal.
    """
    return {name: ast.literal_eval(value) for one in registries for name, value in _entries(one).items()}


def pretrained_backbones() -> list[str]:
    """Names in BACKBONES whose entry gives `weights`."""
    calls = {name: value for name, value in _entries("BACKBONES").items() if isinstance(value, ast.Call)}
    return [name for name, call in calls.items() if any(word.arg == "weights" for word in call.keywords)]


class Option(NamedTuple):
    """What an option takes: ``kind`` is the annotation, ``types`` of one value, ``choices`` of a Literal, ``many``."""

    kind: str
    types: tuple[type, ...]
    choices: tuple[str, ...]
    many: bool

    def admits(self, value: object) -> bool:
        """Whether ``value``, as read from YAML, fits."""
        if self.many:
            return isinstance(value, list) and bool(value) and all(self._one(item) for item in value)
        return self._one(value)

    def _one(self, value: object) -> bool:
        if isinstance(value, bool):  # Python counts true as a whole number
            return bool in self.types
        return isinstance(value, self.types) and (
            not isinstance(value, str) or not self.choices or value in self.choices
        )


_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "Literal": (str,),
    "None": (type(None),),
}


def _option(annotation: ast.expr) -> Option:
    """Read an annotation.

    Raises:
        ValueError: it is none of those that `options` names.
    """
    many = isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Sequence"
    parts = _alternatives(annotation.slice if isinstance(annotation, ast.Subscript) and many else annotation)
    types: tuple[type, ...] = ()
    choices: tuple[str, ...] = ()
    for part in parts:
        name = ast.unparse(part.value if isinstance(part, ast.Subscript) else part)
        if name not in _TYPES or isinstance(part, ast.Subscript) != (name == "Literal"):
            raise ValueError(ast.unparse(annotation))
        types += _TYPES[name]
        if isinstance(part, ast.Subscript):
            written = ast.literal_eval(part.slice)
            choices += written if isinstance(written, tuple) else (written,)
    if not all(isinstance(choice, str) for choice in choices):
        raise ValueError(ast.unparse(annotation))
    return Option(ast.unparse(annotation), types, choices, many)


def _alternatives(annotation: ast.expr) -> list[ast.expr]:
    """The members of ``a | b``, and of ``Optional[a]``."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Optional":
        return [annotation.slice, ast.Constant(None)]
    return [annotation]


@cache
def options(method: str) -> dict[str, Option]:
    """Keyword-only arguments of the defense ``method``, ``eps`` left out (training gives it).

    They are annotated bool, int, float, str, Literal["a", "b"], one of these ``| None``, or Sequence of one of these.

    Raises:
        UserError: the file defines no such function, or an option has no annotation or another one.
    """
    path = CORE / "defenses" / f"{method}.py"
    place = path.relative_to(CORE.parents[1]).as_posix()
    body = ast.parse(path.read_text()).body if path.is_file() else []
    function = next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == method), None)
    if function is None:
        raise UserError(f"{place}: defines no function {method!r}; give it the name of the file and of the registry")
    known = {}
    for argument in function.args.kwonlyargs:
        if argument.arg == "eps":
            continue
        try:
            known[argument.arg] = _option(argument.annotation or ast.Name("no annotation"))
        except ValueError as error:
            raise UserError(
                f"{place}: option {argument.arg!r} is annotated {error}, which params.yaml cannot be checked against; "
                'annotate it bool, int, float, str, Literal["a", "b"], one of these | None, or Sequence of one'
            ) from None
    return known
