"""What the code offers by name, read from its source so that nothing heavy is imported to check a name."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

STAGES = Path(__file__).parents[1]
CORE = STAGES / "core"


@cache
def _literal(module: Path, registry: str) -> ast.Dict:
    for node in ast.parse(module.read_text()).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == registry:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Dict):
                return value
    raise KeyError(f"{module} defines no dict literal {registry}")


def names(module: Path, registry: str) -> list[str]:
    """Keys of the dict literal ``registry`` at the foot of ``module``.

    Raises:
        KeyError: the module has no such dict literal.
    """
    return [ast.literal_eval(key) for key in _literal(module, registry).keys if key is not None]


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
        right_type = isinstance(value, self.types) and not isinstance(value, bool)
        return right_type and (not self.choices or value in self.choices)


_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "Literal": (str,)}


def _option(annotation: ast.expr) -> Option:
    many = isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Sequence"
    inner = annotation.slice if isinstance(annotation, ast.Subscript) and many else annotation
    choices = ast.literal_eval(inner.slice) if isinstance(inner, ast.Subscript) else ()
    name = ast.unparse(inner.value if isinstance(inner, ast.Subscript) else inner)
    return Option(ast.unparse(annotation), _TYPES[name], choices, many)


@cache
def options(method: str) -> dict[str, Option]:
    """Keyword-only arguments of the defense ``method``, ``eps`` left out (training gives it).

    They are annotated int, float, str, Literal["a", "b"] or Sequence of one of these.
    """
    module = ast.parse((CORE / "defenses" / f"{method}.py").read_text())
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == method)
    return {arg.arg: _option(arg.annotation) for arg in function.args.kwonlyargs if arg.annotation and arg.arg != "eps"}


def defenses() -> list[str]:
    """Names in DEFENSES."""
    return names(CORE / "defenses" / "__init__.py", "DEFENSES")


def attacks() -> dict[str, str]:
    """Names in ATTACKS and the family, that is the file, each comes from."""
    literal = _literal(CORE / "attacks" / "__init__.py", "ATTACKS")
    pairs = zip(literal.keys, literal.values, strict=True)
    return {ast.literal_eval(key): ast.unparse(value).partition(".")[0] for key, value in pairs if key is not None}


def miners() -> list[str]:
    """Names in MINERS."""
    return names(CORE / "mining.py", "MINERS")


def backbones() -> list[str]:
    """Names in BACKBONES."""
    return names(CORE / "models.py", "BACKBONES")


def pretrained_backbones() -> list[str]:
    """Names in BACKBONES whose entry gives `weights`."""
    literal = _literal(CORE / "models.py", "BACKBONES")
    return [
        ast.literal_eval(key)
        for key, value in zip(literal.keys, literal.values, strict=True)
        if key is not None and isinstance(value, ast.Call) and any(word.arg == "weights" for word in value.keywords)
    ]


def readers() -> list[str]:
    """Names in READERS."""
    return names(STAGES / "data" / "readers.py", "READERS")


def columns() -> list[str]:
    """Names in COLUMNS, the metrics that tables can show."""
    return names(STAGES / "reporting" / "tables.py", "COLUMNS")
