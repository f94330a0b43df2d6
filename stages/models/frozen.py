"""A trained model as it is measured: on its device, in its number format, without gradients of its weights."""

from typing import NamedTuple

import torch
from torch import nn

from stages.models import own_models
from stages.runtime import artifacts, checksums, device
from stages.runtime.params import Params


class Frozen(NamedTuple):
    """A model in evaluation mode, where it computes, and the SHA-256 of its file by path."""

    model: nn.Module
    device: torch.device
    inputs: dict[str, str]


def load(params: Params, dataset: str, defense: str, seed: int) -> Frozen:
    """Load the model of a run; threads and determinism of this process become those of the dataset's profile.

    Raises:
        UserError: the file is missing, damaged or of another own model; or there is no such device or number format.
    """
    block, path = params["datasets"][dataset], artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
    place = device.configure(block["training"], dataset)
    own = params["defenses"][defense].get("model")
    saved = own_models.load(path, own).to(place)
    model = device.in_precision(saved.requires_grad_(False), block["precision"], place, f"datasets.{dataset}.precision")
    return Frozen(model, place, checksums.hashes(path))
