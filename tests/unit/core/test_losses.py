"""Losses against explicit loops and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from stages.core import losses


@pytest.fixture
def triplet():
    draw = torch.Generator().manual_seed(0)
    return tuple(F.normalize(torch.randn(7, 5, generator=draw, dtype=torch.float64)) for _ in range(3))


def length(x, y):
    return math.sqrt(sum((a - b + 1e-6) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)))


def test_distance_is_the_norm_of_the_difference_plus_1e_6(triplet):
    a, p, _ = triplet
    assert losses.distance(a, p).tolist() == pytest.approx([length(x, y) for x, y in zip(a, p, strict=True)])


def test_distance_has_a_gradient_at_zero_shift():
    x = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    losses.distance(x, torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([0.5] * 4)  # all-ones direction / sqrt(4)


def test_triplet_by_loop(triplet):
    terms = [max(0.0, length(a, p) - length(a, n) + 0.2) for a, p, n in zip(*triplet, strict=True)]
    assert losses.triplet(*triplet).item() == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize("lam", [0.0, 2.0, 10.0])
def test_softmax_weighted_by_loop(lam):
    d = [0.3, 1.1, 0.7, 1.4]
    top = max(d)
    weights = [math.exp(lam * (x - top)) for x in d]
    expected = sum(w * x for w, x in zip(weights, d, strict=True)) / sum(weights)
    assert losses.softmax_weighted(torch.tensor(d, dtype=torch.float64), lam).item() == pytest.approx(expected)


def test_softmax_weighted_runs_from_mean_to_maximum():
    d = torch.tensor([0.3, 1.1, 0.7], dtype=torch.float64)
    assert losses.softmax_weighted(d, 0).item() == pytest.approx(d.mean().item())
    assert losses.softmax_weighted(d, 1e4).item() == pytest.approx(1.1)


def test_softmax_weights_carry_gradient():
    d = torch.tensor([0.3, 1.1], dtype=torch.float64, requires_grad=True)
    losses.softmax_weighted(d, 10.0).backward()
    assert d.grad[0].item() != pytest.approx(torch.softmax(10.0 * d, 0)[0].item())


def test_lower_half_takes_the_floor():
    assert losses.lower_half_mean(torch.tensor([5.0, 1.0, 2.0, 9.0, 3.0])).item() == 1.5
    assert losses.lower_half_mean(torch.tensor([5.0])).item() == 5.0


def test_decoupled_triplet_by_loop(triplet):
    a, p, n = triplet
    dp = [length(x, y) for x, y in zip(a, p, strict=True)]
    dn = [length(x, y) for x, y in zip(a, n, strict=True)]
    main = sum(max(0.0, x - y + 0.2) for x, y in zip(dp, dn, strict=True)) / 7
    auxiliary = max(0.0, sum(sorted(dp)[:3]) / 3 - sum(sorted(dn)[:3]) / 3 + 0.04)
    assert auxiliary > 0
    assert losses.decoupled_triplet(a, p, n).item() == pytest.approx(main + 0.5 * auxiliary)
    assert losses.decoupled_triplet(a, p, n, auxiliary_weight=0).item() == pytest.approx(main)


def test_intra_class_structure_by_loop(triplet):
    a, moved, p = triplet
    terms = [max(0.0, length(x, m) - length(x, y)) for x, m, y in zip(a, moved, p, strict=True)]
    assert losses.intra_class_structure(a, moved, p).item() == pytest.approx(sum(terms) / 7)


def test_collapseness_is_the_difference_of_weighted_distances():
    dp, dn = torch.tensor([0.1, 0.4]), torch.tensor([1.0, 0.9])
    expected = losses.softmax_weighted(dp, 10) - losses.softmax_weighted(dn, 10)
    assert losses.collapseness(dp, dn, 10).item() == pytest.approx(expected.item())
    assert losses.collapseness(dp, dp, 10).item() == 0
