"""Strength and suites in params.yaml: what they come out as, and the one line that says what is wrong with them."""

import pytest
from params_files import load, refused
from project_params import LOADED

from stages.core.attacking import SURROGATES
from stages.core.scores import STANDARD_ATTACKS
from stages.core.search import OPTIMIZERS, STARTS
from stages.runtime import params, registries


def attacks(**blocks):
    """A change that adds blocks of attacks."""
    return lambda own: own["attacks"].update(blocks)


def test_names_are_those_of_the_code():
    assert registries.names("WHITE_BOX", "BLACK_BOX") == list(OPTIMIZERS)
    assert registries.names("STARTS") == list(STARTS)
    assert registries.names("SURROGATES") == list(SURROGATES)


def test_the_protocol_says_nothing_of_strength():
    for name in STANDARD_ATTACKS:
        assert set(params.attack(LOADED, name, "digits")) == {"attack", "family", "steps", "alpha_over_eps"}


@pytest.mark.parametrize("name", STANDARD_ATTACKS)
@pytest.mark.parametrize("dataset", ["digits", "cub"])
def test_every_goal_has_a_strong_block_on_the_same_targets_and_budget(name, dataset):
    block = params.attack(LOADED, f"{name}_strong", dataset)
    assert block["attack"] == LOADED["attacks"][name]["attack"]
    assert "eps_scale" not in block
    suite = block["suite"]
    assert (suite["fine"]["steps"], suite["apgd"]["restarts"]) == ({"digits": 50, "cub": 100}[dataset], 5)
    assert {one.get("optimizer", "sign") for one in suite.values()} == {"sign", "apgd", "nes", "square"}
    assert suite["nes"]["alpha_over_eps"] == {"digits": 1, "cub": 0.375}[dataset]


@pytest.mark.parametrize("dataset", LOADED["datasets"])
def test_fine_steps_are_finer_than_the_protocols_and_reach_all_of_eps(dataset):
    for name in STANDARD_ATTACKS:
        fine = params.attack(LOADED, f"{name}_strong", dataset)["suite"]["fine"]
        assert fine["alpha_over_eps"] <= params.attack(LOADED, name, dataset)["alpha_over_eps"] / 1.9
        assert fine["steps"] * fine["alpha_over_eps"] >= 1


def test_members_take_over_what_they_leave_out(tmp_path):
    change = attacks(
        mine={"extends": "ltm", "start": "random", "suite": {"a": {}, "b": {"steps": {"default": 7, "digits": 3}}}}
    )
    loaded = load(tmp_path, change)
    assert params.attack(loaded, "mine", "digits")["suite"] == {
        "a": {"steps": 32, "alpha_over_eps": 3 / 77, "start": "random"},
        "b": {"steps": 3, "alpha_over_eps": 3 / 77, "start": "random"},
    }
    assert params.attack(loaded, "mine", "cub")["suite"]["b"]["steps"] == 7


def test_members_are_added_and_replaced_one_by_one(tmp_path):
    def change(own):
        own["attacks"]["mine"] = {"extends": "ltm_strong", "suite": {"apgd": {"steps": 1, "alpha_over_eps": "1/8"}}}
        own["bases"]["strong"] = {"suite": {"nes": {"steps": 9}}}

    suite = load(tmp_path, change)["attacks"]["mine"]["suite"]
    assert list(suite) == ["fine", "apgd", "nes", "square"]
    assert suite["apgd"] == {"steps": 1, "alpha_over_eps": 0.125}
    assert (suite["nes"]["steps"], suite["nes"]["optimizer"]) == (9, "nes")


WRONG = {
    "an optimizer that is not there": (
        {"optimizer": "agpd"},
        "attacks.mine.optimizer: 'agpd' is not there; did you mean 'apgd'?",
    ),
    "a start that is not there": (
        {"start": "radnom"},
        "attacks.mine.start: 'radnom' is not there; did you mean 'random'?",
    ),
    "a surrogate that is not there": (
        {"surrogate": "softpuls"},
        "attacks.mine.surrogate: 'softpuls' is not there; did you mean 'softplus'?",
    ),
    "no restart": ({"restarts": 0}, "attacks.mine.restarts: 0 is"),
    "half a restart": ({"restarts": 1.5}, "attacks.mine.restarts: 1.5 is"),
    "restarts by a dataset with a slip": (
        {"restarts": {"default": 1, "digist": 2}},
        "attacks.mine.restarts: 'digist' is not there; did you mean 'digits'?",
    ),
    "an empty suite": ({"suite": {}}, "attacks.mine.suite: {} should be non-empty; write members by name"),
    "a suite that is a list": (
        {"suite": ["apgd"]},
        "attacks.mine.suite: ['apgd'] is not of type 'object'; write members",
    ),
    "a member that is a word": (
        {"suite": {"a": "apgd"}},
        "attacks.mine.suite.a: 'apgd' is not of type 'object'; write a mapping",
    ),
    "a key that members lack": (
        {"suite": {"a": {"step": 3}}},
        "attacks.mine.suite.a: unknown key 'step'; did you mean 'steps'?",
    ),
    "a goal inside a suite": ({"suite": {"a": {"attack": "es"}}}, "attacks.mine.suite.a: unknown key 'attack'"),
    "a suite within a suite": ({"suite": {"a": {"suite": {}}}}, "attacks.mine.suite.a: unknown key 'suite'"),
    "a member's name": ({"suite": {"A@": {}}}, "attacks.mine.suite: 'A@' does not match"),
    "an optimizer of a member": (
        {"suite": {"a": {"optimizer": "pgd"}}},
        "attacks.mine.suite.a.optimizer: 'pgd' is not there; did you mean 'apgd'?",
    ),
    "too large a step of a member": (
        {"suite": {"a": {"alpha_over_eps": 2}}},
        "attacks.mine.suite.a.alpha_over_eps: 2 is",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path, name):
    block, expected = WRONG[name]
    said = refused(tmp_path, attacks(mine={"extends": "ltm"} | block))
    assert said.startswith(f"params.yaml: {expected}")
