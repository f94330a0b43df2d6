"""Defenses: what they train on, what they perturb, and that the adversary really is one."""

import pytest
import torch
from batch_world import EPS, embedder, moved, schedule, trained_sets

from stages.core import losses
from stages.core.defenses import DEFENSES
from stages.core.defenses.hm import DESTINATIONS, destination_hardness, relative_loss
from stages.core.mining import MINERS
from stages.core.training import in_mode
from stages.runtime import registries


def test_vanilla_is_the_clean_triplet_loss(world):
    trained = DEFENSES["vanilla"](world.batch, schedule(), eps=EPS)
    assert trained.loss.item() == pytest.approx(losses.triplet(*world.batch.clean_triplet()).item())
    for images, clean in zip(trained_sets(world), world.batch.triplet_images(), strict=True):
        assert torch.equal(images, clean)


@pytest.mark.parametrize("name", list(DEFENSES))
@pytest.mark.parametrize("step", [0, 1])
def test_loss_trains_weights_and_leaves_statistics(world, name, step):
    before = {key: value.clone() for key, value in world.model.named_buffers()}
    trained = DEFENSES[name](world.batch, schedule(step), eps=EPS)
    assert all(parameter.grad is None for parameter in world.model.parameters())
    trained.loss.backward()
    assert all(parameter.grad is not None for parameter in world.model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in world.model.named_buffers())
    assert not trained.triplet_loss.requires_grad


@pytest.mark.parametrize("name", ["est", "act", "hm", "tride", "ca_tride"])
@pytest.mark.parametrize("step", [0, 1])
def test_perturbations_stay_in_the_budget(world, name, step):
    DEFENSES[name](world.batch, schedule(step), eps=EPS)
    images = world.seen[-1]
    clean = world.batch.images if name == "est" else torch.cat(world.batch.triplet_images())
    change = (images - clean).abs()
    assert change.max() <= EPS + 1e-12
    assert change.max() > EPS / 2
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("name", ["tride", "ca_tride"])
def test_phases_alternate_by_step_and_ignore_epochs(world, name):
    for step, progress in [(0, 0.5), (1, 0.5), (104, 0.5), (105, 0.7), (106, 0.7)]:
        DEFENSES[name](world.batch, schedule(step, progress), eps=EPS)
        assert moved(world) == ((False, True, True) if step % 2 == 0 else (True, False, False))


def test_phases_option_uses_one_phase_only(world):
    for step in (0, 1):
        DEFENSES["ca_tride"](world.batch, schedule(step), eps=EPS, phases=["candidates"])
        assert moved(world) == (False, True, True)
        DEFENSES["ca_tride"](world.batch, schedule(step), eps=EPS, phases=["anchors"])
        assert moved(world) == (True, False, False)


@pytest.mark.parametrize("name", ["tride", "ca_tride"])
def test_the_first_epoch_is_clean_and_the_radius_grows_with_the_epoch(world, name):
    DEFENSES[name](world.batch, schedule(0, 0.0), eps=EPS)
    assert moved(world) == (False, False, False)
    DEFENSES[name](world.batch, schedule(0, 0.25), eps=EPS, steps=2)
    change = (torch.cat(trained_sets(world)) - torch.cat(world.batch.triplet_images())).abs().max().item()
    assert change == pytest.approx(2 * EPS / 8 * 0.25)


def test_act_pulls_candidates_together_and_keeps_the_anchor(world):
    DEFENSES["act"](world.batch, schedule(), eps=EPS)
    assert moved(world) == (False, True, True)
    _, positive, negative = (world.frozen(images) for images in trained_sets(world))
    _, p, n = world.batch.clean_triplet()
    assert losses.distance(positive, negative).mean() < 0.8 * losses.distance(p, n).mean()


def test_est_shifts_every_image_and_mines_on_the_shifted(world):
    trained = DEFENSES["est"](world.batch, schedule(), eps=EPS)
    shifted = world.frozen(world.seen[-1])
    assert (losses.distance(shifted, world.batch.clean) > 0.05).all()
    rows = world.batch.mine(shifted, 0.9)  # the batch's miner is "hardest": no draw, so it can be asked again
    assert not torch.equal(rows.negative, world.batch.mine(world.batch.clean, 0.9).negative)
    expected = losses.triplet(*(shifted[r] for r in rows))
    assert trained.loss.item() == pytest.approx(expected.item())


def test_est_starts_from_a_random_direction(world):
    """The 1e-7 offset decides only where the gradient is nearly undecided, but there it does."""
    ends = []
    for seed in (2, 3):
        batch = world.batch._replace(generator=torch.Generator().manual_seed(seed))
        DEFENSES["est"](batch, schedule(), eps=EPS, steps=2)
        ends.append(world.seen[-1])
    assert not torch.equal(*ends)
    assert torch.allclose(*ends, atol=4 * EPS / 8 + 1e-12)


def test_hm_raises_hardness_to_its_destination_and_not_beyond(world):
    DEFENSES["hm"](world.batch, schedule(previous=0.1), eps=EPS, steps=60, alpha_over_eps=0.02)
    assert moved(world) == (True, True, True)
    target = DESTINATIONS["linear_gradual"](relative_loss(0.1))
    assert target == pytest.approx(-0.1)
    reached = losses.hardness(*(world.frozen(images) for images in trained_sets(world)))
    start = losses.hardness(*world.batch.clean_triplet())
    raised = start < target
    assert (reached[raised] > start[raised]).all()
    assert (reached[raised] < target + 0.05).all()


@pytest.mark.parametrize(
    ("name", "expected"), [("linear_gradual", -0.05), ("squared_gradual", -0.0125), ("root_gradual", -0.1)]
)
def test_gradual_destinations(name, expected):
    assert DESTINATIONS[name](relative_loss(0.05)) == pytest.approx(expected)
    assert DESTINATIONS[name](relative_loss(2.0)) == pytest.approx(-0.2)
    assert DESTINATIONS[name](relative_loss(-1.0)) == 0


@pytest.mark.parametrize(("name", "extra"), [("mined", 0.0), ("boundary", 0.1 * (1 - 0.5))])
def test_mined_destinations_by_loop(world, name, extra):
    """HM[R,H]: the destination is the hardness of the hardest negative of each anchor, plus xi (1 - lbar) for g_B."""
    batch = world.batch._replace(miner=MINERS["random"])
    target = destination_hardness(batch, schedule(previous=0.1), name, "hardest")
    for i, a in enumerate(batch.triplets.anchor.tolist()):
        others = [j for j in range(24) if batch.labels[j] != batch.labels[a]]
        to_others = [losses.distance(batch.clean[[a]], batch.clean[[j]]).item() for j in others]
        to_partner = losses.distance(batch.clean[[a]], batch.clean[[a + 1]]).item()
        assert target[i].item() == pytest.approx(to_partner - min(to_others) + extra)


def test_a_destination_mined_like_the_source_asks_for_no_perturbation(world):
    DEFENSES["hm"](world.batch, schedule(), eps=EPS, destination="mined", destination_miner="hardest")
    assert moved(world) == (False, False, False)
    DEFENSES["hm"](world.batch, schedule(), eps=EPS, destination="mined", destination_miner="semihard")
    assert moved(world) == (True, True, True)


def test_every_destination_has_its_words():
    """The words that params.yaml may use are the ones that the code knows."""
    words = registries.options("hm")
    assert set(words["destination"].choices) == {*DESTINATIONS, "mined", "boundary"}
    assert set(words["destination_miner"].choices) <= set(MINERS)


def test_ics_is_added_to_the_loss_but_not_to_the_memory(world):
    plain = DEFENSES["hm"](world.batch, schedule(), eps=EPS)
    images = trained_sets(world)
    both = DEFENSES["hm"](world.batch, schedule(), eps=EPS, ics_weight=0.5)
    a, p, _ = world.batch.clean_triplet()
    structure = losses.intra_class_structure(a, world.frozen(images[0]), p)
    assert structure > 0
    assert both.loss.item() == pytest.approx(plain.loss.item() + 0.5 * structure.item())
    assert both.triplet_loss.item() == pytest.approx(plain.loss.item())


def test_tride_raises_plain_hardness_more_than_ca_tride(world):
    """Without the guard the adversary goes on past the point where CA-TRIDE's stops."""
    reached = {}
    for name in ("tride", "ca_tride"):
        DEFENSES[name](world.batch, schedule(0), eps=EPS, steps=40)
        reached[name] = losses.hardness(*(world.frozen(images) for images in trained_sets(world))).mean()
    clean = losses.hardness(*world.batch.clean_triplet()).mean()
    assert reached["tride"] > reached["ca_tride"] > clean


def test_loss_bound_and_ics_margin_are_used(world):
    """u = 0.4 at a previous loss of 0.1 aims at hardness -0.05; the margin is added inside ICS."""
    assert destination_hardness(world.batch, schedule(previous=0.1), "linear_gradual", "hardest", 0.4) == -0.05
    easy, hard = (
        DEFENSES["hm"](world.batch, schedule(previous=0.1), eps=EPS, steps=20, loss_bound=bound) for bound in (2.2, 0.2)
    )
    assert easy.loss.item() != pytest.approx(hard.loss.item(), abs=1e-6)
    plain = DEFENSES["hm"](world.batch, schedule(), eps=EPS)
    images = trained_sets(world)
    with_margin = DEFENSES["hm"](world.batch, schedule(), eps=EPS, ics_weight=0.5, ics_margin=0.2)
    a, p, _ = world.batch.clean_triplet()
    structure = losses.intra_class_structure(a, world.frozen(images[0]), p, 0.2)
    assert with_margin.loss.item() == pytest.approx(plain.loss.item() + 0.5 * structure.item())


def test_live_batchnorm_moves_in_training_passes_only():
    model = embedder(freeze=False)
    images = torch.rand(8, 1, 4, 4, dtype=torch.float64)
    statistics = model.network[1].running_mean
    before = statistics.clone()
    in_mode(model, False)(images)
    assert torch.equal(statistics, before)
    in_mode(model, True)(images)
    assert not torch.equal(statistics, before)
