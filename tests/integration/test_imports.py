"""Who may import whom, and that code stays small enough to read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE, LONGEST_FUNCTION = 300, 60  # lines
CORE = (
    *("stages.core", "torch", "numpy", "sklearn", "scipy", "faiss"),
    *("abc", "collections", "functools", "hashlib", "itertools", "math", "typing"),
)
# What a room may import of the project, beside itself.
ROOMS = {
    "core": set(),
    "runtime": {"core"},
    "data": {"core", "runtime"},
    "models": {"core", "runtime"},
    "reporting": {"core", "runtime"},
}
# Imports inside functions: what takes long to import and not every caller needs, or may be absent.
LAZY = {
    "joblib", "jsonschema", "jsonschema.exceptions",  # --help
    "sklearn.datasets", "sklearn.metrics", "faiss",  # half a second each
    "numpy", "scipy.io",  # in the process that reads MATLAB files
    "stages.data.expectations",  # great-expectations: seconds
    "stages.runtime.forkserver", "stages.runtime.provenance", "stages.runtime.progress",
    "rich.console", "rich.filesize", "rich.progress",  # not where another process does the job
    "stages.benchmarking",  # `from stages import benchmark`
}  # fmt: skip


def parsed(path):
    return ast.parse(path.read_text())


def imported(node):
    """Modules that import statements anywhere in a node name, as dotted names."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom) and inner.module:
            yield inner.module
            yield from (f"{inner.module}.{alias.name}" for alias in inner.names)


def sources(folder, pattern="**/*.py"):
    return sorted((ROOT / folder).glob(pattern))


def functions(path):
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]


def test_core_imports_nothing_that_touches_files():
    for path in sources("stages/core"):
        for name in imported(parsed(path)):
            assert name.startswith(CORE), f"{path}: {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_what_lies_below_them(room):
    allowed = tuple(f"stages.{name}" for name in {room, *ROOMS[room]})
    for path in sources(f"stages/{room}"):
        for name in imported(parsed(path)):
            assert not name.startswith("stages.") or name.startswith(allowed), f"{path}: {name}"


def test_no_stage_imports_another():
    for path in sources("stages", "*.py"):
        others = {f"stages.{other}" for other in (*STAGES, "fetch") if other != path.stem}
        assert not others & set(imported(parsed(path))), path


def test_stages_are_thin_and_all_there():
    found = {path.stem for path in sources("stages", "*.py")}
    assert found == {*STAGES, "fetch", "benchmarking", "__init__"}
    for stage in (*STAGES, "fetch"):
        path = ROOT / f"stages/{stage}.py"
        assert [node.name for node in functions(path)] == [stage]
        assert f"\nmain = partial(cli.main, {stage})" in path.read_text()


def test_imports_inside_functions_have_a_reason():
    for path in sources("stages"):
        if path.stem in (*STAGES, "fetch"):
            continue  # their one function imports its rooms, so that --help does not
        for function in functions(path):
            inside = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            for node in inside:
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                names = [f"stages.data.{node.names[0].name}"] if names == ["stages.data"] else names
                assert set(names) <= LAZY, f"{path}: {function.name}: {names}"


def test_great_expectations_is_imported_in_one_place():
    users = {path.name for path in sources("stages") if "great_expectations" in set(imported(parsed(path)))}
    assert users == {"expectations.py"}


def test_yaml_is_read_in_one_place():
    users = {path.name for path in sources("stages") if "yaml" in set(imported(parsed(path)))}
    assert users == {"documents.py"}


@pytest.mark.parametrize("stage", [*STAGES, "fetch"])
def test_help_imports_nothing_heavy(stage):
    code = (
        f"import sys; sys.argv = ['x', '--help']; from stages.{stage} import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'great_expectations', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "usage: python -m stages." in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_files_and_functions_stay_readable():
    for path in [*sources("stages"), *sources("tests"), *(ROOT / "workflow").rglob("*.smk"), ROOT / "Snakefile"]:
        assert len(path.read_text().splitlines()) <= LONGEST_FILE, path
    for path in sources("stages"):
        for node in functions(path):
            documented = ast.get_docstring(node, clean=False) or ""
            lines = node.end_lineno - node.lineno + 1 - len(documented.splitlines())
            assert lines <= LONGEST_FUNCTION, f"{path}: {node.name}"
