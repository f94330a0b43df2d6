"""CA-TRIDE as released: candidates and anchor perturbed in turn, guarded by softmax-weighted distances.

Every formula is a fact of the released code (method.md 2.5); the paper's text was not available. The released tree
keeps the phase in a module-level flag and the auxiliary term behind a call-counting toggle; here the phase is a
function of the step, and the auxiliary term is always part of the trained loss, which is what the toggle amounts to.
Both inner loops take the positive's distance as d(p, a) and the negative's as d(a, n), as the release does: PyTorch
adds 1e-6 to the difference, so the order of the arguments moves some perturbed images (method.md, quirk Q14).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import collapseness, decoupled_triplet, distance, lower_half_mean
from stages.core.pgd import Embed, pgd

STOP_BELOW = 1e-5  # both inner loops stop, before stepping, once their objective is under this value


def _fooled(value: Tensor, previous: Tensor | None) -> Tensor:
    return value < STOP_BELOW


def perturb_candidates(
    embed: Embed,
    anchor: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    lam: float,
    eps: float,
    alpha: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """CAP: minimize [W(d(a, n~)) - W(d(p~, a))]+ over positives and negatives (B, C, H, W).

    ``anchor`` (B, D) is the clean embedding. Stops as soon as the weighted positive distance has caught up.
    """

    def objective(embeddings: Tensor, step: int) -> Tensor:
        positive, negative = embeddings.chunk(2)
        return F.relu(-collapseness(distance(positive, anchor), distance(anchor, negative), lam))

    images = torch.cat([positives, negatives])
    both = pgd(embed, images, objective, eps=eps, alpha=alpha, steps=steps, stop=_fooled)
    positive, negative = both.chunk(2)
    return positive, negative


def perturb_anchors(
    embed: Embed,
    anchors: Tensor,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    lam: float,
    eps: float,
    alpha: float,
    steps: int,
) -> Tensor:
    """ANP: minimize [W(d(p, a~)) - W(d(a~, n))]+ + gamma [lowhalf(d(a~, n)) - mean d(a~, a)]+ over the anchors.

    ``anchor``, ``positive``, ``negative`` (B, D) are clean embeddings. The first term acts once the weighted positive
    distance exceeds the weighted negative one, and then lowers hardness: the collapse guard. The second moves the
    anchor away from itself and towards its nearer negatives. gamma = exp(-[W(d_an) - W(d_ap)]+) carries no gradient;
    under sign steps it can only move the stop.
    """

    def objective(embeddings: Tensor, step: int) -> Tensor:
        d_negative = distance(embeddings, negative)
        collapse = collapseness(distance(positive, embeddings), d_negative, lam)
        gamma = torch.exp(-F.relu(-collapse)).detach()
        shift = distance(embeddings, anchor).mean()
        return F.relu(collapse) + gamma * F.relu(lower_half_mean(d_negative) - shift)

    return pgd(embed, anchors, objective, eps=eps, alpha=alpha, steps=steps, stop=_fooled)


def ca_tride(
    batch: Batch,
    schedule: Schedule,
    *,
    eps: float,
    lam: float = 10.0,
    steps: int = 16,
    alpha_over_eps: float = 0.125,
    phases: Sequence[Literal["candidates", "anchors"]] = ("candidates", "anchors"),
    auxiliary_weight: float = 0.5,
) -> Trained:
    """Train the decoupled triplet loss on (a, p~, n~) and (a~, p, n) in turn (method.md 2.5).

    The PGD step size grows with the epoch as alpha * e/E, so epoch 0 trains on clean images. ``phases`` is cycled
    through step by step: "candidates" (CAP) or "anchors" (ANP). ``lam`` is the paper's lambda.
    """
    anchors, positives, negatives = batch.triplet_images()
    anchor, positive, negative = batch.clean_triplet()
    alpha = alpha_over_eps * eps * schedule.progress
    if phases[schedule.step % len(phases)] == "candidates":
        positives, negatives = perturb_candidates(
            batch.frozen, anchor, positives, negatives, lam=lam, eps=eps, alpha=alpha, steps=steps
        )
    else:
        anchors = perturb_anchors(
            batch.frozen, anchors, anchor, positive, negative, lam=lam, eps=eps, alpha=alpha, steps=steps
        )
    loss = decoupled_triplet(*batch.live_triplet(anchors, positives, negatives), auxiliary_weight=auxiliary_weight)
    return Trained(loss, loss.detach())
