"""What the code offers by name, read from its source so that nothing heavy is imported to check a name."""

import ast
from pathlib import Path

CORE = Path(__file__).parent.parent / "core"
IO = Path(__file__).parent


def names(module: Path, registry: str) -> list[str]:
    """Keys of the dict literal ``registry`` at the foot of ``module``.

    Raises:
        KeyError: the module has no such dict literal.
    """
    for node in ast.parse(module.read_text()).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == registry:
            value = getattr(node, "value", None)
            if isinstance(value, ast.Dict):
                return [ast.literal_eval(key) for key in value.keys if key is not None]
    raise KeyError(f"{module} defines no dict literal {registry}")


def options(method: str) -> dict[str, str]:
    """Keyword-only arguments of the defense ``method`` and their annotations, ``eps`` left out (training gives it)."""
    module = ast.parse((CORE / "defenses" / f"{method}.py").read_text())
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == method)
    arguments = {arg.arg: ast.unparse(arg.annotation) for arg in function.args.kwonlyargs if arg.annotation}
    return {name: kind for name, kind in arguments.items() if name != "eps"}


def defenses() -> list[str]:
    """Names in DEFENSES."""
    return names(CORE / "defenses" / "__init__.py", "DEFENSES")


def attacks() -> list[str]:
    """Names in ATTACKS."""
    return names(CORE / "attacks" / "__init__.py", "ATTACKS")


def miners() -> list[str]:
    """Names in MINERS."""
    return names(CORE / "mining.py", "MINERS")


def backbones() -> list[str]:
    """Names in BACKBONES."""
    return names(CORE / "models.py", "BACKBONES")


def readers() -> list[str]:
    """Names in READERS."""
    return names(IO / "readers.py", "READERS")


def columns() -> list[str]:
    """Names in COLUMNS, the metrics that tables can show."""
    return names(CORE / "tables.py", "COLUMNS")
