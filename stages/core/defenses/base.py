"""What every defense is given and what it returns."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stages.core.mining import Miner, Triplets, mine


class Batch(NamedTuple):
    """One training batch of B pairs, ordered a1 p1 a2 p2 ... .

    ``frozen`` embeds in evaluation mode (for perturbing), ``live`` in training mode (for the trained loss); both map
    images in [0, 1] to unit-norm embeddings. ``clean`` holds the evaluation-mode embeddings of ``images`` and
    ``triplets`` what the block's ``miner`` chose on them.
    """

    images: Tensor
    labels: Tensor
    clean: Tensor
    triplets: Triplets
    miner: Miner
    frozen: Callable[[Tensor], Tensor]
    live: Callable[[Tensor], Tensor]
    generator: torch.Generator

    def mine(self, embeddings: Tensor, progress: float, *, miner: Miner | None = None) -> Triplets:
        """Mine triplets on any embeddings of this batch, with its own miner or another one."""
        return mine(miner or self.miner, embeddings, self.labels, progress=progress, generator=self.generator)

    def clean_triplet(self) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluation-mode embeddings (B, D) of the mined anchors, positives and negatives."""
        return tuple(self.clean[rows] for rows in self.triplets)  # type: ignore[return-value]

    def triplet_images(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W) of the mined anchors, positives and negatives."""
        return tuple(self.images[rows] for rows in self.triplets)  # type: ignore[return-value]

    def live_triplet(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Training-mode embeddings of three image sets, through one forward pass."""
        anchor, positive, negative = self.live(torch.cat([anchors, positives, negatives])).chunk(3)
        return anchor, positive, negative


class Schedule(NamedTuple):
    """Where training stands.

    ``step`` counts batches from 0 over the whole run and never restarts; ``progress`` is e/E with the 0-based epoch e
    of E; ``previous_loss`` is the last step's adversarial triplet loss (before any extra term), 2.0 before the first.
    """

    step: int
    progress: float
    previous_loss: float


class Trained(NamedTuple):
    """``loss`` is minimized; ``triplet_loss`` is its adversarial triplet part, the next step's ``previous_loss``."""

    loss: Tensor
    triplet_loss: Tensor


# A defense turns a batch into the loss to train on: ``defense(batch, schedule, *, eps, **options) -> Trained``. Its
# keyword-only arguments are the ``options`` of its block; eps comes from the dataset.
Defense = Callable[..., Trained]
