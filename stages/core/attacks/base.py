"""What an attack is made of and what it is given (method.md 3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Gallery(NamedTuple):
    """Clean unit-norm embeddings (N, D) and labels (N,) of the whole test set."""

    embeddings: Tensor
    labels: Tensor


class Problem(NamedTuple):
    """One batch of B perturbed items: ``items`` and ``targets`` (B,) are gallery rows, -1 where there is no target.

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
    ``objective(problem) -> values``, with ``values(embeddings, step)`` (B,) minimised, one value per item.
    ``measure(problem, embeddings, last_seen) -> {name: (B,)}``, in the units of the tables; ``last_seen`` are the
    embeddings of the last PGD step's forward pass, that is before its update.
    """

    select: Callable[[Gallery, Tensor, Sequence[torch.Generator]], Tensor]
    objective: Callable[[Problem], Values]
    measure: Callable[[Problem, Tensor, Tensor], Measured]


def plain_distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (B, D) x (N, D) -> (B, N), exact near zero and with zero gradient there."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def plain_distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance row by row (B, D) x (B, D) -> (B,), by the same arithmetic as ``plain_distances``."""
    return plain_distances(x[:, None], y[:, None])[:, 0, 0]


def without(distances: Tensor, items: Tensor) -> Tensor:
    """Distances (B, N) with each row's own gallery entry out of reach (infinite)."""
    return distances.scatter(1, items[:, None], torch.inf)


def no_target(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """For attacks whose aim moves with the embedding or is the item itself: -1 for each."""
    return torch.full_like(items, -1)


def anywhere(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One gallery row per item, uniform over the test set."""
    return torch.tensor([int(torch.randint(len(gallery.labels), (), generator=g)) for g in generators]).to(items)


def nearby(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One row per item, uniform among its max(1, floor(N / 100)) nearest, the item itself excluded."""
    count = max(1, len(gallery.labels) // 100)
    distances = without(plain_distances(gallery.embeddings[items], gallery.embeddings), items)
    nearest = distances.topk(count, dim=1, largest=False).indices
    which = torch.tensor([int(torch.randint(count, (), generator=g)) for g in generators]).to(items)
    return nearest.gather(1, which[:, None]).squeeze(1)


def nearest(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """The nearest other gallery row of each item."""
    return without(plain_distances(gallery.embeddings[items], gallery.embeddings), items).argmin(dim=1)


def percentile_rank(distances: Tensor, to_target: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of a distance (B,) among distances (B, N) in percent of N: strictly nearer items, and with ties as half."""
    strict = (distances < to_target[:, None]).double().mean(dim=1)
    ties = (distances == to_target[:, None]).double().mean(dim=1)
    return 100 * strict, 100 * (strict + ties / 2)


def recall(problem: Problem, embeddings: Tensor) -> Tensor:
    """100 where the nearest gallery item, the item's own entry excluded, is of its class, else 0; shape (B,)."""
    distances = without(plain_distances(embeddings, problem.gallery.embeddings), problem.items)
    labels = problem.gallery.labels
    return 100 * (labels[distances.argmin(dim=1)] == labels[problem.items]).double()
