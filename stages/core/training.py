"""The training loop: SPC-2 batches, one optimizer step after another, one history row per epoch (method.md 1.4, 2.5).

Every draw comes from a generator named by (seed, epoch, step), so a step depends on nothing but the weights before it.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.core.defenses.base import Batch, Defense, Schedule
from stages.core.losses import collapseness, distance, hardness, triplet
from stages.core.mining import Miner, mine
from stages.core.seeding import generator

Load = Callable[[Iterator[Tensor], torch.Generator], Iterator[tuple[Tensor, Tensor]]]

INITIAL_LOSS = 2.0  # the "previous loss" before the first step: HM starts from the easiest destination


class TrainingError(Exception):
    """Training cannot go on; the message says why and what to change."""


class TrainConfig(NamedTuple):
    """What stays the same over a run. ``eps`` in pixel units, ``lam`` weighs the logged collapseness."""

    defense: Defense
    miner: Miner
    eps: float
    lam: float
    epochs: int
    pairs_per_batch: int
    learning_rate: float
    weight_decay: float
    seed: int


class EpochRow(NamedTuple):
    """Means over an epoch: clean loss, trained loss, collapseness (one value per batch), hardness."""

    epoch: int
    loss: float
    loss_adversarial: float
    collapseness: float
    hardness: float


def pair_batches(labels: NDArray[np.integer], pairs: int, draw: torch.Generator) -> Iterator[Tensor]:
    """One epoch of SPC-2 batches: row numbers a1 p1 a2 p2 ..., shape (2 * pairs,), the last batch may be shorter.

    Every image is the first of a pair once, in random order; its partner is uniform over its class, itself included.
    """
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    order = torch.randperm(len(labels), generator=draw).numpy()
    where = torch.rand(len(labels), generator=draw, dtype=torch.float64).numpy()
    partners = np.empty_like(order)
    for position, (row, share) in enumerate(zip(order, where, strict=True)):
        classmates = members[labels[row]]
        partners[position] = classmates[int(share * len(classmates))]
    rows = np.stack([order, partners], axis=1)
    for start in range(0, len(rows), pairs):
        yield torch.from_numpy(rows[start : start + pairs].reshape(-1))


def in_mode(model: nn.Module, training: bool) -> Callable[[Tensor], Tensor]:
    """A forward pass of ``model`` that always runs in training or in evaluation mode."""

    def embed(images: Tensor) -> Tensor:
        return model.train(training)(images)

    return embed


def train_step(
    model: nn.Module, images: Tensor, labels: Tensor, config: TrainConfig, schedule: Schedule
) -> tuple[Tensor | None, EpochRow | None, float]:
    """Loss to minimize, logged values and adversarial triplet loss of one batch; (None, None, ...) without triplets."""
    frozen, live = in_mode(model, False), in_mode(model, True)
    draws = generator(config.seed, "step", schedule.step)
    with torch.no_grad():
        clean = frozen(images)
    triplets = mine(config.miner, clean, labels, progress=schedule.progress, generator=draws)
    if not len(triplets.anchor):
        return None, None, schedule.previous_loss
    batch = Batch(images, labels, clean, triplets, config.miner, frozen, live, draws)
    trained = config.defense(batch, schedule, eps=config.eps)
    anchor, positive, negative = batch.clean_triplet()
    values = (
        triplet(anchor, positive, negative),
        trained.loss,
        collapseness(distance(anchor, positive), distance(anchor, negative), config.lam),
        hardness(anchor, positive, negative).mean(),
        trained.triplet_loss,
    )
    *logged, triplet_loss = torch.stack(values).detach().cpu().tolist()  # at once: a GPU is waited for once
    return trained.loss, EpochRow(-1, *logged), triplet_loss


class TrainState(NamedTuple):
    """Where a run stands between two steps; with the model's weights, all that its next step depends on.

    ``optimizer`` is its state_dict, ``epoch`` the present one and ``batch`` its next batch, ``step`` and
    ``previous_loss`` as in Schedule, ``seen`` the epoch's logged values so far: pairs, then those of an EpochRow.
    """

    optimizer: dict[str, Any]
    epoch: int
    batch: int
    step: int
    previous_loss: float
    seen: list[tuple[float, ...]]


def train(
    model: nn.Module,
    load: Load,
    labels: NDArray[np.integer],
    config: TrainConfig,
    *,
    begin: TrainState | None = None,
    keep: Callable[[TrainState], None] | None = None,
) -> Iterator[EpochRow]:
    """Train ``model`` in place, yielding one row after each epoch.

    Args:
        model: the embedder, or one split over processes; left in evaluation mode at each yield.
        load: ``load(batches, generator)`` goes through an epoch's batches of row numbers and gives each with its
            augmented images (len(rows), C, H, W) in [0, 1], on the model's device.
        labels: class of each training image.
        config: everything else.
        begin: where to go on; ``model`` then has the weights of that moment. The batches before it are drawn again,
            which costs their loading, because later draws follow theirs.
        keep: called with where training stands after each step, and after each epoch's row has been dealt with.

    Raises:
        TrainingError: the loss became NaN or infinite, a step overflowed, or an epoch held no triplet at all.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    classes = torch.from_numpy(labels.astype(np.int64))
    first, batch, step, previous_loss = 0, 0, 0, INITIAL_LOSS
    seen: list[tuple[float, ...]] = []
    if begin is not None:
        optimizer.load_state_dict(begin.optimizer)
        _, first, batch, step, previous_loss, seen = begin
    for epoch in range(first, config.epochs):
        draws = generator(config.seed, "epoch", epoch)
        batches = load(pair_batches(labels, config.pairs_per_batch, draws), draws)
        for rows, images in islice(batches, batch, None):
            schedule = Schedule(step, epoch / config.epochs, previous_loss)
            drawn = classes[rows].to(images.device)
            loss, row, previous_loss = train_step(model, images, drawn, config, schedule)
            step, batch = step + 1, batch + 1
            if loss is not None and row is not None:
                if not isfinite(row.loss_adversarial):
                    raise TrainingError(
                        f"the loss became {row.loss_adversarial} in epoch {epoch}; lower the learning rate"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                update(optimizer)
                seen.append((len(rows) // 2, *row[1:]))
            if keep is not None:
                keep(TrainState(optimizer.state_dict(), epoch, batch, step, previous_loss, seen))
        if not seen:
            raise TrainingError(f"no batch of epoch {epoch} held two classes; raise pairs_per_batch or add classes")
        model.eval()
        yield mean_row(epoch, seen)
        batch, seen = 0, []
        if keep is not None:
            keep(TrainState(optimizer.state_dict(), epoch + 1, batch, step, previous_loss, seen))


def update(optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimizer.

    Raises:
        TrainingError: a factor of it does not fit float32.
    """
    try:
        optimizer.step()
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise TrainingError("the optimizer's step overflows; lower learning_rate or weight_decay") from None


def mean_row(epoch: int, seen: list[tuple[float, ...]]) -> EpochRow:
    """Mean of an epoch's entries (pairs, *values of an EpochRow), weighted by the number of pairs."""
    weights = np.array([pairs for pairs, *_ in seen], dtype=np.float64)
    values = np.array([values for _, *values in seen], dtype=np.float64)
    return EpochRow(epoch, *(weights @ values / weights.sum()).tolist())
