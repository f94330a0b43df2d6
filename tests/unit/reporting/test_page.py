"""The page: who leads, what is compared, and where values come from."""

import re

import pytest
from report_world import LABELS, LOADED, model

from stages.reporting import doubts, outputs, page, published
from stages.reporting.rows import table_rows
from stages.reporting.seeds import estimated, lead
from stages.reporting.verdicts import tally
from stages.runtime.errors import UserError

NOTHING = {"failed_checks": [], "collapsed": [], "doubts": [], "figures": [], "absent": [], "labels": LABELS}


def test_doubts_are_listed_on_the_page_with_the_model_that_they_are_of():
    found = model(20)._replace(doubts=("ltm: `x` beats the white box",))
    (doubt,) = doubts.weak_attacks({"digits": {"act": [found, model(20, 1)]}})
    assert doubt == ("digits", "act", 0, "ltm: `x` beats the white box", "")
    for listed, there in (([doubt], True), ([], False)):
        text = outputs.html(LOADED, {"digits": {}}, [], **NOTHING | {"doubts": listed})
        assert ("digits act seed 0: ltm: <code>x</code> beats the white box" in text) == there


def standing(models):
    block = LOADED["tables"]["main"]
    rows = table_rows(block, "digits", models, published.read())
    return page.summary(page.section("main", "digits", block, rows, ""), models)


def printed(models):
    """The page of a study of digits."""
    block = LOADED["tables"]["main"]
    rows = table_rows(block, "digits", models, published.read())
    return outputs.html(LOADED, {"digits": models}, [page.section("main", "digits", block, rows, "")], **NOTHING)


def by_ers(found):
    return found["leaders"][0]


@pytest.mark.parametrize(
    ("seeds", "words"),
    [(1, "leads with this training"), (2, "leads with these two trainings"), (3, "is the most robust")],
)
def test_only_three_trainings_call_a_defense_the_most_robust(seeds, words):
    models = {"act": [model(30, seed) for seed in range(seeds)], "vanilla": [model(20, seed) for seed in range(seeds)]}
    headline = re.search(
        "<strong>(.+)</strong> <strong>30.0</strong> .+ ahead of (.+) by\n<strong>10.0<", printed(models)
    )
    assert headline.groups() == (f"ACT {words}:", "Vanilla")


def unattacked(seed):
    """A model that was evaluated only."""
    found = model(0, seed)
    return found._replace(values={name: found.values[name] for name in ("recall_at_1", "spread", "collapsed")})


@pytest.mark.parametrize("lacking", ["act", "vanilla"])
def test_seeds_that_were_only_evaluated_are_no_trainings_to_compare(lacking):
    """Of three seeds one was attacked, and that is not the first: bootstrap intervals of this one."""
    models = {"act": [model(30, seed) for seed in range(3)], "vanilla": [model(20, seed) for seed in range(3)]}
    models[lacking][:2] = [unattacked(seed)._replace(attacked=49) for seed in range(2)]
    text, found = printed(models), standing(models)
    assert by_ers(found)["gap"].over == "queries"
    assert "<strong>ACT leads with this training:</strong>" in text
    assert (found["seeds"], found["queries"]) == (1 if lacking == "act" else 3, 50)
    assert ("each defense was trained once" in text) == (lacking == "act")


@pytest.mark.parametrize(
    ("attacked", "gallery", "words"),
    [
        ([(50, 0)], 0, ""),
        ([(0, 0)], 0, ""),
        ([], 0, ""),
        ([(20, 0)], 0, " (attacks on 20 of 50 test images)"),
        ([(0, 0), (20, 0)], 0, " (attacks on 20 of 50 test images)"),
        ([(50, 80)], 80, ""),
        ([(50, 60)], 80, " (attacks on 60 of 80 gallery images)"),
        ([(0, 0), (20, 0), (20, 20)], 80, " (attacks on 20 of 50 queries and 20 of 80 gallery images)"),
    ],
)
def test_a_heading_says_how_many_images_were_attacked(attacked, gallery, words):
    """Of the first models that were attacked, queries and a gallery of its own apart."""
    models = [model(20)._replace(attacked=some, candidates=others) for some, others in attacked]
    data = {"expected": {"query": {"images": 50}, "gallery": {"images": gallery}} if gallery else {}}
    assert outputs.sample({"vanilla": [], "act": models[:1], "hm": models[1:]}, data) == words


def test_the_leader_is_ahead_where_the_interval_of_the_difference_excludes_zero():
    found = standing({"vanilla": [model(20)], "act": [model(30)], "hm": [model(26)]})
    first = by_ers(found)
    assert (first["first"].label, first["second"].label, first["sure"]) == ("ACT", "HM[S,LGA]", True)
    assert first["gap"].mean == pytest.approx(4)
    assert (found["queries"], found["seeds"]) == (50, 1)
    seeds = {"act": [model(30 + s, s) for s in (0, 3, 6)], "hm": [model(30 - s, s) for s in (0, 3, 6)]}
    first = by_ers(standing(seeds))
    assert first["gap"].over == "seeds"
    assert first["gap"].mean == pytest.approx(6)
    assert not first["sure"]  # differences 0, 6 and 12: a t-interval of 6 +- 15


def test_each_score_names_its_leader_and_shrunk_models_are_marked_in_both():
    """A spread of 0.099 or 0.101 changes a mark, never who leads."""
    for spread, mark in ((0.099, "shrunk"), (0.101, "")):
        shrunk = model(50, spread=spread, ars_reconstructed=9.0)
        found = standing({"vanilla": [model(20, ars_reconstructed=40.0)], "tride": [shrunk]})
        ers, relative = found["leaders"]
        assert [leader["heading"] for leader in found["leaders"]] == ["ERS", "ARS (reconstructed)"]
        assert (ers["first"].label, ers["first"].mark, ers["second"].label) == ("TRIDE", mark, "Vanilla")
        assert (relative["first"].label, relative["second"].label, relative["second"].mark) == (
            "Vanilla",
            "TRIDE",
            mark,
        )
        assert [row.label for row in found["marked"]] == ["TRIDE"] * bool(mark)


def test_collapsed_models_are_not_ranked():
    collapsed = model(50, collapsed=1.0)
    collapsed.values["collapsed"] = 1.0
    found = standing({"vanilla": [model(20)], "tride": [collapsed]})
    assert by_ers(found)["first"].label == "Vanilla"
    assert by_ers(found)["second"] is None
    assert [row.label for row in found["marked"]] == ["TRIDE"]
    assert standing({"tride": [collapsed]}) is None
    assert standing({}) is None


def test_a_lead_counts_seeds_that_both_have():
    gap = lead([model(30, 0), model(99, 5)], [model(20, 0), model(20, 1)], "ers")
    assert gap.mean == pytest.approx(10)


def test_seeds_without_a_metric_are_left_out_of_its_mean():
    lacking = model(10)
    del lacking.values["ers"], lacking.draws["ers"]
    assert estimated([lacking, model(30)], "ers").mean == 30
    assert estimated([lacking], "ers") is None


@pytest.mark.parametrize(
    ("metric", "job"),
    [("recall_at_1", "benign"), ("spread", "benign"), ("es_r", "es"), ("gtm:gtm_fine", "gtm_fine"), ("ers", ""),
     ("qa_plus", "qa_plus"), ("collapsed", ""), ("nmi", "benign")],
)  # fmt: skip
def test_every_metric_leads_to_its_job(metric, job):
    assert page.origin(metric) == job


def test_a_figure_leads_to_the_first_seed_that_has_it():
    seeds = [{"seed": 3, "sources": {"benign": ()}}, {"seed": 5, "sources": {"benign": (), "es": ()}}]
    anchor = page.anchors([{"dataset": "digits", "defense": "act", "seeds": seeds}])
    assert anchor("digits", "act", "es_r") == "from-digits-act-5-es"
    assert anchor("digits", "act", "nmi") == "from-digits-act-3-benign"
    assert anchor("digits", "act", "ers") == anchor("digits", "act", "ltm") == "from-digits-act"


def test_verdicts_are_counted_where_something_was_published():
    counted = tally(["match", "match", "differs", "not run", "no published value", "collapsed in the paper"])
    assert counted == {"match": 2, "differs": 1, "too few seeds": 0, "not run": 1}


def test_defenses_are_ranked_over_the_seeds_that_all_of_them_have():
    """ACT lacks the hard seed, so its mean over its own seeds is above HM's; seed by seed HM is ahead by 10."""
    easy = {"act": [model(39, 0), model(41, 1)], "hm": [model(49, 0), model(51, 1)]}
    models = {"act": easy["act"], "hm": [*easy["hm"], model(5, 2)], "vanilla": [model(3, seed) for seed in range(3)]}
    assert estimated(models["act"], "ers").mean > estimated(models["hm"], "ers").mean
    found = standing(models)
    first = by_ers(found)
    assert (first["first"].label, first["second"].label, first["seeds"]) == ("HM[S,LGA]", "ACT", 2)
    assert first["gap"].mean == pytest.approx(10)
    assert first["sure"]
    ((_, pairs),) = found["differences"]
    assert list(pairs.index) == ["HM[S,LGA]", "ACT"]
    assert list(pairs.columns) == ["ACT", "Vanilla"]
    apart = by_ers(standing({"act": [model(40, 0)], "hm": [model(35, 2)]}))
    assert (apart["first"].label, apart["gap"]) == ("ACT", None)


def test_the_leader_is_ahead_over_all_seeds_that_the_first_two_share():
    """Vanilla has the first seed alone, in which ACT is ahead of HM by luck."""
    seeds = range(4)
    models = {"act": [model(41, 0), *(model(30, s) for s in seeds[1:])], "hm": [model(40 + s / 9, s) for s in seeds]}
    first = by_ers(standing(models | {"vanilla": [model(3, 0)]}))
    assert (first["first"].label, first["second"].label, first["seeds"]) == ("HM[S,LGA]", "ACT", 4)
    assert first["gap"].mean > 0


@pytest.mark.parametrize("before", [["robrank_mnist"], ["robrank_mnist", "main_eta32"]])
def test_tables_without_results_do_not_hide_the_scores_of_a_later_one(before):
    """The first is of another dataset, the second has published rows of one; a further table has results as well."""
    models = {"digits": {"act": [model(30)], "vanilla": [model(20)]}}
    places = [*((name, "mnist" if name == "robrank_mnist" else "cub") for name in before), ("main", "digits")]
    sections = [
        page.section(name, data, block, table_rows(block, data, models.get(data, {}), published.read()), "")
        for name, data in [*places, ("main", "cub"), ("strong", "digits")]
        for block in [LOADED["tables"][name]]
    ]
    assert [part["ran"] for part in sections] == [*([False] * len(before)), True, False, True]
    loaded = LOADED | {"tables": {name: LOADED["tables"][name] for name in [*before, "main", "strong"]}}
    text = outputs.html(loaded, models, sections, **NOTHING)
    assert "<strong>ACT leads with this training:</strong>" in text
    assert re.findall(r'<details class="box" id="table-(\S+)" open>', text) == ["main-digits"]
    first, further = text.index('id="table-main-digits"'), text.index('id="table-strong-digits"')
    assert first < text.index("<h3>Further tables</h3>") < further
    shown = outputs.panels(sections)
    assert list(shown) == ["digits", "cub"]
    assert [row.defense for row in shown["digits"]][:1] == ["vanilla"]


def test_a_first_table_of_another_dataset_may_have_nothing_to_show():
    """With `papers: []` it has no published values and no section at all."""
    models = {"digits": {"act": [model(30)], "vanilla": [model(20)]}}
    block = LOADED["tables"]["main"]
    section = page.section("main", "digits", block, table_rows(block, "digits", models["digits"], {}), "")
    loaded = LOADED | {"tables": {"elsewhere": block | {"datasets": ["mnist"]}, "main": block}}
    assert "<strong>ACT leads with this training:</strong>" in outputs.html(loaded, models, [section], **NOTHING)


def test_of_rows_that_are_called_alike_the_better_one_is_bold():
    models = {"vanilla": [model(20)], "act": [model(30)]}
    block = {"title": "T", "columns": ["ers"], "intervals": [], "rows": {name: {"label": "Same"} for name in models}}
    section = page.section("main", "digits", block, table_rows(block, "digits", models, {}), "")
    text = outputs.html(LOADED, {"digits": models}, [section], **NOTHING)
    assert re.findall(r'<td data-value="(.+?)"( class="best")?>', text) == [("20.0", ""), ("30.0", ' class="best"')]


@pytest.mark.parametrize(
    ("text", "why"),
    [('{"attacks": {', r"not valid JSON \(.+\)"), ("", r"not valid JSON \(.+\)"), ("[]", "damaged"), ("{}", "damaged")],
)
def test_damaged_pictures_are_named(tmp_path, monkeypatch, text, why):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "reports" / "visualize" / "digits.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^reports/visualize/digits\.json: {why}.*; delete it and run `.+digits"):
        page.pictures(["cub", "digits"])


def test_two_leaders_without_a_common_seed_are_not_compared():
    models = {"act": [model(30, 0)], "hm": [model(20, 1)]}
    found = standing(models)
    assert (by_ers(found)["gap"], by_ers(found)["sure"]) == (None, False)
    assert found["differences"] == []
    assert "and no seed has both" in printed(models)


def test_the_page_has_every_pair_with_what_excludes_zero_in_bold():
    models = {"act": [model(30)], "hm": [model(26)], "vanilla": [model(26.0)]}
    text = printed(models)
    assert "Every defense against every other: digits" in text
    assert text.count("<td><strong>4.0<br>[4.0, 4.0]</strong></td>") == 2
    assert text.count("<td>0.0<br>[0.0, 0.0]</td>") == 1
