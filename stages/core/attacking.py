"""Run one attack on one batch of test images, and check that it really attacked."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stages.core.attacks.base import Attack, AttackBatch, Measured
from stages.core.pgd import pgd


class Attacked(NamedTuple):
    """Per-item results of one batch, each (B,).

    ``before`` and ``after`` are measured on the clean and on the perturbed items with the same targets.
    ``objective_*`` is the minimized value at the start and at the end, ``largest_change`` the L-infinity norm of the
    perturbation in [0, 1], ``zero_gradients`` the share of pixels and steps whose gradient was exactly zero.
    """

    images: Tensor
    before: Measured
    after: Measured
    objective_before: Tensor
    objective_after: Tensor
    largest_change: Tensor
    zero_gradients: Tensor


def run(
    attack: Attack,
    embed: Callable[[Tensor], Tensor],
    images: Tensor,
    batch: AttackBatch,
    *,
    eps: float,
    alpha: float,
    steps: int,
) -> Attacked:
    """Perturb ``images`` (B, C, H, W), the batch's items, by ``steps`` PGD steps within ``eps``.

    ``embed`` must be in evaluation mode. Each item's result depends on that item alone: the objective is a sum of
    per-item values, so the batch it travels in cannot matter beyond rounding.
    """
    values, size = attack.objective(batch), images[0].numel()
    clean = batch.clean()
    last_seen = clean
    zeros: list[Tensor] = []

    def watched(perturbed: Tensor) -> Tensor:
        perturbed.register_hook(lambda gradient: zeros.append((gradient == 0).sum(dim=(1, 2, 3))))
        return embed(perturbed)

    def objective(embeddings: Tensor, step: int) -> Tensor:
        nonlocal last_seen
        last_seen = embeddings.detach()
        return values(embeddings, step).sum()

    adversarial = pgd(watched, images, objective, eps=eps, alpha=alpha, steps=steps)
    with torch.no_grad():
        final = embed(adversarial)
        return Attacked(
            images=adversarial,
            before=attack.measure(batch, clean, clean),
            after=attack.measure(batch, final, last_seen),
            objective_before=values(clean, -1),
            objective_after=values(final, -1),
            largest_change=(adversarial - images).abs().amax(dim=(1, 2, 3)),
            zero_gradients=sum(zeros, torch.zeros(len(images), device=images.device)) / max(1, len(zeros) * size),
        )
