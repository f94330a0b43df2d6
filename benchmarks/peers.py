"""The same work by pytorch-metric-learning and FAISS in one run, and our steps beside the bare network.

First ranking metrics and NMI of random embeddings, ours and theirs. Then every defense's training step and every attack
on digits, beside their floor: the same forward and backward passes of the network, on images of the same number, and
nothing else. One thread, processor time, medians of runs in turn; ratios are ours over the other's.

    python -m benchmarks.peers [items]
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import faiss
import torch
import torch.nn.functional as F
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import Tensor, nn

from benchmarks.gallery import embeddings
from stages.core import metrics
from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.defenses import DEFENSES
from stages.core.defenses.base import Schedule
from stages.core.mining import MINERS
from stages.core.models import BACKBONES, Embedder
from stages.core.scores import STANDARD_ATTACKS
from stages.core.seeding import generator
from stages.core.training import TrainConfig, train_step

ITEMS, ITEMS_OF_A_CLASS, DIMENSION = 10_000, 50, 512
GALLERY, BATCH, SIDE, EMBEDDED = 896, 112, 8, 128
EPS, ALPHA, STEPS = 77 / 255, 3 / 255, 32
STEPS_OF = {"act": 8, "est": 8, "hm": 8, "tride": 16, "ca_tride": 16}
MINER_OF = {"hm": "softhard", "tride": "gradual_hard", "ca_tride": "gradual_hard"}
ELSEWHERE = """
Measured elsewhere, on another machine and not by this script (seconds, one thread):

| | ours then | pytorch-metric-learning | reference implementation |
| --- | --- | --- | --- |
| ranking metrics, 10,000 items | 4.4 | 1.3 top-R only, 34 full mAP | 20 |
| ranking metrics, 60,502 items | 152 | 51 top-R only, full mAP out of memory | about 890 |
| NMI, 10,000 items | 20 with ten starts of k-means++ | 0.5 (FAISS) | |
| inner loops and attacks | 1 | | 1.2 to 8.7 times ours |"""


class Pass(NamedTuple):
    """A forward pass on so many images, and the backward pass that follows: to "nothing", "images" or "weights"."""

    images: int
    backward: str


class Recorded(nn.Module):
    """A network that notes the passes that go through it."""

    def __init__(self, model: Embedder):
        """Wrap ``model``."""
        super().__init__()
        self.model = model
        self.passes: list[Pass] = []

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W) as (B, D)."""
        wanted = "weights" if next(self.model.parameters()).requires_grad else "nothing"
        backward = "images" if images.requires_grad else wanted
        self.passes.append(Pass(len(images), backward if torch.is_grad_enabled() else "nothing"))
        return self.model(images)


def medians(rounds: int, *timed: Callable[[], object]) -> list[float]:
    """Median processor seconds of each function, called in turn."""
    taken: list[list[float]] = [[] for _ in timed]
    for _ in range(rounds):
        for index, function in enumerate(timed):
            started = time.process_time()
            function()
            taken[index].append(time.process_time() - started)
    return [statistics.median(seconds) for seconds in taken]


def bare(model: Embedder, images: Tensor, passes: list[Pass]) -> None:
    """The passes of a step, and nothing else."""
    for count, backward in passes:
        some = images.repeat(-(-count // len(images)), 1, 1, 1)[:count].clone()
        if backward == "nothing":
            with torch.no_grad():
                model(some)
        elif backward == "images":
            torch.autograd.grad(model(some.requires_grad_(True)).sum(), some)
        else:
            model(some).sum().backward()


def row(name: str, unit: float, ours: float, theirs: float) -> None:
    """Print a line of a table, in ``unit`` parts of a second."""
    print(f"| {name} | {unit * ours:.2f} | {unit * theirs:.2f} | {ours / theirs:.2f} |", flush=True)


def beside_the_library(items: int) -> None:
    """Metrics of the same embeddings, ours and the library's."""
    points, labels = embeddings(items, max(2, items // ITEMS_OF_A_CLASS), DIMENSION, 1.2)

    def theirs(include: tuple[str, ...], k: int | str | None) -> Callable[[], Any]:
        return partial(AccuracyCalculator(include=include, k=k).get_accuracy, points, labels)

    top, full, groups = ("precision_at_1", "mean_average_precision_at_r"), ("mean_average_precision",), ("NMI",)
    ours, short, long = medians(
        3, partial(metrics.retrieval, points, labels), theirs(top, "max_bin_count"), theirs(full, None)
    )
    print(f"\n{items} items, {len(labels.unique())} classes, {DIMENSION} dimensions\n")
    print("| work | ours, s | theirs, s | ratio |\n| --- | --- | --- | --- |")
    row("R@1, R@2, mAP, mAP@R, mAP@10, mean pairwise distance; theirs R@1 and mAP@R from the nearest R", 1, ours, short)
    row("the same; theirs mAP", 1, ours, long)
    row("NMI", 1, *medians(3, partial(metrics.nmi, points, labels, seed=0), theirs(groups, "max_bin_count")))


def network() -> Embedder:
    """The network of digits with random weights."""
    torch.manual_seed(0)
    return Embedder(BACKBONES["digits_cnn"], channels=1, side=SIDE, dimension=EMBEDDED)


def training_steps(rounds: int) -> None:
    """One training step of each defense without the optimizer's, beside its passes alone."""
    images = torch.rand(BATCH, 1, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH // 2).remainder(5).repeat_interleave(2)
    print("\n| training step | ours, ms | its passes alone, ms | ratio |\n| --- | --- | --- | --- |")
    for name, defense in DEFENSES.items():
        options: dict[str, Any] = {"steps": STEPS_OF[name], "alpha_over_eps": 3 / 77} if name in STEPS_OF else {}
        miner = MINERS[MINER_OF.get(name, "random")]
        plan = TrainConfig(partial(defense, **options), miner, EPS, 10.0, 30, BATCH // 2, 1e-3, 4e-4, 0)

        def step(model: nn.Module, plan: TrainConfig = plan) -> None:
            loss, *_ = train_step(model, images, labels, plan, Schedule(0, 0.5, 1.0))
            assert loss is not None
            loss.backward()

        model = network()
        step(recorded := Recorded(model))
        row(name, 1e3, *medians(rounds, partial(step, model), partial(bare, model, images, recorded.passes)))


def attacks(rounds: int) -> None:
    """Each attack with targets and ranks, beside its passes alone."""
    model = network().eval().requires_grad_(False)
    images = torch.rand(BATCH, 1, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        known = model(images)
    rows = torch.cat([known, F.normalize(torch.randn(GALLERY - BATCH, EMBEDDED) + known.mean(dim=0))])
    gallery, items = Gallery.of(rows, torch.arange(GALLERY) // 50), torch.arange(BATCH)
    print(f"\n| attack, {STEPS} steps | ours, ms | its passes alone, ms | ratio |\n| --- | --- | --- | --- |")
    for name in STANDARD_ATTACKS:
        chosen = ATTACKS[name]

        def attack(embed: nn.Module, chosen: Any = chosen, name: str = name) -> None:
            draws = [generator(0, name, int(item)) for item in items]
            batch = AttackBatch(gallery, items, chosen.select(gallery, items, draws))
            run(chosen, embed, images, batch, eps=EPS, alpha=ALPHA, steps=STEPS)

        attack(recorded := Recorded(model))
        row(name, 1e3, *medians(rounds, partial(attack, model), partial(bare, model, images, recorded.passes)))


def main(items: int) -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rounds = 7 if items >= ITEMS else 1
    beside_the_library(items)
    training_steps(rounds)
    attacks(rounds)
    print(ELSEWHERE)


if __name__ == "__main__":
    main(int((sys.argv[1:] or [str(ITEMS)])[0]))
