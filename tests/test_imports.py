"""Who may import whom, and that each job declares the code it uses."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("prepare", "validate", "train", "evaluate", "attack", "gallery", "report")
# Carry values between the command line, params.yaml, files and the computation. Not declared, or every new message
# would retrain everything: a change of theirs that is meant to alter results needs `snakemake --forceall`.
PLUMBING = {
    "stages/io/artifacts.py",
    "stages/io/cli.py",
    "stages/io/conflicts.py",
    "stages/io/errors.py",
    "stages/io/params.py",
    "stages/io/registries.py",
    "stages/io/seals.py",
    # Can only stop a job, and word why.
    "stages/core/selfchecks.py",
    "stages/io/state_dicts.py",
}
BLOCK_FOLDERS = ("stages/core/defenses/", "stages/core/attacks/")


def imports(path):
    """Modules that a file imports anywhere, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_file(name):
    """The project file behind a dotted name, or None."""
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def sources(folder):
    return list((ROOT / folder).rglob("*.py"))


def test_core_imports_nothing_that_touches_files():
    for path in sources("stages/core"):
        for name in imports(path):
            allowed = ("stages.core", "torch", "numpy", "sklearn", "scipy", "pandas", "collections", "typing",
                       "functools", "hashlib", "itertools", "math")  # fmt: skip
            assert name.startswith(allowed), f"{path}: {name}"


def test_io_imports_no_stage():
    for path in sources("stages/io"):
        assert not imports(path) & {f"stages.{stage}" for stage in STAGES}, path


def test_no_stage_imports_another():
    for stage in STAGES:
        others = {f"stages.{other}" for other in STAGES if other != stage}
        assert not imports(ROOT / "stages" / f"{stage}.py") & others


def test_great_expectations_is_imported_by_validate_alone():
    users = {path.name for path in sources("stages") if any("great_expectations" in name for name in imports(path))}
    assert users == {"validate.py"}


def test_only_params_reads_params_yaml():
    users = {path.name for path in sources("stages") if "yaml" in imports(path)}
    assert users == {"params.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_help_imports_nothing_heavy(stage):
    code = (
        f"import sys; sys.argv = ['x', '--help']; from stages.{stage} import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'great_expectations', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "usage: python -m stages." in done.stdout
    assert done.stdout.strip().endswith("[]")


def closure(stage):
    """Project files that a stage's module reaches by imports, through registries too.

    Left out are registries themselves and the files they list: of those a job declares the one its block names.
    """
    seen, todo = set(), [ROOT / "stages" / f"{stage}.py"]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += [found for name in imports(path) if (found := module_file(name))]
    names = {path.relative_to(ROOT).as_posix() for path in seen}
    listed = {name for name in names if name.startswith(BLOCK_FOLDERS) and not name.endswith("/base.py")}
    return {name for name in names if not name.endswith("__init__.py")} - listed - PLUMBING


@pytest.mark.parametrize("stage", STAGES)
def test_declared_code_is_the_code_that_is_used(stage):
    """`deps` of dvc.yaml (and by tests/test_graphs.py the Snakefile's inputs) list every file the stage imports."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    declared = {name for name in deps if name.startswith("stages/")}
    assert declared == closure(stage)


def test_files_stay_readable():
    for path in [*sources("stages"), *sources("tests"), *(ROOT / "workflow").rglob("*.smk"), ROOT / "Snakefile"]:
        assert len(path.read_text().splitlines()) <= 300, path
