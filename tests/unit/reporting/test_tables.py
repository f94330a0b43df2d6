"""Tables and what the report says of a model."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.stats import Estimate, Interval
from stages.reporting import doubts, latex, published, results, scoring, seeds, tables
from stages.reporting.results import Model
from stages.reporting.rows import datasets_of, table_rows
from stages.reporting.tables import Row
from stages.runtime import params
from stages.runtime.errors import UserError


def row(label, ers, tma, mark="", published=None):
    cells = {
        "ers": None if ers is None else Estimate(ers, Interval(ers - 1, ers + 1), "queries"),
        "tma": None if tma is None else Estimate(tma, None, ""),
    }
    verdicts = {"ers": "match", "tma": "no published value"}
    return Row(label, mark, cells, {"ers": published, "tma": None}, verdicts, label.lower())


ROWS = [row("A_1", 30.04, 0.5), row("B&C", 30.0, 0.25, mark="shrunk", published=29.5), row("D", None, None)]
COLUMNS = ["ers", "tma"]
BLOCK = {"title": "Title", "columns": COLUMNS, "intervals": ["ers"]}


def test_markdown_shows_intervals_where_asked_marks_and_missing_cells():
    lines = tables.markdown(BLOCK, "digits", ROWS).splitlines()
    assert lines[0] == "### Title: digits"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["", "ERS", "TMA"]
    assert cells[2:] == [
        ["A_1", "30.0 [29.0, 31.0]", "0.500"],
        ["B&C (shrunk)", "30.0 [29.0, 31.0]", "0.250"],
        ["D", "not run", "not run"],
    ]


def test_a_bar_in_a_label_does_not_end_the_cell():
    """In the first column and, in tables of pairs, in the headings."""
    line = tables.markdown(BLOCK, "digits", [row("HM|LGA", 30.0, 0.5)]).splitlines()[4]
    assert [cell.strip() for cell in re.split(r"(?<!\\)\|", line)] == ["", r"HM\|LGA", "30.0 [29.0, 31.0]", "0.500", ""]
    pairs = pd.DataFrame([["A|B", "4.0"]], columns=["", "A|B"])
    assert [line.count(r"A\|B") for line in tables.grid(pairs).splitlines()] == [1, 0, 1]


def test_best_follows_the_direction_and_the_printed_decimals():
    assert tables.best(ROWS, "ers") == {"a_1", "b&c"}
    assert tables.best(ROWS, "tma") == {"b&c"}
    assert tables.best(ROWS[2:], "ers") == set()


def test_the_best_of_rows_that_are_called_alike_is_one_of_them():
    """Labels are for readers and may repeat."""
    alike = [row("Same", 30.0, 0.5)._replace(defense=name) for name in ("first", "second")]
    alike[1] = alike[1]._replace(cells=row("Same", 20.0, 0.5).cells)
    assert tables.best(alike, "ers") == {"first"}
    text = latex.latex(BLOCK | {"columns": ["ers"]}, "digits", alike)
    assert (text.count(r"Same & \textbf{30.0}"), text.count("Same & 20.0")) == (1, 1)


def test_a_collapsed_row_is_never_the_best():
    """The page says that it is not ranked."""
    rows = [row("A", 20.0, 0.5), row("B", 90.0, 0.1, mark="collapsed"), row("C", 10.0, 0.9, mark="shrunk")]
    assert [tables.best(rows, name) for name in COLUMNS] == [{"a"}, {"a"}]
    assert tables.best(rows[1:2], "ers") == set()


def test_latex_is_escaped_and_bold_where_best():
    text = latex.latex(BLOCK | {"intervals": []}, "5 % & more", ROWS)
    assert r"\caption{Title: 5 \% \& more}" in text
    assert r" & ERS $\uparrow$ & TMA $\downarrow$ \\" in text
    assert r"\textbf{30.0} {\footnotesize [29.0, 31.0]}" in latex.latex(BLOCK, "digits", ROWS)
    assert r"A\_1 & \textbf{30.0} & 0.500 \\" in text
    assert r"B\&C (shrunk) & \textbf{30.0} & \textbf{0.250} \\" in text
    assert r"D & not run & not run \\" in text
    assert text.count(r"\begin{tabular}{lrr}") == text.count(r"\end{tabular}") == 1
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_tidy_has_one_line_per_cell():
    table = pd.DataFrame(tables.tidy({"digits": ROWS}, COLUMNS))
    assert len(table) == 6
    first, second = table.iloc[0], table.iloc[2]
    assert (first["value"], first["low"], first["high"], first["interval_over"]) == (30.04, 29.04, 31.04, "queries")
    assert (second["row"], second["mark"], second["published"], second["verdict"]) == ("B&C", "shrunk", 29.5, "match")
    assert table["value"].isna().sum() == 2


def test_letters_lead_from_the_columns_of_a_latex_table_to_their_notes():
    shown = [Row("A", "", dict.fromkeys(["es_d", "tma", "nmi"]), {}, {})]
    block = {"title": "Title", "columns": ["es_d", "tma", "nmi"], "intervals": [], "note": "Of the table."}
    text = latex.latex(block, "digits", shown)
    marks = [rf"\textsuperscript{{{letter}}}" for letter in "ab"]
    assert rf" & ES:D $\downarrow${marks[0]} & TMA $\downarrow$ & NMI $\uparrow${marks[1]} \\" in text
    assert rf"\scriptsize {marks[0]} ES:D, LTM and GTM are" in text
    assert rf"\scriptsize {marks[1]} NMI uses one start" in text


def test_variants_are_named_in_their_heading_and_notes_come_once():
    assert tables.column("gtm:gtm_exact").heading == "GTM (exact)"
    assert tables.column("gtm:gtm_exact_fine").heading == "GTM (exact, fine)"
    assert tables.column("gtm").heading == "GTM"
    notes = tables.notes({"columns": ["es_d", "ltm", "gtm", "ars_reconstructed"]})
    assert len(notes) == 2
    assert "reference" in notes[0]
    assert "formula" in notes[1]
    assert tables.notes({"columns": ["ltm"], "note": "Of the table."}) == ["Of the table.", notes[0]]
    assert "- Of the table." in tables.markdown(BLOCK | {"note": "Of the table."}, "digits", ROWS)
    assert "\\scriptsize  Of the table." in latex.latex(BLOCK | {"note": "Of the table."}, "digits", ROWS)


def model(spread=1.0, collapsed=0.0, **checks):
    good = {"improved": 1.0, "stuck": 0.0, "largest_change": 0.3}
    return Model({"spread": spread, "collapsed": collapsed}, {}, {"es": good | checks}, pd.DataFrame(), 5, 5)


@pytest.mark.parametrize(
    ("name", "command"),
    [("results/x/act/0/es.parquet", "attack x act 0 es"), ("models/x/act/0/history.csv", "train x act 0")],
)
def test_missing_and_damaged_tables_are_named(tmp_path, monkeypatch, name, command):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    with pytest.raises(UserError, match=rf"missing; run `python -m stages\.{command}` first"):
        results.read_table(path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"damaged \(.*\); delete it and run `python -m stages\.{command}`"):
        results.read_table(path)


def test_marks():
    assert seeds.mark([model(), model()]) == ""
    assert seeds.mark([model(), model(spread=0.05)]) == "shrunk"
    assert seeds.mark([model(spread=0.05), model(collapsed=1.0)]) == "collapsed"


@pytest.mark.parametrize(
    ("checks", "reason"),
    [({"improved": 0.4}, "for 60.0 %"), ({"stuck": 0.2}, "20.0 % of the"), ({"largest_change": 0.0}, "no image was")],
)
def test_attacks_that_look_broken_are_reported(checks, reason):
    (failed,) = doubts.failed_checks({"digits": {"act": [model(**checks)]}})
    assert (*failed[:3], failed.attack) == ("digits", "act", 0, "es")
    assert reason in failed.reason
    assert doubts.failed_checks({"digits": {"act": [model()]}}) == []


def test_scores_follow_from_per_query_values():
    """ERS of the means is the mean of ERS; its draws are those of the same resampled queries."""
    from stages.core.scores import SUB_SCORES, ars_reconstructed, ers

    draw = np.random.default_rng(0)
    ranks = [f"{name}_ties_half" for name in scoring.RANKED]
    after = pd.DataFrame({name: draw.random(40) for name in (*SUB_SCORES, *ranks)})
    before = pd.DataFrame({name: draw.random(40) for name in (*SUB_SCORES, *ranks)})
    scored = scoring.scored(scoring.column_means(after), scoring.column_means(before), 1.0, False)
    assert scored["ers"] == pytest.approx(np.mean([ers(after.iloc[i].to_dict()) for i in range(40)]))
    assert "ers_exact" not in scored
    draws = scoring.scored(scoring.column_draws(after, 3), scoring.column_draws(before, 3), 1.0, False)
    assert draws["ers"].shape == draws["ars_reconstructed"].shape == (2000,)
    half_after, half_before = (
        scoring.column_means(frame) | {name: frame[f"{name}_ties_half"].mean() for name in scoring.RANKED}
        for frame in (after, before)
    )
    expected = ars_reconstructed(half_after, half_before, spread=1.0, collapsed=False)
    assert scored["ars_reconstructed"] == pytest.approx(expected)  # ranks count ties as half
    collapsed = scoring.scored(scoring.column_means(after), scoring.column_means(before), 1.0, True)
    assert collapsed["ars_reconstructed"] == 0
    assert draws["ers"].mean() == pytest.approx(scored["ers"], abs=0.01)


def test_only_the_nine_standard_blocks_give_plain_metric_names():
    assert scoring.metric_name("es_d", "es") == "es_d"
    assert scoring.metric_name("ca_plus_ties_half", "ca_plus") == "ca_plus_ties_half"
    assert scoring.metric_name("ca_plus", "ca") == "ca_plus:ca"
    assert scoring.metric_name("gtm", "gtm_exact") == "gtm:gtm_exact"
    assert tables.column("ca_plus:ca_plus_fine").heading == "CA+ (fine)"


def test_rows_carry_estimates_published_values_and_verdicts():
    """Three made models of HM on CUB beside what the paper prints for it: R@1 38.0, ERS 32.4."""
    block = params.load()["tables"]["main"]
    draws = {"ers": np.full(2000, 31.0)}
    models = [Model({"recall_at_1": r, "ers": e, "spread": 0.5, "collapsed": 0.0}, draws, {}, pd.DataFrame(), 5, 5)
              for r, e in ((39.0, 29.0), (39.4, 29.2), (39.8, 29.4))]  # fmt: skip
    rows = {row.label: row for row in table_rows(block, "cub", {"hm": models}, published.read())}
    hm = rows["HM[S,LGA]"]
    assert hm.cells["ers"].mean == pytest.approx(29.2)
    assert hm.cells["ers"].bootstrap == (31.0, 31.0)
    assert (hm.published["recall_at_1"], hm.published["ers"], hm.published["map_at_r"]) == (38.0, 32.4, None)
    # R@1: 39.4 +- 0.994 reaches down to 38.4, widened by 2 to 36.4. ERS: 29.2 +- 0.5 reaches up to 29.7, widened 31.7.
    assert (hm.verdicts["recall_at_1"], hm.verdicts["ers"], hm.verdicts["nmi"]) == ("match", "differs", "not run")
    assert rows["ACT"].verdicts["ers"] == "not run"
    assert rows["CA-TRIDE"].verdicts["ers"] == "no published value"
    sources = table_rows(params.load()["tables"]["hardness_sources"], "cub", {}, published.read())
    assert {row.verdicts["ers"] for row in sources} == {"not run", "collapsed in the paper"}


def test_a_verdict_on_nmi_allows_for_the_start_of_the_clustering():
    """Published 77.8; ours 82.0 +- 0.5, widened by 2: outside, unless ten starts move it by more than 1.7 to a side."""
    block = params.load()["tables"]["robrank_fashion"]

    def verdicts(deviation):
        values = [{"nmi": value, "recall_at_1": 89.9, "nmi_deviation": deviation} for value in (81.8, 82.0, 82.2)]
        models = [Model(one | {"spread": 0.5, "collapsed": 0.0}, {}, {}, pd.DataFrame(), 5, 5) for one in values]
        return table_rows(block, "fashion", {"vanilla": models}, published.read())[0].verdicts

    assert verdicts(1.6)["nmi"] == "differs"
    assert verdicts(1.8)["nmi"] == "match"
    assert verdicts(50.0)["recall_at_1"] == "differs"  # published 87.6: no other column is widened


def test_a_table_may_name_its_datasets_and_shows_published_ones_that_did_not_run():
    loaded, printed = params.load()["tables"], published.read()
    assert datasets_of(loaded["main"], ["digits"], printed) == ["digits", "cub", "cars", "sop"]
    assert datasets_of(loaded["robrank_mnist"], ["digits"], printed) == ["mnist"]
    assert datasets_of(loaded["robrank_fashion"], ["digits", "fashion"], printed) == ["fashion"]
    assert datasets_of(loaded["ca_tride_main"], ["digits"], printed) == ["digits"]  # nothing is printed for it yet


def test_robrank_rows_have_the_published_values():
    rows = {
        row.defense: row.published
        for row in table_rows(params.load()["tables"]["robrank_mnist"], "mnist", {}, published.read())
    }
    assert list(rows["hm_ics_eta32"].values()) == [99.0, 99.4, 99.0, 82.6, 77.9]
    assert list(rows["vanilla"].values()) == [99.0, 99.4, 98.7, 84.7, 13.3]  # N/A is a name, not a missing value
    assert set(rows["ca_tride"].values()) == {None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the columns are ; write source"),
        ("\xff", "the columns are"),
        ('"', "cannot be read"),
        ("source,dataset\na,b\n", "the columns are source, dataset; write source, dataset, backbone, loss,"),
        (
            f"{','.join(published.HEADER)}\nP,CUB,R,t,ACT,R@1,5o,percent,1\n",
            "line 2: '5o' is no number",
        ),
        (
            f"{','.join(published.HEADER)}\nP,CUB,R,t,ACT,R@1,5,percent,a, b\n",
            "line 2: 10 values, not 9; put commas",
        ),
    ],
)
def test_a_wrong_file_of_published_values_is_named(tmp_path, monkeypatch, text, expected):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "published.csv").write_text(text)
    monkeypatch.setattr(published, "PAPERS", tmp_path)
    with pytest.raises(UserError, match=rf"workflow/papers/mine/published\.csv: .*({expected})") as caught:
        published.read()
    assert "\n" not in str(caught.value)


def test_exact_ers_takes_the_exact_variants():
    from stages.core.scores import SUB_SCORES

    plain = dict.fromkeys(SUB_SCORES, 10.0) | {"es_d": 1.0, "tma": 0.5}
    halves = {f"{name}_ties_half": 10.0 for name in scoring.RANKED}
    exact = {"es_d:es_exact": 1.2, "es_r:es_exact": 5.0, "ltm:ltm_exact": 20.0, "gtm:gtm_exact": 30.0}
    scored = scoring.scored(plain | halves | exact, plain | halves, 1.0, False)
    assert scored["ers_exact"] - scored["ers"] == pytest.approx((-10 - 5 + 10 + 20) / 10)
