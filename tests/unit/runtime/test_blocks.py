"""What params.yaml and the papers write in short means what the blocks say that are written out."""

import json
from copy import deepcopy
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from stages.runtime import params
from stages.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
OWN = yaml.safe_load((ROOT / "params.yaml").read_text())
# Digests of the blocks as they were before anything was written in short. One that changes retrains models.
RECORDED = json.loads((ROOT / "tests" / "data" / "blocks.json").read_text())


def load(tmp_path, change):
    """The parameters with a change to params.yaml as it is written."""
    own = deepcopy(OWN)
    change(own)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(own, sort_keys=False))
    return params.load(path)


def refused(tmp_path, change):
    """The one line that a change to params.yaml leads to."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, change)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["datasets", "defenses", "attacks"])
def test_default_blocks_are_what_they_were(kind):
    loaded = params.load(ROOT / "params.yaml")
    found = {
        name: sha256(json.dumps(block, sort_keys=True).encode()).hexdigest()[:12]
        for name, block in loaded[kind].items()
    }
    assert found == RECORDED[kind]


def test_a_block_takes_over_another_and_changes_single_options(tmp_path):
    def change(own):
        own["defenses"]["mine"] = {"extends": "hm_ics", "miner": "random", "options": {"steps": 3}}
        own["defenses"]["mine2"] = {"extends": "mine", "training": {"epochs": 1}}

    mine = load(tmp_path, change)["defenses"]
    expected = mine["hm_ics"] | {"miner": "random", "options": mine["hm_ics"]["options"] | {"steps": 3}}
    assert mine["mine"] == expected
    assert mine["mine2"] == expected | {"training": {"epochs": 1}}


def test_blocks_share_no_mapping():
    """Who changes a block of loaded parameters changes no other."""
    loaded = params.load(ROOT / "params.yaml")
    seen = {}
    for kind in ("datasets", "defenses", "attacks", "tables"):
        for name, block in loaded[kind].items():
            for value in filter(lambda value: isinstance(value, dict | list), block.values()):
                assert seen.setdefault(id(value), name) == name


def test_a_grid_is_one_block_a_value(tmp_path):
    def change(own):
        own["defenses"]["x"] = {
            "extends": "act",
            "grid": {"options.steps": [2, 4], "miner": {"r": "random", "s": "softhard"}},
        }
        own["attacks"]["es_eps"] = {"extends": "es", "grid": {"eps_scale": {25: "1/4", 50: 0.5}}}

    loaded = load(tmp_path, change)
    blocks = {
        name: (block["options"]["steps"], block["miner"])
        for name, block in loaded["defenses"].items()
        if name[0] == "x"
    }
    assert blocks == {
        "x2_r": (2, "random"),
        "x2_s": (2, "softhard"),
        "x4_r": (4, "random"),
        "x4_s": (4, "softhard"),
    }
    assert [loaded["attacks"][name]["eps_scale"] for name in ("es_eps25", "es_eps50")] == [0.25, 0.5]


def test_training_names_a_profile_or_is_complete(tmp_path):
    complete = OWN["training"]["small"] | {"epochs": 7}

    def change(own):
        own["datasets"]["one"] = own["datasets"]["digits"] | {"training": {"profile": "paper", "epochs": 3}}
        own["datasets"]["two"] = own["datasets"]["digits"] | {"training": complete}

    loaded = load(tmp_path, change)
    assert loaded["datasets"]["one"]["training"] == OWN["training"]["paper"] | {"epochs": 3}
    assert loaded["datasets"]["two"]["training"] == complete


def test_what_was_written_out_reads_as_the_same(tmp_path):
    loaded = params.load(ROOT / "params.yaml")
    (tmp_path / "params.yaml").write_text(params.text(loaded))
    assert params.load(tmp_path / "params.yaml") == loaded


def test_a_block_of_a_paper_is_changed_or_replaced(tmp_path):
    def change(own):
        own["defenses"] |= {
            "hm_wide": {"options": {"loss_bound": 3.0}},
            "hm_zero": {"method": "vanilla", "miner": "random"},
        }
        own["tables"] = {
            "main": {"rows": {"hm_wide": {"label": "Wide"}}},
            "robrank_fashion": {"rows": {"hm_wide": {"label": "Wide"}}},  # whose own rows are a base's
            "mine": {"extends": "table", "title": "Mine"},
        }

    loaded, before = load(tmp_path, change), params.load(ROOT / "params.yaml")
    assert loaded["defenses"]["hm_wide"]["options"] == before["defenses"]["hm_wide"]["options"] | {"loss_bound": 3.0}
    assert loaded["defenses"]["hm_zero"] == {"method": "vanilla", "miner": "random"}
    for table in ("main", "robrank_fashion"):
        assert list(loaded["tables"][table]["rows"]) == [*before["tables"][table]["rows"], "hm_wide"]
    assert loaded["tables"]["robrank_mnist"] == before["tables"]["robrank_mnist"]
    assert loaded["tables"]["mine"]["columns"] == before["tables"]["main"]["columns"]


def test_without_papers_only_what_params_yaml_has_is_there(tmp_path):
    def change(own):
        del own["papers"]
        own["tables"] = {"mine": {"extends": "table", "title": "Mine"}}

    loaded = load(tmp_path, change)
    assert list(loaded["tables"]) == ["mine"]
    assert list(loaded["defenses"]) == list(OWN["defenses"])


def test_merge_keys_of_older_files_are_read(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("\n  act: {extends", "\n  act: &act {extends")
    text = text.replace("\n  hm: {extends", "\n  mine: {<<: *act, miner: softhard}\n  hm: {extends")
    (tmp_path / "params.yaml").write_text(text)
    loaded = params.load(tmp_path / "params.yaml")
    assert loaded["defenses"]["mine"] == loaded["defenses"]["act"] | {"miner": "softhard"}


def put(section, name, **block):
    return lambda own: own[section].update({name: block})


WRONG = {
    "an unknown block": (
        put("defenses", "x", extends="atc"),
        "params.yaml: defenses.x.extends: 'atc' is not there; did you mean 'act'?",
    ),
    "a circle": (
        lambda own: own["defenses"].update(x={"extends": "y"}, y={"extends": "x"}),
        "params.yaml: defenses.x.extends: 'x' extends this block; break the circle",
    ),
    "a block that extends no name": (put("defenses", "x", extends=["act"]), "defenses.x.extends: ['act'] is not there"),
    "an unknown profile": (
        lambda own: own["datasets"]["digits"].update(training={"profile": "smal"}),
        "params.yaml: datasets.digits.training.profile: 'smal' is not in `training`; did you mean 'small'?",
    ),
    "neither profile nor all keys": (
        lambda own: own["datasets"]["digits"].update(training={"epochs": 3}),
        "datasets.digits.training: key 'backbone' is missing; name a profile, such as {profile: small}, or",
    ),
    "no method": (
        put("defenses", "x", miner="random"),
        "defenses.x: key 'method' is missing; add it, or name the block that this one `extends`",
    ),
    "an empty grid": (
        put("defenses", "x", extends="act", grid={"options.steps": []}),
        "defenses.x.grid: makes 0 blocks; write {options.steps: [2, 4]}, keys with their values",
    ),
    "a grid that is none": (put("defenses", "x", extends="act", grid=[2, 4]), "defenses.x.grid: makes 0 blocks"),
    "a grid of millions": (
        put("defenses", "x", extends="act", grid={f"options.a{i}": list(range(99)) for i in range(9)}),
        "defenses.x.grid: makes 913517247483640899 blocks",
    ),
    "a grid through a value": (
        put("defenses", "x", extends="act", miner="random", grid={"miner.steps": [2]}),
        "defenses.x.grid: 'miner.steps' leads through a value; name a key",
    ),
    "a grid whose values make no names": (
        put("defenses", "x", extends="act", grid={"training.learning_rate": [0.5]}),
        "defenses: 'x0.5' does not match",
    ),
    "a block and a grid of one name": (
        lambda own: own["defenses"].update(
            act_x={"extends": "act", "grid": {"options.steps": [2]}}, act_x2={"extends": "act"}
        ),
        "params.yaml: defenses.act_x2: is there twice, once of a grid; rename one",
    ),
    "an unknown paper": (
        lambda own: own.update(papers=["robrang"]),
        "params.yaml: papers: 'robrang' is no folder of workflow/papers; did you mean 'robrank'?",
    ),
    "papers that are no list": (lambda own: own.update(papers="hm"), "params.yaml: papers: is no list of names"),
    "a block of a paper that is not named": (
        lambda own: own.update(papers=["hm"], run=own["run"] | {"defenses": ["cap_only"]}),
        "params.yaml: run.defenses: 'cap_only' is not there; add ca_tride to `papers`, which has it",
    ),
    "a paper's row without its block": (
        lambda own: own["defenses"].pop("tride"),
        "params.yaml: run.defenses: 'tride' is not there",
    ),
    "a paper whose table lacks a block": (
        lambda own: (own["defenses"].pop("tride"), own["run"]["defenses"].remove("tride")),
        "workflow/papers/hm/tables.yaml: tables.main.rows: 'tride' is not there",
    ),
    "a paper whose block lacks what it extends": (
        lambda own: own["defenses"].pop("hm_ics"),
        "workflow/papers/hm/blocks.yaml: defenses.hm_ics_eta2.extends: 'hm_ics' is not there",
    ),
    "the pictures under their old name": (
        lambda own: own.update(gallery=own.pop("visualize")),
        "params.yaml: gallery: is called `visualize` now; rename the key",
    ),
    "no tables": (
        lambda own: (own.pop("tables"), own.pop("papers")),
        "params.yaml: (top level): key 'tables' is missing; add it, or name a paper in `papers`",
    ),
    "a fraction of nothing": (
        lambda own: own["datasets"]["digits"].update(eps="8/0"),
        "params.yaml: datasets.digits.eps: '8/0' is not of type 'number'; write a number above 0 and up to 1",
    ),
    "bases that are no mapping": (lambda own: own.update(bases=[]), "params.yaml: bases: is no mapping of blocks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_meaning_is_named(tmp_path, name):
    change, expected = WRONG[name]
    assert refused(tmp_path, change).startswith(expected) or f": {expected}" in refused(tmp_path, change)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "blocks.yaml",
            "defenses: {act_eta2: {method: vanilla, miner: random}}",
            "defenses.act_eta2: is another block in",
        ),
        ("blocks.yaml", "tables: {}", "unknown key 'tables'; choose from attacks, bases, datasets, defenses, training"),
        ("tables.yaml", "- 1", "is no mapping of sections; write tables: and its blocks below"),
        ("tables.yaml", "tables: {t: {extends: table}}", "tables.t: key 'title' is missing"),
        ("tables.yaml", "tables: [", "not valid YAML"),
        ("tables.yaml", "tables: {t: 1, t: 2}", "line 1: key 't' is written twice"),
        ("blocks.yaml", "attacks: {a: {extends: es, grid: {steps: []}}}", "attacks.a.grid: makes 0 blocks"),
    ],
)
def test_what_is_wrong_in_a_paper_is_said_of_its_file(tmp_path, monkeypatch, file, text, expected):
    papers = tmp_path / "papers"
    for name in OWN["papers"]:
        (papers / name).mkdir(parents=True)
        for part in ("blocks.yaml", "tables.yaml"):
            (papers / name / part).write_text((params.PAPERS / name / part).read_text())
    (papers / "mine").mkdir()
    (papers / "mine" / file).write_text(text)
    monkeypatch.setattr(params, "PAPERS", papers)
    said = refused(tmp_path, lambda own: own["papers"].append("mine"))
    assert said.startswith(("workflow/papers/mine/" + file, f"{papers}/mine/{file}"))
    assert expected in said
