"""Blocks of attacks for the Python call: those of params.yaml and the papers, changed in the same words."""

import pytest
from project_params import LOADED

from stages.runtime import params
from stages.runtime.errors import ParameterError


def one(asked, changes=None, dataset="cub"):
    return params.attacks_without_file(asked, changes or {}, dataset)


def test_every_block_of_the_pipeline_is_there_and_the_same():
    """At 224 pixels; params.yaml has other step sizes for small images."""
    names = list(LOADED["attacks"])
    assert {"ltm", "ltm_exact", "spqa_plus", "order", "ltm_nes", "ltm_square", "gtt_strong"} <= set(names)
    assert one({name: {} for name in names}) == {name: params.attack(LOADED, name, "cub") for name in names}


def test_values_of_a_dataset_are_taken():
    assert one({"ltm_strong": {}})["ltm_strong"]["suite"]["fine"]["steps"] == 100
    assert one({"ltm_strong": {}}, dataset="digits")["ltm_strong"]["suite"]["fine"]["steps"] == 50


def test_a_block_is_changed_extended_or_made_a_series():
    found = one(
        {
            "ltm": {"restarts": 3},
            "hard": {"extends": "ltm", "optimizer": "apgd", "alpha_over_eps": "1/4"},
            "gtt_strong": {"suite": {"apgd": {"restarts": 2, "optimizer": "apgd"}}},
            "es_steps": {"extends": "es", "grid": {"steps": [2, 4]}},
        }
    )
    assert list(found) == ["ltm", "hard", "gtt_strong", "es_steps2", "es_steps4"]
    assert found["ltm"]["restarts"] == 3
    assert (found["hard"]["restarts"], found["hard"]["optimizer"], found["hard"]["alpha_over_eps"]) == (3, "apgd", 0.25)
    assert list(found["gtt_strong"]["suite"]) == ["fine", "apgd", "nes", "square"]
    assert found["gtt_strong"]["suite"]["apgd"]["restarts"] == 2
    assert [found[f"es_steps{steps}"]["steps"] for steps in (2, 4)] == [2, 4]


def test_changes_for_all_give_way_to_a_blocks_own():
    found = one({"ltm": {}, "es": {"steps": 9}, "gtt_strong": {}}, {"steps": 5, "alpha_over_eps": 0.1})
    assert [found[name]["steps"] for name in ("ltm", "es")] == [5, 9]
    assert [found[name]["alpha_over_eps"] for name in ("ltm", "es")] == [0.1, 0.1]
    members = found["gtt_strong"]["suite"]
    assert (members["fine"]["steps"], members["square"]["steps"], members["square"]["alpha_over_eps"]) == (
        100,
        1000,
        0.1,
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"ltm_stong": {}}, "attacks: 'ltm_stong' is not there; did you mean 'ltm_strong'?"),
        ({"mine": {"steps": 3}}, "attacks: 'mine' is not there; .*; a new block says what it `extends`"),
        ({"mine": {"extends": "lmt"}}, "attacks.mine.extends: 'lmt' is not there; did you mean 'ltm'"),
        ({"ltm": 3}, "attacks.ltm: 3 is no mapping"),
        ({"ltm": {"optimiser": "apgd"}}, "attacks.ltm: unknown key 'optimiser'; did you mean 'optimizer'"),
        ({"ltm": {"optimizer": "adam"}}, "attacks.ltm.optimizer: 'adam' is not there; choose from apgd"),
        ({"ltm": {"restarts": 0}}, "attacks.ltm.restarts: 0 .*; write a whole number of at least 1"),
        ({"ltm": {"steps": float("nan")}}, "attacks.ltm.steps: nan is not a finite number"),
        ({"mine": {"attack": "lmt", "steps": 1, "alpha_over_eps": 1}}, "attacks.mine.attack: 'lmt' is not there"),
        (
            {"ltm_strong": {"suite": {"nes": {"steps": -1}}}},
            "attacks.ltm_strong.suite.nes.steps: -1 is less than the minimum of 0",
        ),
    ],
)
def test_what_cannot_be_used(asked, expected):
    with pytest.raises(ParameterError, match=expected) as told:
        one(asked)
    assert "\n" not in str(told.value)


def test_an_unknown_name_is_told_each_known_one_once():
    with pytest.raises(ParameterError) as caught:
        one({"zzzzzz": {}})
    assert str(caught.value).count("es_exact") == 1
