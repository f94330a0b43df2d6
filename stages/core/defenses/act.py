"""Anti-collapse triplets (ACT): pull the positive and the negative of each triplet together, train to part them."""

import torch
from torch import Tensor

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import distance, triplet
from stages.core.pgd import Embed, pgd


def pull_together(
    embed: Embed, positives: Tensor, negatives: Tensor, *, eps: float, alpha: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Perturb positives and negatives (B, C, H, W) to minimize mean d(f(p~), f(n~)) (method.md 2.3)."""

    def objective(embeddings: Tensor, step: int) -> Tensor:
        return distance(*embeddings.chunk(2)).mean()

    both = pgd(embed, torch.cat([positives, negatives]), objective, eps=eps, alpha=alpha, steps=steps)
    positive, negative = both.chunk(2)
    return positive, negative


def act(batch: Batch, schedule: Schedule, *, eps: float, steps: int = 8, alpha_over_eps: float = 0.125) -> Trained:
    """Train L_T(a, p~, n~; 0.2) with the clean anchor (method.md 2.3)."""
    anchors, positives, negatives = batch.triplet_images()
    perturbed = pull_together(batch.frozen, positives, negatives, eps=eps, alpha=alpha_over_eps * eps, steps=steps)
    loss = triplet(*batch.live_triplet(anchors, *perturbed))
    return Trained(loss, loss.detach())
