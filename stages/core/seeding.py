"""Random generators that depend on words alone, so order, batch size and resume cannot change a draw."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

EXAMPLES = 6  # test images whose perturbed versions an attack keeps


def seed_of(*words: object) -> int:
    """Map words such as ``("digits", 0, "epoch", 3)`` to an integer in [0, 2**63)."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*words: object) -> torch.Generator:
    """Return a CPU generator seeded by ``seed_of(*words)``."""
    return torch.Generator().manual_seed(seed_of(*words))


def drawn_order(image_ids: NDArray[np.int64]) -> list[int]:
    """Rows in an order drawn from the ids alone: which images are attacked and shown is the same for every model."""
    return sorted(range(len(image_ids)), key=lambda row: seed_of("examples", int(image_ids[row])))
