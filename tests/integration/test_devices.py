"""Nothing is left on the CPU: training and attacks on a pretended second device, bit for bit as on the CPU.

A real GPU rounds differently and was not to be had; what these tests hold is where tensors are created and moved.
"""

from functools import partial

import pandas as pd
import pytest
import torch
from batch_world import EPS, embedder
from pretend_device import PLACE, Pretend

from stages import attack as attack_stage
from stages import evaluate as evaluate_stage
from stages import train as train_stage
from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.seeding import generator
from stages.core.sets import ONE_SET, Sets
from stages.core.training import TrainConfig, train
from stages.models.attacking import ImageSet, target_columns
from stages.models.transferring import Kept, Target, measure
from stages.runtime import device, params
from stages.runtime.errors import UserError

CPU = torch.device("cpu")
LABELS = torch.arange(3).repeat_interleave(10)


def images():
    return torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def study(device, defense="vanilla", miner="random", freeze=True, **options):
    """Two epochs on three-class noise; the weights, back on the CPU, and the history."""
    pixels, model = images(), embedder(freeze).to(device)
    setting = TrainConfig(partial(DEFENSES[defense], **options), MINERS[miner], EPS, 10.0, 2, 8, 1e-3, 4e-4, 0)
    rows = list(
        train(model, lambda batches, _: ((rows, pixels[rows].to(device)) for rows in batches), LABELS.numpy(), setting)
    )
    return {name: value.cpu() for name, value in model.state_dict().items()}, rows


def same_there(compute):
    """Whether ``compute(device)``, a mapping of tensors and something comparable, is the same on both devices."""
    values, rest = compute(CPU)
    with Pretend():
        values_there, rest_there = compute(PLACE)
    assert rest == rest_there
    assert list(values) == list(values_there)
    return all(torch.equal(values[name], values_there[name]) for name in values)


@pytest.mark.parametrize(
    ("defense", "options"),
    [
        *((name, {}) for name in DEFENSES),
        ("est", {"freeze": False}),
        ("hm", {"ics_weight": 0.5}),
        ("hm", {"destination": "boundary", "miner": "softhard"}),
    ],
)
def test_every_defense_trains_where_its_images_are(defense, options):
    assert same_there(partial(study, defense=defense, **options))


@pytest.mark.parametrize("miner", list(MINERS))
def test_every_miner_draws_the_same_wherever_the_network_runs(miner):
    assert same_there(partial(study, miner=miner))


def attacked(device, name, steps, sets=ONE_SET):
    """Figures of one attack on ten items."""
    model = embedder().eval().to(device)
    with torch.no_grad():
        gallery = Gallery.of_sets(model(images().to(device)), LABELS.to(device), sets, ATTACKS[name].perturbs)
    items = torch.arange(0, 30, 3) if sets is ONE_SET else torch.arange(10)
    rows = items if sets is ONE_SET else (sets.queries if ATTACKS[name].perturbs == "query" else sets.gallery)[items]
    draws = [generator(0, name, int(item)) for item in items]
    batch = AttackBatch(gallery, items.to(device), ATTACKS[name].select(gallery, items.to(device), draws))
    result = run(ATTACKS[name], model, images()[rows].to(device), batch, eps=EPS, alpha=EPS / 4, steps=steps)
    figures = result._asdict() | {"targets": batch.targets}
    for when in ("before", "after"):
        figures |= {f"{key}_{when}": value for key, value in figures.pop(when).items()}
    assert {value.device.type for value in figures.values()} == {device.type}
    return {key: value.cpu() for key, value in figures.items()}, None


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_attack_runs_where_its_images_are(name, steps):
    assert same_there(partial(attacked, name=name, steps=steps))


def transferred(device, name):
    """Figures of ten images that stand for those kept on another model."""
    model = embedder().eval().to(device)
    with torch.no_grad():
        gallery = Gallery.of(model(images().to(device)), LABELS.to(device))
    items = torch.arange(0, 30, 3)
    targets = ATTACKS[name].select(gallery, items.to(device), [generator(0, name, int(item)) for item in items]).cpu()
    columns = {"row": items, **target_columns(targets)}
    table = pd.DataFrame({key: column.numpy() for key, column in columns.items()})
    test = ImageSet(gallery, items.numpy(), lambda rows: images()[rows].to(device))
    kept = Kept(table, images()[items].flip(-1), {})
    found = measure(ATTACKS[name], Target(model, test, {}), kept, size=4)
    return {key: torch.from_numpy(found[key].to_numpy()) for key in found}, None


@pytest.mark.parametrize("name", ["qa_plus", "es", "order"])
def test_kept_images_are_measured_where_the_network_runs(name):
    assert same_there(partial(transferred, name=name))


@pytest.mark.parametrize("cameras", [None, torch.arange(30) % 2], ids=["plain", "cameras"])
@pytest.mark.parametrize("name", list(ATTACKS))
def test_attacks_on_two_sets_run_where_their_images_are(name, cameras):
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert same_there(partial(attacked, name=name, steps=1, sets=Sets(order[:12], order[12:], cameras)))


def test_a_tensor_left_on_the_cpu_is_found(monkeypatch):
    """The check checks: an offset drawn for EST and not moved stops training on the other device only."""

    def planted(embed, images, clean, generator, **_):
        return images + 1e-7 * torch.rand(images.shape, generator=generator, dtype=images.dtype)

    monkeypatch.setitem(DEFENSES["est"].__globals__, "shift_embeddings", planted)
    study(CPU, defense="est")
    with Pretend(), pytest.raises(RuntimeError, match="tensors on two devices"):
        study(PLACE, defense="est")


def stages(project):
    """Train, evaluate and attack as the command line does, in this process."""
    loaded = params.load()
    train_stage.train(loaded, "digits", "ca_tride", 0)
    evaluate_stage.evaluate(loaded, "digits", "ca_tride", 0)
    for name in ("ca_minus", "gtm"):
        attack_stage.attack(loaded, "digits", "ca_tride", 0, name)
    return project.files("models", "results")


def test_stages_move_everything_there_and_results_back(tiny, monkeypatch):
    def few(loaded):
        loaded["datasets"]["digits"]["training"]["epochs"] = 1
        loaded["datasets"]["digits"] |= {"attack_queries": 20}

    tiny.edit(few)
    tiny.stage("prepare", "digits")
    tiny.stage("validate", "digits")
    monkeypatch.chdir(tiny.folder)
    here = stages(tiny)
    with Pretend():
        monkeypatch.setattr(device, "find", lambda name, dataset: PLACE)
        there = stages(tiny)
    assert sorted(here) == sorted(there)
    assert [name for name in here if here[name] != there[name]] == []
    history = pd.read_csv(tiny.folder / "models/digits/ca_tride/0/history.csv")
    assert len(history) == 1


def test_a_gpu_that_is_not_there_is_said_in_one_line(tiny, monkeypatch):
    tiny.edit(lambda loaded: loaded["datasets"]["digits"]["training"].update(device="cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = tiny.stage("train", "digits", "ca_tride", 0, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "datasets.digits.training.device: asks for cuda device 0, but torch finds 0" in done.stderr
    assert "write cpu, or" in done.stderr


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.find("cuda", "cub") == torch.device("cuda", 1)
    assert device.find("cpu", "cub") == CPU
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="asks for cuda device 2, but torch finds 2 on this machine; write cpu"):
        device.find("cuda", "cub")
