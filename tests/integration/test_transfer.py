"""Transfer, SPQA and the order attack through Snakemake on two tiny defenses, up to the page."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Project, copy_of, give_digits, shrink
from shared import made_once

from stages.core.seeding import EXAMPLES

DEFENSES, FURTHER = ("vanilla", "act"), ("spqa_plus", "spqa_minus", "order")


def small(params):
    """Two defenses, an attack that keeps everything, one that keeps the default, and those outside ERS."""
    for name in FURTHER:
        params["attacks"][name] = {"extends": "pgd_attack", "attack": name, "steps": 2}
    params["attacks"]["qa_plus"]["keep"] = "all"
    params["run"] |= {"defenses": [*DEFENSES], "attacks": ["qa_plus", *FURTHER], "transfer": ["qa_plus", "order"]}
    params["datasets"]["digits"] |= {"attack_queries": 40, "attack_batch": 16}
    params["datasets"]["digits"]["training"]["epochs"] = 1
    params["visualize"] = {"attacks": ["order"], "queries": 2}
    row = {"rows": {name: {"label": name.title()} for name in DEFENSES}}
    columns = ["spqa_plus", "spqa_plus_kept", "order", "order_src", "order_kept"]
    params["tables"]["further"] = {"title": "Further", **row, "columns": columns, "intervals": ["order"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory, checked):
    def make(folder):
        project = give_digits(Project(folder), checked)
        project.edit(shrink)
        project.edit(small)
        project.run("snakemake", "--cores", "2", "--quiet", "rules")

    return copy_of(made_once(tmp_path_factory, "transfer", make), tmp_path_factory.mktemp("transfer"))


def table(study, name):
    return pd.read_parquet(study.folder / "results" / name)


@pytest.mark.parametrize(("attack", "count"), [("qa_plus", 40), ("order", EXAMPLES)])
def test_the_diagonal_is_the_attack_itself(study, attack, count):
    """To the last bit: the white box is what was measured, also where all images are kept."""
    found = table(study, f"transfer/digits/{attack}.parquet")
    assert len(found) == 4 * count
    for defense in DEFENSES:
        own = table(study, f"digits/{defense}/0/{attack}.parquet").set_index("row")
        part = found[(found["source"] == defense) & (found["defense"] == defense)].set_index("row")
        assert list(part.index) == sorted(part.index)
        columns = [name for name in part if name.endswith(("_before", "_after"))]
        assert columns
        assert (part[columns] == own.loc[part.index, columns]).all(axis=None)
        assert (part["image_id"] == own.loc[part.index, "image_id"]).all()
    assert len(np.load(study.folder / f"results/digits/act/0/{attack}_examples.npy")) == count


def test_off_the_diagonal_another_model_is_measured_with_its_own_gallery(study):
    found = table(study, "transfer/digits/qa_plus.parquet").set_index(["source", "defense", "row"]).sort_index()
    for one, other in (DEFENSES, DEFENSES[::-1]):
        # QA+ draws its candidates alike on every model, so both start from the same clean ranks.
        before = found.loc[one, other]["qa_plus_before"]
        pd.testing.assert_series_equal(before, found.loc[other, other]["qa_plus_before"], atol=0.2)
        assert (found.loc[one, other]["qa_plus_after"] != found.loc[one, one]["qa_plus_after"]).any()
    report = json.loads((study.folder / "results/transfer/digits/qa_plus.json").read_text())
    mean = found.loc["act", "vanilla"]["qa_plus_after"].mean()
    assert report["means"]["0"]["act"]["vanilla"]["qa_plus"]["after"] == pytest.approx(mean)
    assert len(report["inputs"]) == 2 + 2 * 3


def test_the_report_has_matrices_a_figure_and_a_sentence_on_how_to_read_it(study):
    found = table(study, "transfer/digits/qa_plus.parquet")
    cells = pd.read_csv(study.folder / "reports/tables/transfer_qa_plus.csv").set_index(["source", "defense"])
    for source in DEFENSES:
        for defense in DEFENSES:
            part = found[(found["source"] == source) & (found["defense"] == defense)]
            expected = 2 * sum(part["qa_plus_after"]) / 40
            assert cells.loc[(source, defense), "share_after"] == pytest.approx(expected)
    page = (study.folder / "reports/index.html").read_text()
    assert "Transfer between defenses: digits" in page
    assert "Rows: the defense whose model the perturbed images were made on." in page
    assert 'href="tables/transfer_order.csv"' in page
    scores = pd.read_csv(study.folder / "reports/scores.csv").set_index(["defense", "metric"])["value"]
    diagonal = cells.loc[("act", "act"), "after"]
    assert scores["act", "qa_plus"] == pytest.approx(diagonal)


def test_further_attacks_stand_where_a_table_asks_for_them(study):
    own = table(study, "digits/act/0/order.parquet")
    assert [name for name in own if name.startswith("target")] == [f"target_{place}" for place in range(1, 6)]
    assert (own.filter(like="target").dtypes == np.int64).all()
    lines = (study.folder / "reports/tables/further.md").read_text().splitlines()
    assert "SPQA+ kept" in lines[2]
    (act,) = (line for line in lines if line.startswith("| Act"))
    assert f"{own['order_after'].mean():.3f}" in act
    assert "SPQA" not in (study.folder / "reports/tables/main.md").read_text()
    shown = json.loads((study.folder / "reports/visualize/digits.json").read_text())["attacks"]
    assert len(shown["order"]) == 2
    for name in FURTHER:
        report = json.loads((study.folder / f"results/digits/act/0/{name}.json").read_text())
        assert {name, f"{name}_kept"} <= set(report["metrics"])
        assert report["queries"] == 40


def test_a_missing_or_damaged_source_ends_in_one_line(study):
    path = study.folder / "results/digits/vanilla/0/order_examples.npy"
    whole = path.read_bytes()
    for change, told in ((path.unlink, "missing"), (lambda: path.write_bytes(whole[:-4]), "damaged")):
        change()
        done = study.stage("transfer", "digits", "order", check=False)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1
        assert f"order_examples.npy: {told}" in last
        assert "python -m stages.attack digits vanilla 0 order" in last
    path.write_bytes(whole)
    before = study.files("results/transfer")
    study.stage("transfer", "digits", "order")
    assert study.files("results/transfer") == before
