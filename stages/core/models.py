"""Backbones and the embedding model around them (method.md 1.3)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Backbone(NamedTuple):
    """How to build a network (channels, image side, embedding dimension) and the pixel statistics it expects."""

    build: Callable[[int, int, int], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Embedder(nn.Module):
    """Images (B, C, H, W) in [0, 1] to unit-norm embeddings (B, D).

    Pixel normalisation happens inside, so perturbations, eps and clipping live in raw pixel space. With
    ``freeze_batchnorm`` the statistics of BatchNorm layers never move (their scale and shift still train).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, *, channels: int, side: int, dimension: int, freeze_batchnorm: bool = True):
        """Build the network for ``channels`` x ``side`` x ``side`` images and ``dimension``-wide embeddings."""
        super().__init__()
        self.network = backbone.build(channels, side, dimension)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, -1, 1, 1), persistent=False)
        self.freeze_batchnorm = freeze_batchnorm

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W) in [0, 1]; the result (B, D) has unit norm."""
        return F.normalize(self.network((images - self.mean) / self.std))

    def train(self, mode: bool = True) -> "Embedder":
        """Set training mode, but keep frozen BatchNorm layers in evaluation mode."""
        super().train(mode)
        if self.freeze_batchnorm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def digits_cnn(channels: int, side: int, dimension: int) -> nn.Module:
    """Two 3x3 convolutions and one linear layer: enough for 8x8 digits, no BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * ((side + 1) // 2) ** 2, dimension),
    )


BACKBONES: dict[str, Backbone] = {
    "digits_cnn": Backbone(digits_cnn, mean=(0.0,), std=(1.0,)),
}
