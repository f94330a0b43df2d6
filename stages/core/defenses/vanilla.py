"""No adversary: the triplet loss on clean images, the reference for what a defense costs and buys."""

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import triplet


def vanilla(batch: Batch, schedule: Schedule, *, eps: float) -> Trained:
    """Train L_T(a, p, n; 0.2) on clean images (method.md 2); ``eps`` is not used."""
    loss = triplet(*batch.live_triplet(*batch.triplet_images()))
    return Trained(loss, loss.detach())
