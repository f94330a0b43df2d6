"""A job's recipe covers the code that the job runs."""

import re
from pathlib import Path

import pytest
from traced_stage import definitions_run

from stages import STAGES
from stages.runtime import params
from workflow import code, recipes

ROOT = Path(__file__).resolve().parents[2]
MODEL = ("dataset", "defense", "seed")
WORDS = {
    "train": MODEL,
    "evaluate": MODEL,
    "attack": (*MODEL, "attack"),
    "transfer": ("dataset", "attack"),
    "report": (),
}


def sources(folder):
    return list((ROOT / folder).rglob("*.py"))


def test_modules_left_out_of_recipes_are_there():
    for module, why in code.CANNOT_CHANGE_A_RESULT.items():
        assert code.source(ROOT, module), module
        assert len(why) > 5


@pytest.mark.parametrize("registry", code.REGISTRIES)
def test_registries_are_where_recipes_find_them(registry):
    assigned = re.compile(rf"^{registry}: dict", re.MULTILINE)
    (path,) = (path for path in sources("stages") if assigned.search(path.read_text()))
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    assert len([name for name in code.read(ROOT, module) if name.startswith(f"{registry}[")]) > 1


@pytest.mark.engines
def test_what_a_job_runs_is_in_its_recipe(tiny):
    """Every function of the project that ran is among those that the recipe covers or leaves out for a reason."""

    def shrink(block):
        block["run"]["defenses"] = ["act"]
        block["run"]["transfer"] = ["ltm"]
        block["defenses"]["act"]["options"]["steps"] = 1
        block["datasets"]["digits"]["attack_queries"] = 6
        block["datasets"]["digits"]["training"]["epochs"] = 1

    tiny.edit(shrink)
    loaded = params.load(tiny.folder / "params.yaml")
    words = {"dataset": "digits", "defense": "act", "seed": "0", "attack": "ltm"}
    for stage in STAGES:
        given = [words[word] for word in WORDS.get(stage, ("dataset",))]
        ran = definitions_run(tiny.folder, stage, given)
        ran = {(module, name) for module, name in ran if module not in code.CANNOT_CHANGE_A_RESULT}
        named = set(recipes.strings(recipes.READS[stage](loaded, *(words[word] for word in recipes.WORDS[stage]))))
        reached = code.reached(ROOT, (f"stages.{stage}", "main"), named)
        assert len(ran) > 3
        assert ran <= reached, sorted(ran - reached)
