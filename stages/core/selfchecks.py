"""Self-checks of a model: what must hold before its robustness can be measured at all."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

IMAGES = 16  # enough that dropout of a few features, or of whole layers for some images, shows
SINGLE = torch.finfo(torch.float32).eps
TF32 = 2.0**-10  # spacing at 1 of numbers with TF32's 10 bits of mantissa


def not_a_function(embed: Callable[[Tensor], Tensor], images: Tensor) -> str:
    """Why ``embed`` is no function of each image alone, or "" where it is one.

    ``images`` (B, C, H, W) in [0, 1] are embedded (B, D) twice as an attack does, with gradients, and once as
    evaluation does, without them and in other company: in reversed order, in batches of 1, 4 and the rest. Embeddings
    are compared at unit norm. torch's random generator of the CPU is left as it was.

    An attack assumes such a function. Noise and dropout hide the gradient, so that a model looks robust, and results
    depend on the draw; statistics of the batch make them depend on ``attack_batch``. AutoAttack warns of randomized
    models for the same reason (Croce and Hein, 2020).
    """
    sizes = [1, 4, len(images) - 5] if len(images) > 5 else [1] * len(images)
    with torch.random.fork_rng(devices=[]):
        spacing = _spacing(embed, images)
        first, again = (_unit(embed(images.clone().requires_grad_())) for _ in range(2))
        if not (first.isfinite().all() and again.isfinite().all()):
            return "some embeddings are not finite numbers"
        allowed = _rounding(spacing, same_batch=True)
        if (found := _largest(first, again)) > allowed:
            return (
                f"it is randomized: two calls on the same images differ by {found:.2g} at unit norm, and rounding "
                f"explains {allowed:.1g}; switch dropout and noise off in evaluation"
            )
        try:
            with torch.no_grad():
                apart = torch.cat([_unit(embed(part)) for part in images.flip(0).split(sizes)]).flip(0)
        except Exception as error:  # whatever a user's network says
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            return f"it is batch-dependent: it takes {len(images)} images at once but not batches of {sizes} ({why})"
        allowed = _rounding(spacing, same_batch=False)
        if not (found := _largest(first, apart)) <= allowed:
            return (
                f"it is batch-dependent: the same images in other batches differ by {found:.2g} at unit norm, and "
                f"rounding explains {allowed:.1g}; look for BatchNorm in training mode or other statistics of the batch"
            )
    return ""


def _unit(embeddings: Tensor) -> Tensor:
    """Embeddings (B, D) of any float type as float64 of unit norm, without their graph."""
    return F.normalize(embeddings.detach().double(), dim=-1)


def _largest(one: Tensor, other: Tensor) -> float:
    """The largest distance between the two embeddings of an image; infinite where their shapes differ."""
    return float((one - other).norm(dim=-1).max()) if one.shape == other.shape else float("inf")


def _rounding(spacing: float, *, same_batch: bool) -> float:
    """How far rounding alone moves unit-norm embeddings of a network whose coarsest format has ``spacing`` at 1.

    Libraries add in another order where the batch has another size, and may where memory lies differently. In float32 a
    sum of n terms then moves by some sqrt(n) roundings, with n in the thousands, and layers add up: 1024. (On a CPU all
    backbones here move by less than 8; a GPU's choice among algorithms moves more.) Formats of 16 bits
    and TF32 are summed in float32, so that only the rounding of a layer's result may flip: 8, and 1 for the same batch,
    where the same kernel runs (measured: 0).
    """
    return spacing * (1024 if spacing <= SINGLE else 1 if same_batch else 8)


def _spacing(embed: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """The spacing at 1 of the coarsest format that a network computes in; compiled networks are watched uncompiled."""
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), _Formats() as formats:
        formats.note(embed(images))
    for weight in embed.parameters() if isinstance(embed, nn.Module) else ():  # all that a traced network shows
        formats.note(weight)
    in_tf32 = torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"
    return max(formats.spacing, TF32 if images.device.type == "cuda" and in_tf32 else 0.0)


class _Formats(TorchFunctionMode):
    """Watches the results of torch's operations: the type of weights does not tell of casts or autocast inside."""

    def __init__(self) -> None:
        super().__init__()
        self.spacing = SINGLE  # that of images and of what becomes of embeddings, whatever lies between

    def note(self, value: object) -> None:
        """Take account of the format of a tensor of floats."""
        if isinstance(value, Tensor) and value.is_floating_point():
            self.spacing = max(self.spacing, torch.finfo(value.dtype).eps)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(result)
        return result
