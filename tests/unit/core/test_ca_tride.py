"""CA-TRIDE's phases against objectives written out, and against the released code's hidden state."""

import pytest
import torch
from batch_world import EPS, moved, schedule, trained_sets

from stages.core import losses
from stages.core.defenses import DEFENSES
from stages.core.defenses.ca_tride import perturb_anchors, perturb_candidates
from stages.core.mining import Triplets


def anp_objective(embed, images, anchor, positive, negative, lam):
    """ANP's objective written out term by term: the collapse guard, and the shift with its gamma."""
    moved = embed(images)

    def weighted(other, sign):
        d = ((sign * (moved - other) + 1e-6) ** 2).sum(1).sqrt()
        weights = (lam * (d - d.max())).exp()
        return (weights * d).sum() / weights.sum(), d

    # The released order of arguments, d(p, a~) and d(a~, n): the 1e-6 is added to p - a~ and to a~ - n.
    (w_positive, _), (w_negative, d_negative) = weighted(positive, -1), weighted(negative, 1)
    nearer = d_negative.sort().values[: len(d_negative) // 2].mean()
    shift = ((moved - anchor + 1e-6) ** 2).sum(1).sqrt().mean()
    gamma = min(1.0, torch.exp(w_positive - w_negative).item())
    return (w_positive - w_negative).clamp(min=0) + gamma * (nearer - shift).clamp(min=0)


@pytest.mark.parametrize("collapsing", [False, True])
def test_anp_steps_follow_the_written_out_objective(world, collapsing):
    """With the guard at rest, and with positives and negatives exchanged, where it acts."""
    a, p, n = world.batch.clean_triplet()
    if collapsing:
        p, n = n, p
    images, alpha = world.batch.triplet_images()[0], 0.01
    moved = perturb_anchors(world.frozen, images, a, p, n, lam=10.0, eps=EPS, alpha=alpha, steps=3)
    expected = images.clone()
    for _ in range(3):
        expected.requires_grad_(True)
        value = anp_objective(world.frozen, expected, a, p, n, 10.0)
        (gradient,) = torch.autograd.grad(value, expected)
        expected = (expected.detach() - alpha * gradient.sign()).clamp(0, 1)
    assert torch.allclose(moved, expected, atol=1e-12)
    before = losses.collapseness(losses.distance(a, p), losses.distance(a, n), 10.0)
    assert (before > 0) == collapsing
    if collapsing:
        reached = world.frozen(moved)
        assert losses.collapseness(losses.distance(reached, p), losses.distance(reached, n), 10.0) < before


@pytest.mark.parametrize(("gap", "moves"), [(5e-6, False), (2e-5, True)])
def test_cap_stops_before_stepping_once_its_objective_is_under_1e_5(gap, moves):
    anchor = torch.zeros(1, 1, dtype=torch.float64)
    positives = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    found = perturb_candidates(
        lambda images: images.flatten(1), anchor, positives, positives + gap, lam=10.0, eps=0.1, alpha=0.01, steps=1
    )
    assert torch.equal(found[0], positives) != moves


@pytest.mark.parametrize("name", ["tride", "ca_tride"])
@pytest.mark.parametrize("step", [0, 1])
def test_the_trained_loss_has_the_auxiliary_term(world, name, step):
    a, p, n = world.batch.triplets
    batch = world.batch._replace(triplets=Triplets(a, n, p))  # exchanged, so that the term is far from 0
    trained = DEFENSES[name](batch, schedule(step), eps=EPS)
    embedded = [world.frozen(images) for images in trained_sets(world)]
    plain = losses.triplet(*embedded).item()
    assert trained.loss.item() == pytest.approx(losses.decoupled_triplet(*embedded).item())
    assert trained.loss.item() > plain + 1e-3


class ReleasedKernel:
    """The released loss kernel's hidden toggle: flips at every call, adds the auxiliary term at every second one."""

    def __init__(self):
        self.toggle = False

    def __call__(self, a, p, n):
        with_auxiliary, self.toggle = self.toggle, not self.toggle
        return losses.decoupled_triplet(a, p, n, auxiliary_weight=0.5 if with_auxiliary else 0)


def test_the_explicit_arguments_train_what_the_released_toggles_trained(world):
    """Two kernel calls a step (benign for the log, then adversarial) and a phase flag flipped by every batch.

    Epochs of five batches, an odd number: the released flag is not reset, so its parity swaps between epochs.
    """
    kernel, candidates_next, with_term = ReleasedKernel(), True, 0
    a, p, n = world.batch.triplets
    near = torch.where(torch.arange(len(a)) % 2 == 0, p, n)  # half of the negatives near: the auxiliary term is there
    world.batch = world.batch._replace(triplets=Triplets(a, p, near))
    for step in range(15):
        epoch = step // 5
        state = schedule(step, (epoch + 1) / 4)
        trained = DEFENSES["ca_tride"](world.batch, state, eps=EPS)
        assert moved(world) == ((False, True, True) if candidates_next else (True, False, False))
        candidates_next = not candidates_next
        kernel(*world.batch.clean_triplet())
        embedded = [world.frozen(images) for images in trained_sets(world)]
        expected = kernel(*embedded)
        assert trained.loss.item() == pytest.approx(expected.item(), abs=1e-12)
        with_term += expected > losses.triplet(*embedded)
    assert with_term > 0


def test_cap_takes_the_positive_distance_as_released():
    """At distance zero the 1e-6 gives the direction: d(p, a) grows upwards from p = a, d(a, p) would not (Q14)."""
    anchor = torch.full((1, 1), 0.5, dtype=torch.float64)
    positives = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    moved, _ = perturb_candidates(
        lambda images: images.flatten(1), anchor, positives, positives + 0.4, lam=10.0, eps=0.1, alpha=0.1, steps=1
    )
    assert moved.item() == pytest.approx(0.6)


def test_anp_takes_the_positive_distance_as_released():
    """Where p and a agree in a coordinate only the 1e-6 moves it: upwards for d(p, a), downwards for d(a, p) (Q14).

    The first anchor alone carries the weighted positive distance, the second the negative one, so that the collapse
    guard acts; the first negative lies on its anchor, so that the second term of the objective rests.
    """
    anchors = torch.full((2, 2), 0.5, dtype=torch.float64)
    positives = anchors + torch.tensor([[0.4, 0.0], [0.1, 0.0]], dtype=torch.float64)
    negatives = anchors + torch.tensor([[1e-6, 1e-6], [0.3, 0.0]], dtype=torch.float64)
    moved = perturb_anchors(
        lambda images: images.flatten(1), anchors.view(2, 2, 1, 1), anchors, positives, negatives,
        lam=100.0, eps=0.1, alpha=0.1, steps=1,
    )  # fmt: skip
    assert moved.flatten(1)[0].tolist() == pytest.approx([0.6, 0.6])
