"""Comparing points with a whole gallery, a chunk of its rows at a time: memory grows with points x chunk.

Distances come from a matrix product in float64, |p|^2 + |x|^2 - 2 p.x, some twenty times as fast as differences, and
exact to about 1e-15 in the square whatever the dtype of the embeddings: finer than their own float32 rounding.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048  # gallery rows at a time: a few such matrices of a batch of 112 stay in a processor's cache
LEAST = 1e-16  # squares under this are rounding of a point with itself; never 0, so that distances have an inverse
TIE = 1e-12  # squares that differ by less than this are the same distance

Admitted = Callable[[slice], Tensor]


class Rows(NamedTuple):
    """A gallery (N, D) ready to be compared with: float64 ``points`` and their squared norms (N,)."""

    points: Tensor
    squares: Tensor


def prepared(embeddings: Tensor) -> Rows:
    """Embeddings (N, D) of any dtype as ``Rows``."""
    points = embeddings.detach().double()
    return Rows(points, points.square().sum(dim=1))


def chunks(count: int) -> Iterator[slice]:
    """Slices that cover ``count`` rows."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def squared(points: Tensor, gallery: Rows) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of points (B, D) to the gallery: slices of its rows with a matrix (B, n) each."""
    points = points.detach().double()
    own = points.square().sum(dim=1, keepdim=True)
    for rows in chunks(len(gallery.points)):
        square = torch.addmm(gallery.squares[rows], points, gallery.points[rows].T, alpha=-2).add_(own)
        yield rows, square.clamp_(min=LEAST)


def anything_but(items: Tensor) -> Admitted:
    """Admits every gallery row but the own one (B,) of each point."""
    return lambda rows: torch.arange(rows.start, rows.stop, device=items.device) != items[:, None]


def anything(device: torch.device) -> Admitted:
    """Admits every gallery row for every point."""
    return lambda rows: torch.ones(1, 1, dtype=torch.bool, device=device)


def of_class(labels: Tensor, wanted: Tensor) -> Admitted:
    """Admits the gallery rows, labelled ``labels`` (N,), of each point's class ``wanted`` (B,)."""
    return lambda rows: labels[rows] == wanted[:, None]


def both(first: Admitted, second: Admitted) -> Admitted:
    """Admits what both admit."""
    return lambda rows: first(rows) & second(rows)


def neither(admitted: Admitted) -> Admitted:
    """Admits what ``admitted`` does not."""
    return lambda rows: ~admitted(rows)


def nearest(points: Tensor, gallery: Rows, count: int, admitted: Admitted) -> Tensor:
    """Rows (B, count) of the nearest admitted gallery items of each point (B, D), nearest first."""
    best = points.new_full((len(points), count), torch.inf, dtype=torch.float64)
    found = torch.zeros((len(points), count), dtype=torch.long, device=points.device)
    for rows, square in squared(points, gallery):
        square.masked_fill_(~admitted(rows), torch.inf)
        near = square.topk(min(count, square.shape[1]), dim=1, largest=False)
        best, order = torch.cat([best, near.values], dim=1).topk(count, dim=1, largest=False)
        found = torch.cat([found, near.indices + rows.start], dim=1).gather(1, order)
    return found


def nearest_and_farthest(points: Tensor, gallery: Rows, near: Admitted, far: Admitted) -> tuple[Tensor, Tensor]:
    """Rows (B,) of the nearest item that ``near`` admits for each point (B, D), and the farthest that ``far`` does."""
    first = points.new_full((len(points),), torch.inf, dtype=torch.float64)
    last = -first
    nearest_row, farthest_row = (torch.zeros(len(points), dtype=torch.long, device=points.device) for _ in range(2))
    for rows, square in squared(points, gallery):
        value, index = square.masked_fill(~near(rows), torch.inf).min(dim=1)
        nearest_row = torch.where(value < first, index + rows.start, nearest_row)
        first = torch.minimum(first, value)
        value, index = square.masked_fill_(~far(rows), -torch.inf).max(dim=1)
        farthest_row = torch.where(value > last, index + rows.start, farthest_row)
        last = torch.maximum(last, value)
    return nearest_row, farthest_row


def count_nearer(
    points: Tensor, gallery: Rows, limit: Tensor, admitted: Admitted | None = None
) -> tuple[Tensor, Tensor]:
    """How many admitted gallery items are nearer to each point (B, D) than ``limit`` (B,), and how many as near."""
    bound = limit.detach().double().square()[:, None]
    nearer, ties = (torch.zeros(len(points), dtype=torch.long, device=points.device) for _ in range(2))
    for rows, square in squared(points, gallery):
        if admitted is not None:
            square.masked_fill_(~admitted(rows), torch.inf)
        under = (square < bound - TIE).sum(dim=1)
        nearer += under
        ties += (square <= bound + TIE).sum(dim=1) - under
    return nearer, ties


class Sums(NamedTuple):
    """Of the gallery items within (or beyond) a limit of each point: ``number`` (B,) and ``total`` distance (B,).

    ``slope`` (B, D) is the gradient of ``total`` with respect to the point; an item at distance 0 adds rounding only.
    """

    number: Tensor
    total: Tensor
    slope: Tensor


def sums(
    points: Tensor, gallery: Rows, limit: Tensor, *, beyond: bool, slope: bool, admitted: Admitted | None = None
) -> Sums:
    """``Sums`` over admitted gallery items nearer to each point (B, D) than ``limit`` (B,), or with ``beyond`` farther.

    ``admitted`` None stands for all.
    """
    wide, bound = points.detach().double(), limit.detach().double().square()[:, None]
    number, total, weight = (wide.new_zeros(len(wide)) for _ in range(3))
    pull = torch.zeros_like(wide)
    for rows, square in squared(wide, gallery):
        # Without the item that sets the limit: its rounding must not pass for a gradient once nothing else is left.
        # As factors 0 and 1, which are many times as fast as a mask.
        inside = torch.empty_like(square)
        torch.gt(square, bound + TIE, out=inside) if beyond else torch.lt(square, bound - TIE, out=inside)
        if admitted is not None:
            inside *= admitted(rows)
        number += inside.sum(dim=1)
        distance = square.sqrt_()
        total += (distance * inside).sum(dim=1)
        if slope:
            share = distance.reciprocal_().mul_(inside)
            weight += share.sum(dim=1)
            pull.addmm_(share, gallery.points[rows])
    return Sums(number, total, weight[:, None] * wide - pull)


def summed_distances(points: Tensor, found: Sums) -> Tensor:
    """The sums' distances (B,) as a function of the points (B, D), with their gradient."""
    linear = (points.double() * found.slope).sum(dim=1)
    return linear + (found.total - linear).detach()


def soft_hinges(
    points: Tensor,
    gallery: Rows,
    limit: Tensor,
    *,
    sign: int,
    temperature: float,
    admitted: Admitted | None = None,
) -> Tensor:
    """sum_x T softplus(sign * (limit - d(p, x)) / T) over the gallery, float64 (B,): hinges with rounded corners.

    Points (B, D) and limits (B,) both carry gradient. No item weighs 0, however far it is on its hinge's flat side,
    but those that ``admitted`` leaves out; None stands for all.
    """
    wide, bound = points.detach().double(), limit.detach().double()[:, None]
    total, inside, weight = (wide.new_zeros(len(wide)) for _ in range(3))
    pull = torch.zeros_like(wide)
    for rows, square in squared(wide, gallery):
        distance = square.sqrt_()
        gap = (bound - distance).mul_(sign / temperature)
        height = F.softplus(gap, threshold=40)  # beyond, softplus and the identity are the same float64
        share = gap.sigmoid_()
        if admitted is not None:
            counted = admitted(rows)
            height *= counted
            share *= counted
        total += height.sum(dim=1)
        inside += share.sum(dim=1)
        share.div_(distance)
        weight += share.sum(dim=1)
        pull.addmm_(share, gallery.points[rows])
    slope = weight[:, None] * wide - pull
    linear = sign * (inside * limit.double() - (points.double() * slope).sum(dim=1))
    return linear + (temperature * total - linear).detach()
