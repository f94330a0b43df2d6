"""Differences between defenses, pair by pair, against loops."""

import numpy as np
import pandas as pd
import pytest

from stages.core.stats import t_interval
from stages.reporting import differences
from stages.reporting.results import Model
from stages.reporting.seeds import estimated, lead
from stages.reporting.tables import Row

ERS = {"vanilla": (12.3, 13.3, 15.4), "act": (13.9, 11.1, 14.0), "hm_ics": (18.0, 18.3, 19.6)}


def model(seed, **values):
    """A model with some values and draws around them, which differ by seed and are the same for every model."""
    draw = np.random.default_rng(seed)
    draws = {name: value + draw.standard_normal(200) for name, value in values.items()}
    return Model(values, draws, {}, pd.DataFrame(), 50, 50, seed)


def rows_of(models):
    return [
        Row(name.upper(), "", {metric: estimated(found, metric) for metric in differences.SCORES}, {}, {}, name)
        for name, found in models.items()
    ]


def three_seeds():
    return {name: [model(seed, ers=value) for seed, value in enumerate(values)] for name, values in ERS.items()}


def test_each_pair_once_with_the_higher_mean_first_and_the_interval_of_paired_seeds():
    models = three_seeds()
    found = differences.cells("digits", rows_of(models), models, "ers")
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("hm_ics", "vanilla"),
        ("hm_ics", "act"),
        ("vanilla", "act"),
    ]
    for line in found.itertuples():
        gaps = [one - other for one, other in zip(ERS[line.first], ERS[line.second], strict=True)]
        assert line.difference == pytest.approx(sum(gaps) / 3)
        assert (line.low, line.high) == pytest.approx(t_interval(gaps))
        assert line.over == "seeds"


def test_files_say_which_differences_leave_out_zero(tmp_path):
    models = {"digits": three_seeds(), "cub": {}}
    differences.write({"digits": rows_of(models["digits"]), "cub": []}, models, tmp_path)
    lines = (tmp_path / "differences.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("#")] == ["### Differences of ERS: digits"]
    (first,) = (line for line in lines if line.startswith("| HM_ICS "))
    (second,) = (line for line in lines if line.startswith("| VANILLA "))
    cells = [cell.strip() for cell in first.split("|")[2:-1]]
    assert all(cell.startswith("**") and cell.endswith("]**") for cell in cells)
    assert second.split("|")[2].strip() == ""
    assert second.split("|")[3].strip().startswith("0.7 [")
    assert lines[-1] == differences.HOW_TO_READ
    assert len(pd.read_csv(tmp_path / "differences.csv")) == 3


def test_one_model_has_nothing_to_be_compared_with(tmp_path):
    models = {"digits": {"act": [model(0, ers=13.0)], "hm": [model(0, spread=0.5)]}}
    differences.write({"digits": rows_of(models["digits"])}, models, tmp_path)
    assert (tmp_path / "differences.md").read_text().startswith("### Differences between defenses: no two models")
    assert pd.read_csv(tmp_path / "differences.csv").empty


def test_a_seed_without_the_score_is_left_out_of_the_pairs():
    first, second = three_seeds()["hm_ics"], three_seeds()["act"]
    second[1] = model(1, spread=0.5)
    gap = lead(first, second, "ers")
    assert gap.mean == pytest.approx((18.0 - 13.9 + 19.6 - 14.0) / 2)
    assert gap.over == "queries"
    assert lead(second, first, "ers").mean == pytest.approx(-gap.mean)
    assert lead(first[:1], second[2:], "ers") is None
    models = {"hm_ics": first[:1], "act": second[2:]}
    assert differences.cells("digits", rows_of(models), models, "ers").empty
