"""Transfer matrices of the report against loops."""

import numpy as np
import pandas as pd
import pytest

from stages.reporting import outputs, transfers

NAMES, ROWS, SEEDS = ("vanilla", "act", "hm"), (*range(3, 30), 40, 50, 60), (0, 3)
LABELS = {"vanilla": "Vanilla", "act": "ACT", "hm": "HM[S,LGA]"}


def table_of(*metrics):
    """Random values, the same before for all sources, of every seed, pair of defenses and query."""
    draw, rows = np.random.default_rng(0), []
    clean = {(seed, defense, row): draw.random() for seed in SEEDS for defense in NAMES for row in ROWS}
    for seed in SEEDS:
        for source in NAMES:
            for defense in NAMES:
                for row in ROWS:
                    line = {"seed": seed, "source": source, "defense": defense, "image_id": row + 1, "row": row}
                    for metric in metrics:
                        line[f"{metric}_before"] = clean[seed, defense, row]
                        line[f"{metric}_after"] = 0.01 * draw.random()
                    rows.append(line)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("metric", "share"),
    [
        ("qa_plus", lambda value: 2 * value),
        ("qa_minus", lambda value: 100 - value),
        ("tma", lambda value: 100 * (1 - value)),
        ("es_d", lambda value: 50 * (2 - value)),
        ("ltm", lambda value: value),
        ("spqa_plus", lambda value: 2 * value),
        ("order", lambda value: 100 * (1 - value)),
    ],
)
def test_a_matrix_holds_sub_scores_by_source_and_measured_defense(metric, share):
    table = table_of(metric)
    found = transfers.matrix(table, metric)
    assert list(found.index) == list(found.columns) == list(NAMES)
    for source in NAMES:
        for defense in NAMES:
            values = [
                line[f"{metric}_after"]
                for _, line in table.iterrows()
                if line["source"] == source and line["defense"] == defense
            ]
            assert len(values) == len(ROWS) * len(SEEDS)
            assert found.loc[source, defense] == pytest.approx(share(sum(values) / len(values)))
    cells = transfers.cells(table, metric)
    assert (cells["queries"] == 30).all()
    assert (cells["seeds"] == 2).all()
    assert len(cells) == 9


def test_further_values_of_an_attack_are_no_matrices():
    table = table_of("order", "order_src", "order_kept", "qa_plus_ties_half")
    assert transfers.sub_scores_of(table) == ["order"]


def test_files_of_a_transfer_and_of_one_that_did_not_run(tmp_path):
    run = {"transfer": ["qa_plus", "es", "ltm"]}
    found = {"digits": {"qa_plus": table_of("qa_plus"), "es": table_of("es_d", "es_r")}, "cub": {}}
    transfers.write(found, run, LABELS, tmp_path)
    text = (tmp_path / "transfer_es.md").read_text()
    assert text.count("### Transfer of ES") == 2
    assert "### Transfer of ES:R: digits" in text
    lines = (tmp_path / "transfer_qa_plus.md").read_text().splitlines()
    (first,) = (line for line in lines if line.startswith("| Vanilla "))
    expected = [f"{value:.1f}" for value in transfers.matrix(found["digits"]["qa_plus"], "qa_plus").loc["vanilla"]]
    assert [cell.strip() for cell in first.split("|")[2:-1]] == expected
    assert "30 queries, 2 seeds." in lines
    assert lines[-1].startswith("Rows: the defense whose model the perturbed images were made on.")
    assert (tmp_path / "transfer_ltm.md").read_text() == "### Transfer of ltm: not run\n"
    assert pd.read_csv(tmp_path / "transfer_ltm.csv").empty
    es = pd.read_csv(tmp_path / "transfer_es.csv")
    assert list(es["metric"].unique()) == ["es_d", "es_r"]
    assert len(es) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"transfer_{name}.{kind}" for name in run["transfer"] for kind in ("csv", "md")
    )


@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_heat_map_is_drawn_with_every_value(tmp_path, count):
    metrics = ["qa_plus", "ltm", "tma", "qa_minus"][:count]
    tables = {metric: table_of(metric) for metric in metrics}
    assert transfers.draw(tmp_path / "one", tables, LABELS) == (count > 0)
    transfers.draw(tmp_path / "two", tables, LABELS)
    for kind in ("svg", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


def test_a_transfer_that_is_not_there_is_named_among_the_missing():
    run = {"transfer": ["es", "ltm"], "attacks": ["es", "ltm"], "seeds": [0]}
    assert outputs.absent({"run": run}, {}, {"digits": {"ltm": table_of("ltm")}}) == ["transfer digits es"]
