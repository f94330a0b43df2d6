"""ResNet-18 and ResNet-50 (He et al. 2016, arXiv 1512.03385) in the v1.5 form that ImageNet weights exist for.

Layer names, shapes and numbers are those of torchvision's ``resnet18`` and ``resnet50``, so its weight files fit, while
torchvision itself need not be installed (its wheels must match torch's build exactly).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

WIDTHS = (64, 128, 256, 512)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the side, up to its stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Block(nn.Module, ABC):
    """What both kinds of residual block share: the shortcut, projected where the shape changes."""

    expansion: int
    downsample: nn.Module | None

    def shortcut(self, inputs: int, width: int, stride: int) -> nn.Module | None:
        """The projection from ``inputs`` channels to the block's output, or None where the shapes already agree."""
        outputs = width * self.expansion
        if stride == 1 and inputs == outputs:
            return None
        return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """The branch beside the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, width * expansion, H / stride, W / stride), sides rounded up."""
        kept = x if self.downsample is None else self.downsample(x)
        return torch.relu_(self.residual(x) + kept)


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        """Build the block; the first convolution has the stride."""
        super().__init__()
        self.conv1 = convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = self.shortcut(inputs, width, stride)

    def residual(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, width, H / stride, W / stride)."""
        return self.bn2(self.conv2(torch.relu_(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    """A 3x3 convolution between two 1x1 ones (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        """Build the block; the 3x3 convolution has the stride (v1.5), not the first 1x1 as in the paper."""
        super().__init__()
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = self.shortcut(inputs, width, stride)

    def residual(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 * width, H / stride, W / stride)."""
        x = torch.relu_(self.bn1(self.conv1(x)))
        x = torch.relu_(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class ResNet(nn.Module):
    """Normalized images (B, channels, H, W) of any side to raw embeddings (B, dimension)."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], channels: int, dim: int):
        """Build four groups of ``depths`` blocks; every group but the first halves the side."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs, groups = 64, []
        for group, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            blocks = []
            for position in range(depth):
                blocks.append(block(inputs, width, stride=2 if group and not position else 1))
                inputs = width * block.expansion
            groups.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.fc = nn.Linear(inputs, dim)
        for module in self.modules():  # BatchNorm starts at scale 1 and shift 0 by itself
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalized images (B, channels, H, W); the result is (B, dimension), not normalized."""
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def resnet18(channels: int, side: int, dimension: int) -> nn.Module:
    """ResNet-18: 512 features, then Linear(512, dimension). Any ``side`` will do."""
    return convert_conv2d_weight_memory_format(
        ResNet(BasicBlock, (2, 2, 2, 2), channels, dimension), torch.channels_last
    )


def resnet50(channels: int, side: int, dimension: int) -> nn.Module:
    """ResNet-50: 2048 features, then Linear(2048, dimension). Any ``side`` will do."""
    return convert_conv2d_weight_memory_format(
        ResNet(Bottleneck, (3, 4, 6, 3), channels, dimension), torch.channels_last
    )
