"""Speed and memory of training and attacks at the size of CUB, on a GPU: one command, one table.

Times the floor of a PGD step, training of ACT and CA-TRIDE (the real loop, the second of two epochs), and the nine
attacks, in each precision, on random pixels with ResNet-18 at 224 px; then what the schedule of the papers takes at
that speed (75 epochs of 5,864 images, nine attacks on 5,924). Each value is kept in logs/benchmarks/gpu-<device>.json
as soon as it is known, and a second run measures only what is missing.

    python -m benchmarks.gpu [--toy]      --toy: tiny sizes, also on a CPU, to see that it runs
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.models import BACKBONES, Embedder
from stages.core.scores import STANDARD_ATTACKS
from stages.core.seeding import generator
from stages.core.training import TrainConfig, train
from stages.data.batches import training_batches
from stages.data.splits import Split
from stages.runtime.device import in_precision

EPOCHS, TRAIN_IMAGES, QUERIES = 75, 5864, 5924  # the schedule of the papers on CUB
TRAINED = {"act": "random", "ca_tride": "gradual_hard"}  # defenses and their miners
EPS = 8 / 255


class Size(NamedTuple):
    """What is timed: image sides, pairs and steps of training, images and steps of an attack, size of the gallery."""

    stored: int
    crop: int
    pairs: int
    training_steps: int
    batch: int
    attack_steps: int
    gallery: int
    repeats: int


REAL = Size(stored=256, crop=224, pairs=56, training_steps=20, batch=112, attack_steps=32, gallery=QUERIES, repeats=3)
TOY = Size(stored=36, crop=32, pairs=3, training_steps=2, batch=4, attack_steps=2, gallery=120, repeats=1)


def model(device: torch.device, size: Size) -> Embedder:
    """ResNet-18 with random weights."""
    return Embedder(BACKBONES["resnet18"], channels=3, side=size.crop, dimension=512).to(device)


def seconds(device: torch.device, repeats: int, work: Callable[[], object]) -> float:
    """Fewest seconds of some work, everything that was queued included."""
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - started)
    return best


def wait(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def floor(device: torch.device, size: Size, precision: str) -> dict[str, float]:
    """One forward pass and one backward pass to the input."""
    embed = in_precision(model(device, size).eval().requires_grad_(False), precision, device, "precision")
    images = torch.rand(size.batch, 3, size.crop, size.crop, device=device)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_(True)

    def step() -> None:
        torch.autograd.grad(embed(images).sum(), images)

    step()
    return {"seconds per step": seconds(device, 5 * size.repeats, step)}


def training(device: torch.device, size: Size, precision: str, defense: str) -> dict[str, float]:
    """The training loop as it is, on random pixels: the second of two epochs, where perturbations have a radius."""
    count = size.pairs * size.training_steps
    pixels = np.random.default_rng(0).integers(0, 256, (count, size.stored, size.stored, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(count), np.arange(count) // 4, np.arange(count))
    load = training_batches(split, device, most=2 * size.pairs, crop=size.crop, flip=True)
    setting = TrainConfig(DEFENSES[defense], MINERS[TRAINED[defense]], EPS, 10.0, 2, size.pairs, 1e-5, 4e-4, 0)
    epochs = train(in_precision(model(device, size), precision, device, "precision"), load, split.labels, setting)
    next(epochs)  # libraries choose their kernels; without a perturbation for CA-TRIDE
    step = seconds(device, 1, partial(next, epochs)) / size.training_steps
    return {"seconds per step": step, "images per second": 2 * size.pairs / step}


def attack(device: torch.device, size: Size, precision: str, name: str) -> dict[str, float]:
    """One batch through an attack, against a gallery of embeddings."""
    embed = in_precision(model(device, size).eval().requires_grad_(False), precision, device, "precision")
    images = torch.rand(size.batch, 3, size.crop, size.crop).contiguous(memory_format=torch.channels_last).to(device)
    rows = F.normalize(torch.randn(size.gallery, 512) + torch.randn(512)).to(device)
    gallery, items = Gallery.of(rows, torch.arange(size.gallery, device=device) // 50), torch.arange(size.batch)
    chosen, draws = ATTACKS[name], [generator(0, name, int(item)) for item in items]

    def once() -> None:
        batch = AttackBatch(gallery, items.to(device), chosen.select(gallery, items.to(device), draws))
        run(chosen, embed, images, batch, eps=EPS, alpha=3 / 8 * EPS, steps=size.attack_steps)

    once()
    return {"seconds per step": seconds(device, size.repeats, once) / size.attack_steps}


def measured(device: torch.device, size: Size, kept: Path) -> dict[str, dict[str, float]]:
    """All values by name, those of earlier runs included."""
    known: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16"):
        asked: dict[str, Callable[[], dict[str, float]]] = {"floor": partial(floor, device, size, precision)}
        asked |= {f"train {name}": partial(training, device, size, precision, name) for name in TRAINED}
        asked |= {f"attack {name}": partial(attack, device, size, precision, name) for name in STANDARD_ATTACKS}
        for name, measure in asked.items():
            key = f"{precision} {name}"
            if key in known:
                continue
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            known[key] = measure()
            if device.type == "cuda":
                known[key]["peak GiB"] = torch.cuda.max_memory_allocated(device) / 2**30
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(".tmp")
            draft.write_text(json.dumps(known, indent=1))
            draft.replace(kept)
    return known


def table(known: dict[str, dict[str, float]], size: Size) -> None:
    """Print every value, and the schedule of the papers at these speeds."""
    print("| what | ms a step | times the floor | images a second | peak GiB |\n| --- | --- | --- | --- | --- |")
    for key, values in known.items():
        step, base = values["seconds per step"], known[f"{key.split()[0]} floor"]["seconds per step"]
        rate, peak = (f"{values[name]:.1f}" if name in values else "" for name in ("images per second", "peak GiB"))
        # a training step is many PGD steps, a step of the optimizer and more: no multiple of one floor
        ratio = "" if " train " in key else f"{step / base:.2f}"
        print(f"| {key} | {1e3 * step:.1f} | {ratio} | {rate} | {peak} |")
    steps = EPOCHS * -(-TRAIN_IMAGES // 56)
    batches = -(-QUERIES // 112)
    print("\n| CUB in full, extrapolated from these steps | training, min | nine attacks, min |\n| --- | --- | --- |")
    for precision in dict.fromkeys(key.split()[0] for key in known):
        attacks = sum(known[f"{precision} attack {name}"]["seconds per step"] for name in STANDARD_ATTACKS)
        for name in TRAINED:
            train_minutes = steps * known[f"{precision} train {name}"]["seconds per step"] / 60
            print(f"| {precision} {name} | {train_minutes:.1f} | {batches * 32 * attacks / 60:.1f} |")
    if size is TOY:
        print("\nToy sizes: these values say that the script runs, and nothing else.")


def main(words: list[str]) -> None:
    """Measure and print."""
    if words not in ([], ["--toy"]):
        sys.exit("usage: python -m benchmarks.gpu [--toy]")
    size = TOY if words else REAL
    if size is REAL and not torch.cuda.is_available():
        sys.exit("torch finds no GPU on this machine; --toy runs everything at tiny sizes on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    torch.manual_seed(0)
    print(f"{name}, torch {torch.__version__}\n")
    kept = Path("logs/benchmarks") / f"gpu-{'toy-' if size is TOY else ''}{name.replace(' ', '-')}.json"
    table(measured(device, size, kept), size)


if __name__ == "__main__":
    main(sys.argv[1:])
