"""Ranks of relevant items against a full sort of each query's distances, wherever their bins begin and end."""

import struct

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import metrics, ranks
from stages.core.sets import ONE_SET, Sets

ITEMS, QUERIES, DIMENSION = 90, 30, 8


def clear(draw, labels):
    return F.normalize(torch.eye(DIMENSION)[labels % DIMENSION] + 0.1 * torch.randn(ITEMS, DIMENSION, generator=draw))


def blurred(draw, labels):
    return F.normalize(torch.randn(ITEMS, DIMENSION, generator=draw))


def tied(draw, labels):
    return torch.randint(2, (ITEMS, 3), generator=draw).float()


def duplicated(draw, labels):
    return blurred(draw, labels)[torch.randint(ITEMS // 2, (ITEMS,), generator=draw)]


def shrunken(draw, labels):
    return F.normalize(torch.ones(DIMENSION).double() + 1e-7 * torch.rand(ITEMS, DIMENSION, generator=draw))


def constant(draw, labels):
    return F.normalize(torch.ones(ITEMS, DIMENSION))


def far_apart(draw, labels):
    """Some items at 1e30 times the distance of others: float32 squares would overflow."""
    return blurred(draw, labels).double() * 10.0 ** torch.randint(31, (ITEMS, 1), generator=draw)


WORLDS = [clear, blurred, tied, duplicated, shrunken, constant, far_apart]
ROLES = {
    "one set": ONE_SET,
    "two sets": Sets(torch.arange(QUERIES), torch.arange(QUERIES, ITEMS)),
    "cameras": Sets(torch.arange(QUERIES), torch.arange(QUERIES, ITEMS), torch.arange(ITEMS) % 3),
    "overlap": Sets(torch.arange(QUERIES), torch.arange(ITEMS)),
}


def order(distances, counted):
    """Items that count, nearest first: distances without their last bits, where these name the item, and then items."""
    spare = (len(distances) - 1).bit_length()
    return sorted(counted, key=lambda item: (struct.unpack("<q", struct.pack("<d", distances[item]))[0] >> spare, item))


def expected_ranks(distances, query_label, labels, excluded):
    counted = [item for item in range(len(distances)) if item not in excluded]
    return [rank for rank, item in enumerate(order(distances, counted)) if labels[item] == query_label]


def excluded_items(exclude, query):
    if exclude is None:
        return set()
    return {exclude[query].item()} if exclude.ndim == 1 else set(exclude[query].nonzero().flatten().tolist())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    world=st.sampled_from(WORLDS),
    roles=st.sampled_from(list(ROLES)),
    classes=st.sampled_from([1, 2, 9, 60]),  # of 60 classes many a query has no relevant item
)
@pytest.mark.parametrize("few", [0, 1 / 8, 1], ids=["always bins", "as it is", "never bins"])
def test_ranks_by_sorting(few, seed, world, roles, classes):
    draw, sets = torch.Generator().manual_seed(seed), ROLES[roles]
    labels = torch.randint(classes, (ITEMS,), generator=draw)
    asked, found = sets.of_queries(labels), sets.of_gallery(labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "FEW", few)
        for places, distances in metrics.searches(world(draw, labels), sets):
            exclude, before = sets.left_out(places, labels), distances.clone()
            result, counts = ranks.relevant_ranks(distances, asked[places], found, exclude)
            assert torch.equal(distances, before)
            for query, own in enumerate(distances.tolist()):
                expected = expected_ranks(own, asked[places[query]], found, excluded_items(exclude, query))
                assert counts[query] == len(expected)
                assert result[query].tolist() == expected + [torch.inf] * (result.shape[1] - len(expected))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.sampled_from([0.0, -0.0, 5e-324, 1e-40, 1e-8, 0.5, 1.0, 1.0 + 2**-52, 1.0 + 2**-30, 1e300]),
            st.floats(0, 1e308),
        ),
        min_size=2,
        max_size=40,
    ),
    data=st.data(),
)
@pytest.mark.parametrize("few", [0, 1], ids=["always bins", "never bins"])
def test_ranks_of_any_distances(few, values, data):
    """Neighbors in float64 and in float32, denormal numbers, negative zeros and what float32 cannot hold."""
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=len(values), max_size=len(values))))
    distances = torch.tensor([values], dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "FEW", few)
        result, _ = ranks.relevant_ranks(distances, torch.tensor([0]), labels, None)
    expected = expected_ranks([value + 0.0 for value in values], 0, labels, set())
    assert result[0, : len(expected)].tolist() == expected


@pytest.mark.parametrize("other_first", [True, False])
def test_distances_of_one_key_that_float32_parts_are_compared(monkeypatch, other_first):
    """Items rank by place where distances differ in their last bit, in bins finer than a step of float32."""
    monkeypatch.setattr(ranks, "FEW", 0)
    between = 1 + 2**-24  # rounds to 1, and everything above it to 1 + 2^-23
    values = {"other": between + 2**-52, "relevant": between, "last": 1 + 2**-22}
    names = ["other", "relevant", "last"] if other_first else ["relevant", "other", "last"]
    distances = torch.tensor([[values[name] for name in names]], dtype=torch.float64)
    labels = torch.tensor([int(name == "other") for name in names])
    result, _ = ranks.relevant_ranks(distances, torch.tensor([0]), labels, None)
    assert result.tolist() == [[float(other_first), 2.0]]


def test_distances_in_float32_and_queries_apart():
    distances = torch.tensor([[0.5, 0.25, 0.75, 0.25], [0.1, 0.1, 0.1, 0.1]])
    result, counts = ranks.relevant_ranks(distances, torch.tensor([7, 8]), torch.tensor([7, 8, 7, 7]), None)
    assert result.tolist() == [[1, 2, 3], [1, torch.inf, torch.inf]]
    assert counts.tolist() == [3, 1]
    none = ranks.relevant_ranks(distances[:0], torch.tensor([]), torch.arange(4), None)
    assert [len(part) for part in none] == [0, 0]


def test_few_items_are_compared_where_classes_are_clear_or_the_range_has_bins(monkeypatch):
    """Time grows with what is compared: it stays a small part of all pairs unless all distances are alike."""
    compared = []
    selected = ranks._selected
    monkeypatch.setattr(ranks, "_selected", lambda d, mask: compared.append(mask.double().mean()) or selected(d, mask))
    labels = torch.arange(ITEMS) // 3
    for world in (clear, blurred, constant):
        metrics.retrieval(world(torch.Generator().manual_seed(0), labels // 4), labels)
    assert compared[0] < 0.2
    assert compared[1] < 0.2
    assert compared[2] > 0.9
