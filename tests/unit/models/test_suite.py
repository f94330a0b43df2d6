"""A suite on one model: its members are what blocks of their own are, and each query keeps its worst."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stages.core import evaluation_checks
from stages.core.attacking import Strength
from stages.core.attacks.base import Gallery
from stages.core.directions import direction, metrics_of
from stages.core.models import Backbone, Embedder
from stages.models import attacking
from stages.models.attacking import AttackConfig
from stages.runtime import resume

EPS = 0.2
MEMBERS = {
    "fine": {"steps": 9, "alpha_over_eps": 0.125},
    "apgd": {"steps": 4, "alpha_over_eps": 0.25, "optimizer": "apgd", "start": "random", "restarts": 2},
    "nes": {"steps": 1, "alpha_over_eps": 1.0, "optimizer": "nes", "surrogate": "softplus"},
    "square": {"steps": 6, "alpha_over_eps": 0.25, "optimizer": "square"},
}
PLAIN = {"attack": "qa_plus", "steps": 2, "alpha_over_eps": 0.25}


def network(channels, side, dimension):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, 16), nn.ReLU(), nn.Linear(16, dimension))


@pytest.fixture(scope="module")
def world():
    """A float64 model and 20 images, whose ids are not their rows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Embedder(Backbone(network, mean=(0.5,), std=(0.25,)), channels=1, side=4, dimension=4).double().eval()
        images = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        gallery = Gallery.of(model(images), torch.arange(20) % 4)
    return model, attacking.ImageSet(gallery, np.arange(20) + 100, lambda rows: images[rows])


def attacked(world, block, size=20, done=None, stop=None, seed=3):
    """The table of a block over all images, ``size`` at a time; ``stop`` batches at most, after those ``done``."""
    model, images = world
    done = done or attacking.Attacked([], [])
    left = torch.arange(20).split(size)[len(done.columns) :]
    config = AttackConfig.of(block, EPS, seed)
    for _ in attacking.attack_batches(config, model, images, left[:stop], {0, 7}, done):
        pass
    return done, (done.table(images.ids, list(range(20))) if stop is None else None)


def columns_of(table):
    return {name: table[name].to_numpy() for name in table}


def suite(name="qa_plus", **members):
    return PLAIN | {"attack": name, "suite": members or MEMBERS}


@pytest.mark.parametrize("name", ["qa_plus", "es", "gtm", "spqa_plus"])
def test_each_query_has_the_worst_of_the_members_by_each_metric(world, name):
    _, table = attacked(world, suite(name))
    metrics = metrics_of(table)
    assert metrics == metrics_of(attacked(world, PLAIN | {"attack": name})[1])
    for metric in metrics:
        each = [table[f"{metric}_after@{member}"] for member in MEMBERS]
        worst = np.max(each, axis=0) if direction(metric) > 0 else np.min(each, axis=0)
        assert (table[f"{metric}_after"] == worst).all()


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_is_what_a_block_of_its_own_would_be(world, member):
    """So that it can be looked at by itself, and so that another member changes nothing about it."""
    _, whole = attacked(world, suite())
    _, alone = attacked(world, {"attack": "qa_plus"} | MEMBERS[member])
    for column in ("qa_plus_after", "qa_plus_ties_half_after", "objective_after", "zero_gradients"):
        assert (whole[f"{column}@{member}"] == alone[column]).all()
    for column in ("target", "qa_plus_before", "objective_before"):
        assert (whole[column] == alone[column]).all()


def test_only_a_suite_has_columns_of_members(world):
    _, plain = attacked(world, PLAIN)
    assert not [name for name in plain if "@" in name]
    _, one = attacked(world, suite(only={"steps": 2, "alpha_over_eps": 0.25}))
    pd.testing.assert_frame_equal(one[plain.columns], plain)
    assert [name for name in one if name not in plain] == [
        "qa_plus_after@only", "qa_plus_ties_half_after@only", "objective_after@only", "zero_gradients@only",
    ]  # fmt: skip


def test_batches_and_a_resumed_run_change_nothing(world, tmp_path):
    """What is drawn belongs to the image: in any batch, and after a kill, it is the same."""
    _, whole = attacked(world, suite(), size=20)
    _, parts = attacked(world, suite(), size=6)
    pd.testing.assert_frame_equal(whole, parts, rtol=0, atol=1e-9)
    done, _ = attacked(world, suite(), size=6, stop=2)
    torch.save(done._asdict() | {"identity": "run"}, tmp_path / "x.resume.pt")
    restored = attacking.Attacked.restored(resume.Saved(tmp_path / "x.resume.pt", "run", 0))
    assert len(restored.columns) == 2
    done, resumed = attacked(world, suite(), size=6, done=restored)
    for path, table in ((tmp_path / "parts", parts), (tmp_path / "resumed", resumed)):
        table.to_parquet(path)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "resumed").read_bytes()
    assert len(done.pictures) == 2


def test_another_seed_draws_other_searches(world):
    """Of an attack without targets, which differ by seed too."""
    first, second = (attacked(world, suite("es"), seed=seed)[1] for seed in (0, 1))
    assert (first["target"] == second["target"]).all()
    for member in ("apgd", "nes", "square"):
        assert (first[f"objective_after@{member}"] != second[f"objective_after@{member}"]).any()
    assert (first["objective_after@fine"] == second["objective_after@fine"]).all()


def test_the_budget_of_a_block_holds_for_its_members():
    config = AttackConfig.of(suite() | {"eps_scale": 0.5}, 0.2, 0)
    assert config.eps == config.suite["apgd"].eps == 0.1
    assert config.alpha == pytest.approx(0.025)
    assert config.suite["fine"].alpha == pytest.approx(0.0125)
    assert config.suite["apgd"].strength == Strength("apgd", "random", 2, "none")
    assert config.strength == Strength()


def test_what_is_wrong_with_a_suite_is_said_of_its_member(world):
    """A model that rounds its input has no gradient: the white boxes stand still and the black ones walk."""
    model, images = world

    def masked(pixels):
        return model((16 * pixels).round() / 16)

    with torch.no_grad():
        gallery = Gallery.of(masked(images.load(torch.arange(20))), images.gallery.labels)
    _, table = attacked((masked, images._replace(gallery=gallery)), suite())
    lines = evaluation_checks.of_block("mine", suite(), columns_of(table))
    assert any(line.startswith("mine@fine: 100.0 % of the queries have mostly zero gradients") for line in lines)
    assert not any(line.startswith(("mine@nes: ", "mine@square: ")) and "zero gradients" in line for line in lines)
    assert any("mine: mine@nes beats the white box" in line and "gradients are masked" in line for line in lines)
    _, healthy = attacked(world, suite("tma"))
    assert evaluation_checks.of_block("mine", suite("tma"), columns_of(healthy)) == []


def test_runs_are_compared_by_steps_only_where_nothing_else_differs():
    def run(name, steps, values, **strength):
        return evaluation_checks.Run(name, steps, Strength(**strength), {"ltm": np.array(values, dtype=float)})

    weak, good = [100.0] * 10, [0.0] * 9 + [100.0]
    (line,) = evaluation_checks.by_steps([run("a", 8, good), run("b", 32, weak)])
    assert line.startswith("b (32 steps) after a (8): ltm is 90.0 % of its range weaker with more steps")
    assert evaluation_checks.by_steps([run("a", 8, weak), run("b", 32, good)]) == []
    assert evaluation_checks.by_steps([run("a", 8, good), run("b", 32, weak, optimizer="apgd")]) == []


def test_a_black_box_that_beats_the_protocol_alone_says_less():
    def run(name, value, optimizer="sign"):
        values = value + np.linspace(0, 1, 10)
        return evaluation_checks.Run(name, 8, Strength(optimizer), {"qa_minus": values, "mine": values})

    protocol, apgd, nes = run("p", 10.0), run("a", 40.0, "apgd"), run("n", 30.0, "nes")
    (weak,) = evaluation_checks.masked("qa_minus", [protocol, nes])
    assert "n beats the white box by 20.0 %" in weak
    assert "the strong suite tells which" in weak
    assert evaluation_checks.masked("qa_minus", [protocol, apgd, nes]) == []
    (moved,) = evaluation_checks.masked("qa_minus", [protocol, apgd], [run("p from act", 60.0)])
    assert (
        moved == "qa_minus: p from act beats the white box by 20.0 % of the range of qa_minus: the gradients are masked"
    )
    assert evaluation_checks.masked("qa_minus", [nes]) == []
