"""Triplet miners (method.md 2.1): which positive and which negative go with each anchor of an SPC-2 batch.

A batch holds a1 p1 a2 p2 ...: anchors are the even rows, each one's partner is the next row. Miners look at clean,
unit-norm embeddings without gradient and draw uniformly from the admitted items unless said otherwise.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stages.core.losses import MARGIN


class Triplets(NamedTuple):
    """Row numbers (B,) of anchors, positives and negatives in the batch."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


class Candidates(NamedTuple):
    """What a miner sees for A anchors and M batch items.

    ``distances`` (A, M) from each anchor; ``same`` (A, M), true for items of the anchor's class, itself included;
    ``partner`` (A,), the row drawn with the anchor; ``dimension`` of the embedding; ``progress`` e/E in [0, 1).
    """

    distances: Tensor
    same: Tensor
    partner: Tensor
    dimension: int
    progress: float

    @property
    def partner_distance(self) -> Tensor:
        """Distance (A, 1) from each anchor to its partner."""
        return self.distances.gather(1, self.partner[:, None])


# ``miner(candidates, generator) -> (positive, negative)``, batch rows (A,) each.
Miner = Callable[[Candidates, torch.Generator], tuple[Tensor, Tensor]]


def mine(miner: Miner, embeddings: Tensor, labels: Tensor, *, progress: float, generator: torch.Generator) -> Triplets:
    """Mine one triplet per anchor from a batch of embeddings (2B, D) with labels (2B,).

    Anchors for which the batch holds no item of another class are left out, so the result can be empty.
    """
    embeddings = embeddings.detach()
    anchors = torch.arange(0, len(labels), 2, device=labels.device)
    same = labels[anchors, None] == labels[None, :]
    possible = ~same.all(dim=1)
    anchors, same = anchors[possible], same[possible]
    if not len(anchors):
        return Triplets(anchors, anchors, anchors)
    distances = torch.cdist(embeddings[anchors], embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    # Miners draw where the generator lives, so that the draws do not depend on where the network runs.
    home = generator.device
    seen = Candidates(distances.to(home), same.to(home), (anchors + 1).to(home), embeddings.shape[1], progress)
    positive, negative = miner(seen, generator)
    return Triplets(anchors, positive.to(labels.device), negative.to(labels.device))


def draw(admitted: Tensor, fallback: Tensor, generator: torch.Generator) -> Tensor:
    """One column per row, uniform among ``admitted`` (A, M), or among ``fallback`` where a row admits none."""
    chosen = torch.where(admitted.any(dim=1, keepdim=True), admitted, fallback)
    return torch.multinomial(chosen.double(), 1, generator=generator).squeeze(1)


def random(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Negative uniform among the items of other classes."""
    other = ~candidates.same
    return candidates.partner, draw(other, other, generator)


def _semihard(candidates: Candidates, generator: torch.Generator, margin: float) -> tuple[Tensor, Tensor]:
    near = candidates.partner_distance
    inside = (candidates.distances > near) & (candidates.distances < near + margin)
    return candidates.partner, draw(~candidates.same & inside, ~candidates.same, generator)


def semihard(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Negative farther than the positive, by less than the margin 0.2; else any of another class."""
    return _semihard(candidates, generator, MARGIN)


def gradual_hard(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Semihard with the shrinking margin 0.2 (1 - progress/2)^2: CA-TRIDE's "ghard"."""
    return _semihard(candidates, generator, MARGIN * (1 - candidates.progress / 2) ** 2)


def softhard(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Negative nearer than the farthest positive, positive farther than the nearest negative.

    The fallback positive is any item of the class, which includes the anchor itself (quirk Q11).
    """
    distances, same = candidates.distances, candidates.same
    farthest_positive = distances.masked_fill(~same, -torch.inf).amax(dim=1, keepdim=True)
    nearest_negative = distances.masked_fill(same, torch.inf).amin(dim=1, keepdim=True)
    negative = draw(~same & (distances < farthest_positive), ~same, generator)
    positive = draw(same & (distances > nearest_negative), same, generator)
    return positive, negative


def distance_weighted(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Negative with probability proportional to 1/q(d), q(d) = d^(K-2) (1 - d^2/4)^((K-3)/2), no cut-off."""
    distances, dimension = candidates.distances.double(), candidates.dimension
    log_weight = -(dimension - 2) * distances.log() - (dimension - 3) / 2 * (1 - distances**2 / 4).log()
    log_weight = log_weight.masked_fill(candidates.same, -torch.inf)
    weight = (log_weight - log_weight.amax(dim=1, keepdim=True)).exp().nan_to_num(nan=0.0)
    drawable = weight.sum(dim=1, keepdim=True) > 0
    weight = torch.where(drawable, weight, (~candidates.same).double())
    return candidates.partner, torch.multinomial(weight, 1, generator=generator).squeeze(1)


def hardest(candidates: Candidates, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The nearest item of another class."""
    return candidates.partner, candidates.distances.masked_fill(candidates.same, torch.inf).argmin(dim=1)


MINERS: dict[str, Miner] = {
    "random": random,
    "semihard": semihard,
    "softhard": softhard,
    "distance_weighted": distance_weighted,
    "hardest": hardest,
    "gradual_hard": gradual_hard,
}
