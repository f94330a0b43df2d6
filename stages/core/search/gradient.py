"""White-box searches: sign steps, sign steps with momentum, and Auto-PGD."""

import math

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from stages.core.pgd import pgd
from stages.core.search.base import Task, per_item, where

INERTIA = 0.75  # share of the gradient step in each move of Auto-PGD; the rest continues the last move
SUCCESSES = 0.75  # share of steps that must improve the value for the step size to stay


def sign(task: Task) -> Tensor:
    """The protocol's PGD: steps of alpha along the gradient's sign; the last point, better or not (method.md 1.6)."""
    return pgd(
        task.embed,
        task.images,
        lambda embeddings, step: task.values(embeddings, step).sum(),
        eps=task.eps,
        alpha=task.alpha,
        steps=task.steps,
        start=task.start,
    )


def momentum(task: Task) -> Tensor:
    """Momentum iterative method (Dong et al. 2018, Alg. 1, decay 1): PGD along the sum of L1-normalized gradients.

    An item whose gradient dies goes on in its last direction.
    """
    total = torch.zeros_like(task.images)
    hooks: list[RemovableHandle] = []

    def accumulated(gradient: Tensor) -> Tensor:
        norm = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        return total.add_(torch.where(norm > 0, gradient / norm, 0))

    def remembering(perturbed: Tensor) -> Tensor:
        embeddings = task.embed(perturbed)  # first, so that what embed watches is the gradient itself
        if hooks:  # the loop moves one tensor in place, which would keep the hook of every step
            hooks.pop().remove()
        hooks.append(perturbed.register_hook(accumulated))
        return embeddings

    return sign(task._replace(embed=remembering))


def checkpoints(steps: int) -> list[int]:
    """Steps after which Auto-PGD judges its step size: ceil(p_j * steps), in periods that shorten from 22 to 6 %."""
    percents, period = [22], 22  # whole percents, so that no rounding moves a checkpoint
    while percents[-1] + max(period - 3, 6) <= 100:
        period = max(period - 3, 6)
        percents.append(percents[-1] + period)
    return sorted({math.ceil(percent * steps / 100) for percent in percents})


def apgd(task: Task) -> Tensor:
    """Auto-PGD (Croce & Hein 2020, Alg. 1): the best point of each item, by its value.

    Every item has a step size of its own, 2 eps at first (``alpha`` is not read). At a checkpoint it is halved, and the
    search goes on from the item's best point, where fewer than 75 % of the steps since the last checkpoint improved the
    value, or where neither the step size nor the best value has changed since then.
    """
    previous = point = best = task.start.detach().clone()
    value, gradient = task.slope(point, 0)
    best_value, best_gradient = value, gradient
    size = torch.full_like(value, 2 * task.eps)
    successes, best_then, size_then, last_check = torch.zeros_like(value), value, size, 0
    judged = set(checkpoints(task.steps))
    for step in range(1, task.steps + 1):
        aim = task.projected(point - per_item(size).to(point) * gradient.sign())
        share = INERTIA if step > 1 else 1.0
        moved = task.projected(point + share * (aim - point) + (1 - share) * (point - previous))
        previous, point, before = point, moved, value
        value, gradient = task.slope(point, step)
        successes = successes + (value < before)
        better = value < best_value
        best, best_gradient = where(better, point, best), where(better, gradient, best_gradient)
        best_value = torch.where(better, value, best_value)
        if step not in judged:
            continue
        stalled = (size == size_then) & (best_value == best_then)
        halved = (successes < SUCCESSES * (step - last_check)) | stalled
        successes, best_then, size_then, last_check = torch.zeros_like(value), best_value, size, step
        size, value = torch.where(halved, size / 2, size), torch.where(halved, best_value, value)
        point, gradient = where(halved, best, point), where(halved, best_gradient, gradient)
    return best
