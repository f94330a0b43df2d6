"""Miners against the sets of items that their definitions admit."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import mining
from stages.core.mining import MINERS, mine


def batch(seed, pairs=8, classes=3, dimension=6):
    draw = torch.Generator().manual_seed(seed)
    firsts = torch.randint(classes, (pairs,), generator=draw)
    labels = firsts.repeat_interleave(2)
    embeddings = F.normalize(torch.randn(2 * pairs, dimension, generator=draw, dtype=torch.float64))
    return embeddings, labels


def chosen(name, embeddings, labels, *, progress=0.0, draws=60):
    """Sets of negatives and positives seen for each anchor over many draws."""
    negatives, positives = {}, {}
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        triplets = mine(MINERS[name], embeddings, labels, progress=progress, generator=generator)
        for a, p, n in zip(*(rows.tolist() for rows in triplets), strict=True):
            negatives.setdefault(a, set()).add(n)
            positives.setdefault(a, set()).add(p)
    return negatives, positives


def euclid(embeddings, i, j):
    return (embeddings[i] - embeddings[j]).norm().item()


@pytest.mark.parametrize("name", list(MINERS))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_miner_gives_anchors_with_a_positive_and_a_negative(name, seed):
    embeddings, labels = batch(seed)
    triplets = mine(MINERS[name], embeddings, labels, progress=0.5, generator=torch.Generator().manual_seed(seed))
    if len(labels.unique()) == 1:
        assert len(triplets.anchor) == 0
        return
    assert triplets.anchor.tolist() == list(range(0, len(labels), 2))
    assert (labels[triplets.anchor] == labels[triplets.positive]).all()
    assert (labels[triplets.anchor] != labels[triplets.negative]).all()


def test_random_draws_every_item_of_another_class():
    embeddings, labels = batch(1)
    negatives, positives = chosen("random", embeddings, labels, draws=400)
    for a, seen in negatives.items():
        assert seen == {j for j in range(16) if labels[j] != labels[a]}
        assert positives[a] == {a + 1}


@pytest.mark.parametrize(("name", "progress", "margin"), [("semihard", 0.5, 0.2), ("gradual_hard", 0.5, 0.2 * 0.75**2)])
def test_semihard_band(name, progress, margin):
    embeddings, labels = batch(2, pairs=20)
    negatives, _ = chosen(name, embeddings, labels, progress=progress, draws=400)
    banded = 0
    for a, seen in negatives.items():
        others = {j for j in range(40) if labels[j] != labels[a]}
        near = euclid(embeddings, a, a + 1)
        band = {j for j in others if near < euclid(embeddings, a, j) < near + margin}
        banded += bool(band)
        assert seen == (band or others)
    assert banded > 3


def test_softhard_by_loop():
    embeddings, labels = batch(3, pairs=10)
    negatives, positives = chosen("softhard", embeddings, labels, draws=400)
    for a in negatives:
        same = [j for j in range(20) if labels[j] == labels[a]]
        others = [j for j in range(20) if labels[j] != labels[a]]
        farthest = max(euclid(embeddings, a, j) for j in same)
        nearest = min(euclid(embeddings, a, j) for j in others)
        hard_negatives = {j for j in others if euclid(embeddings, a, j) < farthest}
        hard_positives = {j for j in same if euclid(embeddings, a, j) > nearest}
        assert negatives[a] == (hard_negatives or set(others))
        assert positives[a] == (hard_positives or set(same))


def test_hardest_is_the_nearest_of_another_class():
    embeddings, labels = batch(4)
    negatives, _ = chosen("hardest", embeddings, labels, draws=1)
    for a, seen in negatives.items():
        others = [j for j in range(16) if labels[j] != labels[a]]
        assert seen == {min(others, key=lambda j: euclid(embeddings, a, j))}


def test_distance_weighted_frequencies():
    """Two negatives at distances d1, d2 are drawn with odds q(d2) : q(d1)."""
    dimension, d1, d2 = 4, 1.2, 1.6
    labels = torch.tensor([0, 0, 1, 1])
    same = (labels[None, :] == 0).clone()
    seen = mining.Candidates(
        torch.tensor([[0.0, 0.5, d1, d2]], dtype=torch.float64), same, torch.tensor([1]), dimension, 0.0
    )

    def density(d):
        return d ** (dimension - 2) * (1 - d**2 / 4) ** ((dimension - 3) / 2)

    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([mining.distance_weighted(seen, generator)[1].item() for _ in range(4000)])
    expected = (1 / density(d1)) / (1 / density(d1) + 1 / density(d2))
    share = (draws == 2).double().mean().item()
    assert set(draws.tolist()) == {2, 3}
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


def test_anchors_of_a_batch_with_one_class_are_left_out():
    embeddings, _ = batch(5)
    triplets = mine(
        MINERS["random"], embeddings, torch.zeros(16, dtype=torch.long), progress=0, generator=torch.Generator()
    )
    assert all(len(rows) == 0 for rows in triplets)
