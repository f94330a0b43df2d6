"""Deterministic operations as a stage asks for them, without filling memory that is written anyway."""

import time

import pytest
import torch

from stages.runtime.device import set_deterministic


@pytest.fixture(autouse=True)
def as_before():
    yield
    set_deterministic(False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_new_tensors_are_not_filled(deterministic):
    """Filling takes longer the larger a tensor is; without it the system gives no page before it is written."""
    set_deterministic(deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    started = time.perf_counter()
    tensor = torch.empty(2**28)  # 1 GiB: to fill it takes at least a tenth of a second
    assert time.perf_counter() - started < 0.05
    assert tensor.numel() == 2**28
