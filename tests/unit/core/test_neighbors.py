"""Comparing with a gallery chunk by chunk is comparing with all of it at once, in bounded memory."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from stages.core import neighbors
from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import Attack, AttackBatch, Gallery
from stages.core.models import BACKBONES, Embedder
from stages.core.seeding import generator
from stages.core.sets import ONE_SET, Sets

COUNT, DIMENSION, BATCH = 60, 6, 7


@pytest.fixture(autouse=True, params=[8, 60, 1000], ids="chunk{}".format)
def chunk(request, monkeypatch):
    monkeypatch.setattr(neighbors, "CHUNK", request.param)
    return request.param


def world(count=COUNT, dtype=torch.float64):
    """Unit-norm gallery embeddings in five mixed classes; points beside the first of them."""
    draw = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(count, DIMENSION, generator=draw, dtype=dtype))
    points = F.normalize(x[:BATCH] + 0.1 * torch.randn(BATCH, DIMENSION, generator=draw, dtype=dtype))
    return x, torch.randint(5, (count,), generator=draw), points


def exact(x, y):
    """Distances by differences, with zero gradient at zero."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def test_nearest_rows_in_order():
    x, _, points = world()
    items = torch.arange(BATCH)
    distances = exact(points, x).scatter(1, items[:, None], torch.inf)
    found = neighbors.nearest(points, neighbors.prepared(x), 5, neighbors.anything_but(items))
    assert torch.equal(found, distances.argsort(dim=1)[:, :5])


def test_nearest_and_farthest_of_what_each_side_admits():
    x, labels, points = world()
    same = neighbors.of_class(labels, labels[:BATCH])
    near, far = neighbors.nearest_and_farthest(points, neighbors.prepared(x), same, neighbors.neither(same))
    distances, mask = exact(points, x), labels == labels[:BATCH, None]
    assert torch.equal(near, distances.masked_fill(~mask, torch.inf).argmin(dim=1))
    assert torch.equal(far, distances.masked_fill(mask, -torch.inf).argmax(dim=1))


def test_counts_see_ties_as_ties():
    x, _, points = world()
    x[30:34] = x[20]  # five items at one distance
    distances = exact(points, x)
    nearer, ties = neighbors.count_nearer(points, neighbors.prepared(x), distances[:, 20])
    assert torch.equal(nearer, (distances < distances[:, 20:21] - 1e-9).sum(dim=1))
    assert ties.tolist() == [5] * BATCH
    items = torch.arange(20, 20 + BATCH)
    _, ties = neighbors.count_nearer(points, neighbors.prepared(x), distances[:, 20], neighbors.anything_but(items))
    assert ties.tolist() == [4, *[5] * (BATCH - 1)]


def whole_objective(batch, name):
    """The rank objectives from the whole matrix of distances, their gradient by autograd."""
    sign = 1 if name.endswith("plus") else -1
    gallery, target = batch.gallery.embeddings, batch.target()

    def values(embeddings, step):
        if name.startswith("ca"):
            to_it = exact(target[:, None], embeddings[:, None])[:, 0]
            return F.relu(sign * (to_it - exact(target, gallery))).mean(dim=1)
        to_gallery = exact(embeddings, gallery)
        to_it = to_gallery.gather(1, batch.targets[:, None])
        return F.relu(sign * (to_it - to_gallery)).mean(dim=1)

    def misrank(embeddings, step):
        distances, labels = exact(embeddings, gallery), batch.gallery.labels
        same = labels[batch.items, None] == labels
        positive = same if name == "ltm" else same.scatter(1, batch.items[:, None], False)
        far = distances.masked_fill(same, -torch.inf).amax(dim=1)
        return F.relu(far - distances.masked_fill(~positive, torch.inf).amin(dim=1))

    return misrank if name.startswith("ltm") else values


OBJECTIVES = ["ca_plus", "ca_minus", "qa_plus", "qa_minus", "gtt", "ltm", "ltm_exact"]


@pytest.mark.parametrize("start", ["moved", "clean"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_and_gradients_are_those_of_the_whole_matrix(name, start):
    """Also at the clean embedding, at distance 0 of its own gallery entry."""
    x, labels, points = world()
    items, gallery = torch.arange(BATCH), Gallery.of(x, labels)
    batch = AttackBatch(gallery, items, ATTACKS[name].select(gallery, items, [generator(0, int(i)) for i in items]))
    found, expected = [], []
    for objective, kept in ((ATTACKS[name].objective(batch), found), (whole_objective(batch, name), expected)):
        point = (points if start == "moved" else x[:BATCH]).clone().requires_grad_(True)
        values = objective(point, 1)
        kept += [values.detach(), *torch.autograd.grad(values.sum(), point)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-8, rtol=0)  # 1e-8 is a zero distance in float64


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_whole_attack_ends_at_the_same_images(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Embedder(BACKBONES["digits_cnn"], channels=1, side=8, dimension=DIMENSION).double().eval()
        images = torch.rand(COUNT, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        gallery = Gallery.of(model(images), torch.arange(COUNT) % 5)
    items, ours = torch.arange(BATCH), ATTACKS[name]
    batch = AttackBatch(gallery, items, ours.select(gallery, items, [generator(0, int(i)) for i in items]))
    whole = Attack(ours.select, partial(whole_objective, name=name), ours.measure)
    results = [run(attack, model, images[:BATCH], batch, eps=0.1, alpha=0.03, steps=8) for attack in (ours, whole)]
    assert torch.equal(results[0].images, results[1].images)
    for metric, values in results[0].after.items():
        assert torch.equal(values, results[1].after[metric])


class Largest(TorchDispatchMode):
    """Records the most elements that any result with a row for each point holds."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dim() and len(result) == BATCH:
            self.most = max(self.most, result.numel())
        return result


TWO_SETS = Sets(*torch.arange(3000).split(1500), cameras=torch.arange(3000) // 5 % 3)


@pytest.mark.parametrize(
    ("name", "sets"),
    [(name, ONE_SET) for name in ATTACKS] + [(name, TWO_SETS) for name in ("ca_plus", "qa_minus", "ltm", "gtm")],
)
def test_memory_grows_with_the_chunk_and_not_with_the_gallery(name, sets, chunk):
    x, labels, points = world(count=3000)
    gallery, items = Gallery.of_sets(x, labels, sets, ATTACKS[name].perturbs), torch.arange(BATCH)
    attack, draws = ATTACKS[name], [generator(0, int(i)) for i in items]
    with Largest() as seen:
        batch = AttackBatch(gallery, items, attack.select(gallery, items, draws))
        point = points.clone().requires_grad_(True)
        torch.autograd.grad(attack.objective(batch)(point, 1).sum(), point)
        attack.measure(batch, points, points)
    nearby = 3000 // 100  # targets among the nearest percent: their rows are kept
    assert seen.most <= BATCH * max(chunk, DIMENSION, 2 * nearby)
