"""How hard an attack tries: what a strength changes, what it may not change, and that the worst case is the worst."""

import pytest
import torch
from torch import nn

from stages.core.attacking import PROTOCOL, SURROGATES, Strength, measured, run, worst_of
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.directions import direction, worst_case
from stages.core.models import Backbone, Embedder
from stages.core.scores import STANDARD_ATTACKS
from stages.core.search import OPTIMIZERS
from stages.core.seeding import generator

EPS, ALPHA, STEPS = 0.25, 0.03, 15
ITEMS = torch.arange(0, 40, 4)


def network(channels, side, dimension):
    """Undefended, and with corners where gradients die."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, 24), nn.ReLU(), nn.Linear(24, dimension))


class World:
    """A float64 model, 40 images in four classes, and their gallery."""

    def __init__(self, seed=0):
        draw = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            backbone = Backbone(network, mean=(0.5,), std=(0.25,))
            self.model = Embedder(backbone, channels=1, side=4, dimension=4).double().eval()
        labels = torch.arange(4).repeat_interleave(10)
        centers = torch.rand(4, 1, 4, 4, generator=draw, dtype=torch.float64)
        self.images = 0.6 * centers[labels] + 0.4 * torch.rand(40, 1, 4, 4, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            self.gallery = Gallery.of(self.model(self.images), labels)

    def batch(self, name, items=ITEMS):
        draws = [generator(0, name, int(i)) for i in items]
        return AttackBatch(self.gallery, items, ATTACKS[name].select(self.gallery, items, draws)), draws

    def attack(self, name, strength=PROTOCOL, items=ITEMS, steps=STEPS, alpha=ALPHA):
        batch, draws = self.batch(name, items)
        budget = {"eps": EPS, "alpha": alpha, "steps": steps, "strength": strength, "generators": draws}
        return run(ATTACKS[name], self.model, self.images[items], batch, **budget)


@pytest.fixture(scope="module")
def world():
    return World()


def wins(metric, first, second):
    """Per query: is the first attack at least as good for the attacker?"""
    return direction(metric) * (first - second) >= 0


SUITE = (
    (PROTOCOL, STEPS, ALPHA),
    (PROTOCOL, 3 * STEPS, ALPHA / 4),
    (Strength("apgd", start="random", restarts=3, surrogate="softplus"), STEPS, ALPHA),
    (Strength("nes"), 2, ALPHA),
)


@pytest.mark.parametrize("name", [*STANDARD_ATTACKS, "spqa_plus", "order"])
def test_the_strong_suite_is_never_weaker_on_any_query(world, name):
    """Than the protocol's attack, and than each of its own runs; and its image is as good as it says."""
    runs = [world.attack(name, strength, steps=steps, alpha=alpha) for strength, steps, alpha in SUITE]
    other = World(seed=7)
    batch, _ = world.batch(name)
    theirs = AttackBatch(other.gallery, batch.items, batch.targets)  # another model's gallery of the same images
    budget = {"eps": EPS, "alpha": ALPHA, "steps": STEPS}
    found = run(ATTACKS[name], other.model, world.images[ITEMS], theirs, **budget)
    runs.append(measured(ATTACKS[name], world.model, world.images[ITEMS], found.images, batch))
    strong = worst_of(runs)
    for metric, values in strong.after.items():
        for one in runs:
            assert wins(metric, values, one.after[metric]).all()
        whole = worst_case(metric, torch.stack([one.after[metric] for one in runs]).numpy())
        assert (values.numpy() == whole).all()
    assert strong.largest_change.max() <= EPS + 1e-12
    if name != "es":  # whose published distance is of the image one step before
        first = next(iter(strong.after))
        again = measured(ATTACKS[name], world.model, world.images[ITEMS], strong.images, batch)
        torch.testing.assert_close(again.after[first], strong.after[first], atol=1e-9, rtol=0)
        torch.testing.assert_close(again.objective_after, strong.objective_after, atol=1e-9, rtol=0)
        torch.testing.assert_close(again.largest_change, strong.largest_change)


def test_the_strong_suite_is_stronger_on_some_queries(world):
    """Otherwise the test above says nothing."""
    better = 0
    for name in STANDARD_ATTACKS:
        runs = [world.attack(name, strength, steps=steps, alpha=alpha) for strength, steps, alpha in SUITE[:3]]
        metric = next(iter(runs[0].after))
        better += int((~wins(metric, runs[0].after[metric], worst_of(runs).after[metric])).sum())
    assert better > 10


def test_both_metrics_of_es_are_their_own_worst():
    """The run with the larger shift keeps its class, the other loses it: both are reported at their worst."""
    gallery = Gallery.of(torch.eye(4, dtype=torch.float64), torch.arange(4))
    batch = AttackBatch(gallery, torch.tensor([0]), torch.tensor([-1]))
    base = measured(ATTACKS["es_exact"], lambda x: x.flatten(1), torch.eye(4)[:1].view(1, 1, 2, 2).double(),
                    torch.eye(4)[:1].view(1, 1, 2, 2).double(), batch)  # fmt: skip
    far = base._replace(after={"es_d": torch.tensor([1.5]), "es_r": torch.tensor([100.0])}, images=base.images + 1)
    near = base._replace(after={"es_d": torch.tensor([0.5]), "es_r": torch.tensor([0.0])})
    for runs in ((far, near), (near, far)):
        worst = worst_of(runs)
        assert worst.after["es_d"].item() == 1.5
        assert worst.after["es_r"].item() == 0
        assert torch.equal(worst.images, far.images)


def test_ties_go_to_the_lower_objective(world):
    first = world.attack("gtm")
    same = {"gtm": torch.zeros_like(first.after["gtm"])}
    better = first.objective_after - torch.tensor([1.0, -1.0] * 5)
    runs = [first._replace(after=same), first._replace(after=same, images=first.images + 1, objective_after=better)]
    picked = worst_of(runs).images - first.images
    assert picked.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 0] * 5)


def test_restarts_keep_the_worst_of_each_query(world):
    """Three restarts are the runs from the clean and from two random starts, joined query by query."""
    joined = world.attack("qa_minus", Strength("apgd", restarts=3))
    batch, draws = world.batch("qa_minus")
    budget = {"eps": EPS, "alpha": ALPHA, "steps": STEPS, "generators": draws}
    clean = run(ATTACKS["qa_minus"], world.model, world.images[ITEMS], batch, **budget, strength=Strength("apgd"))
    random = [
        run(ATTACKS["qa_minus"], world.model, world.images[ITEMS], batch, **budget, strength=Strength("apgd", "random"))
        for _ in range(2)
    ]
    expected = worst_of([clean, *random])
    assert torch.equal(joined.images, expected.images)
    assert torch.equal(joined.after["qa_minus"], expected.after["qa_minus"])
    assert len({one.after["qa_minus"].sum().item() for one in (clean, *random)}) > 1


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("name", ["ca_minus", "es", "ltm", "order"])
def test_no_strength_depends_on_the_batch(world, name, optimizer):
    strength = Strength(optimizer, start="random", restarts=2, surrogate="softplus")
    whole = world.attack(name, strength, steps=4)
    parts = [world.attack(name, strength, items=part, steps=4) for part in ITEMS.flip(0).split(3)]
    joined = torch.cat([part.images for part in parts]).flip(0)
    torch.testing.assert_close(joined, whole.images, atol=1e-9, rtol=0)
    for metric, values in whole.after.items():
        again = torch.cat([part.after[metric] for part in parts]).flip(0)
        torch.testing.assert_close(again, values, atol=1e-9, rtol=0)
    assert torch.equal(world.attack(name, strength, steps=4).images, whole.images)


HOLDING = ("spqa_plus", "spqa_minus", "order")  # they must also hold still: NES's directions are too wide for that


@pytest.mark.parametrize(
    ("name", "optimizer"), [(n, o) for n in ATTACKS for o in OPTIMIZERS if o != "nes" or n not in HOLDING]
)
def test_every_optimizer_lowers_every_objective(world, name, optimizer):
    steps = 100 if optimizer == "square" else 5 if optimizer == "nes" else STEPS
    result = world.attack(name, Strength(optimizer), steps=steps)
    assert result.objective_after.mean() < result.objective_before.mean()
    assert result.largest_change.max() <= EPS + 1e-12


def test_a_smooth_surrogate_revives_gradients_and_is_not_weaker(world):
    """Over all objectives with a hinge.

    With sign steps the share of zero gradients falls too, but they no longer stop at the goal, as they do on a dead
    gradient: a search that keeps its best point is the one to use.
    """
    hinged = [name for name in STANDARD_ATTACKS if ATTACKS[name].smooth]
    dead, alive, gains = [], [], []
    for name in hinged:
        hard, soft = (world.attack(name, Strength("apgd", surrogate=surrogate)) for surrogate in SURROGATES)
        signs = [world.attack(name, Strength(surrogate=surrogate)) for surrogate in SURROGATES]
        dead += [hard.zero_gradients.mean(), signs[0].zero_gradients.mean()]
        alive += [soft.zero_gradients.mean(), signs[1].zero_gradients.mean()]
        gains.append(direction(name) * (soft.after[name] - hard.after[name]).mean())
    assert max(dead) > 0.5
    assert all(now <= then for now, then in zip(alive, dead, strict=True))
    assert max(alive) < 0.01
    assert sum(gains) >= 0


def test_what_a_surrogate_leaves_alone(world):
    """Attacks without a hinge, and what is reported: the attack's own objective, whatever the search minimized."""
    for name in ("tma", "es", "gtm"):
        assert torch.equal(world.attack(name, Strength(surrogate="softplus")).images, world.attack(name).images)
    soft = world.attack("qa_plus", Strength("apgd", surrogate="softplus"))
    batch, _ = world.batch("qa_plus")
    own = ATTACKS["qa_plus"].objective(batch)
    assert torch.equal(soft.objective_before, own(batch.clean(), -1))
    with torch.no_grad():
        assert torch.equal(soft.objective_after, own(world.model(soft.images), -1))


def test_published_shift_is_one_step_early_for_sign_steps_alone(world):
    for optimizer in OPTIMIZERS:
        published, exact = (world.attack(name, Strength(optimizer), steps=3) for name in ("es", "es_exact"))
        if optimizer == "sign":
            assert (published.after["es_d"] != exact.after["es_d"]).all()
        else:
            final = measured(
                ATTACKS["es_exact"], world.model, world.images[ITEMS], published.images, world.batch("es_exact")[0]
            )
            assert torch.equal(published.after["es_d"], final.after["es_d"])


@pytest.mark.parametrize(
    "strength", [Strength(start="random"), Strength(restarts=2), Strength("nes"), Strength("square")]
)
def test_drawing_at_random_needs_a_generator_for_each_item(world, strength):
    batch, draws = world.batch("tma")
    with pytest.raises(ValueError, match="10 images need one generator each, not 9"):
        run(ATTACKS["tma"], world.model, world.images[ITEMS], batch, eps=EPS, alpha=ALPHA, steps=1, strength=strength,
            generators=draws[1:])  # fmt: skip


def test_transferred_images_are_measured_on_the_other_model(world):
    """The result says nothing of the model that the images come from."""
    other = World(seed=3)
    found = other.attack("tma")
    batch, _ = world.batch("tma")
    result = measured(ATTACKS["tma"], world.model, world.images[ITEMS], found.images, batch)
    with torch.no_grad():
        cosine = torch.cosine_similarity(world.model(found.images), world.gallery.embeddings[batch.targets])
    torch.testing.assert_close(result.after["tma"], cosine)
    assert torch.equal(result.before["tma"], world.attack("tma").before["tma"])
    assert (result.zero_gradients == 0).all()


@pytest.mark.parametrize("optimizer", ["sign", "momentum", "apgd"])
def test_every_step_counts_once_among_the_zero_gradients(world, optimizer):
    """A gradient that is dead at every second evaluation is dead half of the time."""
    calls = []

    def flickering(embeddings, step):
        calls.append(step)
        return (embeddings * (len(calls) % 2)).sum(dim=1)

    attack = ATTACKS["tma"]._replace(objective=lambda batch: flickering)
    images, (batch, draws) = torch.full((len(ITEMS), 1, 4, 4), 0.5, dtype=torch.float64), world.batch("tma")
    steps = 7 if optimizer == "apgd" else 8  # Auto-PGD also looks at its start
    budget = {"eps": EPS, "alpha": ALPHA, "steps": steps, "strength": Strength(optimizer), "generators": draws}
    found = run(attack, lambda x: x.flatten(2).view(-1, 4, 4).sum(dim=2), images, batch, **budget)
    assert (found.zero_gradients == 0.5).all()
