"""Strong values: of each query the worst of all that was tried, and nothing that does not belong to it."""

import numpy as np
import pandas as pd
import pytest
from project_params import LOADED

from stages.core.directions import direction
from stages.core.scores import ATTACK_OF, STANDARD_ATTACKS, SUB_SCORES, ers
from stages.reporting import page, results, scoring, strong, tables
from stages.runtime import checksums, params
from stages.runtime.errors import UserError
from workflow import commands
from workflow.commands import compute, show

N = 40
IDS = np.arange(N) * 3
BLOCKS = {
    name: params.attack(LOADED, name, "digits") for name in ("ltm", "ltm_strong", "es", "es_strong", "ltm_square")
}
ES_METRICS = ("es_d", "es_r")


def values(seed, *metrics):
    """A table of made values of some metrics, as the attack stage writes them."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"image_id": IDS, "row": range(N), "target": -1})
    for metric in metrics:
        table[f"{metric}_before"] = 50.0
        table[f"{metric}_after"] = draw.choice([0.0, 100.0], N) if metric == "ltm" else draw.random(N)
    return table.assign(objective_before=1.0, objective_after=0.5, largest_change=0.1, zero_gradients=0.0)


def moved(**tables):
    """Transferred values by source, as the stage ``transfer`` writes them."""
    parts = [table.assign(source=source) for source, table in tables.items()]
    kept = ["objective_after", "objective_before", "largest_change", "zero_gradients", "target"]
    return pd.concat(parts, ignore_index=True).drop(columns=kept)


@pytest.mark.parametrize("order", [range(N), range(N - 1, -1, -1)])
@pytest.mark.parametrize("transfer", [True, False])
def test_no_query_is_stronger_than_under_any_attack(order, transfer):
    """The protocol's among them; and every value is one that was found."""
    runs = {"es": values(1, *ES_METRICS).iloc[list(order)].reset_index(drop=True), "es_strong": values(0, *ES_METRICS)}
    others = {"act": values(2, *ES_METRICS), "hm": values(3, *ES_METRICS)} if transfer else {}
    found = strong.strongest("es_strong", BLOCKS, runs, {"es": moved(**others)} if transfer else {})
    suite = runs["es_strong"]
    for metric in ES_METRICS:
        column = f"{metric}_after"
        each = np.stack([table.set_index("image_id").loc[IDS, column] for table in (*runs.values(), *others.values())])
        assert (direction(metric) * (found[column].to_numpy() - each) >= 0).all()
        assert all(value in each[:, query] for query, value in enumerate(found[column]))
        assert (found[column] != suite[column]).any()
    other = [name for name in suite if not name.endswith(("es_d_after", "es_r_after"))]
    pd.testing.assert_frame_equal(found[other], suite[other])


def test_queries_that_were_not_tried_elsewhere_keep_the_suites_value():
    suite = values(0, *ES_METRICS)
    part = values(1, *ES_METRICS).iloc[:4].assign(es_r_after=np.nan)
    found = strong.combined(suite, [part])
    assert (found["es_r_after"] == suite["es_r_after"]).all()
    assert (found["es_d_after"][4:] == suite["es_d_after"][4:]).all()
    assert (found["es_d_after"][:4] >= suite["es_d_after"][:4]).all()
    pd.testing.assert_frame_equal(strong.combined(suite, []), suite)


@pytest.mark.parametrize("column", ["es_r_before", "target"])
def test_images_that_aim_at_another_target_are_left_out(column):
    """On another model an attack may have chosen another one; it then begins elsewhere, or names it."""
    own, there = values(0, *ES_METRICS), values(1, *ES_METRICS)
    there.loc[:9, column] += 1
    kept = strong.comparable(own, there.drop(columns=["objective_before", *({"target"} - {column})]))
    assert list(kept["image_id"]) == list(IDS[10:])


def test_only_the_same_goal_and_budget_is_taken():
    runs = {"es": values(0, *ES_METRICS), "es_strong": values(1, *ES_METRICS), "ltm": values(2, "ltm")}
    transferred = {"es": moved(act=values(3, *ES_METRICS)), "ltm": moved(act=values(4, *ES_METRICS))}
    expected = strong.combined(runs["es_strong"], [runs["es"], transferred["es"]])
    pd.testing.assert_frame_equal(strong.strongest("es_strong", BLOCKS, runs, transferred), expected)
    assert strong.strongest("es", BLOCKS, runs, transferred) is runs["es"]
    half = BLOCKS | {"es": BLOCKS["es"] | {"eps_scale": 0.5}}
    pd.testing.assert_frame_equal(strong.strongest("es_strong", half, runs, transferred), runs["es_strong"])
    del runs["es"]
    pd.testing.assert_frame_equal(strong.strongest("es_strong", BLOCKS, runs, {}), runs["es_strong"])


def test_transfers_are_read_of_one_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/transfer/digits").mkdir(parents=True)
    rows = [moved(act=values(seed, *ES_METRICS)).assign(defense=name, seed=seed) for name in "ab" for seed in (0, 1)]
    made = tmp_path / "results/transfer/digits/es.parquet"
    pd.concat(rows).to_parquet(made)
    checksums.dump({"inputs": {}}, made.with_suffix(".json"), {made.name: made})
    run = {"transfer": ["es", "ltm"], "defenses": ["act", "a", "b"], "seeds": [0, 1]}
    found = results.of_model(results.read_transfers("digits", run), "b", 1)
    assert list(found) == ["es"]
    assert set(found["es"]["defense"]) == {"b"}
    assert (found["es"]["es_d_after"].to_numpy() == values(1, *ES_METRICS)["es_d_after"]).all()
    (tmp_path / "results/transfer/digits/es.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"es\.parquet: damaged .* run `python -m stages\.transfer digits es`"):
        results.read_transfers("digits", run)


def with_members(suite, **members):
    """A table of ltm_strong with made values of its members."""
    table = values(9, "ltm").assign(ltm_after=suite)
    for member in BLOCKS["ltm_strong"]["suite"]:
        table[f"ltm_after@{member}"] = members.get(member, 100.0)
        table[f"objective_after@{member}"], table[f"zero_gradients@{member}"] = 0.5, 0.0
    return table


def test_doubts_compare_all_that_was_tried_on_a_model():
    protocol = values(0, "ltm").assign(ltm_after=100.0)
    runs = {"ltm": protocol, "ltm_strong": with_members(0.0, fine=100.0, apgd=0.0, square=0.0)}
    assert strong.doubts("hm", BLOCKS, runs, {}) == []
    runs["ltm_strong"] = with_members(0.0, fine=100.0, apgd=50.0, square=0.0)
    (line,) = strong.doubts("hm", BLOCKS, runs, {})
    assert line.startswith("ltm: ltm_strong@square beats the white box by 50.0 %")
    assert line.endswith("the gradients are masked")
    runs["ltm_strong"]["zero_gradients@apgd"] = 1.0
    runs["ltm_strong"]["objective_after@apgd"] = 1.0
    lines = strong.doubts("hm", BLOCKS, runs, {})
    assert any(one.startswith("ltm_strong@apgd: 100.0 % of the queries have mostly zero gradients") for one in lines)
    runs["ltm_strong"] = with_members(50.0, fine=100.0, apgd=50.0)
    assert strong.doubts("hm", BLOCKS, runs, {}) == []
    given = {"ltm": moved(act=protocol.assign(ltm_after=0.0))}
    (line,) = strong.doubts("hm", BLOCKS, runs, given)
    assert "ltm: ltm from act beats the white box by 50.0 %" in line
    assert strong.doubts("act", BLOCKS, runs, given) == []  # made on the model itself
    few = {"ltm": given["ltm"].iloc[:9]}
    assert strong.doubts("hm", BLOCKS, runs, few) == []
    black = {"ltm": protocol, "ltm_square": values(0, "ltm").assign(ltm_after=0.0)}
    (line,) = strong.doubts("hm", BLOCKS, black, {})
    assert "ltm_square beats the white box by 100.0 %" in line
    assert "the strong suite tells which" in line
    longer = black | {"ltm_square": black["ltm_square"].iloc[:5]}  # of other queries: not compared
    assert strong.doubts("hm", BLOCKS, longer, {}) == []


@pytest.mark.parametrize(
    ("metric", "amount", "flagged"),
    [("ltm", -60.0, True), ("ltm", 60.0, False), ("es_r", -60.0, True), ("es_d", 1.0, False)],
)
def test_the_protocols_attack_alone_is_compared_with_images_from_elsewhere(metric, amount, flagged):
    """But for ES:D, which is published one step early."""
    block = "ltm" if metric == "ltm" else "es"
    own = values(0, metric).assign(**{f"{metric}_after": 70.0 if metric != "es_d" else 0.5})
    better = {block: moved(act=own.assign(**{f"{metric}_after": own[f"{metric}_after"] + amount}))}
    found = strong.doubts("hm", BLOCKS, {block: own}, better)
    assert len(found) == flagged
    assert all(f"{block}: {block} from act beats the white box by 60.0 %" in line for line in found)
    assert all(line.endswith("the strong suite tells which") for line in found)
    apgd = {block: BLOCKS[block] | {"optimizer": "apgd"}}
    assert len(strong.doubts("hm", apgd, {block: own}, better)) == (flagged or metric == "es_d")
    other = {block: better[block].assign(**{f"{metric}_before": 51.0})}  # another target
    assert strong.doubts("hm", BLOCKS, {block: own}, other) == []


def frame(seed, *suffixes):
    draw = np.random.default_rng(seed)
    names = [f"{name}{ties}" for name in SUB_SCORES for ties in ("", "_ties_half")]
    names += [f"{name}:{attack}{suffix}" for suffix in suffixes for name, attack in ATTACK_OF.items()]
    return pd.DataFrame({name: draw.random(30) for name in names})


def test_ers_strong_is_ers_of_the_strong_sub_scores():
    after, before = frame(0, "_strong"), frame(1)
    means = scoring.column_means(after)
    found = scoring.scored(means, scoring.column_means(before), 1.0, False)
    assert found["ers_strong"] == ers({name: means[f"{name}:{ATTACK_OF[name]}_strong"] for name in SUB_SCORES})
    assert found["ers_surviving"] == pytest.approx(100 * found["ers_strong"] / found["ers"])
    draws = scoring.scored(scoring.column_draws(after, 3), scoring.column_draws(before, 3), 1.0, False)
    assert draws["ers_surviving"] == pytest.approx(100 * draws["ers_strong"] / draws["ers"])
    del means["gtt:gtt_strong"]
    assert "ers_strong" not in scoring.scored(means, scoring.column_means(before), 1.0, False)


def test_the_share_of_nothing_is_a_number():
    worst = {"ca_plus": 0.0, "ca_minus": 100.0, "qa_plus": 0.0, "qa_minus": 100.0, "tma": 1.0, "es_d": 2.0}
    after = dict.fromkeys(SUB_SCORES, 0.0) | worst
    after |= {f"{name}_ties_half": after[name] for name in scoring.RANKED}
    after |= {f"{name}:{ATTACK_OF[name]}_strong": value for name, value in after.items() if name in SUB_SCORES}
    assert scoring.scored(after, after, 1.0, False)["ers_surviving"] == 0


def test_what_a_member_left_alone_is_the_mean_of_its_own_column():
    suite, members = values(0, "ltm"), list(BLOCKS["ltm_strong"]["suite"])
    columns = {f"ltm_after@{member}": np.full(N, 10.0 * place) for place, member in enumerate(members)}
    runs = {"ltm": values(1, "ltm"), "ltm_strong": suite.assign(**columns)}
    found = strong.by_member(BLOCKS, runs)
    assert found == {f"ltm:ltm_strong@{member}": 10.0 * place for place, member in enumerate(members)}


def test_a_suite_is_shown_with_the_protocols_attack_and_with_transfers():
    """Both are in its value, whether the table has columns of them or not."""
    loaded = LOADED | {"tables": {"mine": {"columns": ["recall_at_1", "ltm:ltm_strong"]}}}
    assert show.shown(loaded, "mine") == ["ltm_strong", "ltm"]
    loaded["run"] = LOADED["run"] | {"transfer": ["es", "ltm"]}
    assert show.shown(loaded, "mine") == ["ltm_strong", "ltm", "es"]


def test_the_table_needs_the_protocol_and_the_suites():
    block = LOADED["tables"]["strong"]
    needed = commands.attacks_of(block["columns"], list(LOADED["attacks"]))
    assert set(needed) >= {*STANDARD_ATTACKS, *(f"{name}_strong" for name in STANDARD_ATTACKS)}
    assert list(block["rows"]) == list(LOADED["tables"]["main"]["rows"])
    wanted = compute.targets(LOADED, "strong")
    assert "results/digits/ca_tride/0/ltm_strong.json" in wanted
    assert len(wanted) == 7 * 19  # benign, nine attacks and nine suites of each defense
    assert tables.column("ca_plus:ca_plus_strong").heading == "CA+ (strong)"
    assert tables.group("ers_surviving") == "Scores"
    assert (page.origin("ers_strong"), page.origin("ltm:ltm_strong")) == ("", "ltm_strong")
