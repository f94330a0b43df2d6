"""Where and how torch computes: device, threads, determinism and number format, as a training profile says."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stages.core.models import Bfloat16
from stages.runtime.errors import UserError
from stages.runtime.params import FILE


def configure(profile: Mapping[str, Any], dataset: str) -> torch.device:
    """Hold this process to a profile's threads and determinism; the device that a stage on ``dataset`` computes on.

    Raises:
        UserError: there is no such device.
    """
    torch.set_num_threads(profile["threads"])
    set_deterministic(profile["deterministic"])
    return find(profile["device"], dataset)


def set_deterministic(deterministic: bool) -> None:
    """Hold torch to operations that give the same result each time, or let it choose; for this whole process.

    On a GPU cuBLAS needs a workspace of fixed size for it, named before the first kernel runs. An operation that has no
    deterministic form then raises a RuntimeError, which `stages.runtime.cli` turns into a line. On a CPU all have one.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms, which spends 0.7 s on a compiler's settings that no stage uses.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # It would fill every new tensor with NaN first, for code that reads memory which it never wrote, as no stage does:
    # a quarter of the time of a pass through EfficientNet-Lite0 on a CPU, and a quarter of its kernels on a GPU.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # would choose algorithms by a stopwatch


def find(name: str, dataset: str) -> torch.device:
    """Where a stage on ``dataset`` computes: the CPU, or for ``cuda`` the GPU that the launcher gave this process.

    Raises:
        UserError: there is no such GPU.
    """
    if name == "cpu":
        return torch.device(name)
    place = int(os.environ.get("LOCAL_RANK", "0"))  # torchrun numbers the processes of a machine, one GPU each
    if place >= torch.cuda.device_count():
        raise UserError(
            f"{FILE}: datasets.{dataset}.training.device: asks for {name} device {place}, but torch finds "
            f"{torch.cuda.device_count()} on this machine; write cpu, or go to one with enough GPUs and torch for CUDA"
        )
    return torch.device(name, place)


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
