"""Deterministic operations as a stage asks for them, without filling memory that is written anyway."""

import pytest
import torch

from stages.runtime.device import set_deterministic

FRESH = 2**25  # numbers that no allocator has in stock: 128 MiB come from the system, as zeros


@pytest.fixture(autouse=True)
def as_before():
    yield
    set_deterministic(False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_new_tensors_are_not_filled(deterministic):
    set_deterministic(deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert not torch.empty(FRESH).isnan().any()


def test_torch_would_fill_them_with_nan(monkeypatch):
    """The test above can fail."""
    set_deterministic(True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    assert torch.empty(1000).isnan().all()
