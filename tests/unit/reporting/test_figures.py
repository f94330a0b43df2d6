"""Figures of the report: what they show, what they are called, and the same bytes each time."""

import re

import pytest
from report_world import HISTORY, LABELS, LOADED, model

from stages.reporting import figures, outputs, plotting, published
from stages.reporting.rows import table_rows
from stages.runtime import artifacts


def drawn(folder):
    """Every figure of two defenses with a sweep; whether each shows something."""
    folder.mkdir()
    labels, block = {"vanilla": "Vanilla", "act": "ACT"}, LOADED["tables"]["eps_sweep"]
    strengths = {name: 20.0 + place for place, name in enumerate(block["columns"])}
    exact = {"es_d:es_exact": 1.1, "es_r:es_exact": 5.0, "ltm:ltm_exact": 7.0, "gtm:gtm_exact": 9.0}
    models = {"vanilla": [model(20, **strengths, **exact)], "act": [model(30, s, **strengths) for s in range(3)]}
    rows = table_rows(LOADED["tables"]["main"], "cub", models, published.read())
    share = {"qa_plus": 1.0, "ltm": 1.0}
    return {
        "comparison": figures.comparison(folder / "comparison", rows, ["recall_at_1", "ers"], LABELS),
        "tradeoff": figures.tradeoff(folder / "tradeoff", {"cub": rows}, LABELS, ["cub"]),
        "sub_scores": figures.sub_scores(folder / "sub_scores", models, labels),
        "history": figures.history(folder / "history", models, labels),
        "variants": figures.variants(folder / "variants", models, labels),
        "sweep": figures.sweep(folder / "sweep", models, LABELS, block, lambda name: share.get(name, 0.5)),
    }


def test_figures_come_as_svg_and_png_with_the_same_bytes_each_time(tmp_path):
    assert all(drawn(tmp_path / "one").values())
    assert all(drawn(tmp_path / "two").values())
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 12
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
        head = (tmp_path / "one" / name).read_bytes()
        assert head.startswith(b"\x89PNG") if name.endswith("png") else b"<svg" in head[:500]
        assert b"<dc:date>" not in head


def test_a_dollar_in_a_label_is_no_mathematics(tmp_path):
    """What matplotlib cannot parse broke the report; what it can changed the label, here by losing its dollars."""
    models = {"act": [model(30)]}
    assert figures.sub_scores(tmp_path / "bad", models, {"act": r"$\bm{N/A}$"})
    for name, label in (("dollars", "$5$"), ("none", "5")):
        assert figures.sub_scores(tmp_path / name, models, {"act": label})
    title = [re.findall(r"<!-- (.*5.*) -->", (tmp_path / f"{name}.svg").read_text()) for name in ("dollars", "none")]
    assert title == [["$5$"], ["5"]]


def test_figures_without_data_say_so_and_count_as_nothing(tmp_path):
    nothing = {"vanilla": []}
    assert not figures.sub_scores(tmp_path / "a", nothing, LABELS)
    assert not figures.history(tmp_path / "b", nothing, LABELS)
    assert not figures.variants(tmp_path / "c", {"vanilla": [model(20)]}, LABELS)
    block = LOADED["tables"]["steps_sweep"]
    assert not figures.sweep(tmp_path / "d", {"vanilla": [model(20)]}, LABELS, block, lambda name: 1.0)
    assert not figures.tradeoff(tmp_path / "e", {}, LABELS, ["digits"])
    assert not figures.comparison(tmp_path / "f", [], ["ers"], LABELS)
    assert len(list(tmp_path.iterdir())) == 12


def test_the_legend_explains_the_marks_that_are_there(tmp_path):
    """Rows that were run or published, and what a hollow mark is where there are any."""
    for name, dataset, published_too in (("with", "cub", True), ("without", "digits", False)):
        rows = table_rows(LOADED["tables"]["main"], dataset, {"vanilla": [model(20)]}, published.read())
        figures.tradeoff(tmp_path / name, {dataset: rows}, LABELS, [dataset])
        text = (tmp_path / f"{name}.svg").read_text()
        assert "<!-- Vanilla -->" in text
        assert ("<!-- published (hollow) -->" in text) == ("<!-- ACT -->" in text) == published_too


@pytest.mark.parametrize(
    ("last", "columns"), [("CA-TRIDE", 3), ("CA-TRIDE without the auxiliary term", 2), (20 * "long ", 1)]
)
def test_the_legend_takes_as_many_columns_as_fit(tmp_path, last, columns):
    with plotting.drawn(tmp_path / "figure", 5.5, 4) as figure:
        axis = figure.subplots()
        for label in (*(f"HM[S,LGA] {number}" for number in range(10)), last):
            axis.plot([], [], "o", label=label)
        plotting.legend(figure, axis)
        (legend,) = figure.legends
    assert legend._ncols == columns
    box = legend.get_window_extent()
    assert columns == 1 or (box.x0 >= 0 and box.x1 <= figure.bbox.width)


def test_a_figure_of_rows_without_ers_has_no_legend(tmp_path):
    rows = table_rows(LOADED["tables"]["main"], "digits", {}, published.read())
    assert not figures.tradeoff(tmp_path / "none", {"digits": rows}, LABELS, ["digits"])
    assert "<!-- Vanilla -->" not in (tmp_path / "none.svg").read_text()


def test_a_table_without_clean_retrieval_has_no_point_and_no_legend(tmp_path):
    rows = table_rows(LOADED["tables"]["reference_vs_exact"], "digits", {"vanilla": [model(20)]}, published.read())
    assert not figures.tradeoff(tmp_path / "none", {"digits": rows}, LABELS, ["digits"])
    assert "<!-- Vanilla -->" not in (tmp_path / "none.svg").read_text()


def test_the_strength_of_every_metric_of_an_attack_is_known(tmp_path):
    """SPQA's second metric has the eps of its attack, as ES:R has."""
    columns = ["spqa_plus_kept", "es_r", "ltm:ltm_eps50"]
    loaded = LOADED | {"tables": {"mine": LOADED["tables"]["eps_sweep"] | {"columns": columns}}}
    values = dict.fromkeys(columns, 20.0)
    drawn = outputs.draw(loaded, {"digits": {"act": [model(20, **values)]}}, [], {"digits": {}}, tmp_path)
    assert "sweep" not in {drawing.kind for drawing in drawn}  # one strength of each metric is no curve


def test_a_history_without_epochs_is_no_curve(tmp_path):
    empty = model(20)._replace(history=HISTORY.iloc[:0])
    assert not figures.history(tmp_path / "a", {"vanilla": [empty]}, LABELS)
    assert figures.history(tmp_path / "b", {"vanilla": [empty], "act": [model(20)]}, LABELS)


def test_a_defense_has_one_name_and_one_place_in_every_figure():
    labels = outputs.labels_of(LOADED)
    assert list(labels)[:3] == ["vanilla", "est", "act"]
    assert set(labels) == set(LOADED["defenses"])
    assert (labels["hm"], labels["cap_only"]) == ("HM[S,LGA]", "CAP only")


def test_names_of_figures_follow_the_run():
    names = artifacts.figure_names(LOADED)
    assert names[0] == "tradeoff"
    assert {"history_digits", "sweep_eps_sweep_digits"} <= set(names)
    assert len(names) == 1 + 5 * len(LOADED["run"]["datasets"])
