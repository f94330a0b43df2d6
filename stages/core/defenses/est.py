"""Embedding-shifted triplets (EST): every image is pushed away from its own clean embedding."""

import torch
from torch import Tensor

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import distance, triplet
from stages.core.pgd import Embed, pgd


def shift_embeddings(
    embed: Embed, images: Tensor, clean: Tensor, generator: torch.Generator, *, eps: float, alpha: float, steps: int
) -> Tensor:
    """Maximize d(f(x~), f(x)) for each image of (M, C, H, W) on its own (method.md 2.2).

    The first step aims away from f(x) + 1e-7 u, u uniform in {-1, 0, 1} per coordinate, because the distance of a
    point to itself has no direction.
    """
    offset = 1e-7 * torch.randint(-1, 2, clean.shape, generator=generator).to(clean)

    def objective(embeddings: Tensor, step: int) -> Tensor:
        return -distance(embeddings, clean + offset if step == 0 else clean).sum()

    return pgd(embed, images, objective, eps=eps, alpha=alpha, steps=steps)


def est(batch: Batch, schedule: Schedule, *, eps: float, steps: int = 8, alpha_over_eps: float = 0.125) -> Trained:
    """Train L_T(a~, p~, n~; 0.2), mined on the adversarial embeddings (method.md 2.2)."""
    shifted = shift_embeddings(
        batch.frozen, batch.images, batch.clean, batch.generator, eps=eps, alpha=alpha_over_eps * eps, steps=steps
    )
    embeddings = batch.live(shifted)
    anchor, positive, negative = (embeddings[rows] for rows in batch.mine(embeddings, schedule.progress))
    loss = triplet(anchor, positive, negative)
    return Trained(loss, loss.detach())
