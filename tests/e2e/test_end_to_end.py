"""The whole study, small, through both engines: the same bytes from either, in different folders."""

import csv
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_of, few_queries
from engine_world import byte_identical

from stages.core import metrics
from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.scores import SUB_SCORES, ers
from stages.core.seeding import generator
from stages.models import checkpoints
from stages.runtime import params

QUERIES = 30  # of the 896 test images, as few_queries says


def recompute(project):
    """Clean embeddings, labels, images and model of the test split, from the files alone."""
    model = checkpoints.load(project.folder / "models/digits/ca_tride/0/model.safetensors")
    manifest = pd.read_parquet(project.folder / "data/digits/manifest.parquet")
    test = (manifest["split"] == "test").to_numpy()
    assert sorted(set(manifest["label"][test])) == [5, 6, 7, 8, 9]
    pixels = np.load(project.folder / "data/digits/images.npy")[test]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        embeddings = torch.cat([model(part) for part in images.split(112)])
    labels = torch.from_numpy(manifest["label"].to_numpy()[test])
    return model, images, labels, embeddings, manifest["image_id"][test].tolist()


def check_benign(folder, labels, embeddings):
    """R@1 by a loop over queries, each without itself; the gallery file holds the embeddings in manifest order."""
    assert np.allclose(np.load(folder / "gallery.npy"), embeddings.numpy(), atol=1e-6)
    x = embeddings.double()
    hits = []
    for query in range(len(x)):
        distances = (x - x[query]).norm(dim=1)
        distances[query] = np.inf
        hits.append(bool(labels[distances.argmin()] == labels[query]))
    benign = json.loads((folder / "benign.json").read_text())
    assert benign["queries"] == 896
    assert benign["metrics"]["recall_at_1"] == pytest.approx(100 * np.mean(hits), abs=0.12)
    assert benign["metrics"]["chance"] == pytest.approx(100 * metrics.chance_recall(labels))
    return hits


def check_attack(folder, name, block, eps, world):
    """Targets, perturbed figures and checks of one attack against the core, called on the recomputed test split."""
    model, images, labels, embeddings, ids = world
    table = pd.read_parquet(folder / f"{name}.parquet")
    gallery, items = Gallery.of(embeddings, labels), torch.tensor([ids.index(one) for one in table["image_id"]])
    assert len(set(items.tolist())) == QUERIES
    targets = ATTACKS[name].select(gallery, items, [generator(0, name, image_id) for image_id in table["image_id"]])
    assert table["target"].tolist() == targets.tolist()
    alpha = block["alpha_over_eps"] * eps
    batch = AttackBatch(gallery, items, targets)
    result = run(ATTACKS[name], model, images[items], batch, eps=eps, alpha=alpha, steps=block["steps"])
    for metric, values in result.after.items():
        differs = np.abs(table[f"{metric}_after"].to_numpy() - values.numpy()) > 0.5
        assert differs.mean() < 0.1, metric  # one rank step here or there: rounding of the embeddings
    assert np.allclose(table["objective_before"].to_numpy(), result.objective_before.numpy(), atol=1e-5)
    report = json.loads((folder / f"{name}.json").read_text())
    assert report["queries"] == len(table) == QUERIES
    for metric, means in report["metrics"].items():
        assert means["after"] == pytest.approx(table[f"{metric}_after"].mean())
        assert means["before"] == pytest.approx(table[f"{metric}_before"].mean())
    assert report["checks"]["largest_change"] == pytest.approx(min(eps, block["steps"] * alpha), abs=1e-6)
    assert report["checks"]["improved"] == pytest.approx((table["objective_after"] < table["objective_before"]).mean())


def check_history(project, hits):
    """The last epoch's R@1 is that of the saved model; epoch 0 trains on clean images, later ones do not."""
    history = pd.read_csv(project.folder / "models/digits/ca_tride/0/history.csv")
    assert history["epoch"].tolist() == [0, 1]
    assert history["recall_at_1"].iloc[-1] == pytest.approx(100 * np.mean(hits), abs=0.12)
    assert (history[["loss", "loss_adversarial"]] > 0).all().all()
    assert (history["hardness"] < 0).all()


def test_snakemake_and_dvc_make_the_same_bytes(finished_folder, tiny, tmp_path_factory):
    snakemake, dvc = copy_of(finished_folder, tmp_path_factory.mktemp("elsewhere")), tiny
    dvc.edit(few_queries)
    dvc.run("dvc", "init", "--no-scm", "-q")
    dvc.run("dvc", "repro", "-q", "attack@digits-ca_tride-0-es")  # each job a process by itself, the rest are forked
    dvc.run(sys.executable, "-m", "stages.runtime.forkserver", "dvc", "repro", "-q")
    assert byte_identical(snakemake, dvc) == []

    again = snakemake.run("snakemake", "--cores", "2", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert "up to date" in dvc.run("dvc", "status").stdout

    content = snakemake.files("data", "models", "results", "reports")
    assert not [name for name, data in content.items() if str(finished_folder).encode() in data]

    loaded, folder = params.load(snakemake.folder / "params.yaml"), snakemake.folder / "results/digits/ca_tride/0"
    world = recompute(snakemake)
    hits = check_benign(folder, world[2], world[3])
    for name in ("qa_minus", "es", "ca_plus"):
        check_attack(folder, name, params.attack(loaded, name, "digits"), loaded["datasets"]["digits"]["eps"], world)
    check_history(snakemake, hits)

    with (snakemake.folder / "reports" / "scores.csv").open() as file:
        scores = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert set(SUB_SCORES) <= set(scores)
    assert scores["ers"] == pytest.approx(ers(scores), abs=1e-8)
    headline = json.loads((snakemake.folder / "reports" / "metrics.json").read_text())
    assert headline["digits"]["ca_tride"]["0"]["ers"] == pytest.approx(scores["ers"], abs=1e-6)

    table = (snakemake.folder / "reports" / "tables" / "main.md").read_text()
    assert "| CA-TRIDE" in table
    assert table.count("not run") == 6 * 18  # six rows of the table were not in this run
    comparison = pd.read_csv(snakemake.folder / "reports" / "comparison.csv").set_index(["dataset", "row", "metric"])
    paper = comparison.loc[("cub", "ACT", "ers")]
    assert (paper["published"], paper["verdict"], paper["tolerance_percent"]) == (31.3, "not run", 2.0)
    ours = comparison.loc[("digits", "CA-TRIDE", "ers")]
    assert ours["verdict"] == "no published value"
    assert ours["low"] < ours["value"] < ours["high"]
    page = (snakemake.folder / "reports" / "index.html").read_text()
    assert "CA-TRIDE" in page
    assert "http" not in page
