"""The training loop: batches, repeatability, and what stops it."""

from functools import partial

import pytest
import torch
from batch_world import EPS, embedder

from stages.core import losses
from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.training import TrainConfig, TrainingError, in_mode, pair_batches, train


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
    setting = TrainConfig(
        partial(DEFENSES[defense], **options), MINERS["semihard"], EPS, 10.0, epochs, 8, 1e-3, 4e-4, seed
    )
    rows = list(train(model, lambda batches, _: ((rows, images[rows]) for rows in batches), labels, setting))
    return rows, model.state_dict()


@pytest.mark.parametrize("name", list(DEFENSES))
def test_training_repeats_itself_and_depends_on_the_seed(name):
    first, again, other = study(name), study(name), study(name, seed=1)
    assert first[0] == again[0]
    assert all(torch.equal(first[1][key], again[1][key]) for key in first[1])
    assert not all(torch.equal(first[1][key], other[1][key]) for key in first[1])


def recorded_run(epochs=3, **changes):
    """Train with a defense that writes down its schedule and returns a triplet loss of its own choosing."""
    seen, labels = [], torch.arange(3).repeat_interleave(10).numpy()

    def recording(batch, state, *, eps):
        seen.append((state, batch, eps))
        return DEFENSES["vanilla"](batch, state, eps=eps)._replace(triplet_loss=torch.tensor(float(len(seen))))

    setting = TrainConfig(recording, MINERS["hardest"], EPS, 10.0, epochs, 8, 1e-3, 4e-4, 0)._replace(**changes)
    images, model = torch.rand(30, 1, 4, 4, dtype=torch.float64), embedder()
    rows = list(train(model, lambda batches, _: ((rows, images[rows]) for rows in batches), labels, setting))
    return seen, rows, model


def test_schedule_of_a_run():
    """Steps never restart, progress is e/E, and each step is told the triplet loss of the one before."""
    seen, _, _ = recorded_run()
    schedules = [state for state, _, _ in seen]
    assert [state.step for state in schedules] == list(range(12))  # four batches in each of three epochs
    assert [state.progress for state in schedules] == [0] * 4 + [1 / 3] * 4 + [2 / 3] * 4
    assert [state.previous_loss for state in schedules] == [2.0, *map(float, range(1, 12))]
    assert {eps for _, _, eps in seen} == {EPS}


def test_one_step_is_adam_with_weight_decay():
    (first, *_), _, trained = recorded_run(epochs=1, pairs_per_batch=30, learning_rate=0.01, weight_decay=0.1)
    model = embedder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    batch = first[1]._replace(live=in_mode(model, True))
    DEFENSES["vanilla"](batch, first[0], eps=EPS).loss.backward()
    optimizer.step()
    for name, expected in model.state_dict().items():
        assert torch.allclose(trained.state_dict()[name], expected), name


def test_epoch_rows_by_loop():
    """Batches of 8, 8, 8 and 6 pairs; each counts by its pairs. Clean figures come from the mined clean triplets."""
    seen, rows, _ = recorded_run(epochs=1)
    pairs, loss, collapse, hard = [], [], [], []
    for _, batch, _ in seen:
        a, p, n = batch.clean_triplet()
        dp, dn = losses.distance(a, p), losses.distance(a, n)
        pairs.append(len(batch.images) // 2)
        loss.append(torch.relu(dp - dn + 0.2).mean().item())
        hard.append((dp - dn).mean().item())
        collapse.append((losses.softmax_weighted(dp, 10.0) - losses.softmax_weighted(dn, 10.0)).item())
    assert pairs == [8, 8, 8, 6]
    (row,) = rows
    for found, values in ((row.loss, loss), (row.collapseness, collapse), (row.hardness, hard)):
        assert found == pytest.approx(sum(w * v for w, v in zip(pairs, values, strict=True)) / 30)
    assert row.loss_adversarial == pytest.approx(row.loss)  # the vanilla loss trains on the clean triplets


def test_training_without_a_second_class_in_any_batch_is_refused():
    with pytest.raises(TrainingError, match="no batch of epoch 0 held two classes; raise pairs_per_batch"):
        recorded_run(pairs_per_batch=1)


def test_live_batchnorm_sees_one_forward_pass_per_step():
    """Perturbing happens in evaluation mode; a PGD loop in training mode would feed its images to the statistics."""
    labels = torch.arange(3).repeat_interleave(10).numpy()
    images, model = torch.rand(30, 1, 4, 4, dtype=torch.float64), embedder(freeze=False)
    setting = TrainConfig(DEFENSES["est"], MINERS["random"], EPS, 10.0, 2, 8, 1e-3, 0.0, 0)
    list(train(model, lambda batches, _: ((rows, images[rows]) for rows in batches), labels, setting))
    assert model.network[1].num_batches_tracked == 2 * 4


def test_training_lowers_the_clean_loss():
    rows, _ = study("vanilla", epochs=25)
    assert rows[-1].loss < 0.5 * rows[0].loss


def test_a_loss_that_is_not_finite_stops_training():
    def broken(batch, state, *, eps):
        trained = DEFENSES["vanilla"](batch, state, eps=eps)
        return trained._replace(loss=trained.loss * float("nan"))

    labels = torch.arange(3).repeat_interleave(10).numpy()
    setting = TrainConfig(broken, MINERS["random"], EPS, 10.0, 1, 8, 1e-3, 0.0, 0)
    images = torch.rand(30, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(TrainingError, match="the loss became nan in epoch 0; lower the learning rate"):
        list(train(embedder(), lambda batches, _: ((rows, images[rows]) for rows in batches), labels, setting))
