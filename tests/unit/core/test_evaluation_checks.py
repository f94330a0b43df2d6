"""The self-checks fire on failures made for them, and stay silent on a healthy run."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.core import evaluation_checks
from stages.core.attacking import Strength, run, shares
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.seeding import generator

ITEMS = torch.arange(0, 30, 2)
LABELS = torch.arange(30) % 3


@pytest.fixture(scope="module")
def world():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
        images = torch.rand(30, 1, 4, 4, dtype=torch.float64)
    return network.eval(), images


def unit(network):
    return lambda images: nn.functional.normalize(network(images))


def attacked(embed, images, strength=None, steps=12, name="tma"):
    with torch.no_grad():
        gallery = Gallery.of(embed(images), LABELS)
    draws = [generator(0, name, int(i)) for i in ITEMS]
    batch = AttackBatch(gallery, ITEMS, ATTACKS[name].select(gallery, ITEMS, draws))
    budget = {"eps": 0.1, "alpha": 0.02, "steps": steps, "strength": strength or Strength(), "generators": draws}
    return run(ATTACKS[name], embed, images[ITEMS], batch, **budget)


def checked(result):
    found = shares(result.objective_before, result.objective_after, result.zero_gradients)
    return evaluation_checks.unattacked(found)


def test_a_healthy_run_has_no_findings(world):
    network, images = world
    embed = unit(network)
    few, many = (attacked(embed, images, steps=steps) for steps in (3, 20))
    black = attacked(embed, images, Strength("nes"), steps=5)
    assert checked(many) == []
    assert evaluation_checks.step_findings("tma", "tma", few.after["tma"], many.after["tma"]) == []
    assert evaluation_checks.masking_findings("tma", "tma", many.after["tma"], [("nes", black.after["tma"])]) == []


def masked(network):
    """The same model on pixels rounded to sixteenths: it embeds about the same, and its gradient is zero."""
    return lambda images: unit(network)((16 * images).round() / 16)


def test_masked_gradients_are_found(world):
    """Rounding leaves no gradient; the objective stands still, and NES walks past the white box."""
    network, images = world
    white = attacked(masked(network), images)
    assert (white.zero_gradients == 1).all()
    stuck, still = checked(white)
    assert "100.0 % of the queries have mostly zero gradients" in stuck
    assert "did not improve for 100.0 %" in still
    fine = {"improved": 1.0, "stuck": 0.0}
    assert evaluation_checks.unattacked(fine | {"largest_change": 0.1}) == []
    assert evaluation_checks.unattacked(fine | {"largest_change": 0}) == ["no image was changed"]
    black = attacked(masked(network), images, Strength("nes"), steps=5)
    square = attacked(masked(network), images, Strength("square"), steps=60)
    others = [("nes", black.after["tma"]), ("square", square.after["tma"])]
    found = evaluation_checks.masking_findings("tma", "tma", white.after["tma"], others)
    assert len(found) == 2
    assert "nes beats the white box" in found[0]
    assert "square beats the white box" in found[1]


def test_more_steps_that_are_weaker_are_found():
    """A step that jumps over its aim: what twenty steps reach is behind what two reached."""
    fewer, more = np.array([0.9, 0.8, 0.95, 0.9]), np.array([0.5, 0.5, 0.7, 0.4])
    (finding,) = evaluation_checks.step_findings("tma", "tma", fewer, more)
    assert finding == "tma: tma is 18.1 % of its range weaker with more steps than with fewer"
    assert evaluation_checks.step_findings("tma", "tma", more, fewer) == []


@pytest.mark.parametrize(("metric", "way"), [("es_r", -1), ("ca_plus_ties_half", -1), ("qa_minus", 1), ("es_d", 0.02)])
def test_ahead_is_in_percent_of_the_range_and_knows_the_direction(metric, way):
    base = np.linspace(40, 60, 50) * abs(way)
    assert evaluation_checks.ahead(metric, base + 3 * way, base) == pytest.approx(3)
    assert evaluation_checks.ahead(metric, base - 3 * way, base) == 0


def test_chance_and_trifles_are_no_findings():
    draw = np.random.default_rng(0)
    base = draw.uniform(0, 100, 200)
    assert (
        evaluation_checks.ahead("qa_minus", base + draw.normal(0.5, 50, 200), base) == 0
    )  # far inside two standard errors
    assert evaluation_checks.ahead("qa_minus", base + 0.1, base) == 0
    assert evaluation_checks.ahead("qa_minus", [100.0], [0.0]) == 0  # one query says nothing
    one_flip = np.array([0.0] * 11 + [100.0])
    assert evaluation_checks.ahead("es_r", one_flip - one_flip, one_flip) == 0
