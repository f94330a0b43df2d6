"""Benign retrieval metrics (method.md 4). Distances are (Q, N), smaller is nearer; values are fractions in [0, 1]."""

import torch
from torch import Tensor


def _without(distances: Tensor, exclude: Tensor | None) -> Tensor:
    if exclude is None:
        return distances
    return distances.scatter(1, exclude[:, None], torch.inf)


def recall_at_k(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, k: int, *, exclude: Tensor | None = None
) -> Tensor:
    """1.0 for each query with an item of its class among the ``k`` nearest, else 0.0; shape (Q,).

    Args:
        distances: (Q, N).
        query_labels: (Q,).
        gallery_labels: (N,).
        k: depth, at least 1.
        exclude: (Q,), the gallery index left out for each query (itself), or None.
    """
    nearest = _without(distances, exclude).topk(k, dim=1, largest=False).indices
    return (gallery_labels[nearest] == query_labels[:, None]).any(dim=1).to(distances.dtype)


def _ranked_relevance(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Relevance (Q, N) in ranking order, stable for ties, the excluded item last and not relevant; and its sum (Q,)."""
    order = _without(distances, exclude).argsort(dim=1, stable=True)
    relevant = gallery_labels[order] == query_labels[:, None]
    if exclude is not None:
        relevant &= order != exclude[:, None]
    return relevant.to(distances.dtype), relevant.sum(dim=1)


def _precision(relevant: Tensor) -> Tensor:
    return relevant.cumsum(dim=1) / torch.arange(1, relevant.shape[1] + 1, device=relevant.device)


def mean_average_precision(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, *, exclude: Tensor | None = None
) -> Tensor:
    """Average precision over the complete ranking, one value per query (Q,); 0 where nothing is relevant."""
    relevant, count = _ranked_relevance(distances, query_labels, gallery_labels, exclude)
    return (_precision(relevant) * relevant).sum(dim=1) / count.clamp(min=1)


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
    relevant, count = _ranked_relevance(distances, query_labels, gallery_labels, exclude)
    depth = count if r is None else torch.full_like(count, r)
    inside = torch.arange(relevant.shape[1], device=relevant.device)[None, :] < depth[:, None]
    return (_precision(relevant) * relevant * inside).sum(dim=1) / depth.clamp(min=1)


def nmi(embeddings: Tensor, labels: Tensor, *, seed: int) -> float:
    """Normalised mutual information (arithmetic mean) of k-means clusters and labels, in [0, 1].

    k is the number of classes. k-means++ with 10 starts up to 1,000 clusters, above that one start and 25 iterations.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    points, classes = embeddings.cpu().numpy(), labels.cpu().numpy()
    clusters = len(set(classes.tolist()))
    effort = {"n_init": 10} if clusters <= 1000 else {"n_init": 1, "max_iter": 25}
    assigned = KMeans(clusters, random_state=seed, **effort).fit_predict(points)
    return float(normalized_mutual_info_score(classes, assigned))


def spread(embeddings: Tensor, *, chunk: int = 1024) -> float:
    """Mean distance over all pairs of different rows of embeddings (N, D), in [0, 2]."""
    points = embeddings.double()  # in float32 the matrix-product form would lose small distances
    count = len(points)
    total = sum(torch.cdist(part, points).sum().item() for part in points.split(chunk))
    return total / (count * (count - 1))


def chance_recall(labels: Tensor) -> float:
    """R@1 of a random ranking: mean over queries of (items of its class - 1) / (N - 1)."""
    _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return ((counts[inverse] - 1).double() / (len(labels) - 1)).mean().item()


def is_collapsed(recall_at_1: float, chance: float, spread: float) -> bool:
    """Whether a model has no ranking left: R@1 at most twice chance (same unit), or spread under 0.001."""
    return recall_at_1 <= 2 * chance or spread < 0.001
