"""Models on disk: safetensors with the architecture in the header, so a checkpoint explains itself."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from stages.core.models import BACKBONES, Embedder
from stages.runtime import artifacts
from stages.runtime.errors import UserError, reason


class Architecture(NamedTuple):
    """What it takes to build the network again."""

    backbone: str
    channels: int
    side: int
    embedding_dim: int
    freeze_batchnorm: bool


def build(architecture: Architecture) -> Embedder:
    """Build an embedder with freshly initialised weights (from torch's global generator)."""
    return Embedder(
        BACKBONES[architecture.backbone],
        channels=architecture.channels,
        side=architecture.side,
        dimension=architecture.embedding_dim,
        freeze_batchnorm=architecture.freeze_batchnorm,
    )


def save(model: Embedder, architecture: Architecture, path: Path) -> None:
    """Write the weights, the architecture and a hash of the weights; equal weights give equal bytes.

    Raises:
        UserError: a weight is NaN or infinite, so there is no model to keep.
    """
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    if not finite(weights):
        raise UserError("training ended with weights that are not finite; lower learning_rate")
    # Written by Python, whose errors on a full disk are the ones that all stages report.
    path.write_bytes(serialize(weights, metadata={"architecture": encode(architecture, digest(weights))}))


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether there is no NaN or infinity."""
    return all(bool(value.isfinite().all()) for value in weights.values())


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes: what safetensors itself does not check."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def encode(architecture: Architecture, weights_sha256: str) -> str:
    """Architecture and hash as one string: safetensors orders several header entries at random."""
    return json.dumps(architecture._asdict() | {"weights_sha256": weights_sha256}, sort_keys=True)


def check_shapes(architecture: Architecture, found: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that are not those of ``architecture``, before memory is taken for either.

    Raises:
        ValueError: names the first.
    """
    with torch.device("meta"):
        wanted = {name: list(value.shape) for name, value in build(architecture).state_dict().items()}
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            raise ValueError(f"{name} has shape {found.get(name)} instead of {wanted.get(name)}")


def load(path: Path, made_by: str) -> Embedder:
    """Build and fill the model of a checkpoint, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged, or does not fit its own description.
    """
    artifacts.require(path, made_by)
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads(file.metadata()["architecture"])
            promised = described.pop("weights_sha256")
            architecture = Architecture(**described)
            check_shapes(architecture, {name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        with torch.random.fork_rng(devices=[]):
            model = build(architecture)
        model.load_state_dict(weights)
        if digest(weights) != promised or not finite(weights):
            raise ValueError("weights that are not those that were saved")
    except Exception as error:  # a header from elsewhere can say anything of the architecture
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and run `{made_by}`") from None
    return model.eval()
