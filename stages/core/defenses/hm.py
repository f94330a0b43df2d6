"""Hardness manipulation (HM): raise every triplet's hardness to a destination, perturbing all three images."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.defenses.base import Batch, Schedule, Trained
from stages.core.losses import MARGIN, hardness, intra_class_structure, triplet
from stages.core.mining import MINERS
from stages.core.pgd import Embed, pgd


def relative_loss(previous_loss: float, bound: float = MARGIN) -> float:
    """lbar = min(max(previous, 0), u) / u: 1 while training is young, towards 0 as it fits (method.md 2.4)."""
    return min(max(previous_loss, 0.0), bound) / bound


# Destination hardness as a function of lbar: the gradual adversaries and the constants of the HM paper.
DESTINATIONS: dict[str, Callable[[float], float]] = {
    "linear_gradual": lambda lbar: -MARGIN * lbar,
    "squared_gradual": lambda lbar: -MARGIN * lbar**2,
    "root_gradual": lambda lbar: -MARGIN * lbar**0.5,
    "zero": lambda lbar: 0.0,
    "minus_half_margin": lambda lbar: -MARGIN / 2,
    "minus_margin": lambda lbar: -MARGIN,
}


BOUNDARY_XI = 0.1  # g_B adds xi (1 - lbar) to a mined destination


def destination_hardness(
    batch: Batch, schedule: Schedule, destination: str, destination_miner: str, loss_bound: float = MARGIN
) -> Tensor | float | None:
    """H_D of one batch: a number, one value per triplet (B,), or None for "do not perturb" (method.md 2.4).

    ``destination`` is a key of DESTINATIONS, or "mined": the hardness of the triplets that ``destination_miner``
    chooses on the same anchors, or "boundary": the same plus xi (1 - lbar). A destination mined like the source asks
    for no perturbation.
    """
    lbar = relative_loss(schedule.previous_loss, loss_bound)
    if destination in DESTINATIONS:
        return DESTINATIONS[destination](lbar)
    miner = MINERS[destination_miner]
    if miner is batch.miner:
        return None
    rows = batch.mine(batch.clean, schedule.progress, miner=miner)
    anchor, positive, negative = (batch.clean[chosen] for chosen in rows)
    mined = hardness(anchor, positive, negative)
    return mined if destination == "mined" else mined + BOUNDARY_XI * (1 - lbar)


def raise_hardness(
    embed: Embed,
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    destination: Tensor | float,
    *,
    eps: float,
    alpha: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Minimize mean ([H_D - H(a~, p~, n~)]+)^2 over three image sets (B, C, H, W) (method.md 2.4).

    ``destination`` H_D is a number or one value per triplet (B,). Stops when the objective moves by less than 1e-7.
    """

    def objective(embeddings: Tensor, step: int) -> Tensor:
        return F.relu(destination - hardness(*embeddings.chunk(3))).square().mean()

    def settled(value: Tensor, previous: Tensor | None) -> bool | Tensor:
        return False if previous is None else (value - previous).abs() < 1e-7

    images = torch.cat([anchors, positives, negatives])
    moved = pgd(embed, images, objective, eps=eps, alpha=alpha, steps=steps, stop=settled)
    anchor, positive, negative = moved.chunk(3)
    return anchor, positive, negative


def hm(
    batch: Batch,
    schedule: Schedule,
    *,
    eps: float,
    steps: int = 8,
    alpha_over_eps: float = 0.125,
    destination: Literal[
        "linear_gradual",
        "squared_gradual",
        "root_gradual",
        "zero",
        "minus_half_margin",
        "minus_margin",
        "mined",
        "boundary",
    ] = "linear_gradual",
    destination_miner: Literal["random", "semihard", "softhard", "distance_weighted", "hardest"] = "semihard",
    loss_bound: float = MARGIN,
    ics_weight: float = 0.0,
    ics_margin: float = 0.0,
) -> Trained:
    """Train L_T(a~, p~, n~; 0.2) + ics_weight * ICS(a, a~, p) (method.md 2.4).

    ``destination`` and ``destination_miner`` name the target hardness, see ``destination_hardness``; the gradual ones
    follow the previous step's adversarial triplet loss, bounded by ``loss_bound`` (the paper's u).
    """
    anchors, positives, negatives = perturbed = batch.triplet_images()
    target = destination_hardness(batch, schedule, destination, destination_miner, loss_bound)
    if target is not None:
        perturbed = raise_hardness(
            batch.frozen, anchors, positives, negatives, target, eps=eps, alpha=alpha_over_eps * eps, steps=steps
        )
    if not ics_weight:
        loss = triplet(*batch.live_triplet(*perturbed))
        return Trained(loss, loss.detach())
    embeddings = batch.live(torch.cat([*perturbed, anchors, positives]))
    anchor, positive, negative, anchor_clean, positive_clean = embeddings.chunk(5)
    loss = triplet(anchor, positive, negative)
    structure = intra_class_structure(anchor_clean, anchor, positive_clean, ics_margin)
    return Trained(loss + ics_weight * structure, loss.detach())
