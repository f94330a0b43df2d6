"""Wrong words in what params.yaml says of a model of one's own, of pictures and of sweeps end in one line."""

import copy

import pytest

from stages.runtime import params
from stages.runtime.errors import UserError

MODEL = {"import": "mine:build", "revision": 1}
WRONG = {
    "own without a model": ({"defenses": {"x": {"method": "own"}}}, "defenses.x: key 'model' is missing; method own"),
    "own with a miner": (
        {"defenses": {"x": {"method": "own", "model": MODEL, "miner": "random"}}},
        "defenses.x.miner: a model that is not trained has none; remove it",
    ),
    "a model beside a method that trains": (
        {"defenses": {"x": {"method": "vanilla", "miner": "random", "model": MODEL}}},
        "defenses.x.method: vanilla trains a model; write own beside `model`",
    ),
    "no miner": ({"defenses": {"x": {"method": "vanilla"}}}, "defenses.x: key 'miner' is missing; add it"),
    "no revision": (
        {"defenses": {"x": {"method": "own", "model": {"import": "mine:build"}}}},
        "write import and revision, or safetensors and sha256",
    ),
    "an import path without a function": (
        {"defenses": {"x": {"method": "own", "model": MODEL | {"import": "mine.build"}}}},
        "defenses.x.model.import: 'mine.build' does not match",
    ),
    "pictures of an unknown attack": ({"visualize": {"attacks": ["lmt"]}}, "visualize.attacks: 'lmt' is not there"),
    "pictures of candidates": (
        {"visualize": {"attacks": ["ca_minus"]}},
        "visualize.attacks: ca_minus perturbs candidates",
    ),
    "too many queries": ({"visualize": {"queries": 7}}, "visualize.queries: 7 is greater than the maximum of 6; write"),
    "no strength": ({"attacks": {"ltm_eps25": {"eps_scale": 0}}}, "attacks.ltm_eps25.eps_scale: 0 is less than"),
    "a sweep of something else": (
        {"tables": {"eps_sweep": {"sweep": "alpha"}}},
        "tables.eps_sweep.sweep: 'alpha' is not",
    ),
}


def merge(into, change):
    for key, value in change.items():
        if isinstance(value, dict) and key in into:
            merge(into[key], value)
        else:
            into[key] = value


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_word_is_named(name):
    change, expected = WRONG[name]
    loaded = copy.deepcopy(params.load())
    merge(loaded, change)
    with pytest.raises(UserError) as caught:
        params.check(loaded)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_ones_own_needs_nothing_else():
    loaded = copy.deepcopy(params.load())
    loaded["defenses"]["x"] = {"method": "own", "model": MODEL}
    loaded["run"]["defenses"] = ["x"]
    params.check(loaded)
    assert params.defense(loaded, "x", "digits")["model"] == MODEL
