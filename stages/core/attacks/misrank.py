"""Misranking attacks: the query's nearest item gets another class (LTM, GTM) (method.md 3.7, 3.8).

Each has two readings: as published (the reference code's quirks, Q9) and as described (``_exact``).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.attacks.base import (
    Attack,
    Gallery,
    Measured,
    Problem,
    Values,
    no_target,
    plain_distances,
    recall,
    without,
)
from stages.core.losses import distance


def learn_to_misrank(problem: Problem, *, keep_self: bool) -> Values:
    """LTM: [max over other classes d(q~, x) - min over the same class d(q~, x)]+.

    ``keep_self``: the reference leaves the query's own clean embedding among the positives.
    """
    gallery = problem.gallery
    same = gallery.labels[problem.items, None] == gallery.labels[None, :]
    positive = same if keep_self else same.scatter(1, problem.items[:, None], False)

    def values(embeddings: Tensor, step: int) -> Tensor:
        distances = plain_distances(embeddings, gallery.embeddings)
        farthest_other = distances.masked_fill(same, -torch.inf).amax(dim=1)
        nearest_same = distances.masked_fill(~positive, torch.inf).amin(dim=1)
        return F.relu(farthest_other - nearest_same)

    return values


def nearest_of_other_class(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """GTM as described: the nearest gallery row of another class than the item's own."""
    distances = plain_distances(gallery.embeddings[items], gallery.embeddings)
    same = gallery.labels[items, None] == gallery.labels[None, :]
    return distances.masked_fill(same, torch.inf).argmin(dim=1)


def row_inside_masked_gallery(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """GTM as published: the position of the chosen item inside the masked sub-array, used on the full gallery.

    The mask removes the class of the nearest other item (not of the query), and the position found in what is left
    is not mapped back, so on class-sorted data targets behind that class block are shifted by its size.
    """
    distances = without(plain_distances(gallery.embeddings[items], gallery.embeddings), items)
    top = gallery.labels[distances.argmin(dim=1)]
    other = gallery.labels[None, :] != top[:, None]
    chosen = distances.masked_fill(~other, torch.inf).argmin(dim=1)
    return other.cumsum(dim=1).gather(1, chosen[:, None]).squeeze(1) - 1


def greedy_objective(problem: Problem) -> Values:
    """GTM: d(q~, t) to the chosen item."""
    target = problem.target()
    return lambda embeddings, step: distance(embeddings, target)


def measure(problem: Problem, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """R@1 of the perturbed query with itself removed, in percent."""
    return {name: recall(problem, embeddings)}


ltm = Attack(no_target, partial(learn_to_misrank, keep_self=True), partial(measure, name="ltm"))
ltm_exact = Attack(no_target, partial(learn_to_misrank, keep_self=False), partial(measure, name="ltm"))
gtm = Attack(row_inside_masked_gallery, greedy_objective, partial(measure, name="gtm"))
gtm_exact = Attack(nearest_of_other_class, greedy_objective, partial(measure, name="gtm"))
