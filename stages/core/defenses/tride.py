"""TRIDE without collapse awareness: candidates and anchor perturbed in turn, hardness raised without any guard.

Our reading of the abstract (method.md 2.6), not released code: the same alternation, miner, ramp and outer loss as
CA-TRIDE, but plain means, no clipping, no softmax weights, no shift term and no stop rule. It may collapse.
"""

import torch
from torch import Tensor

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import decoupled_triplet, distance
from stages.core.pgd import Embed, pgd


def perturb_candidates(
    embed: Embed,
    anchor: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Minimize mean d(a, n~) - d(a, p~) over positives and negatives; ``anchor`` (B, D) is a clean embedding."""

    def objective(embeddings: Tensor, step: int) -> Tensor:
        positive, negative = embeddings.chunk(2)
        return (distance(anchor, negative) - distance(anchor, positive)).mean()

    both = pgd(embed, torch.cat([positives, negatives]), objective, eps=eps, alpha=alpha, steps=steps)
    positive, negative = both.chunk(2)
    return positive, negative


def perturb_anchors(
    embed: Embed,
    anchors: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
) -> Tensor:
    """Minimize mean d(a~, n) - d(a~, p) over anchors; ``positive`` and ``negative`` (B, D) are clean embeddings."""

    def objective(embeddings: Tensor, step: int) -> Tensor:
        return (distance(embeddings, negative) - distance(embeddings, positive)).mean()

    return pgd(embed, anchors, objective, eps=eps, alpha=alpha, steps=steps)


def tride(batch: Batch, schedule: Schedule, *, eps: float, steps: int = 16, alpha_over_eps: float = 0.125) -> Trained:
    """Train the decoupled triplet loss; even steps perturb the candidates, odd steps the anchor (method.md 2.6)."""
    anchors, positives, negatives = batch.triplet_images()
    anchor, positive, negative = batch.clean_triplet()
    alpha = alpha_over_eps * eps * schedule.progress
    if schedule.step % 2 == 0:
        positives, negatives = perturb_candidates(
            batch.frozen, anchor, positives, negatives, eps=eps, alpha=alpha, steps=steps
        )
    else:
        anchors = perturb_anchors(batch.frozen, anchors, positive, negative, eps=eps, alpha=alpha, steps=steps)
    loss = decoupled_triplet(*batch.live_triplet(anchors, positives, negatives))
    return Trained(loss, loss.detach())
