"""Random generators that depend on words alone, so order, batch size and resume cannot change a draw."""

import hashlib

import torch


def seed_of(*words: object) -> int:
    """Map words such as ``("digits", 0, "epoch", 3)`` to an integer in [0, 2**63)."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*words: object) -> torch.Generator:
    """Return a CPU generator seeded by ``seed_of(*words)``."""
    return torch.Generator().manual_seed(seed_of(*words))
