"""Models on disk: safetensors with the architecture in the header, so a checkpoint explains itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from stages.core.models import BACKBONES, Embedder
from stages.io import artifacts
from stages.io.errors import UserError, reason


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
    """Write the weights and the architecture; equal weights give equal bytes."""
    from safetensors.torch import save as serialise

    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    # Written by Python, whose errors on a full disk are the ones that all stages report.
    path.write_bytes(serialise(weights, metadata={"architecture": encode(architecture)}))


def encode(architecture: Architecture) -> str:
    """The architecture as one string: safetensors orders several header entries at random."""
    import json

    return json.dumps(architecture._asdict(), sort_keys=True)


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
    import json

    from safetensors import safe_open

    artifacts.require(path, made_by)
    try:
        with safe_open(path, framework="pt") as file:
            architecture = Architecture(**json.loads(file.metadata()["architecture"]))
            check_shapes(architecture, {name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        with torch.random.fork_rng(devices=[]):
            model = build(architecture)
        model.load_state_dict(weights)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise ValueError("weights that are not finite")
    except Exception as error:  # a header from elsewhere can say anything of the architecture
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and run `{made_by}`") from None
    return model.eval()
