"""What an attack is made of and what it is given (method.md 3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.neighbors import (
    Admitted,
    Rows,
    anything,
    anything_but,
    both,
    chunks,
    count_nearer,
    nearest,
    neither,
    of_class,
    prepared,
)
from stages.core.sets import Sets

BLOCK = 1000  # items whose rankings are measured at a time
TEMPERATURE = 0.05  # of smooth hinges, in units of the embedding distance (0 to 2): how wide the rounded corner is


class Ranking(NamedTuple):
    """What ranks of some points (B, D) are counted in: ``rows``, which of them are ``admitted`` for each point (None:
    all), and how many that are, ``size``, one number or float64 (B,)."""

    rows: Rows
    admitted: Admitted | None
    size: int | Tensor


class Gallery(NamedTuple):
    """Clean unit-norm embeddings (N, D) of the test images that targets are drawn from; ``rows`` are ready to compare
    with, ``labels`` (N,) their classes, ``cameras`` (N,) where they were taken, if that is known.

    ``source`` is the set of the items that are perturbed, None where it is this same one. With queries and gallery as
    two sets a query attack has the queries as source of the gallery, a candidate attack the gallery as source of the
    queries, since its targets are queries.
    """

    embeddings: Tensor
    labels: Tensor
    rows: Rows
    cameras: Tensor | None = None
    source: "Gallery | None" = None

    @classmethod
    def of(cls, embeddings: Tensor, labels: Tensor, cameras: Tensor | None = None) -> "Gallery":
        """One set of embeddings (N, D) of any dtype, with labels (N,) and perhaps cameras (N,)."""
        return cls(embeddings, labels, prepared(embeddings), cameras)

    @classmethod
    def of_sets(cls, embeddings: Tensor, labels: Tensor, sets: Sets, perturbs: str) -> "Gallery":
        """What an attack that ``perturbs`` a "query" or a "candidate" sees of M test images (M, D) of classes (M,)."""
        if sets.queries is None or sets.gallery is None:
            return cls.of(embeddings, labels)
        cameras = None if sets.cameras is None else sets.cameras.to(labels.device)
        queries, gallery = (
            cls.of(embeddings[rows], labels[rows], None if cameras is None else cameras[rows])
            for rows in (sets.queries.to(labels.device), sets.gallery.to(labels.device))
        )
        return gallery._replace(source=queries) if perturbs == "query" else queries._replace(source=gallery)

    def perturbed(self) -> "Gallery":
        """The set that perturbed items are rows of."""
        return self if self.source is None else self.source

    def turned(self) -> "Gallery":
        """The perturbed set as this set's items see it: the same set twice, or the two exchanged."""
        return self if self.source is None else self.source._replace(source=self._replace(source=None))

    def whole(self, items: Tensor) -> Ranking:
        """The ranking of each item (B,), its own entry included where there is one set.

        Images of its class from its camera are left out where there are two sets and cameras are known.
        """
        if self.source is None or self.cameras is None or self.source.cameras is None:
            return Ranking(self.rows, None, len(self.labels))
        same_class = of_class(self.labels, self.source.labels[items])
        admitted = neither(both(same_class, of_class(self.cameras, self.source.cameras[items])))
        counts = torch.stack([admitted(rows).sum(dim=1) for rows in chunks(len(self.labels))])
        return Ranking(self.rows, admitted, counts.sum(dim=0).double())

    def others(self, items: Tensor) -> Admitted:
        """Admits what is in the ranking of each item (B,), its own entry excluded."""
        if self.source is None:
            return anything_but(items)
        return self.whole(items).admitted or anything(items.device)


class AttackBatch(NamedTuple):
    """One batch of B perturbed items, rows of ``gallery.perturbed()``; ``targets`` (B,) are gallery rows, -1 for none.

    An attack with several targets for each item has them in the columns of ``targets`` (B, M).
    The perturbed item is a query, or a candidate for CA+ and CA-; its own clean embedding stays in its set.
    """

    gallery: Gallery
    items: Tensor
    targets: Tensor

    def clean(self) -> Tensor:
        """Clean embeddings (B, D) of the items."""
        return self.gallery.perturbed().embeddings[self.items]

    def labels(self) -> Tensor:
        """Classes (B,) of the items."""
        return self.gallery.perturbed().labels[self.items]

    def target(self) -> Tensor:
        """Clean embeddings (B, D) of the targets."""
        return self.gallery.embeddings[self.targets]

    def ranking(self) -> Ranking:
        """The ranking of each item as a query, its own entry included where there is one set."""
        return self.gallery.whole(self.items)

    def others(self) -> Admitted:
        """Admits what is in the ranking of each item as a query, its own entry excluded."""
        return self.gallery.others(self.items)


Values = Callable[[Tensor, int], Tensor]
Measured = dict[str, Tensor]


def one_other(count: int) -> int:
    """What most attacks need of each ranking: one item besides the attacked one, however many (``count``) there are."""
    return 1


class Attack(NamedTuple):
    """An attack is three functions.

    ``select(gallery, items, generators) -> targets`` (B,), from clean distances and one generator per item.
    ``objective(batch) -> values``, with ``values(embeddings, step)`` (B,) minimized, one value per item.
    ``measure(batch, embeddings, last_seen) -> {name: (B,)}``, in the units of the tables; ``last_seen`` are the
    embeddings of the last PGD step's forward pass, that is before its update.
    ``smooth``: the objective with its hinges rounded by softplus (``TEMPERATURE``), so that no gradient dies on their
    flat side; None where the objective has no hinge.
    ``perturbs``: "query", or "candidate": then items are of the gallery and targets are queries.
    ``least``: how many items targets are drawn from at least. ``needs(N)``: of how many of these N, the item itself
    left out, an item's ranking must consist. With fewer, targets would be items that rankings leave out.
    """

    select: Callable[[Gallery, Tensor, Sequence[torch.Generator]], Tensor]
    objective: Callable[[AttackBatch], Values]
    measure: Callable[[AttackBatch, Tensor, Tensor], Measured]
    smooth: Callable[[AttackBatch], Values] | None = None
    perturbs: str = "query"
    least: int = 1
    needs: Callable[[int], int] = one_other


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
    """One gallery row per item, uniform over the test set, or over what the item's ranking does not leave out."""
    ranking = gallery.whole(items)
    sizes = torch.as_tensor(ranking.size).long().expand(len(items)).cpu().tolist()
    drawn = [int(torch.randint(size, (), generator=g)) for size, g in zip(sizes, generators, strict=True)]
    places = torch.tensor(drawn).to(items)
    return places if ranking.admitted is None else admitted_rows(places, ranking.admitted, len(gallery.labels))


def admitted_rows(places: Tensor, admitted: Admitted, count: int) -> Tensor:
    """The gallery rows (B,), of ``count``, that are so many-th among those admitted: ``places`` (B,) from 0."""
    found, passed = torch.zeros_like(places), torch.zeros_like(places)
    for rows in chunks(count):
        seen = admitted(rows).cumsum(dim=1)
        here = (seen <= (places - passed)[:, None]).sum(dim=1)
        found = torch.where((places >= passed) & (here < seen.shape[1]), here + rows.start, found)
        passed = passed + seen[:, -1]
    return found


def nearby_count(count: int) -> int:
    """Of how many nearest items, among ``count``, ``nearby`` draws: max(1, floor(N / 100))."""
    return max(1, count // 100)


def nearby(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One row per item, uniform among its max(1, floor(N / 100)) nearest, the item itself excluded."""
    count = nearby_count(len(gallery.labels))
    near = nearest(gallery.perturbed().embeddings[items], gallery.rows, count, gallery.others(items))
    which = torch.tensor([int(torch.randint(count, (), generator=g)) for g in generators]).to(items)
    return near.gather(1, which[:, None]).squeeze(1)


def nearest_other(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """The nearest other gallery row of each item."""
    points = gallery.perturbed().embeddings[items]
    return nearest(points, gallery.rows, 1, gallery.others(items)).squeeze(1)


def short_ranking(attack: Attack, gallery: Gallery, items: Tensor) -> tuple[int, int] | None:
    """The first of some perturbed items (B,) whose ranking is too short for an attack: its place among them and the
    ranking's length, the item's own entry left out; None if there is none."""
    wanted = attack.needs(len(gallery.labels))
    for first, some in zip(range(0, len(items), BLOCK), items.split(BLOCK), strict=True):
        sizes = torch.as_tensor(gallery.whole(some).size).expand(len(some)) - int(gallery.source is None)
        if len(short := (sizes < wanted).nonzero()):
            return first + int(short[0]), int(sizes[short[0]])
    return None


def percentile_rank(points: Tensor, ranking: Ranking, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of a distance ``limit`` (B,) from points (B, D) in percent of what is ranked: nearer items, and with ties as
    half."""
    nearer, ties = count_nearer(points, ranking.rows, limit, ranking.admitted)
    share = 100 / ranking.size
    return share * nearer.double(), share * (nearer.double() + ties.double() / 2)


def recall(batch: AttackBatch, embeddings: Tensor) -> Tensor:
    """100 where the nearest gallery item, the item's own entry excluded, is of its class, else 0; shape (B,)."""
    top = nearest(embeddings, batch.gallery.rows, 1, batch.others()).squeeze(1)
    return 100 * (batch.gallery.labels[top] == batch.labels()).double()
