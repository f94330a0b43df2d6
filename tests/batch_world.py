"""A training batch on a small model, and what a defense did with it."""

from types import SimpleNamespace

import torch
from torch import nn

from stages.core.defenses.base import Batch, Schedule
from stages.core.mining import MINERS, mine
from stages.core.models import Backbone, Embedder
from stages.core.training import in_mode

EPS = 0.1


def network(channels, side, dimension):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * side**2, dimension),
    )


def embedder(freeze=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbone(network, mean=(0.5,), std=(0.25,))
        return Embedder(backbone, channels=1, side=4, dimension=6, freeze_batchnorm=freeze).double()


def make_world():
    """A batch of 12 pairs in four classes, and a record of every training-mode forward pass."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (12,), generator=draw).repeat_interleave(2)
    centres = torch.rand(4, 1, 4, 4, generator=draw, dtype=torch.float64)
    noise = 0.1 * torch.rand(24, 1, 4, 4, generator=draw, dtype=torch.float64)
    images = 0.9 * centres[labels] + noise  # classes are apart, as after some training: there is hardness to raise
    model, seen = embedder(), []
    frozen, live = in_mode(model, False), in_mode(model, True)

    def recorded(x):
        seen.append(x)
        return live(x)

    with torch.no_grad():
        clean = frozen(images)
    draws = torch.Generator().manual_seed(2)
    triplets = mine(MINERS["random"], clean, labels, progress=0, generator=draws)
    batch = Batch(images, labels, clean, triplets, MINERS["hardest"], frozen, recorded, draws)
    return SimpleNamespace(batch=batch, model=model, seen=seen, frozen=frozen)


def schedule(step=0, progress=0.9, previous=2.0):
    return Schedule(step, progress, previous)


def trained_sets(world):
    """Images that the last training-mode pass saw, as anchors, positives and negatives."""
    return world.seen[-1].chunk(3)


def moved(world):
    """Which of the three sets the defense changed."""
    pairs = zip(trained_sets(world), world.batch.triplet_images(), strict=True)
    return tuple(not torch.equal(images, clean) for images, clean in pairs)
