"""The embedder, seeds, and models on disk."""

import pickle
from pathlib import Path

import pytest
import torch
from batch_world import embedder

from stages.core.seeding import generator, seed_of
from stages.models import checkpoints
from stages.runtime.errors import UserError

ARCHITECTURE = checkpoints.Architecture("digits_cnn", channels=1, side=8, embedding_dim=16, freeze_batchnorm=True)


def test_embeddings_have_unit_norm_and_pixels_are_normalized_inside():
    model = embedder().eval()
    images = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    embeddings = model(images)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(5, dtype=torch.float64))
    raw = model.network((images - 0.5) / 0.25)
    assert torch.allclose(embeddings, raw / raw.norm(dim=1, keepdim=True))


def test_frozen_statistics_stay_while_scale_and_shift_train():
    model = embedder().train()
    norm = model.network[1]
    before = norm.running_mean.clone()
    model(torch.rand(5, 1, 4, 4, dtype=torch.float64)).sum().backward()
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad is not None
    assert not norm.training
    assert model.training


def test_seeds_depend_on_the_words_and_on_where_they_part():
    assert seed_of("digits", 0) == seed_of("digits", 0)
    assert len({seed_of("a", "b"), seed_of("ab"), seed_of("a", "b", ""), seed_of("b", "a")}) == 4
    assert all(0 <= seed_of(i) < 2**63 for i in range(100))
    assert torch.equal(torch.rand(3, generator=generator(1, "x")), torch.rand(3, generator=generator(1, "x")))


@pytest.mark.parametrize(("side", "dimension"), [(8, 16), (7, 3)])
def test_digits_cnn_shapes(side, dimension):
    architecture = ARCHITECTURE._replace(side=side, embedding_dim=dimension)
    assert checkpoints.build(architecture)(torch.rand(2, 1, side, side)).shape == (2, dimension)


def test_a_checkpoint_explains_itself(tmp_path):
    model = checkpoints.build(ARCHITECTURE)
    for name in ("a", "b"):
        checkpoints.save(model, ARCHITECTURE, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = checkpoints.load(tmp_path / "a.safetensors")
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(loaded(images), model.eval()(images))
    assert not loaded.training


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code from a checkpoint was run",))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def pickled(path):
    path.write_bytes(pickle.dumps(Evil()))


def other_width(path):
    model = checkpoints.build(ARCHITECTURE)
    checkpoints.save(model, ARCHITECTURE._replace(embedding_dim=8), path)


def unknown_backbone(path):
    model = checkpoints.build(ARCHITECTURE)
    checkpoints.save(model, ARCHITECTURE._replace(backbone="vgg"), path)


@pytest.mark.parametrize("damage", [truncated, pickled, other_width, unknown_backbone])
def test_damaged_and_hostile_checkpoints_are_named(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    path = Path("models/digits/act/0/model.safetensors")
    path.parent.mkdir(parents=True)
    checkpoints.save(checkpoints.build(ARCHITECTURE), ARCHITECTURE, path)
    damage(path)
    with pytest.raises(UserError) as caught:
        checkpoints.load(path)
    assert str(caught.value).startswith(f"{path}: not a checkpoint of this project (")
    assert "move it away and run `python -m stages.train digits act 0`" in str(caught.value)
    assert "\n" not in str(caught.value)
