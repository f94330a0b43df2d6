"""Benign retrieval metrics (method.md 4). Distances are (Q, N), smaller is nearer; values are fractions in [0, 1].

All of them follow from the ranks of a query's relevant items, which are counted instead of sorting the whole gallery.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

NMI_SEED, NMI_STARTS = 123, 10  # the reference's seed, and how many others tell how much the seed decides
QUERIES = 256  # at a time, where every item is a query: bounds memory whatever the size of the test set


def relevant_ranks(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """0-based ranks (Q, R) of each query's relevant items in ascending order, infinite behind the last; counts (Q,).

    Items at the same distance rank in the order of the gallery. The excluded item is not relevant and ranks last.
    """
    queries = len(distances)
    keys = _keys(distances, exclude)
    relevant = gallery_labels == query_labels[:, None]
    if exclude is not None:
        relevant.scatter_(1, exclude[:, None], False)
    row, column = relevant.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=queries)
    most = int(counts.max()) if queries else 0
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    wanted = keys.new_full((queries, most), torch.inf)
    wanted[row, place] = keys[row, column]
    wanted = wanted.sort(dim=1).values
    # An item is nearer than wanted item k if at most k of the wanted are as near as it or nearer.
    passed = torch.searchsorted(wanted, keys, right=True)
    passed += torch.arange(0, queries * (most + 1), most + 1, device=keys.device)[:, None]
    histogram = torch.bincount(passed.flatten(), minlength=queries * (most + 1)).view(queries, most + 1)
    ranks = histogram.cumsum(dim=1)[:, :most].double()
    beyond = torch.arange(most, device=ranks.device) >= counts[:, None]
    return ranks.masked_fill_(beyond, torch.inf), counts


def _keys(distances: Tensor, exclude: Tensor | None) -> Tensor:
    """Float64 (Q, N) that order like the distances (Q, N), ties by item and the excluded item last; no two are alike.

    The last bits of a number carry its item: 2^20 items leave 32 bits behind the point, more than float32 has.
    """
    keys = distances.double() + 0.0  # a copy, without negative zeros
    if exclude is not None:
        keys.scatter_(1, exclude[:, None], torch.finfo(torch.float64).max)
    items = keys.shape[1]
    spare = max(1, (items - 1).bit_length())
    bits = keys.view(torch.int64)
    bits.bitwise_right_shift_(spare).bitwise_left_shift_(spare)
    bits.bitwise_or_(torch.arange(items, device=keys.device))
    return keys


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
        exclude: (Q,), the gallery index left out for each query (itself), or None.
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


def among_themselves(embeddings: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every row of embeddings (N, D) as a query against all, some at a time: rows (n,) and float64 distances (n, N)."""
    points = embeddings.double()  # in float32 the matrix-product form would lose small distances
    squares = points.square().sum(dim=1)
    for rows in torch.arange(len(points), device=points.device).split(QUERIES):
        square = torch.addmm(squares, points[rows], points.T, alpha=-2).add_(squares[rows, None])
        yield rows, square.clamp_(min=0).sqrt_()


def recall_at_1(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Recall@1 of every row of embeddings (N, D) among the others, (N,)."""
    return torch.cat(
        [
            (labels[distances.scatter_(1, rows[:, None], torch.inf).argmin(dim=1)] == labels[rows]).double()
            for rows, distances in among_themselves(embeddings)
        ]
    )


def retrieval(embeddings: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], float]:
    """All benign ranking metrics of every row of embeddings (N, D) among the others, (N,) each, and their mean pairwise
    distance, over all pairs of different rows, in [0, 2].
    """
    parts: list[dict[str, Tensor]] = []
    total, count = 0.0, len(labels)
    for rows, distances in among_themselves(embeddings):
        total += distances.sum().item()
        ranks, counts = relevant_ranks(distances, labels[rows], labels, rows)
        parts.append(
            {
                "recall_at_1": _recall(ranks, 1),
                "recall_at_2": _recall(ranks, 2),
                "map": _precision_sum(ranks, torch.full_like(counts, count)) / counts.clamp(min=1),
                "map_at_r": _precision_sum(ranks, counts) / counts.clamp(min=1),
                "map_at_10": _precision_sum(ranks, torch.full_like(counts, 10)) / 10,
            }
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, total / (count * (count - 1))


def mean_pairwise_distance(embeddings: Tensor) -> float:
    """Mean distance over all pairs of different rows of embeddings (N, D) of unit norm, in [0, 2]."""
    total, count = sum(distances.sum().item() for _, distances in among_themselves(embeddings)), len(embeddings)
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


def chance_recall(labels: Tensor) -> float:
    """R@1 of a random ranking: mean over queries of (items of its class - 1) / (N - 1)."""
    _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return ((counts[inverse] - 1).double() / (len(labels) - 1)).mean().item()


def collapse(recall_at_1: float, chance: float, spread: float) -> str:
    """Why a model has no ranking left, or "": R@1 at most twice chance (both in percent), or a mean pairwise
    distance under 0.001."""
    if recall_at_1 <= 2 * chance:
        return f"R@1 is {recall_at_1:.1f} % where chance is {chance:.1f} %"
    return f"the mean distance between embeddings is {spread:.1g}" if spread < 0.001 else ""
