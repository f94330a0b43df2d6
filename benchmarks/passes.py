"""What a PGD step costs with the small networks, and what filling each new tensor with NaN would add to it.

A pass is one forward and one backward pass to the pixels, on one thread of a CPU, in deterministic mode: C2F2 on 256
images of 28 px, EfficientNet-Lite0 on 112 of 64 px. Filling is torch's default there (stages/runtime/device.py).

    python -m benchmarks.passes
"""

import sys
import time
from statistics import median

import torch

from stages.core.models import BACKBONES, Embedder
from stages.runtime import allocator, device

CPU = torch.device("cpu")
REPEATS = 9
CASES = (  # backbone, images, channels, side, number format
    ("c2f2", 256, 1, 28, "fp32"),
    ("c2f2", 256, 1, 28, "bf16"),
    ("efficientnet_lite0", 112, 3, 64, "fp32"),
    ("efficientnet_lite0", 112, 3, 64, "bf16"),
)


def milliseconds(backbone: str, count: int, channels: int, side: int, precision: str) -> float:
    """Milliseconds of an image's pass, the median over repeats."""
    model = Embedder(BACKBONES[backbone], channels=channels, side=side, dimension=512).eval().requires_grad_(False)
    embed = device.in_precision(model, precision, CPU, "precision")
    images = torch.rand(count, side, side, channels).permute(0, 3, 1, 2).requires_grad_(True)

    def one() -> float:
        started = time.perf_counter()
        torch.autograd.grad(embed(images)[:, 0].sum(), images)
        return time.perf_counter() - started

    one()
    return 1e3 * median(one() for _ in range(REPEATS)) / count


def main(words: list[str]) -> None:
    """Measure and print."""
    if words:
        sys.exit("usage: python -m benchmarks.passes")
    allocator.keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device.set_deterministic(True)
    print("| network | images | format | ms an image | filled with NaN |\n| --- | --- | --- | --- | --- |")
    for case in CASES:
        values = []
        for filled in (False, True):
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
            values.append(milliseconds(*case))
        print(f"| {case[0]} | {case[1]} | {case[4]} | {values[0]:.3f} | {values[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
