"""Every search and start runs where its images are, with the same result: on the pretended device of test_devices."""

import pytest
import torch
from batch_world import embedder
from pretend_device import PLACE, Pretend

from stages.core.attacking import Strength, run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.search import OPTIMIZERS
from stages.core.seeding import generator


def attacked(device, name, strength):
    pixels = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model, items = embedder().eval().to(device), torch.arange(0, 20, 4)
    with torch.no_grad():
        gallery = Gallery.of(model(pixels.to(device)), (torch.arange(20) // 7).to(device))
    draws = [generator(0, name, int(item)) for item in items]
    batch = AttackBatch(gallery, items.to(device), ATTACKS[name].select(gallery, items.to(device), draws))
    budget = {"eps": 0.1, "alpha": 0.03, "steps": 2, "strength": strength, "generators": draws}
    result = run(ATTACKS[name], model, pixels[items].to(device), batch, **budget)
    figures = [*result.after.values(), *(value for value in result if isinstance(value, torch.Tensor))]
    assert {value.device.type for value in figures} == {device.type}
    return [value.cpu() for value in figures]


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("name", ["ca_minus", "ltm", "order"])
def test_every_search_runs_where_its_images_are(name, optimizer):
    strength = Strength(optimizer, start="random", restarts=2, surrogate="softplus")
    here = attacked(torch.device("cpu"), name, strength)
    with Pretend():
        there = attacked(PLACE, name, strength)
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))
