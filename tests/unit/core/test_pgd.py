"""The PGD loop: where it goes, where it may not go, when it stops."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.pgd import pgd


def identity(images):
    return images.flatten(1)


def images(seed=0, count=3):
    return torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_minimises_a_linear_objective_to_the_far_corner():
    x = images()
    moved = pgd(identity, x, lambda e, step: e.sum(), eps=0.1, alpha=0.04, steps=5)
    assert torch.allclose(moved, (x - 0.1).clamp(min=0))


def test_explicit_loop():
    x, eps, alpha = images(1), 0.2, 0.07
    target = torch.full((3, 4), 0.5, dtype=torch.float64)

    def objective(e, step):
        return ((e - target) ** 2 * (step + 1)).sum()

    expected = x.clone()
    for _ in range(6):
        sign = (expected.flatten(1) - target).sign().view_as(x)
        expected = (expected - alpha * sign).clamp(x - eps, x + eps).clamp(0, 1)
    assert torch.allclose(pgd(identity, x, objective, eps=eps, alpha=alpha, steps=6), expected)


def test_zero_steps_and_zero_alpha_are_the_identity():
    x = images(2)
    for steps, alpha in ((0, 0.1), (4, 0.0)):
        assert torch.equal(pgd(identity, x, lambda e, s: e.sum(), eps=0.1, alpha=alpha, steps=steps), x)


def test_a_single_step_uses_eps():
    x = images(3).clamp(0.3, 0.7)
    assert torch.allclose(pgd(identity, x, lambda e, s: e.sum(), eps=0.1, alpha=0.01, steps=1), x - 0.1)


def test_stop_is_asked_before_each_step():
    x, asked = images(4).clamp(0.3, 0.7), []

    def stop(value, previous):
        asked.append((value.item(), None if previous is None else previous.item()))
        return len(asked) == 3

    moved = pgd(identity, x, lambda e, s: e.sum(), eps=0.2, alpha=0.01, steps=9, stop=stop)
    assert torch.allclose(moved, x - 0.02)
    assert asked[0][1] is None
    assert asked[1][1] == asked[0][0]


def test_leaves_weights_without_gradient_and_works_under_no_grad():
    layer = torch.nn.Linear(4, 2).double()
    with torch.no_grad():
        moved = pgd(lambda i: layer(i.flatten(1)), images(5), lambda e, s: e.sum(), eps=0.1, alpha=0.1, steps=3)
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert not moved.requires_grad
    assert not torch.equal(moved, images(5))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), eps=st.floats(0, 1), share=st.floats(0, 2), steps=st.integers(0, 7))
def test_stays_in_the_ball_and_in_pixel_range(seed, eps, share, steps):
    x = images(seed)
    weight = torch.randn(4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    moved = pgd(identity, x, lambda e, s: (e @ weight).sin().sum(), eps=eps, alpha=share * eps, steps=steps)
    assert (moved - x).abs().max() <= eps + 1e-12
    assert moved.min() >= 0
    assert moved.max() <= 1
