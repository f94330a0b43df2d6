"""What an attack is made of and what it is given (method.md 3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.neighbors import Rows, anything_but, count_nearer, nearest, prepared

TEMPERATURE = 0.05  # of smooth hinges, in units of the embedding distance (0 to 2): how wide the rounded corner is


class Gallery(NamedTuple):
    """Clean unit-norm embeddings (N, D) and labels (N,) of the whole test set; ``rows`` are ready to compare with."""

    embeddings: Tensor
    labels: Tensor
    rows: Rows

    @classmethod
    def of(cls, embeddings: Tensor, labels: Tensor) -> "Gallery":
        """A gallery of embeddings (N, D) of any dtype and labels (N,)."""
        return cls(embeddings, labels, prepared(embeddings))


class AttackBatch(NamedTuple):
    """One batch of B perturbed items: ``items`` and ``targets`` (B,) are gallery rows, -1 where there is no target.

    An attack with several targets for each item has them in the columns of ``targets`` (B, M).
    The perturbed item is a query, or a candidate for CA+ and CA-; its own clean embedding stays in the gallery.
    """

    gallery: Gallery
    items: Tensor
    targets: Tensor

    def clean(self) -> Tensor:
        """Clean embeddings (B, D) of the items."""
        return self.gallery.embeddings[self.items]

    def target(self) -> Tensor:
        """Clean embeddings (B, D) of the targets."""
        return self.gallery.embeddings[self.targets]


Values = Callable[[Tensor, int], Tensor]
Measured = dict[str, Tensor]


class Attack(NamedTuple):
    """An attack is three functions.

    ``select(gallery, items, generators) -> targets`` (B,), from clean distances and one generator per item.
    ``objective(batch) -> values``, with ``values(embeddings, step)`` (B,) minimized, one value per item.
    ``measure(batch, embeddings, last_seen) -> {name: (B,)}``, in the units of the tables; ``last_seen`` are the
    embeddings of the last PGD step's forward pass, that is before its update.
    ``smooth``: the objective with its hinges rounded by softplus (``TEMPERATURE``), so that no gradient dies on their
    flat side; None where the objective has no hinge.
    """

    select: Callable[[Gallery, Tensor, Sequence[torch.Generator]], Tensor]
    objective: Callable[[AttackBatch], Values]
    measure: Callable[[AttackBatch, Tensor, Tensor], Measured]
    smooth: Callable[[AttackBatch], Values] | None = None


def plain_distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance row by row (B, D) x (B, D) -> float64 (B,), exact near zero, with zero gradient at zero."""
    return torch.linalg.vector_norm(x.double() - y.double(), dim=1)


def soft_hinge(gap: Tensor) -> Tensor:
    """T softplus(gap / T), element by element: [gap]+ with its corner rounded over ``TEMPERATURE``."""
    return TEMPERATURE * F.softplus(gap / TEMPERATURE, threshold=40)


def no_target(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """For attacks whose aim moves with the embedding or is the item itself: -1 for each."""
    return torch.full_like(items, -1)


def anywhere(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One gallery row per item, uniform over the test set."""
    return torch.tensor([int(torch.randint(len(gallery.labels), (), generator=g)) for g in generators]).to(items)


def nearby(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One row per item, uniform among its max(1, floor(N / 100)) nearest, the item itself excluded."""
    count = max(1, len(gallery.labels) // 100)
    near = nearest(gallery.embeddings[items], gallery.rows, count, anything_but(items))
    which = torch.tensor([int(torch.randint(count, (), generator=g)) for g in generators]).to(items)
    return near.gather(1, which[:, None]).squeeze(1)


def nearest_other(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """The nearest other gallery row of each item."""
    return nearest(gallery.embeddings[items], gallery.rows, 1, anything_but(items)).squeeze(1)


def percentile_rank(points: Tensor, gallery: Gallery, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of a distance ``limit`` (B,) from points (B, D) in percent of N: nearer items, and with ties as half."""
    nearer, ties = count_nearer(points, gallery.rows, limit)
    share = 100 / len(gallery.labels)
    return share * nearer.double(), share * (nearer.double() + ties.double() / 2)


def recall(batch: AttackBatch, embeddings: Tensor) -> Tensor:
    """100 where the nearest gallery item, the item's own entry excluded, is of its class, else 0; shape (B,)."""
    gallery = batch.gallery
    top = nearest(embeddings, gallery.rows, 1, anything_but(batch.items)).squeeze(1)
    return 100 * (gallery.labels[top] == gallery.labels[batch.items]).double()
