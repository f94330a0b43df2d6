"""Benign retrieval metrics (method.md 4). Distances are (Q, N), smaller is nearer; values are fractions in [0, 1].

All of them follow from the ranks of a query's relevant items, which are counted instead of sorting the whole gallery.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stages.core.ranks import filled, relevant_ranks
from stages.core.sets import ONE_SET, Sets

NMI_SEED, NMI_STARTS = 123, 10  # the reference's seed, and how many others tell how much the seed decides
QUERIES = 256  # at a time, where every item is a query: bounds memory whatever the size of the test set


def _recall(ranks: Tensor, k: int) -> Tensor:
    return (ranks < k).any(dim=1).double()


def _precision_sum(ranks: Tensor, depth: Tensor) -> Tensor:
    """Sum over the first ``depth`` (Q,) ranks of precision@k * relevance@k; precision is hits over places."""
    hits = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    return torch.where(ranks < depth[:, None], hits / (ranks + 1), 0).sum(dim=1)


def recall_at_k(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, k: int, *, exclude: Tensor | None = None
) -> Tensor:
    """1.0 for each query with an item of its class among the ``k`` nearest, else 0.0; shape (Q,).

    Args:
        distances: (Q, N), not negative.
        query_labels: (Q,).
        gallery_labels: (N,).
        k: depth, at least 1.
        exclude: (Q,), the gallery index left out for each query (itself), a mask (Q, N) of all that is, or None.
    """
    return _recall(relevant_ranks(distances, query_labels, gallery_labels, exclude)[0], k)


def mean_average_precision(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, *, exclude: Tensor | None = None
) -> Tensor:
    """Average precision over the complete ranking, one value per query (Q,); 0 where nothing is relevant."""
    ranks, counts = relevant_ranks(distances, query_labels, gallery_labels, exclude)
    return _precision_sum(ranks, torch.full_like(counts, distances.shape[1])) / counts.clamp(min=1)


def mean_average_precision_at_r(
    distances: Tensor,
    query_labels: Tensor,
    gallery_labels: Tensor,
    *,
    r: int | None = None,
    exclude: Tensor | None = None,
) -> Tensor:
    """(1/R) sum over the first R ranks of precision@k * relevance@k, one value per query (Q,).

    ``r=None`` takes R = number of relevant items of each query; the reference fixes R = 10 (quirk Q10).
    """
    ranks, counts = relevant_ranks(distances, query_labels, gallery_labels, exclude)
    depth = counts if r is None else torch.full_like(counts, r)
    return _precision_sum(ranks, depth) / depth.clamp(min=1)


def searches(embeddings: Tensor, sets: Sets = ONE_SET) -> Iterator[tuple[Tensor, Tensor]]:
    """Some queries at a time of M embedded images (M, D): their places (n,) among the queries, and the float64
    distances (n, N) to the gallery."""
    points = embeddings.double()  # in float32 the matrix-product form would lose small distances
    queries, gallery = sets.of_queries(points), sets.of_gallery(points)
    own, squares = (part.square().sum(dim=1) for part in (queries, gallery))
    for places in torch.arange(len(queries), device=points.device).split(QUERIES):
        square = torch.addmm(squares, queries[places], gallery.T, alpha=-2).add_(own[places, None])
        yield places, square.clamp_(min=0).sqrt_()


def recall_at_1(embeddings: Tensor, labels: Tensor, sets: Sets = ONE_SET) -> Tensor:
    """Recall@1 of every query (Q,) of M embedded images (M, D) of classes ``labels`` (M,)."""
    query_labels, gallery_labels = sets.of_queries(labels), sets.of_gallery(labels)
    hits = []
    for places, distances in searches(embeddings, sets):
        nearest = filled(distances, sets.left_out(places, labels), torch.inf).argmin(dim=1)
        hits.append((gallery_labels[nearest] == query_labels[places]).double())
    return torch.cat(hits)


def retrieval(embeddings: Tensor, labels: Tensor, sets: Sets = ONE_SET) -> tuple[dict[str, Tensor], float]:
    """All benign ranking metrics of every query, (Q,) each, of M embedded images (M, D) of classes ``labels`` (M,), and
    the mean distance over all pairs of different images, queries and gallery together, in [0, 2].
    """
    query_labels, gallery_labels = sets.of_queries(labels), sets.of_gallery(labels)
    parts: list[dict[str, Tensor]] = []
    total, count = 0.0, len(gallery_labels)
    for places, distances in searches(embeddings, sets):
        total += distances.sum().item()
        left_out = sets.left_out(places, labels)
        ranks, counts = relevant_ranks(distances, query_labels[places], gallery_labels, left_out)
        parts.append(
            {
                "recall_at_1": _recall(ranks, 1),
                "recall_at_2": _recall(ranks, 2),
                "map": _precision_sum(ranks, torch.full_like(counts, count)) / counts.clamp(min=1),
                "map_at_r": _precision_sum(ranks, counts) / counts.clamp(min=1),
                "map_at_10": _precision_sum(ranks, torch.full_like(counts, 10)) / 10,
            }
        )
    spread = total / (count * (count - 1)) if sets.queries is None else mean_pairwise_distance(embeddings)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, spread


def mean_pairwise_distance(embeddings: Tensor) -> float:
    """Mean distance over all pairs of different rows of embeddings (N, D) of unit norm, in [0, 2]."""
    total, count = sum(distances.sum().item() for _, distances in searches(embeddings)), len(embeddings)
    return total / (count * (count - 1))


def nmi(embeddings: Tensor, labels: Tensor, *, seed: int) -> float:
    """Normalized mutual information (arithmetic mean) of k-means clusters and labels, in [0, 1] (method.md 4).

    As the reference has it: FAISS's ``Kmeans`` of embeddings (N, D) with as many clusters as there are classes and the
    defaults of FAISS: 25 iterations of one start from items that ``seed`` draws, on at most 256 items per cluster.
    """
    import faiss
    from sklearn.metrics import normalized_mutual_info_score

    points = np.ascontiguousarray(embeddings.float().cpu().numpy())
    clusters = len(labels.unique())
    # FAISS warns below 39 items per cluster, which changes nothing that it does.
    means = faiss.Kmeans(points.shape[1], clusters, seed=seed, min_points_per_centroid=1)
    means.train(points)
    _, assigned = means.index.search(points, 1)
    return float(normalized_mutual_info_score(labels.cpu().numpy(), assigned[:, 0]))


def nmi_deviation(embeddings: Tensor, labels: Tensor) -> float:
    """Half the range of ``nmi`` over ten starts, in [0, 0.5]: how far one published NMI can be from another of the
    same embeddings. 0 where there are over 1,000 classes, since each start then takes minutes."""
    if len(labels.unique()) > 1000:
        return 0.0
    found = [nmi(embeddings, labels, seed=start) for start in range(NMI_STARTS)]
    return (max(found) - min(found)) / 2


def with_queries(labels: Tensor, sets: Sets = ONE_SET) -> Tensor:
    """Which of M test images, of classes ``labels`` (M,), are of a class that has a query, (M,): all with one set.

    The others are distractors: relevant to no query, and of no class as far as clusters are compared with classes.
    """
    return torch.isin(labels, sets.of_queries(labels))


def chance_recall(labels: Tensor, sets: Sets = ONE_SET) -> float:
    """R@1 of a random ranking: the mean over queries of (relevant items) / (items in the query's ranking).

    With one set of N images, of classes ``labels``, that is (items of its class - 1) / (N - 1).
    """
    query_labels, gallery_labels = sets.of_queries(labels), sets.of_gallery(labels)
    shares = []
    for places in torch.arange(len(query_labels)).split(QUERIES):
        every = torch.ones(len(places), len(gallery_labels), dtype=torch.bool)
        counted = filled(every, sets.left_out(places, labels), False)
        relevant = counted & (gallery_labels == query_labels[places, None])
        shares.append(relevant.sum(dim=1).double() / counted.sum(dim=1))
    return torch.cat(shares).mean().item()


def collapse(recall_at_1: float, chance: float, spread: float) -> str:
    """Why a model has no ranking left, or "": R@1 at most twice chance (both in percent), or a mean pairwise
    distance under 0.001 (method.md 5.3).

    Where chance is above a third, as with two classes, the bound is halfway between chance and 100 %.
    """
    if recall_at_1 <= min(2 * chance, (chance + 100) / 2):
        return f"R@1 is {recall_at_1:.1f} % where chance is {chance:.1f} %"
    return f"the mean distance between embeddings is {spread:.1g}" if spread < 0.001 else ""
