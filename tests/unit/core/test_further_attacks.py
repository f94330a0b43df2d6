"""SPQA, the order attack and the smooth hinges against loops over single items and pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from stages.core.attacks import ATTACKS
from stages.core.attacks.base import TEMPERATURE, AttackBatch, Gallery
from stages.core.attacks.query import order_objective, permuted_nearest
from stages.core.directions import ATTACK_DIRECTIONS, direction, worst_case
from stages.core.scores import SUB_SCORES, normalized
from stages.core.seeding import generator

COUNT, DIMENSION = 40, 4
ITEMS = torch.tensor([3, 11, 20, 39])


@pytest.fixture(scope="module")
def gallery():
    draw = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(COUNT, DIMENSION, generator=draw, dtype=torch.float64))
    return Gallery.of(x, torch.arange(COUNT) % 4)


@pytest.fixture(scope="module")
def moved(gallery):
    draw = torch.Generator().manual_seed(1)
    shift = 0.3 * torch.randn(len(ITEMS), DIMENSION, generator=draw, dtype=torch.float64)
    return F.normalize(gallery.embeddings[ITEMS] + shift)


def batch_of(name, gallery, items=ITEMS):
    return AttackBatch(
        gallery, items, ATTACKS[name].select(gallery, items, [generator(0, name, int(i)) for i in items])
    )


def distances(gallery, point):
    return [(point - x).norm().item() for x in gallery.embeddings]


def by_distance(gallery, item, without=()):
    d = distances(gallery, gallery.embeddings[item])
    return sorted((j for j in range(COUNT) if j != item and j not in without), key=d.__getitem__)


def lifted(d, target):
    """L_QA+ of one candidate."""
    return sum(max(0.0, d[target] - x) for x in d) / COUNT


def rank(d, target):
    return 100 * sum(x < d[target] - 1e-12 for x in d) / COUNT


@pytest.mark.parametrize(("name", "sign"), [("spqa_plus", 1), ("spqa_minus", -1)])
def test_semantics_preserving_attack_by_loop(gallery, moved, name, sign):
    batch = batch_of(name, gallery)
    values = ATTACKS[name].objective(batch)(moved, 1)
    measured = ATTACKS[name].measure(batch, moved, moved)
    for i, (item, target) in enumerate(zip(ITEMS.tolist(), batch.targets.tolist(), strict=True)):
        kept = by_distance(gallery, item, without=() if sign > 0 else (target,))[:5]
        d = distances(gallery, moved[i])
        moving = sum(max(0.0, sign * (d[target] - x)) for x in d) / COUNT
        violation = sum(lifted(d, j) for j in kept) / 5
        expected = moving + min(math.exp(4 * COUNT * violation), 1e9) * violation
        assert values[i].item() == pytest.approx(expected, rel=1e-9)
        assert measured[name][i].item() == pytest.approx(rank(d, target))
        assert measured[f"{name}_kept"][i].item() == pytest.approx(sum(rank(d, j) for j in kept) / 5)


def test_semantics_weight_has_no_gradient_and_a_limit(gallery, moved):
    """The gradient is that of L_QA + xi L_QA+ with xi a number; far from the kept items xi stops at 1e9."""
    batch = batch_of("spqa_plus", gallery)
    point = moved.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(ATTACKS["spqa_plus"].objective(batch)(point, 1).sum(), point)
    for i, (item, target) in enumerate(zip(ITEMS.tolist(), batch.targets.tolist(), strict=True)):
        kept = by_distance(gallery, item)[:5]
        one = moved[i].clone().requires_grad_(True)
        d = torch.stack([(one - x).norm() for x in gallery.embeddings])
        violation = torch.stack([F.relu(d[j] - d).mean() for j in kept]).mean()
        weight = math.exp(4 * COUNT * violation.item())
        (expected,) = torch.autograd.grad(F.relu(d[target] - d).mean() + weight * violation, one)
        torch.testing.assert_close(found[i], expected, atol=1e-7, rtol=1e-7)
    opposite = -batch.clean()
    values = ATTACKS["spqa_plus"].objective(batch)(opposite, 1)
    d = distances(gallery, opposite[0])
    kept = by_distance(gallery, ITEMS[0].item())[:5]
    assert 4 * COUNT * sum(lifted(d, j) for j in kept) / 5 > math.log(1e9)
    moving = lifted(d, batch.targets[0].item())
    assert values[0].item() == pytest.approx(moving + 1e9 * sum(lifted(d, j) for j in kept) / 5, rel=1e-9)


def test_order_targets_are_the_five_nearest_in_a_drawn_order(gallery):
    every = torch.arange(COUNT)
    wanted = batch_of("order", gallery, every).targets
    orders = set()
    for item, rows in zip(every.tolist(), wanted.tolist(), strict=True):
        nearest = by_distance(gallery, item)[:5]
        assert sorted(rows) == sorted(nearest)
        orders.add(tuple(nearest.index(row) for row in rows))
    assert len(orders) > 20
    again = permuted_nearest(gallery, every[[7, 2]], [generator(0, "order", i) for i in (7, 2)])
    assert torch.equal(again, wanted[[7, 2]])


def test_order_attack_by_loop(gallery, moved):
    batch = batch_of("order", gallery)
    values = ATTACKS["order"].objective(batch)(moved, 1)
    measured = ATTACKS["order"].measure(batch, moved, moved)
    for i, wanted in enumerate(batch.targets.tolist()):
        d = distances(gallery, moved[i])
        pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
        relative = sum(max(0.0, d[wanted[a]] - d[wanted[b]]) for a, b in pairs) / 25
        held = sum(lifted(d, j) for j in wanted) / 5
        assert values[i].item() == pytest.approx(relative + 10 * held, rel=1e-9)
        concordant = sum(d[wanted[a]] < d[wanted[b]] for a, b in pairs)
        assert measured["order"][i].item() == pytest.approx((2 * concordant - len(pairs)) / len(pairs))
        assert measured["order_kept"][i].item() == pytest.approx(sum(rank(d, j) for j in wanted) / 5)


def test_order_score_is_kendalls_tau(gallery, moved):
    stats = pytest.importorskip("scipy.stats")
    batch = batch_of("order", gallery)
    found = ATTACKS["order"].measure(batch, moved, moved)["order"]
    for i, wanted in enumerate(batch.targets.tolist()):
        d = distances(gallery, moved[i])
        assert found[i].item() == pytest.approx(stats.kendalltau(range(5), [d[j] for j in wanted])[0])


def test_short_range_correlation_counts_what_is_out_of_sight_as_disagreement(gallery, moved, monkeypatch):
    batch = batch_of("order", gallery)
    whole = ATTACKS["order"].measure(batch, moved, moved)
    assert torch.equal(whole["order_src"], whole["order"])  # 50 places show all of 40 items
    monkeypatch.setattr("stages.core.attacks.query.VISIBLE", 6)
    short = ATTACKS["order"].measure(batch, moved, moved)["order_src"]
    for i, (item, wanted) in enumerate(zip(ITEMS.tolist(), batch.targets.tolist(), strict=True)):
        d = distances(gallery, moved[i])
        seen = sorted((j for j in range(COUNT) if j != item), key=d.__getitem__)[:6]
        score = 0
        for a in range(5):
            for b in range(a + 1, 5):
                first, second = wanted[a], wanted[b]
                inside = first in seen and second in seen
                score += 1 if inside and seen.index(first) < seen.index(second) else -1
        assert short[i].item() == pytest.approx(score / 10)
    assert (short < whole["order"]).any()


def test_an_order_that_holds_costs_nothing_but_its_place(gallery):
    """Wanted as they are, the five nearest of a gallery item: only their own hinge with the nearer ones is left."""
    batch = batch_of("order", gallery)
    as_is = torch.tensor([by_distance(gallery, item)[:5] for item in ITEMS.tolist()])
    batch = batch._replace(targets=as_is)
    score = ATTACKS["order"].measure(batch, batch.clean(), batch.clean())
    assert (score["order"] == 1).all()
    backwards = ATTACKS["order"].measure(batch._replace(targets=as_is.flip(1)), batch.clean(), batch.clean())
    assert (backwards["order"] == -1).all()
    values = order_objective(batch)(batch.clean(), 1)
    assert (values < order_objective(batch._replace(targets=as_is.flip(1)))(batch.clean(), 1)).all()


def soft(gap):
    return TEMPERATURE * math.log1p(math.exp(gap / TEMPERATURE)) if gap <= 0 else gap + soft(-gap)


@pytest.mark.parametrize("name", ["ca_plus", "ca_minus", "qa_plus", "qa_minus", "gtt", "ltm", "ltm_exact", "order"])
def test_smooth_objectives_by_loop(gallery, moved, name):
    batch = batch_of(name, gallery)
    values = ATTACKS[name].smooth(batch)(moved, 1)
    for i, item in enumerate(ITEMS.tolist()):
        d = distances(gallery, moved[i])
        if name.startswith("ltm"):
            same = [j for j in range(COUNT) if j % 4 == item % 4 and (name == "ltm" or j != item)]
            expected = soft(max(d[j] for j in range(COUNT) if j % 4 != item % 4) - min(d[j] for j in same))
        elif name == "order":
            wanted = batch.targets[i].tolist()
            pairs = [(wanted[a], wanted[b]) for a in range(5) for b in range(a + 1, 5)]
            expected = sum(soft(d[a] - d[b]) for a, b in pairs) / 25 + 10 * sum(lifted(d, j) for j in wanted) / 5
        else:
            target = batch.targets[i].item()
            limit = d[target]
            if name.startswith("ca"):
                d = distances(gallery, gallery.embeddings[target])
            sign = 1 if name.endswith("plus") else -1
            expected = sum(soft(sign * (limit - x)) for x in d) / COUNT
        assert values[i].item() == pytest.approx(expected, abs=1e-9)


# SPQA's weight has no gradient on purpose, and its hinge is that of QA.
@pytest.mark.parametrize("name", [name for name in ATTACKS if ATTACKS[name].smooth and not name.startswith("spqa")])
def test_smooth_gradients_are_those_of_differences(gallery, moved, name):
    batch = batch_of(name, gallery)
    values = ATTACKS[name].smooth(batch)
    point = moved.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(values(point, 1).sum(), point)
    for axis in range(DIMENSION):
        step = torch.zeros(DIMENSION, dtype=torch.float64)
        step[axis] = 1e-6
        slope = (values(moved + step, 1) - values(moved - step, 1)) / 2e-6
        torch.testing.assert_close(found[:, axis], slope, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "place"), [("qa_plus", 1), ("gtt", -1), ("qa_minus", -1)])
def test_smooth_hinges_keep_a_gradient_where_the_hinge_has_none(gallery, name, place):
    """At the target itself, or opposite to it, every hinge is flat."""
    batch = batch_of(name, gallery)
    near = F.normalize(place * batch.target() + 1e-3)
    slopes = []
    for objective in (ATTACKS[name].objective(batch), ATTACKS[name].smooth(batch)):
        point = near.clone().requires_grad_(True)
        slopes.append(torch.autograd.grad(objective(point, 1).sum(), point)[0].abs().sum(dim=1))
    assert (slopes[0] == 0).any()
    assert (slopes[1] > 0).all()


def test_directions_are_those_of_the_robustness_score():
    """An attack wins where the normalized sub-score falls."""
    middle = dict.fromkeys(SUB_SCORES, 0.5)
    for metric in SUB_SCORES:
        change = normalized(middle | {metric: 0.6})[metric] - normalized(middle)[metric]
        assert direction(metric) == (-1 if change > 0 else 1)
    assert direction("ca_plus_ties_half") == -1
    with pytest.raises(KeyError):
        direction("recall_at_1")


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_measured_metric_has_a_direction(gallery, moved, name):
    measured = ATTACKS[name].measure(batch_of(name, gallery), moved, moved)
    assert {metric.removesuffix("_ties_half") for metric in measured} <= set(ATTACK_DIRECTIONS)


def test_worst_case_per_query_and_metric():
    runs = [[1.0, 5.0, 3.0], [2.0, 4.0, 3.0]]
    assert worst_case("es_r", runs).tolist() == [1, 4, 3]
    assert worst_case("es_d", runs).tolist() == [2, 5, 3]
    assert worst_case("ca_minus_ties_half", runs).tolist() == [2, 5, 3]
