"""Misranking attacks: the query's nearest item gets another class (LTM, GTM) (method.md 3.7, 3.8).

Each has two variants: as published (the reference code's quirks, Q9) and as described (``_exact``).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.attacks.base import (
    Attack,
    AttackBatch,
    Gallery,
    Measured,
    Values,
    no_target,
    plain_distance,
    recall,
    soft_hinge,
)
from stages.core.losses import distance
from stages.core.neighbors import both, chunks, nearest, nearest_and_farthest, neither, of_class


def learn_to_misrank(batch: AttackBatch, *, keep_self: bool, hinge: Callable[[Tensor], Tensor] = F.relu) -> Values:
    """LTM: [max over other classes d(q~, x) - min over the same class d(q~, x)]+.

    ``keep_self``: the reference leaves the query's own clean embedding among the positives, where queries and gallery
    are one set. ``hinge`` is [.]+.
    """
    gallery = batch.gallery
    same = of_class(gallery.labels, batch.labels())
    counted = batch.ranking().admitted if keep_self else batch.others()
    other, positive = neither(same), same if counted is None else both(same, counted)

    def values(embeddings: Tensor, step: int) -> Tensor:
        near, far = nearest_and_farthest(embeddings, gallery.rows, positive, other)
        to_near, to_far = (plain_distance(embeddings, gallery.embeddings[rows]) for rows in (near, far))
        return hinge(to_far - to_near)

    return values


def nearest_of_other_class(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """GTM as described: the nearest gallery row of another class than the item's own."""
    perturbed = gallery.perturbed()
    other = neither(of_class(gallery.labels, perturbed.labels[items]))
    return nearest(perturbed.embeddings[items], gallery.rows, 1, other).squeeze(1)


def row_inside_masked_gallery(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """GTM as published: the position of the chosen item inside the masked sub-array, used on the full gallery.

    The mask removes the class of the nearest other item (not of the query), and the position found in what is left
    is not mapped back, so on class-sorted data targets behind that class block are shifted by its size.
    """
    points, not_self = gallery.perturbed().embeddings[items], gallery.others(items)
    top = nearest(points, gallery.rows, 1, not_self).squeeze(1)
    removed = of_class(gallery.labels, gallery.labels[top])
    chosen = nearest(points, gallery.rows, 1, both(not_self, neither(removed))).squeeze(1)
    shift = torch.zeros_like(chosen)
    for rows in chunks(len(gallery.labels)):
        before = torch.arange(rows.start, rows.stop, device=chosen.device) < chosen[:, None]
        shift += (removed(rows) & before).sum(dim=1)
    return chosen - shift


def greedy_objective(batch: AttackBatch) -> Values:
    """GTM: d(q~, t) to the chosen item."""
    target = batch.target()
    return lambda embeddings, step: distance(embeddings, target)


def measure(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """R@1 of the perturbed query with itself removed, in percent."""
    return {name: recall(batch, embeddings)}


ltm = Attack(
    no_target,
    partial(learn_to_misrank, keep_self=True),
    partial(measure, name="ltm"),
    partial(learn_to_misrank, keep_self=True, hinge=soft_hinge),
)
ltm_exact = Attack(
    no_target,
    partial(learn_to_misrank, keep_self=False),
    partial(measure, name="ltm"),
    partial(learn_to_misrank, keep_self=False, hinge=soft_hinge),
)
gtm = Attack(row_inside_masked_gallery, greedy_objective, partial(measure, name="gtm"))
gtm_exact = Attack(nearest_of_other_class, greedy_objective, partial(measure, name="gtm"))
