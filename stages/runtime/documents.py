"""YAML as this project reads it: safe, each key once, one line for what is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.runtime import conflicts
from stages.runtime.errors import UserError, reason


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C where PyYAML has it
    """YAML's safe loader that refuses a key written twice (YAML itself would silently keep the last)."""

    file = ""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
            line = key.start_mark.line + 1
            raise UserError(f"{loader.file}: line {line}: key {key.value!r} is written twice; remove one")
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read(path: Path, file: str) -> Any:
    """The content of a YAML file, which messages call ``file``.

    Raises:
        UserError: it is absent, not YAML, or has a key twice.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run from the project's folder") from None
    conflicts.check(path, content)
    try:
        loader = _StrictLoader(content)
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise UserError(f"{path}: not valid YAML ({reason(error)})") from None
    loader.file = file
    try:
        return loader.get_single_data()
    except UserError:
        raise
    except Exception as error:  # yaml lets through whatever Python says of `!!bool x` or `!!timestamp x`
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where else ""
        problem = getattr(error, "problem", None) or reason(error)
        raise UserError(f"{path}: {line}not valid YAML ({problem})") from None
    finally:
        loader.dispose()


def text(value: Mapping[str, Any]) -> str:
    """A block as YAML, keys in their own order, for people to read."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
