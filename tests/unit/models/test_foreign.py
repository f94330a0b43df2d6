"""Weights from elsewhere: what does not fit is named with a hint, nothing is called damaged, no code in data is run."""

import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from stages.core.defenses.own import own as width
from stages.core.models import OwnModel
from stages.core.training import TrainingError
from stages.models import checkpoints, own_models, state_dicts
from stages.runtime.errors import UserError, reason

NAMES = ("0.weight", "0.bias", "2.weight")


def network():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def weights(prefix=""):
    return {prefix + name: value.detach() for name, value in network().state_dict().items()}


def raised(load):
    """What loading raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (any library's)
        load()
    return caught.value


PREFIXES = {
    "module.": "'module.' was added by torch.nn.DataParallel",
    "_orig_mod.": "'_orig_mod.' was added by torch.compile",
    "model.": "'model.' was added by a module that holds the network as .model, as in Lightning",
    "net.": "'net.' was added by a module that holds the network as .net, as in Lightning",
    "module._orig_mod.": "was added by torch.nn.DataParallel and torch.compile",
    "model.encoder.": "a module that holds the network as .model.encoder",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_named_with_the_line_that_strips_it(prefix):
    state = weights(prefix)
    said = state_dicts.told(raised(lambda: network().load_state_dict(state)))
    assert said.startswith("missing 0.weight, 0.bias, 2.weight and 1 more; unexpected " + prefix + "0.weight")
    assert PREFIXES[prefix] in said
    assert f"name.removeprefix({prefix!r})" in said
    assert len(said) < 400


def test_a_wrapped_network_is_told_to_load_into_what_it_wraps():
    said = state_dicts.told(raised(lambda: nn.DataParallel(network()).load_state_dict(weights())))
    assert "the network's own names begin with 'module.'" in said


def test_a_compiled_part_of_a_network_is_seen():
    said = state_dicts.misfit(["body.0.weight", "head.weight"], ["body._orig_mod.0.weight", "other.weight"])
    assert "_orig_mod was added by torch.compile" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"state_dict": weights("model."), "pytorch-lightning_version": "2"}, 'of Lightning: load its ["state_dict"]'),
        ({"model": weights(), "optimizer": {}}, 'a training checkpoint: load its ["model"]'),
        ({"epoch": 1, "model_state_dict": weights()}, 'load its ["model_state_dict"]'),
    ],
)  # fmt: skip
def test_a_checkpoint_that_holds_weights_among_other_things(content, expected):
    assert expected in state_dicts.told(raised(lambda: network().load_state_dict(content)))


def test_other_shapes_are_named():
    other = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).state_dict()
    said = state_dicts.told(raised(lambda: network().load_state_dict(other)))
    assert said == "0.weight has shape [5, 4] in the file and [3, 4] in the network and 2 more"


def test_thousands_of_names_stay_one_short_line():
    missing = [f"blocks.{number}.attention.weight" for number in range(5000)]
    said = state_dicts.misfit(missing, [f"model.{name}" for name in missing])
    assert "and 4997 more" in said
    assert "'model.'" in said
    assert len(said) < 500


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("\x1b[31mbad\x1b[0m \x1b]0;title\x07news\r\nmore", "bad news"),
        ("\n\n  Error(s) in loading:\n\tthis\n\tthat\n", "Error(s) in loading: this that"),
        ("Command failed.\nTraceback (most recent call last):\n  File x\nKeyError: 'fc'\n", "KeyError: 'fc'"),
        ("CUDA error: no memory\nCompile with TORCH_USE_CUDA_DSA", "CUDA error: no memory"),
        ("", "RuntimeError"),
    ],
)
def test_messages_of_libraries_lose_their_codes_and_keep_the_cause(message, expected):
    assert reason(RuntimeError(message)) == expected


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to stand in, whose modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


class Evil(nn.Module):
    """Fails the test if it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code from a file was run",))


def test_a_pickled_network_is_refused_unrun_and_not_advised_to_be_trusted(place):
    torch.save(Evil(), "net.pth")
    (place / "mine.py").write_text("import torch\ndef build():\n    return torch.load('net.pth')\n")
    message = str(raised(lambda: own_models.build("mine:build")))
    assert message.startswith(
        "params.yaml: model.import: mine:build failed (WeightsUnpickler error: Unsupported global"
    )
    assert "save state_dict() and load that" in message
    assert "add_safe_globals" not in message
    assert "\\x1b" not in message


def test_a_build_that_loads_other_names_is_told_which(place):
    torch.save(weights("module."), "w.pt")
    (place / "mine.py").write_text(
        "import torch\nfrom torch import nn\ndef build():\n"
        "    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))\n"
        "    net.load_state_dict(torch.load('w.pt'))\n    return net\n"
    )
    message = str(raised(lambda: own_models.build("mine:build")))
    assert "the weights do not fit the network: missing 0.weight" in message
    assert "torch.nn.DataParallel" in message


def ours(path="ours.safetensors", change=None, metadata=None):
    """A checkpoint of this project, or one that another program made of it."""
    architecture = checkpoints.Architecture("c2f2", 1, 8, 8, True)
    model = checkpoints.build(architecture)
    checkpoints.save(model, architecture, Path(path))
    if change:
        with safe_open(path, framework="pt") as file:
            described = file.metadata()
        save_file(change(load_file(path)), path, metadata=metadata or described)


def renamed(state):
    return {f"module.{name}": value for name, value in state.items()}


def halved(state):
    return {name: value.half() for name, value in state.items()}


def nudged(state):
    first = next(iter(state))
    return state | {first: state[first] + 1}


FOREIGN = {
    "no metadata": lambda: save_file({"model.fc.weight": torch.zeros(2, 2)}, "x.safetensors"),
    "another's metadata": lambda: save_file(weights("module."), "x.safetensors", metadata={"format": "pt"}),
    "another's architecture": lambda: save_file(weights(), "x.safetensors", metadata={"architecture": "resnet50"}),
    "no tensors": lambda: save_file({}, "x.safetensors"),
    "a file of torch.save": lambda: torch.save(weights(), "x.safetensors"),
    "a pickled network": lambda: torch.save(Evil(), "x.safetensors"),
    "a web page": lambda: Path("x.safetensors").write_text("<!DOCTYPE html>"),
    "ours under other names": lambda: ours("x.safetensors", renamed),
    "ours in half precision": lambda: ours("x.safetensors", halved),
    "ours with one weight changed": lambda: ours("x.safetensors", nudged),
    "ours with another's metadata": lambda: ours("x.safetensors", dict, {"format": "pt"}),
}
HINTS = {
    "no metadata": "holds model.fc.weight; 'model.' was added by",
    "another's metadata": "torch.nn.DataParallel",
    "ours under other names": "'module.' was added by torch.nn.DataParallel",
    "ours in half precision": "is torch.float16 instead of float32, so it was converted",
    "ours with one weight changed": "its weights are not those that were saved; copy it again",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_project_is_neither_damaged_nor_to_be_deleted(place, name):
    FOREIGN[name]()
    source = Path("x.safetensors")
    before = source.read_bytes()
    own = {"safetensors": "x.safetensors", "sha256": sha256(before).hexdigest()}
    message = str(raised(lambda: own_models.copy(own, 1, 8, place / "model.safetensors")))
    assert message.startswith("params.yaml: model.safetensors: x.safetensors: ")
    assert HINTS.get(name, "docs/own_model.md") in message
    copied = raised(lambda: checkpoints.load(source))
    adopted = raised(lambda: own_models.load(source, {"import": "mine:build"}))
    for said in (message, str(copied), str(adopted)):
        assert "delete" not in said
        assert "damaged" not in said
        assert "\n" not in said
        assert len(said) < 500
    assert source.read_bytes() == before
    assert not (place / "model.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_of_any_float_type_leave_as_those_of_the_images(place, dtype):
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 2).to(dtype)  # without a ReLU, which may leave no gradient

        def forward(self, images):
            return 300 * self.inner(images.flatten(1).to(dtype))  # whose squares float16 cannot hold

    model = OwnModel(Cast())
    images = torch.rand(3, 1, 2, 2).requires_grad_()
    embeddings = model(images)
    assert embeddings.dtype == torch.float32
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3))
    assert torch.autograd.grad(embeddings[:, 0].sum(), images)[0].any()
    own = {"import": "mine:build", "revision": 1}
    own_models.save(model.network, own, place / "m.safetensors")
    assert load_file(place / "m.safetensors")["inner.weight"].dtype == dtype


def test_a_state_that_is_no_tensor_is_named(place):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

    with pytest.raises(UserError, match="mine:build: _extra_state of its state_dict"):
        own_models.save(Extra(2, 2), {"import": "mine:build", "revision": 1}, place / "m.safetensors")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import sys\nsys.exit(2)\n", r"mine:build failed \(SystemExit: 2\)"),
        ("def other():\n    pass\n", r"mine:build failed \(AttributeError: module 'mine' has no attribute 'build'\)"),
        (
            "def build():\n    assert False, '\x1b[1mno\x1b[0m weights\\nhere'\n",
            r"failed \(AssertionError: no weights\)",
        ),
    ],
)
def test_whatever_a_users_file_does_is_one_line(place, text, expected):
    (place / "mine.py").write_text(text)
    with pytest.raises(UserError, match=expected):
        own_models.build("mine:build")


def test_whatever_a_users_network_raises_is_one_line():
    class Rgb(nn.Flatten):
        def forward(self, images):
            assert images.shape[1] == 3, "RGB"

    with pytest.raises(TrainingError, match=r"cannot take images of shape \(2, 1, 4, 4\): RGB"):
        width(Rgb(), torch.zeros(2, 1, 4, 4))
