"""Kept images on another model, against a loop over single images; and what is kept of an attack."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from stages.core.attacks import ATTACKS
from stages.core.attacks.base import Gallery
from stages.core.seeding import EXAMPLES, drawn_order
from stages.models import attacking, transferring
from stages.models.attacking import AttackConfig, ImageSet, Queries
from stages.runtime import artifacts
from stages.runtime.errors import UserError

COUNT, SIDE = 30, 3
IDS = np.arange(COUNT) + 100


def network(seed):
    """A small network of its own weights: linear, a bend, unit norm."""
    draw = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(SIDE * SIDE, SIDE * SIDE, generator=draw) for _ in range(2))
    return lambda images: F.normalize(torch.tanh(images.flatten(1) @ first) @ second)


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(9))


def image_set(embed, pixels):
    return ImageSet(Gallery.of(embed(pixels), torch.arange(COUNT) % 3), IDS, lambda rows: pixels[rows])


def attacked(name, embed, pixels, keep="all", batch=COUNT):
    """An attack on a model as the stage runs and writes it."""
    config, queries = AttackConfig(name, 0.3, 0.1, 3, seed=0), Queries.of(IDS, "all", keep)
    done = attacking.Attacked([], [])
    for _ in attacking.attack_batches(
        config, embed, image_set(embed, pixels), queries.batches(batch), queries.examples, done
    ):
        pass
    return done.table(IDS, queries.rows), done.pictures


def read(folder, name):
    return transferring.Kept.read(folder, name, drawn_order(IDS))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where an attack on a model writes."""
    monkeypatch.chdir(tmp_path)
    return artifacts.result_dir("x", "act", 0)


@pytest.fixture
def written(folder, pixels):
    """Write an attack on network 1 and read what it kept."""

    def write(name, keep="all"):
        table, pictures = attacked(name, network(1), pixels, keep)
        attacking.write(folder, name, table, pictures, {"eps": 0.3, "inputs": {"model": "1"}})
        return read(folder, name)

    return write


def sorted_distances(point, gallery, item):
    """Distances of an image to the gallery, and its order without the item itself."""
    d = [(point - x).double().norm().item() for x in gallery]
    return d, sorted((j for j in range(COUNT) if j != item), key=d.__getitem__)


@pytest.mark.parametrize("name", ["qa_plus", "qa_minus", "tma", "ltm", "gtt", "es", "order", "ca_plus"])
def test_a_transfer_by_loop(name, written, pixels):
    """Every value before and after comes from the measured model's gallery and the source's targets."""
    kept, other = written(name, keep=20), network(2)
    found = transferring.measure(ATTACKS[name], transferring.Target(other, image_set(other, pixels), {}), kept, size=3)
    gallery = other(pixels)
    assert len(found) == 20
    for place, (_, query) in enumerate(kept.table.iterrows()):
        item = int(query["row"])
        for when, image in (("before", pixels[item]), ("after", kept.images[place])):
            point = other(image[None])[0]
            d, ranking = sorted_distances(point, gallery, item)
            if name in ("ltm", "es"):
                column, expected = ("es_r" if name == "es" else name), 100.0 * (ranking[0] % 3 == item % 3)
            elif name == "order":
                wanted = [int(query[f"target_{i}"]) for i in range(1, 6)]
                pairs = [(wanted[a], wanted[b]) for a in range(5) for b in range(a + 1, 5)]
                column, expected = name, sum(1 if d[a] < d[b] else -1 for a, b in pairs) / 10
            elif name == "gtt":
                column, expected = name, 100.0 * (int(query["target"]) in ranking[:4])
            elif name == "tma":
                column, expected = name, float(point @ gallery[int(query["target"])])
            elif name == "ca_plus":
                towards = gallery[int(query["target"])]
                limit = (towards - point).double().norm().item()
                column = name
                expected = 100 / COUNT * sum((towards - x).double().norm().item() < limit - 1e-6 for x in gallery)
            else:
                target = int(query["target"])
                column, expected = name, 100 / COUNT * sum(x < d[target] - 1e-6 for x in d)
            assert found[f"{column}_{when}"][place] == pytest.approx(expected, abs=1e-4), (name, when, place)
    assert (found.filter(like="_after").to_numpy() != found.filter(like="_before").to_numpy()).any()


@pytest.mark.parametrize("name", ["gtt", "order"])
def test_rows_name_the_targets_that_the_images_aim_at(name, written):
    kept = written(name, keep=9)
    found = transferring.rows(kept, kept.own(), seed=3, source="act", defense="hm")
    assert torch.equal(attacking.targets_of(found), attacking.targets_of(kept.table))


@pytest.mark.parametrize("name", ["qa_plus", "order", "ltm", "spqa_minus"])
def test_images_measured_where_they_were_made_give_the_attack_itself(name, written, pixels):
    """So images, rows and targets belong together; other rows' images would give other values."""
    kept, embed = written(name, keep=9), network(1)
    again = transferring.measure(ATTACKS[name], transferring.Target(embed, image_set(embed, pixels), {}), kept, 4)
    own = kept.own()
    assert list(again) == list(own)
    np.testing.assert_allclose(again.to_numpy(), own.to_numpy(), atol=1e-4)
    mixed = kept._replace(images=kept.images.flip(0))
    other = transferring.measure(ATTACKS[name], transferring.Target(embed, image_set(embed, pixels), {}), mixed, 4)
    assert np.abs(other.to_numpy() - own.to_numpy()).max() > 1e-2


@pytest.mark.parametrize(("keep", "count"), [(EXAMPLES, 6), (1, 1), (11, 11), ("all", COUNT), (10 * COUNT, COUNT)])
def test_an_attack_keeps_as_many_images_as_it_is_told(keep, count, pixels):
    """The first drawn, in the order of the gallery; and the rest of what it writes does not depend on it."""
    table, pictures = attacked("qa_plus", network(1), pixels, keep, batch=8)
    whole, every = attacked("qa_plus", network(1), pixels, "all", batch=8)
    assert len(pictures) == count
    rows = sorted(drawn_order(IDS)[:count])
    assert all(torch.equal(picture, every[row]) for picture, row in zip(pictures, rows, strict=True))
    pd.testing.assert_frame_equal(table, whole)


def test_of_fewer_queries_no_more_than_these_are_kept():
    queries = Queries.of(IDS, 4, "all")
    assert queries.examples == set(queries.rows) == set(drawn_order(IDS)[:4])
    assert Queries.of(IDS, "all").examples == set(drawn_order(IDS)[:EXAMPLES])


def test_targets_are_columns_and_come_back():
    one, five = torch.tensor([3, -1]), torch.arange(10).reshape(2, 5)
    for targets, names in ((one, ["target"]), (five, [f"target_{i}" for i in range(1, 6)])):
        table = pd.DataFrame({"row": [0, 1]} | attacking.target_columns(targets) | {"order_after": [0.0, 1.0]})
        assert list(table)[1:-1] == names
        assert torch.equal(attacking.targets_of(table), targets)


def test_a_damaged_or_foreign_file_is_named(written, folder):
    written("ltm")
    (folder / "ltm.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match=r"ltm\.parquet: damaged .* run `python -m stages\.attack x act 0 ltm`"):
        read(folder, "ltm")
    written("ltm")
    (folder / "ltm_examples.npy").unlink()
    with pytest.raises(UserError, match=r"ltm_examples\.npy: missing"):
        read(folder, "ltm")


def test_what_is_written_has_means_of_every_pair(folder, written, pixels):
    kept, parts = written("qa_plus", keep=5), []
    for source in ("a", "b"):
        for defense in ("a", "b"):
            values = kept.own() + (source != defense)
            parts.append(transferring.rows(kept, values, seed=3, source=source, defense=defense))
    paths = folder / "out.json", folder / "out.parquet"
    transferring.write(*paths, parts, {"attack": "qa_plus", "inputs": {}})
    report, table = json.loads(paths[0].read_text()), pd.read_parquet(paths[1])
    assert list(table)[:5] == ["seed", "source", "defense", "image_id", "row"]
    assert (table["image_id"] == table["row"] + 100).all()
    assert report["queries"] == 5
    mean = kept.own()["qa_plus_after"].mean()
    assert report["means"]["3"]["a"]["a"]["qa_plus"]["after"] == pytest.approx(mean)
    assert report["means"]["3"]["a"]["b"]["qa_plus"]["after"] == pytest.approx(mean + 1)
