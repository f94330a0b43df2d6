"""Embedding attacks: push a query away from itself (ES) or towards any embedding (TMA) (method.md 3.5, 3.6)."""

import torch.nn.functional as F
from torch import Tensor

from stages.core.attacks.base import Attack, AttackBatch, Measured, Values, anywhere, no_target, recall
from stages.core.losses import distance

START_OFFSET = 1e-7  # added to the target at step 0: a point has no direction away from itself


def shift_objective(batch: AttackBatch) -> Values:
    """ES: - d(q~, q), with the clean embedding offset by 1e-7 at the first step."""
    clean = batch.clean()

    def values(embeddings: Tensor, step: int) -> Tensor:
        return -distance(embeddings, clean + START_OFFSET if step == 0 else clean)

    return values


def measure_shift(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """ES as published: ES:D from the embedding before the last step (quirk Q9), ES:R from the final image."""
    return {"es_d": distance(last_seen, batch.clean()).double(), "es_r": recall(batch, embeddings)}


def measure_shift_exact(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """ES as described: distance in [0, 2] and R@1 in percent, both of the final image."""
    return {"es_d": distance(embeddings, batch.clean()).double(), "es_r": recall(batch, embeddings)}


def match_objective(batch: AttackBatch) -> Values:
    """TMA: 1 - cos(q~, t)."""
    target = batch.target()
    return lambda embeddings, step: 1 - F.cosine_similarity(embeddings, target)


def measure_match(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """Cosine similarity to the target, in [-1, 1]; lower is more robust."""
    return {"tma": F.cosine_similarity(embeddings, batch.target()).double()}


es = Attack(no_target, shift_objective, measure_shift)
es_exact = Attack(no_target, shift_objective, measure_shift_exact)
tma = Attack(anywhere, match_objective, measure_match)
