"""Recipes of attacks that try harder: the strength is part of them, and of the searches only those that they name."""

from pathlib import Path

import pytest
from project_params import LOADED

from workflow import code, recipes

ROOT = Path(__file__).resolve().parents[3]
SEARCHES = {
    "momentum": ("stages.core.search.gradient", "momentum"),
    "apgd": ("stages.core.search.gradient", "apgd"),
    "nes": ("stages.core.search.black_box", "nes"),
    "square": ("stages.core.search.black_box", "square"),
    "softplus": ("stages.core.attacking", "smooth_objective"),
}


def recipe(name, loaded=LOADED):
    return recipes.recipe(loaded, "attack", {"dataset": "digits", "defense": "act", "attack": name})


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("ltm", set()),
        ("ltm_nes", {"nes"}),
        ("ltm_square", {"square"}),
        ("ltm_strong", {"apgd", "nes", "square", "softplus"}),
    ],
)
def test_only_the_searches_that_a_block_names_are_in_its_code(name, named):
    words = set(recipes.strings(recipes.attack(LOADED, "digits", "act", name)))
    reached = code.reached(ROOT, ("stages.attack", "main"), words)
    assert {search for search, definition in SEARCHES.items() if definition in reached} == named
    assert ("stages.core.search.gradient", "sign") in reached


def test_each_key_of_a_member_is_in_the_recipe():
    found = recipe("ltm_strong")
    assert found["attacks.ltm_strong.suite.apgd.restarts"] == 5
    assert found["attacks.ltm_strong.suite.apgd.steps"] == 12
    assert found["attacks.ltm_strong.suite.nes.optimizer"] == "nes"
    assert not [key for key in recipe("ltm") if "strong" in key or "suite" in key]
    assert len({recipe(name)["code"] for name in ("ltm", "ltm_nes", "ltm_square", "ltm_strong")}) == 4


def test_what_the_log_warns_of_attacks_nothing_again():
    """The report, which prints the warnings, has their file in its recipe."""
    reached = code.reached(ROOT, ("stages.attack", "main"), None)
    assert not [module for module, _ in reached if module == "stages.core.evaluation_checks"]
    assert "stages/core/evaluation_checks.py" in recipes.FILES["report"]
    assert all(list(ROOT.glob(pattern)) for pattern in recipes.FILES["report"])


def test_a_comment_on_a_warning_prints_no_page_anew(tmp_path):
    """Its words do."""
    path = tmp_path / "checks.py"
    path.write_text('def say():\n    return "weak"\n')
    before = recipes.hash_of_files(tmp_path, "checks.py")
    path.write_text('def say():\n    """Say it."""\n    return "weak"  # not strong\n')
    assert recipes.hash_of_files(tmp_path, "checks.py") == before
    path.write_text('def say():\n    return "weaker"\n')
    assert recipes.hash_of_files(tmp_path, "checks.py") != before
