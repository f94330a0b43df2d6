"""Datasets that their publisher splits by image: the same classes train and test, in the order of the files."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from engine_world import as_study, dvc_plan, snakemake_plan
from idx_files import write_idx

TRAIN, TEST = 40, 20


def use_lists(project, name="mnist", per_class=None, train=TRAIN, test=TEST):
    """Run a few images of an IDX dataset through everything, with one epoch and one attack step."""

    def change(params):
        block = params["datasets"][name]
        block.pop("fetch", None)  # these are other files than the published ones
        block["split"] = {"by": "lists"} | ({"images_per_class": per_class} if per_class else {})
        block["expected"] = {
            "train": {"images": train, "classes": 10},
            "test": {"images": test, "classes": 10},
            "images_per_class": [min(train, test) // 10, max(train, test) // 10],
            "duplicates_across_splits": 0,
        }
        params["run"]["datasets"] = [name]

    project.edit(change)


@pytest.fixture
def listed(project):
    project.arrays = write_idx(project.folder / "data" / "raw" / "mnist")
    use_lists(project)
    return project


def test_prepared_as_published_and_valid(listed):
    listed.stage("prepare", "mnist")
    images = np.load(listed.folder / "data/mnist/images.npy")
    manifest = pd.read_parquet(listed.folder / "data/mnist/manifest.parquet")
    assert manifest["split"].tolist() == ["train"] * TRAIN + ["test"] * TEST
    assert manifest["label"].tolist() == [*listed.arrays["train"][1].tolist(), *listed.arrays["test"][1].tolist()]
    assert np.array_equal(images[..., 0], np.concatenate([listed.arrays["train"][0], listed.arrays["test"][0]]))
    done = listed.stage("validate", "mnist")
    assert "both splits hold the same classes" in done.stderr
    checked = json.loads((listed.folder / "data/mnist/validation.json").read_text())["expectations"]
    assert not [one for one in checked if one["arguments"].get("column") == "splits_of_class"]


def test_the_first_images_of_each_class_and_list(listed):
    use_lists(listed, per_class=2, train=20, test=20)
    listed.stage("prepare", "mnist")
    manifest = pd.read_parquet(listed.folder / "data/mnist/manifest.parquet")
    for split, start in (("train", 0), ("test", TRAIN)):
        labels = listed.arrays[split][1]
        first = sorted(int(place) for label in range(10) for place in np.flatnonzero(labels == label)[:2])
        assert manifest[manifest["split"] == split]["image_id"].tolist() == [start + place for place in first]


def test_an_image_in_both_lists_is_still_found(listed):
    arrays = listed.arrays
    images = arrays["test"][0].copy()
    images[3] = arrays["train"][0][5]
    path = listed.folder / "data/raw/mnist/t10k-images-idx3-ubyte.gz"
    from idx_files import encoded

    path.write_bytes(encoded(images))
    listed.stage("prepare", "mnist")
    done = listed.stage("validate", "mnist", check=False)
    assert done.returncode == 1
    assert "splits_of_image" in done.stderr or "both splits" in done.stderr.splitlines()[-1]


def test_a_reader_without_lists_refuses_to_split_by_them(project):
    project.edit(lambda params: params["datasets"]["digits"].update(split={"by": "lists"}))
    done = project.stage("prepare", "digits", check=False)
    assert done.returncode == 1
    assert "datasets.digits.split: by lists, but these files have no train and test lists" in done.stderr
    assert not (project.folder / "data" / "digits" / "images.npy").exists()


def test_a_slice_of_the_published_images_through_both_engines(project):
    """Twenty images of each class: prepared, trained, attacked and reported by Snakemake, and nothing left for DVC."""
    given, datasets = os.environ.get("CA_TRIDE_TEST_DATA", ""), ["mnist", "fashion"]
    for dataset in datasets:
        if not given or not (Path(given) / dataset).is_dir():
            pytest.skip(f"no {dataset}: set CA_TRIDE_TEST_DATA to the folder that has it")
        shutil.copytree(Path(given) / dataset, project.folder / "data" / "raw" / dataset, dirs_exist_ok=True)
    study = as_study(project)
    for dataset in datasets:
        use_lists(study, dataset, per_class=20, train=200, test=200)

    def small(params):
        params["run"] |= {"datasets": datasets, "defenses": ["ca_tride"]}
        for block in params["attacks"].values():
            block["steps"] = 2  # a single step has the size of eps
        params["defenses"]["ca_tride"]["training"] = {"epochs": 2, "pairs_per_batch": 64}
        params["defenses"]["ca_tride"]["options"]["steps"] = 4

    study.edit(small)
    study.run("snakemake", "--cores", "1", "--quiet", "all")
    scores = pd.read_csv(study.folder / "reports" / "scores.csv").set_index(["dataset", "metric"])["value"]
    assert (snakemake_plan(study), dvc_plan(study)) == (set(), set())
    for dataset in datasets:
        assert 30 < scores[dataset, "recall_at_1"] <= 100  # chance is 10
        report = json.loads((study.folder / f"results/{dataset}/ca_tride/0/qa_plus.json").read_text())
        assert report["checks"]["largest_change"] == pytest.approx(6 / 255, abs=1e-6)  # two steps of 3/255
    assert yaml.safe_load((study.folder / "params.yaml").read_text())["run"]["datasets"] == datasets
