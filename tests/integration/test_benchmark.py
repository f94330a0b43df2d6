"""The Python call measures what the pipeline measures, and says in one line what it cannot use."""

from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch
from same_values import assert_same_values
from torch import nn

from stages import STANDARD_ATTACKS, STRONG_ATTACKS, benchmark
from stages.core.scores import SUB_SCORES

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(3).repeat(4)


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 5))


def test_the_same_values_as_the_pipeline(tiny, monkeypatch):
    """The nine attacks of ERS, a strong suite, a black box and a block of one's own."""
    suite = {
        "fine": {"steps": 3},
        "apgd": {"optimizer": "apgd", "start": "random", "restarts": 2, "steps": 2, "surrogate": "softplus"},
        "nes": {"optimizer": "nes", "steps": 1},
        "square": {"optimizer": "square", "steps": 4},
    }
    hard = {"extends": "ltm", "optimizer": "apgd", "restarts": 2, "steps": 3, "eps_scale": 0.5}
    further = {"ltm_strong": {"suite": suite}, "ltm_square": {"steps": 5}, "ltm_hard": hard}
    tiny.edit(lambda params: params.update(papers=["strong"]))
    tiny.edit(lambda params: params["run"].update(defenses=["ca_tride"]))
    tiny.edit(lambda params: params["run"]["attacks"].extend(further))
    tiny.edit(lambda params: params["attacks"].update(further))
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

    loaded, model = params.load(), checkpoints.load(tiny.folder / "models/digits/ca_tride/0/model.safetensors")
    block, run = loaded["datasets"]["digits"], loaded["run"]
    for name in run["attacks"]:
        attack.attack(loaded, "digits", "ca_tride", 0, name)
    blocks = {name: params.attack(loaded, name, "digits") for name in run["attacks"]}
    there = read_model("digits", "ca_tride", 0, blocks)

    test = load_split("digits", "test")
    alpha = params.attack(loaded, "es", "digits")["alpha_over_eps"] * block["eps"]
    asked = {"eps": block["eps"], "alpha": alpha, "steps": 2, "attack_queries": 40, "dataset": "digits"}
    attacks = {name: {} for name in STANDARD_ATTACKS} | further
    here = benchmark(model, test.pixels[test.rows], test.labels, image_ids=test.image_ids, attacks=attacks, **asked)
    assert {*SUB_SCORES, "ers", "recall_at_1", "map", "nmi"} <= set(here.index)
    assert here.loc["ltm:ltm_strong", "value"] <= here.loc["ltm", "value"]
    assert_same_values(here, there)


def test_layouts_and_types_are_the_same_images():
    stored = (255 * IMAGES).round().to(torch.uint8)
    asked = {"eps": 0.1, "steps": 1, "attacks": ["es", "tma"]}
    first = benchmark(network(), stored, LABELS, **asked)
    for same in (stored.numpy(), stored.permute(0, 2, 3, 1).numpy(), stored.numpy().astype(np.float32) / 255):
        pd.testing.assert_frame_equal(benchmark(network(), same, torch.from_numpy(LABELS), **asked), first)
    assert "ers" not in first.index
    assert first.loc["es_d", "value"] > 0


def test_all_strong_goals_give_ers_strong():
    """Of each query the worst of the suite and of the protocol's attack, which a larger step beats here."""
    black = {name: {"optimizer": name, "steps": 1} for name in ("nes", "square")}
    quick = {"suite": {"fine": {"steps": 1}, "apgd": {"optimizer": "apgd", "steps": 1}} | black}
    attacks = {name: {} for name in STANDARD_ATTACKS} | dict.fromkeys(STRONG_ATTACKS, quick)
    values = benchmark(network(), IMAGES, LABELS, eps=0.1, steps=4, attacks=attacks)["value"]
    assert 0 < values["ers_strong"] <= values["ers"]
    assert values["ers_surviving"] == pytest.approx(100 * values["ers_strong"] / values["ers"])
    assert values["tma:tma_strong"] >= values["tma"]


def test_every_packaged_block_has_its_metrics():
    attacks = ["spqa_plus", "order", "ltm_exact", "ltm_nes", "gtm_fine"]
    found = set(benchmark(network(), IMAGES, LABELS, eps=0.1, steps=1, attacks=attacks).index)
    assert {"spqa_plus", "spqa_plus_kept", "order", "ltm:ltm_exact", "ltm:ltm_nes", "gtm:gtm_fine"} <= found


def test_members_may_be_called_like_columns_and_blocks_may_be_any_mappings():
    blocks = {"ltm": MappingProxyType({"suite": MappingProxyType({"x_after": MappingProxyType({"steps": 2})})})}
    values = benchmark(network(), IMAGES, LABELS, eps=0.1, steps=1, attacks=blocks)["value"]
    assert {"ltm", "ltm@x_after"} <= set(values.index)


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
    with pytest.warns(UserWarning, match="attack es: no image was changed"):
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
        ({"alpha": 0.2}, "alpha: 0.2 is not above 0 and at most eps, 0.1"),
        ({"eps": "8/255"}, "eps: '8/255' is not above 0 and at most 1; pixels are in"),
        ({"eps": np.full((2, 2), 0.1)}, "eps: .* is not above 0 and at most 1"),
        ({"alpha": "x"}, "alpha: 'x' is not above 0 and at most eps, 0.1"),
        ({"attack_queries": 0}, 'attack_queries: 0 is no whole number of at least 1, nor "all"'),
        ({"attack_queries": -1}, "attack_queries: -1 is no whole number"),
        ({"attack_queries": "ten"}, "attack_queries: 'ten' is no whole number"),
        ({"attack_queries": 2.5}, "attack_queries: 2.5 is no whole number"),
        ({"attack_batch": 0}, "attack_batch: 0 is no whole number of at least 1$"),
        ({"attack_batch": "all"}, "attack_batch: 'all' is no whole number"),
        ({"images": None}, "images: no array of images"),
        ({"images": [[1], [2, 3]]}, "images: no array of images"),
        ({"labels": [[1], [2, 3]]}, "labels: no array of whole numbers"),
        ({"steps": -1}, "attacks.es.steps: -1 is less than the minimum of 0"),
        ({"attacks": ["pgd"]}, "attacks: 'pgd' is not there; choose from ca_minus"),
        ({"attacks": "es"}, "attacks: 'es' is no list of names"),
        ({"attacks": [{"ltm": {}}]}, "attacks: .* is no list of names and no mapping"),
        ({"attacks": {"ltm": {"optimizer": "adam"}}}, "attacks.ltm.optimizer: 'adam' is not there; choose from apgd"),
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


def test_an_image_without_a_finite_embedding_is_named():
    class Overflows(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 5)

        def forward(self, images):
            embeddings = self.layer(images.flatten(1))
            return torch.where(images.flatten(1)[:, :1] > 1 - 1e-6, torch.nan, embeddings)

    images = IMAGES.clone()
    images[7, 0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="model: gives embeddings that are not finite numbers, first for image 7"):
        benchmark(Overflows(), images, LABELS, eps=0.1, steps=1, attacks=["es"])


def test_names_of_attacks_may_come_from_any_iterable():
    found = benchmark(network().eval(), IMAGES, LABELS, eps=0.1, steps=1, attacks=(name for name in ["es"]))
    assert "es_d" in found.index
    with pytest.raises(ValueError, match="attacks: None is no list of names"):
        benchmark(network().eval(), IMAGES, LABELS, eps=0.1, attacks=None)


@pytest.mark.parametrize("name", ["order", "spqa_minus"])
def test_two_images_are_too_few_for_some_attacks(name):
    given = {"images": IMAGES[::6], "labels": np.arange(2), "eps": 0.1, "steps": 1}
    with pytest.raises(ValueError, match=f"attacks: {name} needs a gallery of 3 images or more; 2 are there"):
        benchmark(network(), **given, attacks=[name])
    assert "es_d" in benchmark(network(), **given, attacks=["es"]).index
