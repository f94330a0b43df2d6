"""Retrieval metrics against explicit loops."""

import faiss
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from stages.core import metrics


def world(seed, queries=6, items=12, classes=3):
    draw = torch.Generator().manual_seed(seed)
    distances = torch.rand(queries, items, generator=draw, dtype=torch.float64)
    query_labels = torch.randint(classes, (queries,), generator=draw)
    return distances, query_labels, torch.randint(classes, (items,), generator=draw)


def ranking(distances, labels, query, exclude):
    order = sorted(range(len(labels)), key=lambda j: distances[query, j].item())
    return [labels[j].item() for j in order if exclude is None or j != exclude[query].item()]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), own=st.booleans())
def test_metrics_by_loop(seed, own):
    distances, query_labels, labels = world(seed)
    exclude = torch.arange(6) if own else None
    asked = (distances, query_labels, labels)
    for query in range(6):
        relevant = [label == query_labels[query].item() for label in ranking(distances, labels, query, exclude)]
        precision = [sum(relevant[: k + 1]) / (k + 1) for k in range(len(relevant))]
        count = sum(relevant)
        for k in (1, 2, 5):
            assert metrics.recall_at_k(*asked, k, exclude=exclude)[query].item() == float(any(relevant[:k]))
        average = sum(p for p, r in zip(precision, relevant, strict=True) if r) / max(count, 1)
        assert metrics.mean_average_precision(*asked, exclude=exclude)[query].item() == pytest.approx(average)
        for r in (None, 10):
            depth = count if r is None else r
            pairs = list(zip(precision, relevant, strict=True))[:depth]
            expected = sum(p for p, hit in pairs if hit) / max(depth, 1)
            found = metrics.mean_average_precision_at_r(*asked, r=r, exclude=exclude)[query].item()
            assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_as_pytorch_metric_learning_has_them(seed):
    """An independent implementation, on random embeddings; its k-means is FAISS's too, with FAISS's default seed."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(6, (90,), generator=draw)
    points = torch.nn.functional.normalize(
        torch.randn(6, 8, generator=draw)[labels] + torch.randn(90, 8, generator=draw)
    )
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r", "mean_average_precision", "NMI"),
        k=len(labels) - 1,
        device=torch.device("cpu"),
    )
    theirs = calculator.get_accuracy(points, labels)
    ours, _ = metrics.retrieval(points, labels)
    assert ours["recall_at_1"].mean().item() == pytest.approx(theirs["precision_at_1"])
    assert ours["map_at_r"].mean().item() == pytest.approx(theirs["mean_average_precision_at_r"], rel=1e-6)
    assert ours["map"].mean().item() == pytest.approx(theirs["mean_average_precision"], rel=1e-6)
    assert metrics.nmi(points, labels, seed=1234) == pytest.approx(theirs["NMI"])


def test_nmi_is_one_for_separate_classes_and_small_for_noise():
    labels = torch.arange(4).repeat_interleave(20)
    draw = torch.Generator().manual_seed(0)
    tight = torch.eye(4)[labels] + 0.01 * torch.randn(80, 4, generator=draw)
    best = max(metrics.nmi(tight, labels, seed=seed) for seed in range(10))
    assert best == pytest.approx(1.0)
    assert metrics.nmi(torch.randn(80, 4, generator=draw), labels, seed=0) < 0.3


def blurred():
    """Points of thirty classes that overlap: k-means ends elsewhere from each start."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(30).repeat_interleave(6)
    return torch.randn(30, 4, generator=draw)[labels] + torch.randn(180, 4, generator=draw), labels


def test_nmi_is_one_start_of_25_iterations_from_items():
    """Labels are those of the nearest of the centroids that FAISS's defaults, spelled out, end with."""
    points, labels = blurred()
    means = faiss.Kmeans(4, 30, seed=7, niter=25, nredo=1, min_points_per_centroid=1)
    means.train(points.numpy())
    assigned = torch.cdist(points, torch.from_numpy(means.centroids)).argmin(dim=1)
    expected = normalized_mutual_info_score(labels.numpy(), assigned.numpy())
    assert metrics.nmi(points, labels, seed=7) == pytest.approx(expected)


def test_nmi_is_the_same_for_the_same_seed_and_its_deviation_that_of_ten():
    points, labels = blurred()
    found = [metrics.nmi(points, labels, seed=seed) for seed in range(10)]
    assert found == [metrics.nmi(points, labels, seed=seed) for seed in range(10)]
    assert len(set(found)) > 3
    assert metrics.nmi_deviation(points, labels) == pytest.approx((max(found) - min(found)) / 2)


def test_nmi_equals_scikit_learns_k_means_where_clusters_are_clear():
    """An independent implementation finds the same partition."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(6).repeat_interleave(30)
    points = 8 * torch.eye(6)[labels] + torch.randn(180, 6, generator=draw)
    theirs = KMeans(6, n_init=10, random_state=0).fit_predict(points.numpy())
    best = max(metrics.nmi(points, labels, seed=seed) for seed in range(10))
    assert best == pytest.approx(normalized_mutual_info_score(labels.numpy(), theirs))


def test_spread_of_a_shrunk_model_keeps_its_small_distances():
    """In float32 the matrix-product form would report rounding: here a true spread of about 1.4e-5."""
    draw = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.ones(50, 128) + 1e-4 * torch.rand(50, 128, generator=draw))
    pairs = [(points[i].double() - points[j].double()).norm().item() for i in range(50) for j in range(50) if i != j]
    assert metrics.retrieval(points, torch.arange(50))[1] == pytest.approx(sum(pairs) / len(pairs), rel=1e-3)


def test_spread_by_loop():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [(x[i] - x[j]).norm().item() for i in range(7) for j in range(7) if i != j]
    assert metrics.retrieval(x, torch.arange(7))[1] == pytest.approx(sum(pairs) / len(pairs))


def test_chance_recall_by_loop():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = sum((labels.tolist().count(y) - 1) / 5 for y in labels.tolist()) / 6
    assert metrics.chance_recall(labels) == pytest.approx(expected)


def test_collapse_rule():
    """R@1 at most twice chance, or spread under 0.001."""
    assert metrics.collapse(20.0, 10.0, 1.0) == "R@1 is 20.0 % where chance is 10.0 %"
    assert metrics.collapse(20.1, 10.0, 1.0) == ""
    assert metrics.collapse(90.0, 10.0, 0.00099) == "the mean distance between embeddings is 0.001"
    assert metrics.collapse(90.0, 10.0, 0.001) == ""
    assert metrics.collapse(97.0, 49.5, 0.9) == ""  # two classes
    assert metrics.collapse(74.0, 49.5, 0.9) == "R@1 is 74.0 % where chance is 49.5 %"


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_everything_at_once_is_everything_by_itself(monkeypatch, chunk):
    monkeypatch.setattr(metrics, "QUERIES", chunk)
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.randn(20, 4, generator=draw), torch.randint(5, (20,), generator=draw)
    distances, own = torch.cdist(x.double(), x.double()), torch.arange(20)
    found, _ = metrics.retrieval(x, labels)
    expected = {
        "recall_at_1": metrics.recall_at_k(distances, labels, labels, 1, exclude=own),
        "recall_at_2": metrics.recall_at_k(distances, labels, labels, 2, exclude=own),
        "map": metrics.mean_average_precision(distances, labels, labels, exclude=own),
        "map_at_r": metrics.mean_average_precision_at_r(distances, labels, labels, exclude=own),
        "map_at_10": metrics.mean_average_precision_at_r(distances, labels, labels, r=10, exclude=own),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert torch.allclose(found[name], values), name
    assert torch.equal(metrics.recall_at_1(x, labels), expected["recall_at_1"])
