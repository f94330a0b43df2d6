"""Models that were made elsewhere: `model` of a block of `defenses`, an import path or a safetensors file."""

import importlib
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.core.models import Embedder, OwnModel
from stages.core.selfchecks import IMAGES, not_a_function
from stages.models import checkpoints, state_dicts
from stages.runtime import artifacts, checksums
from stages.runtime.errors import CONTROL, UserError, reason
from stages.runtime.params import FILE


def load(path: Path, own: Mapping[str, Any] | None) -> Embedder | OwnModel:
    """The model of a checkpoint in evaluation mode; ``own`` is its block's ``model``, None for one trained here.

    Raises:
        UserError: the file is missing, not of this project, or was made from something else than ``own``.
    """
    if own is None or "safetensors" in own:
        return checkpoints.load(path)
    artifacts.require(path)
    made_by = artifacts.made_by(path)
    try:
        with safe_open(path, framework="pt") as file:
            written = json.loads(file.metadata()["architecture"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not what `{made_by}` writes ({reason(error)}); move it away and run that again"
        ) from None
    if written != dict(own):
        raise UserError(f"{path}: was made from {written}, not from {dict(own)}; run `{made_by}` again")
    model = OwnModel(build(own["import"]))
    try:
        model.network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        why = state_dicts.told(error) or reason(error)
        raise UserError(f"{path}: does not fit {own['import']} ({why}); run `{made_by}` again") from None
    return model


def build(name: str) -> nn.Module:
    """Call what an import path ``module:function`` names.

    Raises:
        UserError: it cannot be imported or called, or returns no torch.nn.Module.
    """
    module, _, function = name.partition(":")
    try:
        network = getattr(importlib.import_module(module), function)()
    except (Exception, SystemExit) as error:  # the user's own code
        raise UserError(f"{FILE}: model.import: {name} failed ({_failure(error)})") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"{FILE}: model.import: {name} gave {type(network).__name__}; return a torch.nn.Module")
    return network.eval()


def _failure(error: BaseException) -> str:
    """What went wrong in a user's function, with a way out where the file that it loads is of another kind."""
    if misfit := state_dicts.told(error):
        return f"the weights do not fit the network: {misfit}"
    if isinstance(error, pickle.UnpicklingError):  # torch advises to load it all the same, which runs its code
        return f"{reason(error).partition('. ')[0]}; the file holds more than weights: save state_dict() and load that"
    return f"{type(error).__name__}: {reason(error)}"


def check(model: nn.Module, images: Tensor, key: str) -> None:
    """Refuse a model that is not a function of each image alone: attacks and metrics would mean nothing.

    ``images`` (B, C, H, W) in [0, 1] are a few test images, ``key`` the model's place in params.yaml.

    Raises:
        UserError: it is randomized, depends on the batch, or gives numbers that are not finite; names the first
            layer that is in training mode.
    """
    try:
        why = not_a_function(model, images)
    except Exception as error:  # the user's own code
        why = f"it fails on {len(images)} images ({reason(error)})"
    if why:
        training = next((name for name, layer in model.named_modules() if layer.training and name), "")
        seen = f" (layer {training.removeprefix('network.')} is in training mode)" if training else ""
        raise UserError(f"{FILE}: {key}: the model cannot be measured: {CONTROL.sub('', why)}{seen}")


def some(count: int) -> Tensor:
    """Rows of the test images, of ``count``, that a model is tried on."""
    return torch.arange(min(IMAGES, count))


def save(network: nn.Module, own: Mapping[str, Any], path: Path) -> None:
    """Write an imported network's weights, and what it was imported from.

    Raises:
        UserError: its state holds something else than tensors.
    """
    state = network.state_dict()
    other = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if other:
        raise UserError(f"{own['import']}: {other} of its state_dict() is no tensor; keep it out (get_extra_state)")
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    checkpoints.write(weights, own, path)


def copy(own: Mapping[str, Any], channels: int, side: int, path: Path) -> Embedder:
    """Copy a safetensors checkpoint that this project wrote, for images of ``channels`` x ``side`` x ``side``.

    Raises:
        UserError: it is missing, not the one named, not of this project, or was trained on other images.
    """
    source = Path(own["safetensors"])
    key = f"{FILE}: model.safetensors: {source}"
    if not source.is_file():
        raise UserError(f"{key}: missing; put the checkpoint there")
    if checksums.sha256(source) != own["sha256"]:
        raise UserError(
            f"{FILE}: model.sha256: {source} has SHA-256 {checksums.sha256(source)}; write that, or another file"
        )
    try:
        model = checkpoints.read(source)
    except checkpoints.AlteredError as error:
        raise UserError(f"{key}: {error}; copy it again from where it was trained") from None
    except checkpoints.ForeignError as error:
        raise UserError(
            f"{key}: not a checkpoint of this project ({error}); write a function that builds its network and loads "
            "it, and name that with `import` (docs/own_model.md)"
        ) from None
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, side, side))
    except RuntimeError as error:
        raise UserError(f"{source}: does not fit images of {channels} x {side} x {side} ({reason(error)})") from None
    shutil.copyfile(source, path)
    return model
