"""Embedding a whole split, batch by batch."""

from collections.abc import Callable

import torch
from torch import Tensor

BATCH = 112  # the reference's validation batch


def embed_split(embed: Callable[[Tensor], Tensor], images: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """Embeddings (count, D) of rows 0..count-1, brought back to the CPU.

    ``images(rows)`` loads a batch where ``embed``, in evaluation mode, wants it.
    """
    with torch.no_grad():
        return torch.cat([embed(images(rows)).cpu() for rows in torch.arange(count).split(BATCH)])
