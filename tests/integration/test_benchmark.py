"""The Python call measures what the pipeline measures, and says in one line what it cannot use."""

import numpy as np
import pandas as pd
import pytest
import torch
from same_values import assert_same_values
from torch import nn

from stages import benchmark
from stages.core.scores import SUB_SCORES

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(3).repeat(4)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 5))


def test_the_same_values_as_the_pipeline(tiny, monkeypatch):
    tiny.edit(lambda params: params["run"].update(defenses=["ca_tride"]))
    tiny.edit(lambda params: params["datasets"]["digits"].update(attack_queries=40))
    for words in (("prepare", "digits"), ("validate", "digits"), ("train", "digits", "ca_tride", 0),
                  ("evaluate", "digits", "ca_tride", 0)):  # fmt: skip
        tiny.stage(*words)
    monkeypatch.chdir(tiny.folder)
    from stages import attack
    from stages.data.splits import load_split
    from stages.models import checkpoints
    from stages.reporting.results import read_model
    from stages.runtime import params

    loaded, model = params.load(), checkpoints.load(tiny.folder / "models/digits/ca_tride/0/model.safetensors", "")
    block, run = loaded["datasets"]["digits"], loaded["run"]
    for name in run["attacks"]:
        attack.attack(loaded, "digits", "ca_tride", 0, name)
    blocks = {name: params.attack(loaded, name, "digits") for name in run["attacks"]}
    there = read_model("digits", "ca_tride", 0, blocks)

    test = load_split("digits", "test")
    alpha = params.attack(loaded, "es", "digits")["alpha_over_eps"] * block["eps"]
    asked = {"eps": block["eps"], "alpha": alpha, "steps": 2, "attack_queries": 40, "dataset": "digits"}
    here = benchmark(model, test.pixels[test.rows], test.labels, image_ids=test.image_ids, **asked)
    assert {*SUB_SCORES, "ers", "recall_at_1", "map", "nmi"} <= set(here.index)
    assert_same_values(here, there)


def test_layouts_and_types_are_the_same_images():
    stored = (255 * IMAGES).round().to(torch.uint8)
    asked = {"eps": 0.1, "steps": 1, "attacks": ["es", "tma"]}
    first = benchmark(network(), stored, LABELS, **asked)
    for same in (stored.numpy(), stored.permute(0, 2, 3, 1).numpy(), stored.numpy().astype(np.float32) / 255):
        pd.testing.assert_frame_equal(benchmark(network(), same, torch.from_numpy(LABELS), **asked), first)
    assert "ers" not in first.index
    assert first.loc["es_d", "value"] > 0


def test_the_model_is_left_as_it_was():
    model = network().train()
    model[2].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    benchmark(model, IMAGES, LABELS, eps=0.1, steps=1, attacks=["es"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert [value.requires_grad for value in model.parameters()] == [True, True, True, False]


def test_an_attack_that_did_not_attack_is_warned_of():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with pytest.warns(UserWarning, match="attack es: no image was changed|attack es: only"):
        benchmark(model, IMAGES, LABELS, eps=0.1, steps=0, attacks=["es"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": IMAGES * 255}, "images: floats outside"),
        ({"images": IMAGES.int()}, "images: of type torch.int32"),
        ({"images": IMAGES[0]}, r"images: of shape \(1, 8, 8\)"),
        ({"images": torch.full((12, 1, 8, 8), torch.nan)}, "images: floats outside"),
        ({"labels": LABELS[:5]}, r"labels: int64 of shape \(5,\); give a whole number for each of 12 images"),
        ({"labels": LABELS / 2}, "labels: float64"),
        ({"labels": np.zeros(12, dtype=int)}, "labels: 1 different ones; give 2 or more"),
        ({"image_ids": LABELS}, "image_ids: 3 different ones; give 12 or more"),
        ({"eps": 8}, "eps: 8 is not above 0 and at most 1"),
        ({"alpha": 0}, "alpha: 0 is not above 0"),
        ({"attacks": ["pgd"]}, "attacks: 'pgd' is not there; choose from ca_plus"),
        ({"model": nn.Conv2d(1, 1, 3)}, "model: the model must map B images"),
        ({"model": nn.Linear(3, 3)}, "model: the model cannot take images"),
        ({"model": 3}, "model: int; give a torch.nn.Module"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(change, expected):
    asked = {"model": network(), "images": IMAGES, "labels": LABELS, "eps": 0.1, "attacks": ["es"], "steps": 1}
    with pytest.raises(ValueError, match=expected) as told:
        benchmark(**asked | change)
    assert "\n" not in str(told.value)
