"""Models on disk: safetensors with the architecture in the header, so a checkpoint explains itself."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from stages.core.models import BACKBONES, Embedder
from stages.models import state_dicts
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
    """Build an embedder with freshly initialized weights (from torch's global generator)."""
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
    write(weights, architecture._asdict() | {"weights_sha256": digest(weights)}, path)


def write(weights: dict[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write weights with what they are about in one entry of the header: safetensors orders several at random."""
    # Written by Python, whose errors on a full disk are the ones that all stages report.
    path.write_bytes(serialize(weights, metadata={"architecture": json.dumps(about, sort_keys=True)}))


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Whether there is no NaN or infinity."""
    return all(bool(value.isfinite().all()) for value in weights.values())


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes: what safetensors itself does not check."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode())
        total.update(weights[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())  # bfloat16 too
    return total.hexdigest()


def check_shapes(architecture: Architecture, found: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that are not those of ``architecture``, before memory is taken for either.

    Raises:
        ValueError: names the first.
    """
    with torch.device("meta"):
        wanted = {name: list(value.shape) for name, value in build(architecture).state_dict().items()}
    if wanted.keys() != found.keys():
        raise ValueError(state_dicts.misfit(sorted(wanted.keys() - found), sorted(found.keys() - wanted)))
    for name in sorted(wanted):
        if wanted[name] != found[name]:
            raise ValueError(f"{name} has shape {found[name]} instead of {wanted[name]}")


class ForeignError(ValueError):
    """A file that this project did not write, for all that can be seen."""


class AlteredError(ValueError):
    """A file of this project whose weights are not those that its header has the hash of."""


def load(path: Path) -> Embedder:
    """Build and fill the model of a checkpoint, in evaluation mode.

    Raises:
        UserError: the file is missing, altered, does not fit its own description, or is not of this project.
    """
    artifacts.require(path)
    try:
        return read(path)
    except AlteredError as error:
        problem = str(error)
    except ForeignError as error:
        problem = f"not a checkpoint of this project ({error})"
    raise UserError(f"{path}: {problem}; move it away and run `{artifacts.made_by(path)}`")


def read(path: Path) -> Embedder:
    """The model of a checkpoint that is there, in evaluation mode.

    Raises:
        ForeignError: it is no safetensors file, or its header does not describe a model of this project.
        AlteredError: it is of this project, and its weights are not those that were saved.
    """
    try:
        with safe_open(path, framework="pt") as file:
            architecture, promised = described(file.metadata(), list(file.keys()))
            check_shapes(architecture, {name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        for name, value in weights.items():
            if value.dtype != torch.float32 and not name.endswith(".num_batches_tracked"):
                raise ForeignError(f"{name} is {value.dtype} instead of float32, so it was converted")
        with torch.random.fork_rng(devices=[]):
            model = build(architecture)
        model.load_state_dict(weights)
        whole = digest(weights) == promised and finite(weights)
    except ForeignError:
        raise
    except Exception as error:  # a header from elsewhere can say anything of the architecture
        raise ForeignError(reason(error)) from None
    if not whole:
        raise AlteredError("its weights are not those that were saved")
    return model.eval()


def described(metadata: Mapping[str, str] | None, names: Sequence[str]) -> tuple[Architecture, str]:
    """Architecture and hash of the weights from a header.

    Raises:
        ForeignError: other programs wrote it; says what ``names`` of tensors it has.
        ValueError, TypeError: its architecture is not one.
    """
    if "architecture" not in (metadata or {}):
        origin = state_dicts.wrapped(names)
        hint = f"; {origin}" if origin else ""
        raise ForeignError(f"its header names no architecture; it holds {state_dicts.listed(names) or 'nothing'}{hint}")
    values = json.loads((metadata or {})["architecture"])
    promised = values.pop("weights_sha256")
    return Architecture(**values), promised
