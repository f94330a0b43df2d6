"""Scores, intervals and verdicts against closed forms, loops and published numbers."""

from collections import defaultdict
from itertools import chain

import numpy as np
import pytest
from project_params import LOADED

from stages.core import stats
from stages.core.directions import ATTACK_DIRECTIONS
from stages.core.scores import MEASURED_BY, SHARES, SUB_SCORES, ars_reconstructed, benign_relative, ers
from stages.core.stats import Estimate, Interval
from stages.reporting import published
from stages.reporting.tables import COLUMNS
from stages.reporting.verdicts import verdict

PERFECT = dict.fromkeys(SUB_SCORES, 100.0) | {
    "ca_plus": 50.0, "ca_minus": 0.0, "qa_plus": 50.0, "qa_minus": 0.0, "tma": 0.0, "es_d": 0.0,
}  # fmt: skip
BROKEN = dict.fromkeys(SUB_SCORES, 0.0) | {"ca_minus": 100.0, "qa_minus": 100.0, "tma": 1.0, "es_d": 2.0}


def test_ers_of_a_perfect_and_of_a_broken_model():
    assert ers(PERFECT) == 100
    assert ers(BROKEN) == 0
    with pytest.raises(KeyError):
        ers({"ca_plus": 1.0})


def published_rows():
    """Printed figures by (source, dataset, loss, defense, place) of every published table row."""
    rows = defaultdict(dict)
    for row in chain(*published.read().values()):
        place = row["where"].split(" (")[0]
        rows[row["source"], row["dataset"], row["loss"], row["defense"], place][row["metric"]] = row["value"]
    return rows


def test_ers_of_every_published_row():
    """The ten printed sub-scores give the printed ERS, up to their rounding."""
    names = {COLUMNS[name].heading: name for name in SUB_SCORES}
    checked = 0
    for key, row in published_rows().items():
        if "ERS" in row and names.keys() <= row.keys() and row.get("outcome") != "collapse":
            sub_scores = {name: float(row[heading]) for heading, name in names.items()}
            assert ers(sub_scores) == pytest.approx(float(row["ERS"]), abs=0.1), key
            checked += 1
    assert checked >= 102


BENIGN = PERFECT | {
    "ca_plus": 49.0, "ca_minus": 1.0, "qa_plus": 51.0, "qa_minus": 0.5, "tma": 0.1, "es_d": 0.0,
    "es_r": 80.0, "ltm": 80.0, "gtm": 80.0, "gtt": 100.0,
}  # fmt: skip


def test_ars_of_an_unattackable_a_collapsed_and_a_broken_model():
    assert ars_reconstructed(BENIGN, BENIGN, spread=1.0, collapsed=False) == pytest.approx(100)
    assert ars_reconstructed(BENIGN, BENIGN, spread=1.0, collapsed=True) == 0
    assert ars_reconstructed(BROKEN, BENIGN, spread=1.0, collapsed=False) == pytest.approx(0)


def test_benign_relative_closed_forms():
    after = BENIGN | {
        "ca_plus": 24.5, "ca_minus": 67.0, "qa_plus": 60.0, "qa_minus": 50.25, "tma": 0.55, "es_d": 0.25,
        "es_r": 20.0, "ltm": 8.0, "gtm": 90.0, "gtt": 30.0,
    }  # fmt: skip
    kept = benign_relative(after, BENIGN, 1.0)
    assert kept == pytest.approx({
        "ca_plus": 50.0, "ca_minus": 100 * 33 / 99, "qa_plus": 100.0, "qa_minus": 50.0, "tma": 50.0, "es_d": 75.0,
        "es_r": 25.0, "ltm": 10.0, "gtm": 100.0, "gtt": 30.0,
    })  # fmt: skip


def test_benign_relative_counts_a_benign_zero_as_zero_and_a_shrunk_model_as_moved():
    kept = benign_relative(BENIGN, BENIGN | {"ltm": 0.0, "ca_minus": 100.0}, 1.0)
    assert kept["ltm"] == 0
    assert kept["ca_minus"] == 0
    assert benign_relative(BENIGN | {"es_d": 0.01}, BENIGN, 0.01)["es_d"] == 0


def test_scores_work_on_arrays_of_resampled_means():
    draws = {name: np.array([BENIGN[name], BROKEN[name]]) for name in SUB_SCORES}
    before = {name: np.array([BENIGN[name]] * 2) for name in SUB_SCORES}
    assert ers(draws) == pytest.approx([ers(BENIGN), ers(BROKEN)])
    assert ars_reconstructed(draws, before, spread=1.0, collapsed=False) == pytest.approx([100, 0])
    assert ars_reconstructed(draws, before, spread=1.0, collapsed=True).tolist() == [0, 0]


def test_bootstrap_covers_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = stats.percentile_interval(stats.resampled_means(values[:, None], seed=1)[:, 0])
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.05)
    assert high == pytest.approx(values.mean() + half, abs=0.05)


def test_resampled_means_by_loop_and_jointly():
    values = np.random.default_rng(0).random((30, 2))
    means = stats.resampled_means(values, seed=5, resamples=3)
    drawn = np.random.default_rng(5).integers(0, 30, (3, 30))
    for resample in range(3):
        for column in range(2):
            expected = sum(values[query, column] for query in drawn[resample]) / 30
            assert means[resample, column] == pytest.approx(expected)
    assert np.allclose(stats.resampled_means(values[:, :1], seed=5, resamples=3)[:, 0], means[:, 0])


def test_t_interval_closed_form():
    low, high = stats.t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302652730 / 3**0.5, 2 + 4.302652730 / 3**0.5))
    assert stats.t_interval([1.0, 2.0]) is None


def test_estimate_says_what_its_interval_is_over():
    draws = [np.random.default_rng(seed).random(50) for seed in range(3)]
    assert stats.estimate([0.5], draws[:1]).over == "queries"
    three = stats.estimate([0.5, 0.6, 0.7], draws)
    assert three.over == "seeds"
    assert three.bootstrap == stats.percentile_interval(np.mean(draws, axis=0))
    assert stats.estimate([0.5], []) == (0.5, None, "", None)


@pytest.mark.parametrize(
    ("value", "ours", "expected"),
    [
        (31.0, Estimate(30, Interval(29, 31.5), "seeds"), "match"),
        (33.4, Estimate(30, Interval(29, 31.5), "seeds"), "match"),
        (33.6, Estimate(30, Interval(29, 31.5), "seeds"), "differs"),
        (26.9, Estimate(30, Interval(29, 31.5), "seeds"), "differs"),
        (31.0, Estimate(30, Interval(29, 31.5), "queries"), "too few seeds"),
        (31.0, Estimate(30, None, ""), "too few seeds"),
        (31.0, None, "not run"),
        (None, None, "no published value"),
        (None, Estimate(30, Interval(29, 31.5), "seeds"), "no published value"),
    ],
)
def test_verdicts(value, ours, expected):
    assert verdict(value, ours, 2.0) == expected


PUBLISHED = {
    name: block
    for name, block in LOADED["tables"].items()
    if "published" in block and block["published"]["source"] != "CA-TRIDE paper"  # whose text was not available
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_row_of_a_table_block_is_found(name):
    """A typo in a row's published name would read as "no published value"."""
    block, printed = PUBLISHED[name], published.read()
    files = block["published"].get("where", ("",))
    metrics = ("recall_at_1", "ers") if name.startswith("robrank") else ("recall_at_1", "ca_plus", "es_d", "ers")
    for row in block["rows"].values():
        if "published" not in row:
            continue
        rows = [
            published.of_row(printed, block, dataset, row["published"]) for dataset in block["published"]["datasets"]
        ]
        held = [
            published.has_collapsed(there) or published.lookup(there, metric, files) is not None
            for there in rows
            for metric in metrics
        ]
        assert any(held), row
        assert all(held) or name == "ics", row  # the ICS table joins rows of two data sets


def test_published_lookup_gives_the_printed_value():
    block, printed = LOADED["tables"]["main"], published.read()

    def value(dataset, defense, metric):
        there = published.of_row(printed, block, dataset, defense)
        return published.lookup(there, metric, block["published"]["where"])

    assert value("cub", "ACT[R] eta=8", "ers") == 31.3
    assert value("sop", "HM[S,g_LGA]&ICS eta=8", "recall_at_1") == 48.3
    assert value("digits", "ACT[R] eta=8", "ers") is None
    assert value("cub", None, "ers") is None
    assert value("cub", "ACT[R] eta=8", "map_at_r") is None


def test_every_hm_paper_row_has_a_place_in_a_table():
    """Every dataset and defense of the HM paper's result tables is a row of some table block."""
    rows = chain(*published.read().values())
    held = [row for row in rows if row["source"] == "HM paper" and row["metric"] in ("ERS", "outcome")]
    shown = {
        (dataset, row.get("published"))
        for block in LOADED["tables"].values()
        for dataset in block.get("published", {}).get("datasets", {}).values()
        for row in block["rows"].values()
    }
    assert {(row["dataset"], row["defense"]) for row in held} <= shown


def test_published_csv_is_tidy():
    rows = list(chain(*published.read().values()))
    assert len(rows) == 2177
    assert all(row["where"] and row["source"] and row["metric"] for row in rows)


def test_every_metric_of_an_attack_has_a_column_that_is_better_where_the_attack_fails():
    assert set(MEASURED_BY) == set(ATTACK_DIRECTIONS)
    for metric, way in ATTACK_DIRECTIONS.items():
        assert COLUMNS[metric].better == -way, metric


@pytest.mark.parametrize("metric", SHARES)
def test_a_share_falls_the_way_the_attack_moves_and_is_100_where_it_achieves_nothing(metric):
    nothing = {"ca_plus": 50, "qa_plus": 50, "spqa_plus": 50, "es_r": 100, "ltm": 100, "gtm": 100, "gtt": 100}
    start = float(nothing.get(metric, 0))
    assert SHARES[metric](start) == 100
    assert SHARES[metric](start + ATTACK_DIRECTIONS[metric] * 0.5) < 100
