"""Models on disk: safetensors with the architecture in the header, so a checkpoint explains itself."""

from pathlib import Path
from typing import NamedTuple

import torch

from stages.core.models import BACKBONES, Embedder
from stages.io import artifacts
from stages.io.errors import UserError


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
    from safetensors.torch import save_file

    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={"architecture": encode(architecture)})


def encode(architecture: Architecture) -> str:
    """The architecture as one string: safetensors orders several header entries at random."""
    import json

    return json.dumps(architecture._asdict(), sort_keys=True)


def load(path: Path, made_by: str) -> Embedder:
    """Build and fill the model of a checkpoint, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged, or does not fit its own description.
    """
    import json

    from safetensors import SafetensorError, safe_open

    artifacts.require(path, made_by)
    try:
        with safe_open(path, framework="pt") as file:
            architecture = Architecture(**json.loads(file.metadata()["architecture"]))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        with torch.random.fork_rng(devices=[]):
            model = build(architecture)
        model.load_state_dict(weights)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = str(error).split("\n")[0]
        raise UserError(f"{path}: damaged ({problem}); delete it and run `{made_by}`") from None
    return model.eval()
