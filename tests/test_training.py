"""The training loop: batches, repeatability, and what stops it."""

from functools import partial

import pytest
import torch
from batch_world import EPS, embedder

from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.training import Setting, pair_batches, train


def test_pair_batches_visit_every_image_once_with_a_classmate():
    labels = torch.arange(5).repeat_interleave(7).numpy()
    rows = torch.cat(list(pair_batches(labels, 8, torch.Generator().manual_seed(0))))
    assert sorted(rows[0::2].tolist()) == list(range(35))
    assert (labels[rows[0::2]] == labels[rows[1::2]]).all()
    assert len(set(rows[1::2].tolist())) < 35
    sizes = [len(batch) for batch in pair_batches(labels, 8, torch.Generator().manual_seed(0))]
    assert sizes == [16, 16, 16, 16, 6]


def study(defense, seed=0, epochs=3, **options):
    """A whole training run on three-class noise; returns the rows and the weights."""
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(3).repeat_interleave(10).numpy()
    images = torch.rand(30, 1, 4, 4, generator=draw, dtype=torch.float64)
    model = embedder()
    setting = Setting(partial(DEFENSES[defense], **options), MINERS["semihard"], EPS, 10.0, epochs, 8, 1e-3, 4e-4, seed)
    rows = list(train(model, lambda rows, _: images[rows], labels, setting))
    return rows, model.state_dict()


@pytest.mark.parametrize("name", list(DEFENSES))
def test_training_repeats_itself_and_depends_on_the_seed(name):
    first, again, other = study(name), study(name), study(name, seed=1)
    assert first[0] == again[0]
    assert all(torch.equal(first[1][key], again[1][key]) for key in first[1])
    assert not all(torch.equal(first[1][key], other[1][key]) for key in first[1])


def test_live_batchnorm_sees_one_forward_pass_per_step():
    """Perturbing happens in evaluation mode; a PGD loop in training mode would feed its images to the statistics."""
    labels = torch.arange(3).repeat_interleave(10).numpy()
    images, model = torch.rand(30, 1, 4, 4, dtype=torch.float64), embedder(freeze=False)
    setting = Setting(DEFENSES["est"], MINERS["random"], EPS, 10.0, 2, 8, 1e-3, 0.0, 0)
    list(train(model, lambda rows, _: images[rows], labels, setting))
    assert model.network[1].num_batches_tracked == 2 * 4


def test_training_lowers_the_clean_loss():
    rows, _ = study("vanilla", epochs=25)
    assert rows[-1].loss < 0.5 * rows[0].loss


def test_a_loss_that_is_not_finite_stops_training():
    def broken(batch, state, *, eps):
        trained = DEFENSES["vanilla"](batch, state, eps=eps)
        return trained._replace(loss=trained.loss * float("nan"))

    labels = torch.arange(3).repeat_interleave(10).numpy()
    setting = Setting(broken, MINERS["random"], EPS, 10.0, 1, 8, 1e-3, 0.0, 0)
    images = torch.rand(30, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="epoch 0"):
        list(train(embedder(), lambda rows, _: images[rows], labels, setting))
