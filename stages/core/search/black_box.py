"""Black-box searches: they ask for the values of images and never for a gradient."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.search.base import Task, per_item, where

POPULATION = 100  # images that NES asks about in each step: 50 directions and their negatives
SIGMA = 2.0  # standard deviation of NES's directions in units of eps, before they are cut to the ball
COARSE, LARGE = 32, 64  # images with a side over 64 px get directions of 32 x 32, enlarged
FIRST_SHARE = 0.8  # of the image that Square Attack's first squares cover
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of that share, in queries out of 10,000


def directions(images: Tensor, eps: float, generators: Sequence[torch.Generator]) -> Tensor:
    """One NES direction per item (B, C, H, W): normal with deviation 2 eps, each pixel cut to [-eps, eps]."""
    channels, height, width = images.shape[1:]
    coarse = max(height, width) > LARGE
    shape = (channels, COARSE, COARSE) if coarse else (channels, height, width)
    drawn = torch.stack([torch.randn(shape, generator=g, dtype=images.dtype) for g in generators])
    drawn = (SIGMA * eps * drawn).clamp_(-eps, eps).to(images.device)
    return F.interpolate(drawn, size=(height, width)) if coarse else drawn


def estimated_gradient(task: Task, point: Tensor, population: int = POPULATION) -> Tensor:
    """NES's estimate of the values' gradients at ``point`` (B, C, H, W): mean of value * direction / deviation.

    The points asked about are cut to the ball and to [0, 1], the directions in the mean are not, as in the reference.
    """
    total = torch.zeros_like(point)
    for _ in range(population // 2):
        direction = directions(task.images, task.eps, task.generators)
        ahead, behind = (task.score(task.projected(point + way * direction)) for way in (1, -1))
        total += per_item(ahead - behind).to(point) * direction
    return total / (population * SIGMA * task.eps)


def nes(task: Task) -> Tensor:
    """Natural evolution strategies as RobRank has them: PGD along an estimated gradient, 100 queries a step.

    The last point, better or not (method.md 9).
    """
    point = task.start.detach().clone()
    for _ in range(task.steps if task.eps else 0):
        point = task.projected(point - task.alpha * estimated_gradient(task, point).sign())
    return point


def square_side(query: int, queries: int, height: int, width: int) -> int:
    """Side in pixels of the square that Square Attack tries in ``query``, counted from 0, out of ``queries``."""
    reached = query * 10_000 // queries
    share = FIRST_SHARE / 2 ** sum(reached > bound for bound in HALVINGS)
    return min(max(round((share * height * width) ** 0.5), 1), height, width)


def striped(task: Task) -> Tensor:
    """Clean images with vertical stripes one pixel wide, each eps up or down in each channel, cut to [0, 1]."""
    channels, _, width = task.images.shape[1:]
    drawn = torch.stack([torch.rand((channels, 1, width), generator=g) for g in task.generators])
    return task.projected(task.images + task.eps * _up_or_down(drawn).to(task.images))


def with_square(task: Task, best: Tensor, side: int) -> Tensor:
    """``best`` (B, C, H, W) with one square per item, somewhere, at eps above or below the clean image."""
    channels, height, width = best.shape[1:]
    drawn = torch.stack([torch.rand(2 + channels, generator=g) for g in task.generators])
    top, left = ((drawn[:, axis, None] * (span - side + 1)).long() for axis, span in enumerate((height, width)))
    down, across = torch.arange(height), torch.arange(width)
    tall, wide = (down >= top) & (down < top + side), (across >= left) & (across < left + side)
    change = (tall[:, None, :, None] & wide[:, None, None, :]) * _up_or_down(drawn[:, 2:, None, None])
    return task.projected(best + 2 * task.eps * change.to(best))


def _up_or_down(drawn: Tensor) -> Tensor:
    return torch.where(drawn < 0.5, -1.0, 1.0)


def square(task: Task) -> Tensor:
    """Square Attack (Andriushchenko et al. 2020, Alg. 1 and 2): each step is one query for each image.

    Random search: vertical stripes, then squares that shrink on AutoAttack's schedule, each kept only where it improves
    the item's value. Unlike the original, the stripes too must improve it, so that no result is worse than the start.
    ``alpha`` is not read.
    """
    best = task.start.detach().clone()
    value = task.score(best)
    for query in range(task.steps):
        side = square_side(query, task.steps, *task.images.shape[2:])
        tried = with_square(task, best, side) if query else striped(task)
        found = task.score(tried)
        best, value = where(found < value, tried, best), torch.minimum(found, value)
    return best
