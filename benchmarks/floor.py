"""How close PGD, every defense's inner loop and every attack come to the floor.

One step cannot cost less than one forward pass and one backward pass to the input: the floor, measured in the same
process in turn with what is compared with it, each as the fastest of several rounds. The network has random weights and
the images random pixels; time does not depend on either.

    python -m benchmarks.floor [resnet18|digits_cnn] [threads]
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import Attack, AttackBatch, Gallery, Values
from stages.core.defenses.act import pull_together
from stages.core.defenses.ca_tride import perturb_anchors, perturb_candidates
from stages.core.defenses.est import shift_embeddings
from stages.core.defenses.hm import raise_hardness
from stages.core.defenses.tride import perturb_anchors as tride_anchors
from stages.core.defenses.tride import perturb_candidates as tride_candidates
from stages.core.models import BACKBONES, Embedder
from stages.core.scores import STANDARD_ATTACKS
from stages.core.seeding import generator


class Case(NamedTuple):
    """A network with the size of its images, embeddings and galleries, and the rounds and steps that are timed."""

    channels: int
    side: int
    dimension: int
    galleries: Sequence[int]
    rounds: int
    steps: int


CASES = {
    "resnet18": Case(3, 224, 512, (5924, 60502), 3, 2),
    "digits_cnn": Case(1, 8, 128, (896,), 30, 8),
}
BATCH, ATTACK_STEPS = 112, 32
Frozen = Callable[[Tensor], Tensor]


def fastest(rounds: int, *timed: Callable[[], object]) -> list[float]:
    """Fewest seconds of each function, called in turn."""
    best = [float("inf")] * len(timed)
    for _ in range(rounds):
        for index, function in enumerate(timed):
            started = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - started)
    return best


def steps_of_the_floor(model: Embedder, images: Tensor, steps: int) -> None:
    """Forward passes and backward passes to the input, as many as what is compared takes: of fewer the fastest would
    be faster by chance alone."""
    for _ in range(steps):
        images.requires_grad_(True)
        torch.autograd.grad(model(images).sum(), images)
        images.requires_grad_(False)


def inner_loops(embed: Frozen, images: Tensor, steps: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Every defense's inner loop on 56 triplets, with the number of images that it perturbs.

    Positives lie by their anchors and steps are tiny, so that no stop rule fires and every step is taken.
    """
    anchors, negatives = images[:56], images[112:168]
    positives = (anchors + 0.01 * images[56:112]).clamp(max=1)
    with torch.no_grad():
        clean = embed(images)
        anchor, positive, negative = embed(anchors), embed(positives), embed(negatives)
    budget: dict[str, Any] = {"eps": 0.03, "alpha": 1e-6, "steps": steps}
    draws = torch.Generator().manual_seed(0)
    guarded = {"lam": 10.0} | budget
    return {
        "EST": (112, lambda: shift_embeddings(embed, images[:112], clean[:112], draws, **budget)),
        "ACT": (112, lambda: pull_together(embed, positives, negatives, **budget)),
        "HM": (168, lambda: raise_hardness(embed, anchors, positives, negatives, 2.0, **budget)),
        "TRIDE, candidates": (112, lambda: tride_candidates(embed, anchor, positives, negatives, **budget)),
        "TRIDE, anchors": (56, lambda: tride_anchors(embed, anchors, positive, negative, **budget)),
        "CAP": (112, lambda: perturb_candidates(embed, anchor, positives, negatives, **guarded)),
        "ANP": (56, lambda: perturb_anchors(embed, anchors, anchor, positive, negative, **guarded)),
    }


def defenses(model: Embedder, case: Case) -> None:
    """Print a row for each inner loop, as a multiple of the floor of the same images."""
    images = torch.rand(168, case.channels, case.side, case.side).contiguous(memory_format=torch.channels_last)
    print("\n| inner loop | images | floor, ms a step | loop, ms a step | times the floor |")
    print("| --- | --- | --- | --- | --- |")
    model.eval()
    for name, (count, loop) in inner_loops(model, images, case.steps).items():
        floor, taken = fastest(
            case.rounds,
            partial(steps_of_the_floor, model.requires_grad_(False), images[:count].clone(), case.steps),
            partial(with_weights_to_train, model, loop),
        )
        floor, taken = floor / case.steps, taken / case.steps
        print(f"| {name} | {count} | {1e3 * floor:.1f} | {1e3 * taken:.1f} | {taken / floor:.2f} |", flush=True)


def with_weights_to_train(model: Embedder, loop: Callable[[], object]) -> None:
    """A loop in the middle of training: the weights want a gradient of the outer loss, and must get none here."""
    model.requires_grad_(True)
    loop()
    model.requires_grad_(False)


def value_and_gradient(values: Values, embeddings: Tensor) -> None:
    """An attack's objective and its gradient to the embeddings (B, D)."""
    point = embeddings.clone().requires_grad_(True)
    torch.autograd.grad(values(point, 1).sum(), point)


def targets_and_ranks(attack: Attack, batch: AttackBatch, draws: Sequence[torch.Generator], moved: Tensor) -> None:
    """What an attack does once for each batch: choosing targets, measuring before and after."""
    attack.select(batch.gallery, batch.items, draws)
    attack.measure(batch, batch.clean(), batch.clean())
    attack.measure(batch, moved, moved)


def attacks(model: Embedder, case: Case, gallery_size: int) -> None:
    """Print a row for each attack: what its objective adds to a step, and targets and ranks to 32 steps."""
    images = torch.rand(BATCH, case.channels, case.side, case.side).contiguous(memory_format=torch.channels_last)
    model.eval().requires_grad_(False)
    labels = torch.arange(gallery_size) // 50
    rows = F.normalize(torch.randn(gallery_size, case.dimension) + torch.randn(case.dimension))
    gallery, items = Gallery.of(rows, labels), torch.arange(0, gallery_size, gallery_size // BATCH)[:BATCH]
    moved = F.normalize(rows[items] + 0.02 * torch.randn(BATCH, case.dimension))
    timed: list[Callable[[], object]] = [partial(steps_of_the_floor, model, images, 1)]
    for chosen in (ATTACKS[name] for name in STANDARD_ATTACKS):
        draws = [generator(0, int(item)) for item in items]
        batch = AttackBatch(gallery, items, chosen.select(gallery, items, draws))
        timed += [
            partial(value_and_gradient, chosen.objective(batch), moved),
            partial(targets_and_ranks, chosen, batch, draws, moved),
        ]
    floor, *rest = fastest(case.rounds, *timed)
    print(f"\n| attack, gallery of {gallery_size} | floor, ms a step | objective, ms a step | targets and ranks, ms | "
          "times the floor |\n| --- | --- | --- | --- | --- |")  # fmt: skip
    for name, added, around in zip(STANDARD_ATTACKS, rest[::2], rest[1::2], strict=True):
        total = (ATTACK_STEPS * (floor + added) + around) / (ATTACK_STEPS * floor)
        print(f"| {name} | {1e3 * floor:.1f} | {1e3 * added:.1f} | {1e3 * around:.1f} | {total:.3f} |", flush=True)


def whole_attacks(model: Embedder, case: Case, gallery_size: int) -> None:
    """Print a row for each attack as it is run: all of its steps, both measurements, the last forward pass."""
    images = torch.rand(BATCH, case.channels, case.side, case.side).contiguous(memory_format=torch.channels_last)
    model.eval().requires_grad_(False)
    with torch.no_grad():
        known = model(images)
    rows = torch.cat([known, F.normalize(torch.randn(gallery_size - BATCH, case.dimension) + known.mean(dim=0))])
    gallery, items = Gallery.of(rows, torch.arange(gallery_size) // 50), torch.arange(BATCH)
    print(f"\n| whole attack, gallery of {gallery_size} | floor, ms a step | attack, ms a step | times the floor |\n"
          "| --- | --- | --- | --- |")  # fmt: skip
    for name in STANDARD_ATTACKS:
        chosen = ATTACKS[name]
        batch = AttackBatch(gallery, items, chosen.select(gallery, items, [generator(0, name, int(i)) for i in items]))
        attack = partial(run, chosen, model, images, batch, eps=0.03, alpha=0.01, steps=ATTACK_STEPS)
        floor, taken = fastest(case.rounds, partial(steps_of_the_floor, model, images, ATTACK_STEPS), attack)
        floor, taken = floor / ATTACK_STEPS, taken / ATTACK_STEPS
        print(f"| {name} | {1e3 * floor:.2f} | {1e3 * taken:.2f} | {taken / floor:.2f} |", flush=True)


def main(name: str, threads: int) -> None:
    """Print all tables of one network."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    case = CASES[name]
    model = Embedder(BACKBONES[name], channels=case.channels, side=case.side, dimension=case.dimension)
    print(f"{name}, {case.side} px, {threads} threads, fastest of {case.rounds} rounds")
    defenses(model, case)
    for gallery_size in case.galleries:
        attacks(model, case, gallery_size)
    if case.side < 64:  # a large network would take an hour
        whole_attacks(model, case, case.galleries[0])


if __name__ == "__main__":
    main((sys.argv[1:] or ["resnet18"])[0], int((sys.argv[2:] or ["2"])[0]))
