"""Searches for perturbations against plain loops over single items, and what holds for each of them."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.search import BLACK_BOX, OPTIMIZERS, STARTS
from stages.core.search.base import Task
from stages.core.search.black_box import directions, estimated_gradient, square_side

EPS, ALPHA = 0.1, 0.02
COUNT, SHAPE = 5, (2, 4, 3)


def generators(count=COUNT, seed=0):
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(count)]


def images(count=COUNT, shape=SHAPE, seed=0):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MATRIX = torch.randn(math.prod(SHAPE), 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
AIMS = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def embed(batch):
    return torch.sin(3 * batch.flatten(1) @ MATRIX)


def curved(aims=AIMS):
    """Squared distance of sines to an aim of each item: many turns, so that step sizes matter."""
    return lambda embeddings, step: (embeddings - aims).square().sum(dim=1)


def task(steps, *, aims=AIMS, batch=None, draws=None, eps=EPS):
    batch = images() if batch is None else batch
    return Task(embed, batch, curved(aims), batch, eps, ALPHA, steps, draws or generators(len(batch)))


def value_and_gradient(point, item):
    """By hand: chain rule on one image (C, H, W)."""
    turn = 3 * point.flatten() @ MATRIX
    rest = torch.sin(turn) - AIMS[item]
    return rest.square().sum().item(), (MATRIX @ (2 * rest * torch.cos(turn) * 3)).view(SHAPE)


def cut(point, clean, eps=EPS):
    return torch.minimum(torch.maximum(point, clean - eps), clean + eps).clamp(0, 1)


def loop_sign(clean, item, steps):
    point = clean.clone()
    for _ in range(steps):
        point = cut(point - ALPHA * value_and_gradient(point, item)[1].sign(), clean)
    return point


def loop_momentum(clean, item, steps):
    point, total = clean.clone(), torch.zeros_like(clean)
    for _ in range(steps):
        gradient = value_and_gradient(point, item)[1]
        total = total + gradient / gradient.abs().sum()
        point = cut(point - ALPHA * total.sign(), clean)
    return point


def loop_apgd(clean, item, steps):
    """Algorithm 1 of Croce & Hein 2020 in its own symbols, minimizing, for one image."""
    w, p = [0], [0.0, 0.22]
    while p[-1] <= 1 + 1e-9:
        w.append(math.ceil(p[-1] * steps - 1e-9))
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    x, f, eta = [clean], [value_and_gradient(clean, item)[0]], 2 * EPS
    x_best, f_best = clean, f[0]
    eta_at, best_at, mark = eta, f_best, 0
    for k in range(steps):
        z = cut(x[k] - eta * value_and_gradient(x[k], item)[1].sign(), clean)
        if k:
            z = cut(x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1]), clean)
        x.append(z)
        f.append(value_and_gradient(z, item)[0])
        if f[-1] < f_best:
            x_best, f_best = z, f[-1]
        if k + 1 in w:
            first = [f[i + 1] < f[i] for i in range(mark, k + 1)]
            few, stuck = sum(first) < 0.75 * (k + 1 - mark), eta == eta_at and f_best == best_at
            eta_at, best_at, mark = eta, f_best, k + 1
            if few or stuck:
                eta /= 2
                x[-1], f[-1] = x_best, f_best
    return x_best


def loop_nes(clean, item, steps):
    generator, point = generators()[item], clean.clone()
    for _ in range(steps):
        total = torch.zeros_like(clean)
        for _ in range(50):
            noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
            direction = (noise * EPS / 0.5).clamp(-EPS, EPS)
            for d in (direction, -direction):
                total += value_and_gradient(cut(point + d, clean), item)[0] * d
        point = cut(point - ALPHA * (total / 100 / (EPS / 0.5)).sign(), clean)
    return point


def loop_square(clean, item, steps):
    generator, best = generators()[item], clean.clone()
    lowest = value_and_gradient(best, item)[0]
    channels, height, width = SHAPE
    for query in range(steps):
        tried = best.clone()
        if query == 0:
            signs = torch.rand((channels, 1, width), generator=generator)
            for c in range(channels):
                for column in range(width):
                    tried[c, :, column] = clean[c, :, column] + (EPS if signs[c, 0, column] >= 0.5 else -EPS)
        else:
            share = 0.8
            for bound in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
                share /= 2 if query * 10_000 // steps > bound else 1
            side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
            drawn = torch.rand(2 + channels, generator=generator).tolist()
            top, left = int(drawn[0] * (height - side + 1)), int(drawn[1] * (width - side + 1))
            for c in range(channels):
                way = EPS if drawn[2 + c] >= 0.5 else -EPS
                tried[c, top : top + side, left : left + side] = clean[c, top : top + side, left : left + side] + way
        tried = cut(tried, clean)
        value = value_and_gradient(tried, item)[0]
        if value < lowest:
            best, lowest = tried, value
    return best


LOOPS = {"sign": loop_sign, "momentum": loop_momentum, "apgd": loop_apgd, "nes": loop_nes, "square": loop_square}


@pytest.mark.parametrize(("name", "steps"), [(name, steps) for name in OPTIMIZERS for steps in (2, 13, 50)])
def test_search_is_the_plain_loop(name, steps):
    found = OPTIMIZERS[name](task(steps))
    for item, clean in enumerate(images()):
        torch.testing.assert_close(found[item], LOOPS[name](clean, item, steps), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_item_does_not_depend_on_its_batch_or_the_order(name):
    whole, again = (OPTIMIZERS[name](task(9)) for _ in range(2))
    assert torch.equal(whole, again)
    order = torch.tensor([3, 0, 4])
    draws = [generators()[i] for i in order.tolist()]
    part = OPTIMIZERS[name](task(9, aims=AIMS[order], batch=images()[order], draws=draws))
    torch.testing.assert_close(part, whole[order], atol=1e-9, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), name=st.sampled_from(list(OPTIMIZERS)), start=st.sampled_from(list(STARTS)))
def test_stays_in_the_ball_and_in_pixel_range(seed, name, start):
    asked = task(4, batch=images(seed=seed).round(decimals=1), draws=generators(seed=seed))
    begun = STARTS[start](asked)
    found = OPTIMIZERS[name](asked._replace(start=begun))
    for moved in (begun, found):
        assert (moved - asked.images).abs().max() <= EPS + 1e-12
        assert moved.min() >= 0
        assert moved.max() <= 1
    assert not found.requires_grad
    assert not torch.equal(found, asked.images)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_nothing_moves_without_a_budget(name):
    assert torch.equal(OPTIMIZERS[name](task(0)), images())
    nowhere = OPTIMIZERS[name](task(3, eps=0.0)._replace(alpha=0.0))
    assert torch.equal(nowhere, images())


def test_random_starts_fill_the_ball_and_hang_on_the_generator_alone():
    asked = task(0, batch=torch.full((COUNT, *SHAPE), 0.5, dtype=torch.float64))
    started = STARTS["random"](asked) - 0.5
    assert started.abs().max() > 0.9 * EPS
    assert started.mean().abs() < EPS / 4
    alone = STARTS["random"](asked._replace(images=asked.images[2:3], generators=generators()[2:3]))
    assert torch.equal(alone[0] - 0.5, started[2])


@pytest.mark.parametrize("name", ["apgd", "square"])
@pytest.mark.parametrize("start", list(STARTS))
def test_best_point_searches_never_get_worse(name, start):
    asked = task(0)
    asked = asked._replace(start=STARTS[start](asked))
    at_start = asked.score(asked.start)
    for steps in (1, 5, 30):
        found = asked.score(OPTIMIZERS[name](asked._replace(steps=steps, generators=generators())))
        assert (found <= at_start).all()
    assert (found < at_start).all()


def test_a_longer_square_attack_goes_on_from_the_shorter():
    """With the side held at one pixel the first queries of both are the same."""
    asked = task(0, batch=images(shape=(2, 1, 1)))
    asked = asked._replace(embed=lambda x: torch.sin(9 * x.flatten(1)), values=lambda e, step: e.sum(dim=1))
    kept = [asked.score(OPTIMIZERS["square"](asked._replace(steps=n, generators=generators()))) for n in range(12)]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(kept))


def test_nes_approaches_the_gradient_of_a_linear_function():
    """mean(value * direction) / sigma is the gradient times the variance of a cut normal over sigma."""
    slope = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clean = torch.full((1, *SHAPE), 0.5, dtype=torch.float64)
    linear = Task(
        lambda x: (x * slope).flatten(1), clean, lambda e, step: e.sum(dim=1), clean, EPS, ALPHA, 1, generators(1)
    )
    found = estimated_gradient(linear, clean, population=20_000)[0]
    drawn = torch.randn(400_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    factor = (2 * EPS * drawn).clamp(-EPS, EPS).square().mean() / (2 * EPS)
    torch.testing.assert_close(found, factor * slope, atol=0.1 * factor.item(), rtol=0)
    rough = estimated_gradient(linear._replace(generators=generators(1)), clean)[0]
    assert torch.cosine_similarity(rough.flatten(), slope.flatten(), dim=0) > 0.75


def test_nes_directions_of_large_images_are_coarse():
    large = torch.zeros(2, 1, 96, 96)
    found = directions(large, EPS, generators(2))
    assert found.shape == large.shape
    blocks = found.view(2, 1, 32, 3, 32, 3)
    assert (blocks == blocks[:, :, :, :1, :, :1]).all()
    assert len(found[0].unique()) > 300  # about two fifths of 1,024 draws lie inside the ball
    assert found.abs().max() == EPS


def test_squares_shrink_on_schedule():
    sides = [square_side(query, 10_000, 32, 32) for query in (0, 10, 11, 51, 201, 501, 1001, 9999)]
    assert sides == [29, 29, 20, 14, 10, 7, 5, 1]
    assert square_side(0, 10, 4, 32) == 4


@pytest.mark.parametrize("name", BLACK_BOX)
def test_a_black_box_never_asks_for_a_gradient(name):
    def watched(batch):
        assert not batch.requires_grad
        assert not torch.is_grad_enabled()
        return embed(batch)

    OPTIMIZERS[name](task(3)._replace(embed=watched))


@pytest.mark.parametrize("name", BLACK_BOX)
def test_another_seed_is_another_result(name):
    first, second = (OPTIMIZERS[name](task(3, draws=generators(seed=seed))) for seed in (0, 1))
    assert not torch.equal(first, second)
