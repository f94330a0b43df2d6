"""Who may import whom, and that a job's recipe covers the code that it runs."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.runtime import params
from workflow import code, recipes

ROOT = Path(__file__).resolve().parents[2]
LENGTH = {"prepare": 1, "validate": 1, "train": 3, "evaluate": 3, "attack": 4, "visualize": 1, "report": 0}  # in words
STAGES = ("prepare", "validate", "train", "evaluate", "attack", "visualize", "report")


def imports(path):
    """Modules that a file imports anywhere, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(folder):
    return list((ROOT / folder).rglob("*.py"))


def test_core_imports_nothing_that_touches_files():
    for path in sources("stages/core"):
        for name in imports(path):
            allowed = ("stages.core", "torch", "numpy", "sklearn", "scipy", "pandas", "collections", "typing",
                       "functools", "hashlib", "faiss", "itertools", "math")  # fmt: skip
            assert name.startswith(allowed), f"{path}: {name}"


@pytest.mark.parametrize("room", ["data", "models", "reporting", "runtime"])
def test_no_room_imports_a_stage(room):
    for path in sources(f"stages/{room}"):
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


def test_modules_left_out_of_recipes_are_there():
    for module, why in code.CANNOT_CHANGE_A_RESULT.items():
        assert code.source(ROOT, module), module
        assert len(why) > 5


@pytest.mark.parametrize("registry", code.REGISTRIES)
def test_registries_are_where_recipes_find_them(registry):
    assigned = re.compile(rf"^{registry}: dict", re.MULTILINE)
    (path,) = (path for path in sources("stages") if assigned.search(path.read_text()))
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    assert len([name for name in code.read(ROOT, module) if name.startswith(f"{registry}[")]) > 4


@pytest.mark.slow
def test_what_a_job_runs_is_in_its_recipe(tiny):
    """Every function of the project that ran is among those that the recipe covers or leaves out for a reason."""

    def shrink(block):
        block["run"]["defenses"] = ["act"]
        block["defenses"]["act"]["options"]["steps"] = 1
        block["datasets"]["digits"]["attack_queries"] = 6
        block["datasets"]["digits"]["training"]["epochs"] = 1

    tiny.edit(shrink)
    loaded = params.load(tiny.folder / "params.yaml")
    words = {"dataset": "digits", "defense": "act", "seed": "0", "attack": "ltm"}
    for stage in STAGES:
        given = [words[word] for word in ("dataset", "defense", "seed", "attack")[: LENGTH[stage]]]
        done = tiny.run(sys.executable, str(ROOT / "tests" / "traced_stage.py"), stage, *given)
        ran = {tuple(pair) for pair in json.loads(done.stdout.splitlines()[-1])}
        ran = {(module, name) for module, name in ran if module not in code.CANNOT_CHANGE_A_RESULT}
        named = set(recipes.strings(recipes.READS[stage](loaded, *(words[word] for word in recipes.WORDS[stage]))))
        reached = code.reached(ROOT, (f"stages.{stage}", "main"), named)
        assert len(ran) > 3
        assert ran <= reached, sorted(ran - reached)


def test_files_stay_readable():
    for path in [*sources("stages"), *sources("tests"), *(ROOT / "workflow").rglob("*.smk"), ROOT / "Snakefile"]:
        assert len(path.read_text().splitlines()) <= 300, path
