"""What has no meaning in params.yaml or in a paper's file is refused in one line, which names where to mend it."""

import pytest
from params_files import refused, with_paper


def put(section, name, **block):
    return lambda own: own[section].update({name: block})


WRONG = {
    "an unknown block": (
        put("defenses", "x", extends="atc"),
        "params.yaml: defenses.x.extends: 'atc' is not there; did you mean 'act'?",
    ),
    "a circle": (
        lambda own: own["defenses"].update(x={"extends": "y"}, y={"extends": "x"}),
        "params.yaml: defenses.x.extends: 'y' extends this block; break the circle",
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
    "a base that is misspelt": (
        lambda own: own["bases"].update(strng={"suite": {"apgd": {"restarts": 10}}}),
        "params.yaml: bases.strng: nothing extends it; did you mean 'strong'?",
    ),
    "a base that is no block": (
        lambda own: own["bases"].update(strong=None),
        "params.yaml: bases.strong: is no mapping of keys; write what it has, or remove it",
    ),
    "a value in a change of a paper's base": (
        lambda own: own["bases"].update(strong={"suite": {"apgd": {"restarts": 0}}}),
        "params.yaml: bases.strong.suite.apgd.restarts: 0 is less than the minimum of 1",
    ),
    "a key in a change of a paper's base": (
        lambda own: own["bases"].update(strong={"suite": {"apgd": {"restart": 10}}}),
        "params.yaml: bases.strong.suite.apgd: unknown key 'restart'; did you mean 'restarts'?",
    ),
    "a value in a base that a paper extends": (
        lambda own: own["bases"]["pgd_attack"].update(alpha_over_eps=2),
        "params.yaml: bases.pgd_attack.alpha_over_eps: 2 is greater than the maximum of 1; write a number",
    ),
    "a value in a block that a paper extends": (
        lambda own: own["attacks"]["gtm"].update(steps=-1),
        "params.yaml: attacks.gtm.steps: -1 is less than the minimum of 0",
    ),
    "a base of params.yaml that extends none": (
        lambda own: own["bases"].update(strong={"extends": "pgd_atack", "steps": 3}),
        "params.yaml: bases.strong.extends: 'pgd_atack' is not there; did you mean 'pgd_attack'?",
    ),
    "a circle through a paper": (
        lambda own: own["defenses"].update(hm={"extends": "hm_wide"}),
        "params.yaml: defenses.hm.extends: 'hm_wide' extends this block; break the circle",
    ),
    "two kinds of split": (
        lambda own: own["datasets"]["digits"]["split"].update(by="lists"),
        "params.yaml: datasets.digits.split: 'train' is not one of ['by', 'images_per_class']; write `by`, or train",
    ),
    "a tolerance that nothing is compared within": (
        lambda own: own["tables"].update(ars={"extends": "table", "title": "A", "rows": {}, "tolerance": 2}),
        "params.yaml: tables.ars: key 'published' is missing; `tolerance` needs it",
    ),
    "a title that makes a paper's table a new one": (
        lambda own: own["tables"].update(robrank_fashion={"title": "X"}),
        "params.yaml: tables.robrank_fashion: key 'rows' is missing; add it, or name the block that this one `extends`",
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
    papers = with_paper(tmp_path, monkeypatch)
    (papers / "mine" / file).write_text(text)
    said = refused(tmp_path, lambda own: own["papers"].append("mine"))
    assert said.startswith(("workflow/papers/mine/" + file, f"{papers}/mine/{file}"))
    assert expected in said


def test_a_paper_that_is_not_read_does_not_hide_what_is_wrong(tmp_path, monkeypatch):
    papers = with_paper(tmp_path, monkeypatch)
    (papers / "mine" / "blocks.yaml").write_text("attacks: {a: {extends: es, grid: {steps: []}}}")
    said = refused(tmp_path, lambda own: own["run"].update(attacks=["nosuch"]))
    assert said.startswith("params.yaml: run.attacks: 'nosuch' is not there; ")
