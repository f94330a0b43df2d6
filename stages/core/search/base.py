"""What every search for a perturbation is given, and what they share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Task(NamedTuple):
    """Make each item's value small inside an L-infinity ball around its clean image.

    ``embed`` maps images (B, C, H, W) to embeddings (B, D) in evaluation mode. ``images`` are the clean ones in [0, 1],
    ``start`` the images inside the ball to begin with. ``values(embeddings, step) -> (B,)`` are minimized, each of
    which hangs on its own item alone. ``eps`` and the step size ``alpha`` are in pixel units of [0, 1]. ``generators``
    is one CPU generator per item, so that what an item draws does not depend on the batch it travels in.
    """

    embed: Callable[[Tensor], Tensor]
    images: Tensor
    values: Callable[[Tensor, int], Tensor]
    start: Tensor
    eps: float
    alpha: float
    steps: int
    generators: Sequence[torch.Generator]

    def projected(self, moved: Tensor) -> Tensor:
        """Images (B, C, H, W) cut to the ball and to [0, 1]."""
        return torch.clamp(moved, (self.images - self.eps).clamp_(min=0), (self.images + self.eps).clamp_(max=1))

    def score(self, images: Tensor) -> Tensor:
        """The values (B,) as a black box tells them: no gradient, and no step that it could know of."""
        with torch.no_grad():
            return self.values(self.embed(images), -1)

    def slope(self, images: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The values (B,) at some images and their gradients (B, C, H, W)."""
        point = images.detach().requires_grad_(True)
        with torch.enable_grad():
            value = self.values(self.embed(point), step)
        return value.detach(), torch.autograd.grad(value.sum(), point)[0]


Search = Callable[[Task], Tensor]  # perturbed images (B, C, H, W), detached, inside the ball and in [0, 1]


def clean(task: Task) -> Tensor:
    """The clean images (B, C, H, W)."""
    return task.images


def uniform(task: Task) -> Tensor:
    """Images (B, C, H, W) drawn uniformly from the ball, cut to [0, 1]."""
    shape, kind = task.images.shape[1:], task.images.dtype
    drawn = torch.stack([torch.rand(shape, generator=g, dtype=kind) for g in task.generators])
    return task.projected(task.images + task.eps * (2 * drawn.to(task.images.device) - 1))


def where(chosen: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """``images`` (B, C, H, W) for the items chosen (B,), ``others`` for the rest."""
    return torch.where(per_item(chosen), images, others)


def per_item(numbers: Tensor) -> Tensor:
    """Numbers (B,) as (B, 1, 1, 1), to meet images."""
    return numbers[:, None, None, None]
