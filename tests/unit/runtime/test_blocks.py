"""What params.yaml and the papers write in short means what the blocks say that are written out."""

import json
from hashlib import sha256

import pytest
from params_files import OWN, ROOT, load, with_paper

from stages.runtime import params

# Digests of the blocks as they were before anything was written in short. One that changes retrains models.
RECORDED = json.loads((ROOT / "tests" / "data" / "blocks.json").read_text())


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


def test_a_value_by_dataset_is_one_value(tmp_path):
    """What is written is what is there: no dataset's value of the block below survives a new default."""
    written = {"default": 0.7}

    def change(own):
        own["defenses"]["hm_ics_eta2"] = {"options": {"ics_weight": written}}
        own["defenses"]["mine"] = {"extends": "hm_ics", "options": {"ics_weight": written}}
        own["attacks"]["ltm_eps25"] = {"alpha_over_eps": written}
        own["attacks"]["ltm_strong"] = {"suite": {"square": {"steps": {"default": 5}}}}

    loaded = load(tmp_path, change)
    assert loaded["defenses"]["hm_ics_eta2"]["options"]["ics_weight"] == written
    assert loaded["defenses"]["mine"]["options"]["ics_weight"] == written
    assert loaded["attacks"]["ltm_eps25"]["alpha_over_eps"] == written
    square = params.load(ROOT / "params.yaml")["attacks"]["ltm_strong"]["suite"]["square"]
    assert loaded["attacks"]["ltm_strong"]["suite"]["square"] == square | {"steps": {"default": 5}}


def test_a_change_of_a_papers_suite_keeps_the_other_keys_of_its_members(tmp_path):
    """A block that extends it replaces a member instead (``test_members_are_added_and_replaced_one_by_one``)."""
    loaded = load(tmp_path, lambda own: own["attacks"].update(ltm_strong={"suite": {"apgd": {"restarts": 10}}}))
    before = params.load(ROOT / "params.yaml")["attacks"]["ltm_strong"]["suite"]
    suite = loaded["attacks"]["ltm_strong"]["suite"]
    assert list(suite) == list(before)
    assert suite == before | {"apgd": before["apgd"] | {"restarts": 10}}


def test_a_split_and_a_model_are_replaced_whole(tmp_path, monkeypatch):
    papers, digest = with_paper(tmp_path, monkeypatch), 64 * "0"
    (papers / "mine" / "blocks.yaml").write_text(
        "datasets: {letters: {extends: images28, expected: {images_per_class: [2, 9]}, training: {profile: small}}}\n"
        f"defenses: {{own1: {{method: own, model: {{safetensors: a.safetensors, sha256: '{digest}'}}}}, "
        "own2: {extends: own1}}\n"
    )

    def change(own):
        own["papers"].append("mine")
        own["datasets"]["letters"] = {"split": {"train": 5, "test": 5}}
        own["defenses"]["own2"] = {"model": {"import": "a:b", "revision": 1}}

    loaded = load(tmp_path, change)
    assert loaded["datasets"]["letters"]["split"] == {"train": 5, "test": 5}
    assert loaded["defenses"]["own2"]["model"] == {"import": "a:b", "revision": 1}


def test_a_base_that_waits_for_its_block_is_no_misspelling(tmp_path):
    loaded = load(tmp_path, lambda own: own["bases"].update(strong_small={"steps": 3}))
    assert loaded == params.load(ROOT / "params.yaml")


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
