"""The number format that a network computes in: the `precision` keys of params.yaml."""

import torch
from torch import nn

from stages.core.models import Bfloat16
from stages.runtime.errors import UserError
from stages.runtime.params import FILE


def in_precision(model: nn.Module, precision: str, device: torch.device, key: str) -> nn.Module:
    """``model`` computing in ``precision``; sets torch's float32 format for this process.

    ``fp32`` is exact float32 on a GPU too, where torch would take TF32 for convolutions; ``tf32`` is TF32 for
    convolutions and matrix products of a GPU; ``bf16`` is bfloat16 for both, on either kind of device.

    Raises:
        UserError: TF32 was asked of a CPU, which has none. ``key`` is its place in params.yaml.
    """
    if precision == "tf32" and device.type == "cpu":
        raise UserError(f"{FILE}: {key}: tf32 is a format of GPUs; write fp32 or bf16, or train on cuda")
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return Bfloat16(model) if precision == "bf16" else model
