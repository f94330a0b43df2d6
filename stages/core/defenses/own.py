"""No training: a user's model, which a block of `defenses` names with `method: own` and `model`."""

import torch
from torch import Tensor, nn

from stages.core.training import TrainingError


def own(network: nn.Module, images: Tensor) -> int:
    """The width D of a network's embeddings, tried on a few images (B, C, H, W) in [0, 1].

    Raises:
        TrainingError: it does not map them to finite floats of shape (B, D), or no gradient reaches the images.
    """
    tried = images.clone().requires_grad_()
    try:
        embeddings = network(tried)
    except Exception as error:  # the user's own code
        raise TrainingError(f"the model cannot take images of shape {tuple(images.shape)}: {error!s}") from error
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != len(images):
        found = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise TrainingError(f"the model must map B images to a tensor (B, D), and gave {found}")
    if not embeddings.is_floating_point() or not torch.isfinite(embeddings).all():
        raise TrainingError("the model gave embeddings that are not finite numbers")
    if not embeddings.requires_grad or not _gradient(embeddings, tried).any():
        raise TrainingError("no gradient reaches the images through the model, so it cannot be attacked; drop no_grad")
    return embeddings.shape[1]


def _gradient(embeddings: Tensor, images: Tensor) -> Tensor:
    """What the images would be changed by; zeros where they are cut off."""
    try:
        return torch.autograd.grad(embeddings.square().sum(), images)[0]
    except RuntimeError:
        return torch.zeros_like(images)
