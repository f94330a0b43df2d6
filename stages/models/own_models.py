"""Models that were made elsewhere: `model` of a block of `defenses`, an import path or a safetensors file."""

import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.core.models import Embedder, OwnModel
from stages.models import checkpoints
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError, reason
from stages.runtime.params import FILE


def load(path: Path, made_by: str, own: Mapping[str, Any] | None) -> Embedder | OwnModel:
    """The model of a checkpoint in evaluation mode; ``own`` is its block's ``model``, None for one trained here.

    Raises:
        UserError: the file is missing, damaged, or was made from something else than ``own``.
    """
    if own is None or "safetensors" in own:
        return checkpoints.load(path, made_by)
    from safetensors import SafetensorError
    from safetensors.torch import load_file, safe_open

    artifacts.require(path, made_by)
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads(file.metadata()["architecture"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({reason(error)}); delete it and run `{made_by}`") from None
    if written != dict(own):
        raise UserError(f"{path}: was made from {written}, not from {dict(own)}; run `{made_by}` again")
    model = OwnModel(build(own["import"]))
    try:
        model.network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: does not fit {own['import']} ({reason(error)}); run `{made_by}` again") from None
    return model


def build(name: str) -> nn.Module:
    """Call what an import path ``module:function`` names.

    Raises:
        UserError: it cannot be imported or called, or returns no torch.nn.Module.
    """
    module, _, function = name.partition(":")
    try:
        network = getattr(importlib.import_module(module), function)()
    except Exception as error:  # the user's own code
        raise UserError(f"{FILE}: model.import: {name} failed ({type(error).__name__}: {reason(error)})") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"{FILE}: model.import: {name} gave {type(network).__name__}; return a torch.nn.Module")
    return network.eval()


def save(network: nn.Module, own: Mapping[str, Any], path: Path) -> None:
    """Write an imported network's weights, and what it was imported from."""
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, path, metadata={"architecture": json.dumps(dict(own), sort_keys=True)})


def copy(own: Mapping[str, Any], channels: int, side: int, path: Path) -> None:
    """Copy a safetensors checkpoint that this project wrote, for images of ``channels`` x ``side`` x ``side``.

    Raises:
        UserError: it is missing, not the one named, damaged, or was trained on other images.
    """
    source = Path(own["safetensors"])
    if not source.is_file():
        raise UserError(f"{FILE}: model.safetensors: {source}: missing; put the checkpoint there")
    if checksums.sha256(source) != own["sha256"]:
        raise UserError(
            f"{FILE}: model.sha256: {source} has SHA-256 {checksums.sha256(source)}; write that, or another file"
        )
    model = checkpoints.load(source, "whatever made it")
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, side, side))
    except RuntimeError as error:
        raise UserError(f"{source}: does not fit images of {channels} x {side} x {side} ({reason(error)})") from None
    shutil.copyfile(source, path)
