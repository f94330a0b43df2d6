"""Queries and gallery as two sets through all stages: what the data gate asks, and what every file then holds."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project, shrink
from gallery_files import FOLDERS, IN_SHOP, MARKET, make_folders, make_in_shop, make_market, portrait, use_galleries

from stages import attack, benchmark, evaluate, prepare, report, train, validate, visualize
from stages.core.scores import STANDARD_ATTACKS, SUB_SCORES
from stages.models import checkpoints
from stages.reporting.results import estimated, read_model
from stages.runtime import params
from stages.runtime.errors import UserError
from workflow.commands import export, plan

WORDS = ("persons", "act", 0)


def set_up(project, data, make):
    """Give a project a dataset of one of the layouts, alone in its run."""
    name = data[0]

    def change(loaded):
        shrink(loaded)
        use_galleries(loaded, *data)
        loaded["run"] |= {"datasets": [name], "defenses": ["act"]}
        loaded["bases"]["pgd_attack"]["alpha_over_eps"] = "3/77"
        loaded["visualize"] = {"attacks": ["ltm", "qa_plus"], "queries": 3}

    project.edit(change)
    make(project.folder / "data" / "raw" / name)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every stage on the copy of Market-1501, with files and parameters left to look at."""
    project = Project(tmp_path_factory.mktemp("persons"))
    set_up(project, MARKET, make_market)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        loaded = params.load()
        prepare.prepare(loaded, "persons")
        validate.validate(loaded, "persons")
        train.train(loaded, *WORDS)
        evaluate.evaluate(loaded, *WORDS)
        for name in STANDARD_ATTACKS:
            attack.attack(loaded, *WORDS, name)
        visualize.visualize(loaded, "persons")
        report.report(loaded)
    return project, loaded


@pytest.fixture
def there(study, monkeypatch):
    """The study, with the process standing in it."""
    monkeypatch.chdir(study[0].folder)
    return study[1]


def manifest_of(name):
    return pd.read_parquet(f"data/{name}/manifest.parquet")


def test_the_manifest_has_three_lists_and_cameras(there):
    manifest = manifest_of("persons")
    assert list(dict.fromkeys(manifest["split"])) == ["train", "query", "gallery"]
    assert manifest["camera"].tolist()[:3] == [1, 2, 3]
    assert manifest["image_id"].is_monotonic_increasing


def test_embeddings_are_of_all_test_images_and_metrics_of_queries(there):
    folder, manifest = "results/persons/act/0", manifest_of("persons")
    tested = manifest[manifest["split"] != "train"]
    gallery, benign = np.load(f"{folder}/gallery.npy"), pd.read_parquet(f"{folder}/benign.parquet")
    assert len(gallery) == len(tested) == 46
    assert benign["image_id"].tolist() == manifest.loc[manifest["split"] == "query", "image_id"].tolist()
    places = {part: np.flatnonzero(tested["split"] == part) for part in ("query", "gallery")}
    for position, query in enumerate(places["query"]):
        one = tested.iloc[query]
        ranked = [
            row
            for row in places["gallery"]
            if tested.iloc[row]["label"] != one["label"] or tested.iloc[row]["camera"] != one["camera"]
        ]
        nearest = min(ranked, key=lambda row, own=query: np.linalg.norm(gallery[row].astype(float) - gallery[own]))
        assert benign["recall_at_1"][position] == 100 * (tested.iloc[nearest]["label"] == one["label"])
    history = pd.read_csv("models/persons/act/0/history.csv")
    assert history["recall_at_1"].iloc[-1] == pytest.approx(benign["recall_at_1"].mean())


def test_query_attacks_perturb_queries_and_candidate_attacks_the_gallery(there):
    manifest = manifest_of("persons")
    ids = {part: manifest.loc[manifest["split"] == part, "image_id"].tolist() for part in ("query", "gallery")}
    for name in STANDARD_ATTACKS:
        table = pd.read_parquet(f"results/persons/act/0/{name}.parquet")
        assert table["image_id"].tolist() == ids["gallery" if name.startswith("ca") else "query"], name
        assert table["target"].max() < len(ids["query" if name.startswith("ca") else "gallery"])
        assert len(np.load(f"results/persons/act/0/{name}_examples.npy")) == 6
        assert (table["objective_after"] < table["objective_before"]).mean() > 0.5, name
    before = pd.read_parquet("results/persons/act/0/gtt.parquet")["gtt_before"]
    assert (before == 100).all()


def test_the_report_has_all_scores_with_intervals(there):
    scores = pd.read_csv("reports/scores.csv").set_index("metric")["value"]
    assert {*SUB_SCORES, "ers", "ars_reconstructed", "recall_at_1"} <= set(scores.index)
    model = read_model(*WORDS, {name: {"attack": name} for name in STANDARD_ATTACKS})
    for metric in (*SUB_SCORES, "ers"):
        assert np.isfinite(model.draws[metric]).all(), metric
        low, high = estimated([model], metric).interval
        assert low - 1e-6 <= scores[metric] <= high + 1e-6
    assert (model.queries, model.attacked) == (10, 10)
    assert "attacks on" not in Path("reports/index.html").read_text()


def test_pictures_are_of_queries_and_of_what_they_may_find(there):
    shown, manifest = json.loads(Path("reports/visualize/persons.json").read_text()), manifest_of("persons")
    tested = manifest[manifest["split"] != "train"].reset_index(drop=True)
    assert set(shown["attacks"]) == {"ltm", "qa_plus"}
    for query in shown["attacks"]["ltm"]:
        own = tested.loc[query["row"]]
        assert own["split"] == "query"
        hits = query["defenses"]["act"]["before"] + query["defenses"]["act"]["after"]
        assert len(hits) == 10
        for hit in hits:
            other = tested.loc[hit["row"]]
            assert other["split"] == "gallery"
            assert hit["right"] == (other["label"] == own["label"])
            assert not (hit["right"] and other["camera"] == own["camera"])
        assert shown["images"][str(query["row"])]["class"] == own["class_name"]


def test_benchmark_gives_the_same_values(there):
    from stages.data.splits import load_split

    test = load_split("persons", "test")
    model = checkpoints.load(Path("models/persons/act/0/model.safetensors"), "")
    asked, searched = test.sets.queries.numpy(), test.sets.gallery.numpy()
    images = test.pixels[test.rows][:, 1:9, 1:9]
    block = there["datasets"]["persons"]
    found = benchmark(
        model,
        images[asked],
        test.labels[asked],
        eps=block["eps"],
        alpha=params.attack(there, "es", "persons")["alpha_over_eps"] * block["eps"],
        steps=2,
        image_ids=test.image_ids[asked],
        dataset="persons",
        gallery_images=images[searched],
        gallery_labels=test.labels[searched],
        gallery_ids=test.image_ids[searched],
        cameras=test.sets.cameras[test.sets.queries],
        gallery_cameras=test.sets.cameras[test.sets.gallery],
    )
    model = read_model(*WORDS, {name: {"attack": name} for name in STANDARD_ATTACKS})
    assert set(found.index) == set(model.values)
    for metric, (value, low, high) in found.iterrows():
        here = estimated([model], metric)
        assert value == pytest.approx(here.mean, rel=1e-9), metric
        assert (here.interval is None) == np.isnan(low)
        if here.interval:
            assert (low, high) == pytest.approx(here.interval, rel=1e-9), metric


def test_plan_and_model_card_count_both_sets(there):
    data = there["datasets"]["persons"]
    assert plan.images_tested(data) == 46
    assert plan.attacked(there, "persons", "ca_plus") == 36
    assert plan.attacked(there, "persons", "es") == 10
    data["attack_queries"], whole = 20, data["attack_queries"]
    assert [plan.attacked(there, "persons", name) for name in ("ca_plus", "es")] == [20, 10]
    data["attack_queries"] = whole
    assert "On 10 queries and a gallery of 36 images, with attacks" in export.card(
        there, *WORDS, Path("models/persons/act/0/model.safetensors")
    )


@pytest.mark.parametrize(
    ("data", "make"), [(IN_SHOP, make_in_shop), (FOLDERS, make_folders)], ids=["in_shop", "folders"]
)
def test_other_layouts_pass_the_gate(project, monkeypatch, caplog, data, make):
    set_up(project, data, make)
    monkeypatch.chdir(project.folder)
    loaded = params.load()
    prepare.prepare(loaded, data[0])
    caplog.set_level("INFO")
    validate.validate(loaded, data[0])
    assert "camera" not in manifest_of(data[0])
    distractors = 2 if data is FOLDERS else 0
    assert f"; {distractors} images of {distractors // 2} classes without a query are distractors" in caplog.text
    assert "each query needs an image of its class in the gallery" in caplog.text


def gate(project, monkeypatch, change):
    """What the data gate says of the copy of Market-1501 after a change to its files or to its block."""
    set_up(project, MARKET, make_market)
    change(project)
    monkeypatch.chdir(project.folder)
    loaded = params.load()
    prepare.prepare(loaded, "persons")
    with pytest.raises(UserError) as told:
        validate.validate(loaded, "persons")
    assert not (project.folder / "data/persons/validation.json").exists()
    return str(told.value)


def expect(project, **values):
    project.edit(lambda loaded: loaded["datasets"]["persons"]["expected"].update(values))


def folder_of(project, name):
    return project.folder / "data/raw/persons/Market-1501-v15.09.15" / name


def only_from_camera_one(project):
    for path in folder_of(project, "bounding_box_test").glob("0003_c[23]*"):
        path.unlink()
    expect(project, gallery={"images": 32, "classes": 6})


def without_one_identity(project):
    for path in folder_of(project, "bounding_box_test").glob("0005_*"):
        path.unlink()
    expect(project, gallery={"images": 30, "classes": 5}, images_per_class=[2, 8])


def train_on_a_queried_one(project):
    portrait(folder_of(project, "bounding_box_train") / "0001_c4s1_000100_00.jpg", 1, 7000)
    portrait(folder_of(project, "bounding_box_train") / "0001_c5s1_000100_00.jpg", 1, 7001)
    expect(project, train={"images": 14, "classes": 5}, images_per_class=[2, 8])


def found_again(project):
    query = folder_of(project, "query") / "0004_c1s1_001000_00.jpg"
    shutil.copy(query, folder_of(project, "bounding_box_test") / "0004_c1s1_001000_01.jpg")
    expect(project, gallery={"images": 37, "classes": 6}, images_per_class=[3, 9])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (only_from_camera_one, "1 queries have no image of their class from another camera in the gallery: image"),
        (without_one_identity, "2 queries have no image of their class from another camera in the gallery"),
        (train_on_a_queried_one, "1 classes of queries or gallery train, too, not 0 (expected.shared_classes)"),
        (partial(expect, query={"images": 12, "classes": 5}),
         "2 expectations fail: query has 10 images, not 12 (expected.query.images); there are 58 images, not 60 (the "
         "sum of expected.train.images and .query.images and .gallery.images)"),
        (partial(expect, gallery={"images": 36, "classes": 5}), "gallery has 6 classes, not 5 (expected.gallery.c"),
        (partial(expect, images_per_class=[4, 8]), "classes have 3 to 8 images, not 4 to 8"),
        (found_again, "2 images occur in more than one split, not 0 (expected.duplicates_across_splits): image ids "),
    ],
    ids=["camera", "class", "shared", "images", "classes", "sizes", "duplicates"],
)  # fmt: skip
def test_the_gate_says_what_is_wrong(project, monkeypatch, change, expected):
    assert expected in gate(project, monkeypatch, change)


def test_shared_classes_can_be_right(project, monkeypatch):
    set_up(project, MARKET, make_market)
    train_on_a_queried_one(project)
    expect(project, shared_classes=1)
    monkeypatch.chdir(project.folder)
    prepare.prepare(params.load(), "persons")
    validate.validate(params.load(), "persons")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda block: block["expected"].pop("gallery"), "datasets.persons.expected: key 'gallery' is missing; add it"),
        (
            lambda block: block["expected"].update(test={"images": 1, "classes": 1}),
            "expected.test: not what this split",
        ),
        (lambda block: block.update(split={"by": "lists"}), "datasets.persons.expected: key 'test' is missing; add it"),
        (lambda block: block.update(split={"by": "queries"}), "write lists, the publisher's own of training and test"),
        (lambda block: block.update(split={"by": "query_gallery", "train": 3}), "datasets.persons.split"),
    ],
    ids=["missing", "strange", "lists", "unknown", "both"],
)
def test_a_block_that_contradicts_itself(project, monkeypatch, change, expected):
    set_up(project, MARKET, make_market)
    project.edit(lambda loaded: change(loaded["datasets"]["persons"]))
    monkeypatch.chdir(project.folder)
    with pytest.raises(UserError) as told:
        params.load()
    assert expected in str(told.value)


QUERIES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
GALLERY = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
GIVEN = {
    "images": QUERIES, "labels": np.arange(6) % 3, "gallery_images": GALLERY, "gallery_labels": np.arange(9) % 3,
    "eps": 0.1, "steps": 1, "attacks": ["es", "ca_plus"],
}  # fmt: skip


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))


def test_kinds_of_arrays_are_the_same_images():
    stored = [(255 * images).round().to(torch.uint8) for images in (QUERIES, GALLERY)]
    first = benchmark(network(), **GIVEN | {"images": stored[0], "gallery_images": stored[1]})
    again = {"images": stored[0].float() / 255, "gallery_images": stored[1].permute(0, 2, 3, 1).numpy()}
    pd.testing.assert_frame_equal(benchmark(network(), **GIVEN | again), first)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gallery_images": None}, "gallery_labels: belongs to queries and gallery as two sets; give gallery_images"),
        ({"gallery_images": GALLERY[:, :, :7]}, "gallery_images: of another size"),
        ({"gallery_images": 2 * GALLERY}, "gallery_images: floats outside"),
        ({"gallery_labels": None}, "gallery_labels: object of shape"),
        ({"gallery_labels": np.arange(9) % 2}, "labels: query 2 has no image of class 2 in the gallery"),
        ({"gallery_ids": np.arange(9)}, "gallery_ids: some are among image_ids, too"),
        ({"cameras": np.arange(6)}, "gallery_cameras: missing; give the cameras of queries and gallery, or neither"),
        ({"cameras": np.zeros(6, int), "gallery_cameras": np.zeros(9, int)},
         "labels: query 0 has no image of class 0 from another camera"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used(change, expected):
    with pytest.raises(ValueError, match=expected) as told:
        benchmark(network(), **GIVEN | change)
    assert "\n" not in str(told.value)
