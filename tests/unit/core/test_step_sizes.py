"""Auto-PGD's step sizes and what momentum carries over, on one or two pixels where the moves can be written down."""

import pytest
import torch

from stages.core.search import OPTIMIZERS
from stages.core.search.base import Task
from stages.core.search.gradient import checkpoints


def test_checkpoints_are_those_of_the_paper():
    """p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of the steps (Croce & Hein 2020, section 3.1)."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(50) == [11, 21, 29, 35, 40, 44, 47, 50]
    assert checkpoints(1) == [1]


def one_pixel(values, steps, eps, clean=0.5):
    """Points that Auto-PGD asks about on one pixel, and where it ends."""
    asked = []

    def identity(point):
        asked.append(point.item())
        return point.flatten(1)

    pixel = torch.full((1, 1, 1, 1), clean, dtype=torch.float64)
    problem = Task(identity, pixel, values, pixel, eps, 0.0, steps, [])
    return asked, OPTIMIZERS["apgd"](problem).item()


def test_apgd_step_sizes_in_closed_form():
    """|x - a| with a a little off: the first step of 2 eps is cut to the ball, and then sizes halve at the checks."""
    optimum, eps = 0.45, 0.2
    asked, end = one_pixel(lambda e, step: (e[:, 0] - optimum).abs(), 9, eps)
    assert checkpoints(9) == [2, 4, 6, 7, 8, 9]
    x0 = 0.5
    x1 = 0.3  # 0.5 - 0.4, cut to 0.5 - eps
    x2 = 0.3 + 0.75 * (0.7 - 0.3) + 0.25 * (0.3 - 0.5)  # up by 0.4, cut to 0.7; then inertia
    # Check after step 2: one of two improved at most, so the size is 0.2 and x0, still the best, comes back.
    x3 = x0 + 0.75 * (0.3 - x0) + 0.25 * (x0 - x1)
    assert asked[:4] == pytest.approx([x0, x1, x2, x3], abs=1e-12)
    assert abs(end - optimum) <= abs(x0 - optimum)
    assert abs(end - optimum) < 0.03


def test_apgd_keeps_its_step_while_it_improves():
    """A slope without end inside the ball: three of four steps improve, no check halves, the far wall is reached."""
    asked, end = one_pixel(lambda e, step: e[:, 0], 20, 0.25)
    assert end == 0.25
    assert asked[1] == 0.25


def test_apgd_step_sizes_are_each_items_own():
    """An item on a slope and one in a narrow valley, together and alone."""
    pixels = torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64)

    def values(embeddings, step):
        return torch.stack([embeddings[0, 0], 9 * (embeddings[1, 0] - 0.47).square()])

    both = OPTIMIZERS["apgd"](Task(lambda x: x.flatten(1), pixels, values, pixels, 0.2, 0.0, 30, []))
    _, alone = one_pixel(lambda e, step: 9 * (e[:, 0] - 0.47).square(), 30, 0.2)
    assert both[0].item() == pytest.approx(0.3)
    assert both[1].item() == alone
    assert alone == pytest.approx(0.47, abs=0.005)


def test_momentum_goes_on_where_the_gradient_dies():
    """A slope that ends in a plain: sign steps stop at the edge, momentum crosses it."""
    pixel = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    plain = Task(lambda x: x.flatten(1), pixel, lambda e, step: e[:, 0].clamp(min=0.45), pixel, 0.3, 0.02, 10, [])
    assert OPTIMIZERS["sign"](plain).item() == pytest.approx(0.44)
    assert OPTIMIZERS["momentum"](plain).item() == pytest.approx(0.3)
