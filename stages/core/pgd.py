"""Projected gradient descent, once: every defense's inner loop and every attack goes through here (method.md 1.6)."""

from collections.abc import Callable

import torch
from torch import Tensor

Embed = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor, int], Tensor]
Stop = Callable[[Tensor, Tensor | None], bool | Tensor]


def pgd(
    embed: Embed,
    images: Tensor,
    objective: Objective,
    *,
    eps: float,
    alpha: float,
    steps: int,
    stop: Stop | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Minimize ``objective`` over an L-infinity ball of radius ``eps`` around ``images``, cut to [0, 1].

    Args:
        embed: maps images (B, C, H, W) to embeddings (B, D); gradients are taken to the images only.
        images: clean images in [0, 1]; several sets (positives and negatives, say) are concatenated.
        objective: ``objective(embeddings, step) -> scalar``, minimized.
        eps: radius of the ball, in pixel units of [0, 1].
        alpha: step size in the same units; a single step alone uses ``eps`` instead.
        steps: number of sign-gradient steps; 0 returns the images unchanged.
        stop: ``stop(value, previous) -> bool`` or a tensor with one, asked before each step; True ends the loop
            without that step.
        start: images inside the ball to begin with, shaped like ``images``; the clean images where it is None.

    Returns:
        The perturbed images, detached, same shape as ``images``.
    """
    size = eps if steps == 1 else alpha
    clean, perturbed = images.detach(), (images if start is None else start).detach().clone()
    if size == 0:
        return perturbed
    # x0 is in [0, 1], so clipping to the ball and then to [0, 1] is one clamp to the intersection.
    lower, upper = (clean - eps).clamp_(min=0), (clean + eps).clamp_(max=1)
    direction, previous = torch.empty_like(perturbed), None
    for step in range(steps):
        perturbed.requires_grad_(True)
        with torch.enable_grad():
            value = objective(embed(perturbed), step)
        # Waiting for a GPU's answer once a step costs less than the steps that a stop saves.
        if stop is not None and stop(value.detach(), previous):
            break
        previous = value.detach()
        (gradient,) = torch.autograd.grad(value, perturbed)
        perturbed.requires_grad_(False)
        torch.sign(gradient, out=direction)
        perturbed.add_(direction, alpha=-size)
        torch.clamp(perturbed, lower, upper, out=perturbed)
    return perturbed.detach()
