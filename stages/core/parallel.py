"""One network, its batch split over processes: same embeddings, same gradients, same global batch (docs/training.md).

Every process holds the whole batch and does everything but the network identically: sampling, mining, the bookkeeping
of PGD, losses, the optimizer step. So the terms that couple a batch (mined negatives, softmax weights, lower halves)
see the global batch by construction, and no defense knows of processes. What passes between them is rows of images'
gradients, embeddings and the parameters' gradients. As all compute the same loss from the same embeddings, an
embedding's gradient is already complete everywhere: going back through the gathering only cuts out the own rows.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def share(count: int, group: dist.ProcessGroup) -> tuple[int, int, int]:
    """First row, row behind the last, and rows of a full share, of this process among ``count`` rows.

    The last processes get fewer rows, or none, where ``count`` does not divide.
    """
    full = -(-count // group.size())
    start = min(group.rank() * full, count)
    return start, min(start + full, count), full


def gather_rows(own: Tensor, count: int, group: dist.ProcessGroup) -> Tensor:
    """The rows (count, ...) of all processes from each one's share, without rounding."""
    _, _, full = share(count, group)
    padded = own.new_zeros(full, *own.shape[1:])
    padded[: len(own)] = own
    shares = own.new_empty(group.size(), *padded.shape)
    dist.all_gather(list(shares), padded, group=group)
    return shares.flatten(0, 1)[:count]


class OwnRows(torch.autograd.Function):
    """Rows (count, ...) to this process's share; back, every process gets the gradient of all rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Cut out the share."""
        ctx.count, ctx.group = len(rows), group
        start, stop, _ = share(len(rows), group)
        return rows[start:stop]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Gather the gradients of all shares."""
        return gather_rows(gradient, ctx.count, ctx.group), None


class AllRows(torch.autograd.Function):
    """This process's share to the rows (count, ...) of all; back, the own part of a gradient that all know."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, count: int, group: dist.ProcessGroup) -> Tensor:
        """Gather all shares."""
        ctx.share = share(count, group)
        return gather_rows(own, count, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Cut out the own part."""
        start, stop, _ = ctx.share
        return gradient[start:stop], None, None


class Total(torch.autograd.Function):
    """Sum of a tensor over processes, which each goes on with for its own rows; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Add up the parts."""
        ctx.group = group
        total = part.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Add up what each process's rows make of the total."""
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class Parameters(torch.autograd.Function):
    """Parameters as they are; back, their gradients summed over processes, in one message for all of them."""

    @staticmethod
    def forward(ctx: Any, group: dist.ProcessGroup, *parameters: Tensor) -> tuple[Tensor, ...]:
        """Hand the parameters on."""
        ctx.group = group
        return tuple(parameter.view_as(parameter) for parameter in parameters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Add up the gradients that each process's rows give."""
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=ctx.group)
        parts = flat.split([gradient.numel() for gradient in gradients])
        return None, *(part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True))


class WholeBatchNorm(_BatchNorm):
    """BatchNorm whose live statistics are those of the rows of all processes.

    torch's own SyncBatchNorm does this on GPUs only.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, single: _BatchNorm, group: dist.ProcessGroup):
        """Take over layer ``single``: its parameters and statistics stay the same tensors."""
        super().__init__(single.num_features, single.eps, single.momentum)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "training"):
            setattr(self, name, getattr(single, name))
        self.group = group

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same, normalized by channel."""
        if not self.training:
            return super().forward(x)
        axes, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        sums = Total.apply(torch.cat([x.sum(axes), x.new_full((1,), x[:, 0].numel())]), self.group)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = x - mean.view(shape)
        squares = Total.apply(centered.square().sum(axes), self.group)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(squares / (count - 1), self.momentum)
        scale = self.weight * (squares / count + self.eps).rsqrt()
        return centered * scale.view(shape) + self.bias.view(shape)


class Sharded(nn.Module):
    """An embedder that each process of a group runs on its share of the rows; in all else like the embedder itself."""

    def __init__(self, model: nn.Module, group: dist.ProcessGroup):
        """Wrap ``model``, the same on every process; its BatchNorm layers are replaced in place."""
        super().__init__()
        for name, layer in list(model.named_modules()):
            if isinstance(layer, _BatchNorm):
                model.set_submodule(name, WholeBatchNorm(layer, group))
        self.model, self.group = model, group

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, C, H, W), the same on every process, to embeddings (B, D), the same on every process."""
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        shared = dict(zip(names, Parameters.apply(self.group, *parameters), strict=True))
        own = torch.func.functional_call(self.model, shared, OwnRows.apply(images, self.group))
        return AllRows.apply(own, len(images), self.group)
