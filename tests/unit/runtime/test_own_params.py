"""Wrong words in what params.yaml says of a model of one's own, of pictures and of sweeps end in one line."""

import copy

import pytest

from stages.runtime import params, registries
from stages.runtime.errors import UserError

MODEL = {"import": "mine:build", "revision": 1}
TABLE = {"title": "T", "rows": {"act": {"label": "ACT"}}, "columns": ["tma"], "intervals": []}
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
    "a transfer of an attack that is not run": (
        {"run": {"attacks": ["ltm"], "transfer": ["tma"]}},
        "run.transfer: 'tma' is not in run.attacks; ",
    ),
    "a transfer of no attack at all": ({"run": {"transfer": ["lmt"]}}, "run.transfer: 'lmt' is not in run.attacks; "),
    "a transfer written as one word": (
        {"run": {"transfer": "tma"}},
        "run.transfer: 'tma' is not of type 'array'; write a list of attacks without repeats, or [] for none",
    ),
    "a transfer twice": ({"run": {"transfer": ["tma", "tma"]}}, "run.transfer: ['tma', 'tma'] has non-unique elements"),
    "a table in the place of a transfer matrix": (
        {"run": {"transfer": ["tma"]}, "tables": {"transfer_tma": TABLE}},
        "tables.transfer_tma: is the name of a transfer matrix; rename the block",
    ),
    "a table in the place of the pairs": (
        {"tables": {"differences": TABLE}},
        "tables.differences: is the name of the report's table of pairs; rename the block",
    ),
    "no image to keep": ({"attacks": {"tma": {"keep": 0}}}, "attacks.tma.keep: "),
    "no number to keep": ({"attacks": {"tma": {"keep": "most"}}}, "write all or a whole number of at least 1"),
    "a dataset in the place of transfers": ({"datasets": {"transfer": {}}}, "datasets: "),
    "no strength": ({"attacks": {"ltm_eps25": {"eps_scale": 0}}}, "attacks.ltm_eps25.eps_scale: 0 is less than"),
    "a sweep of something else": (
        {"tables": {"eps_sweep": {"sweep": "alpha"}}},
        "tables.eps_sweep.sweep: 'alpha' is not",
    ),
    "a line break in a title": (
        {"tables": {"ars": {"title": "One\nTwo"}}},
        "tables.ars.title: 'One\\nTwo' does not match",
    ),
    "a line break at the end of a label": (
        {"tables": {"ars": {"rows": {"act": {"label": "ACT\n"}}}}},
        "; write one line of text",
    ),
    "a standard block in a column": (
        {"tables": {"ars": {"columns": ["ltm:ltm"]}}},
        "tables.ars.columns: 'ltm:ltm': what ltm measures is named without it; write ltm",
    ),
    "a further block in a column of its own": (
        {"tables": {"ars": {"columns": ["order_src:order"]}}},
        "tables.ars.columns: 'order_src:order': what order measures is named without it; write order_src",
    ),
    "a block that measures something else": (
        {"tables": {"ars": {"columns": ["qa_plus:ltm"]}}},
        "tables.ars.columns: 'qa_plus:ltm': ltm measures ltm; name another block or metric",
    ),
    "a suite that measures something else": (
        {"tables": {"ars": {"intervals": ["es_d:ltm_strong"]}}},
        "tables.ars.intervals: 'es_d:ltm_strong': ltm_strong measures ltm; name another block or metric",
    ),
    "an exact variant that measures something else": (
        {"tables": {"ars": {"columns": ["ltm:es_exact"]}}},
        "tables.ars.columns: 'ltm:es_exact': es_exact measures es_d, es_r; name another block or metric",
    ),
    "a clean metric of an attack": (
        {"tables": {"ars": {"columns": ["recall_at_1:ltm_strong"]}}},
        "tables.ars.columns: 'recall_at_1:ltm_strong': no attack measures recall_at_1; write recall_at_1 alone",
    ),
    "a score of an attack": (
        {"tables": {"ars": {"columns": ["ers:es_strong"]}}},
        "tables.ars.columns: 'ers:es_strong': no attack measures ers; write ers alone",
    ),
    "a sweep of what no attack measures": (
        {"tables": {"eps_sweep": {"columns": ["ltm", "recall_at_1"]}}},
        "tables.eps_sweep.columns: no attack measures 'recall_at_1', so it has no eps; take it out, or `sweep`",
    ),
    "a sweep of a score of many attacks": (
        {"tables": {"steps_sweep": {"columns": ["ers"]}}},
        "tables.steps_sweep.columns: no attack measures 'ers', so it has no steps; take it out, or `sweep`",
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


def test_a_sweep_needs_the_blocks_of_its_columns():
    """Of a metric that is called without one, the block that it is of; another metric of one attack has the same."""
    loaded = copy.deepcopy(params.load())
    loaded["tables"]["eps_sweep"]["columns"] = ["spqa_plus", "spqa_plus_kept", "es_r", "ltm:ltm_eps50"]
    params.check(loaded)
    del loaded["attacks"]["spqa_plus"]
    with pytest.raises(
        UserError, match=r"eps_sweep\.columns: 'spqa_plus' is of the block 'spqa_plus' of `attacks`, whi"
    ):
        params.check(loaded)


def test_a_block_goes_by_its_attack_and_one_of_your_own_may_measure_any_metric(monkeypatch):
    loaded, attacks = copy.deepcopy(params.load()), {**registries.attacks(), "center": "center"}
    monkeypatch.setattr(registries, "attacks", lambda: attacks)
    monkeypatch.setattr(registries, "names", lambda *kinds, names=registries.names: [*names(*kinds), "center"])
    loaded["attacks"]["mine"] = {"attack": "ltm", "steps": 2, "alpha_over_eps": 0.5}
    loaded["attacks"]["center"] = {"attack": "center", "steps": 2, "alpha_over_eps": 0.5}
    loaded["tables"]["ars"]["columns"] = ["ltm:mine", "ltm:center", "qa_plus:center", "es_r:es_exact"]
    params.check(loaded)
    loaded["tables"]["ars"]["columns"] = ["gtm:mine"]
    with pytest.raises(UserError, match="'gtm:mine': mine measures ltm; name another block or metric"):
        params.check(loaded)


def test_a_run_without_the_key_is_told_what_to_write():
    loaded = copy.deepcopy(params.load())
    del loaded["run"]["transfer"]
    with pytest.raises(UserError, match=r"run: key 'transfer' is missing; add it, with \[\] for no attack"):
        params.check(loaded)


def test_one_defense_and_one_attack_are_enough_for_a_transfer():
    """Its matrix is the diagonal."""
    loaded = copy.deepcopy(params.load())
    loaded["run"] |= {"defenses": ["act"], "transfer": ["tma"]}
    loaded["attacks"]["tma"]["keep"] = "all"
    params.check(loaded)
