"""Queries and gallery as two sets through all stages: what each file holds, and the same from arrays."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project
from gallery_files import MARKET, make_market, set_up
from same_values import assert_same_values

from stages import attack, benchmark, evaluate, prepare, report, train, transfer, validate, visualize
from stages.core.attacks import ATTACKS
from stages.core.scores import STANDARD_ATTACKS, SUB_SCORES
from stages.models import checkpoints
from stages.reporting.results import read_model
from stages.reporting.seeds import estimated
from stages.runtime import params
from stages.runtime.errors import UserError
from workflow import cost
from workflow.commands import export

WORDS = ("persons", "act", 0)


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


@pytest.mark.parametrize("name", ["qa_plus", "ca_plus"])
def test_kept_images_of_either_set_are_measured_on_another_model(there, name):
    """Both attacks draw their targets alike on every model, so queries start from the measured model's own values."""
    run = there["run"] | {"defenses": ["act", "vanilla"], "transfer": [name]}
    words = ("persons", "vanilla", 0)
    if not Path("results/persons/vanilla/0/benign.json").exists():
        train.train(there, *words)
        evaluate.evaluate(there, *words)
    attack.attack(there, *words, name)
    transfer.transfer(there | {"run": run}, "persons", name)
    found = (
        pd.read_parquet(f"results/transfer/persons/{name}.parquet").set_index(["source", "defense", "row"]).sort_index()
    )
    for source, defense in (("act", "vanilla"), ("vanilla", "act"), ("act", "act")):
        part = found.loc[source, defense]
        own = pd.read_parquet(f"results/persons/{defense}/0/{name}.parquet").set_index("row").loc[part.index]
        assert len(part) == 6
        assert (part[["image_id", "target"]] == own[["image_id", "target"]]).all(axis=None)
        np.testing.assert_allclose(part[f"{name}_before"], own[f"{name}_before"], atol=1e-6)
        assert (part[f"{name}_after"] == own[f"{name}_after"]).all() == (source == defense)


def test_the_report_has_all_scores_with_intervals(there):
    scores = pd.read_csv("reports/scores.csv").set_index("metric")["value"]
    assert {*SUB_SCORES, "ers", "ars_reconstructed", "recall_at_1"} <= set(scores.index)
    model = read_model(*WORDS, {name: params.attack(there, name, "persons") for name in STANDARD_ATTACKS})
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
    model = checkpoints.load(Path("models/persons/act/0/model.safetensors"))
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
    model = read_model(*WORDS, {name: params.attack(there, name, "persons") for name in STANDARD_ATTACKS})
    assert_same_values(found, model)


def test_plan_and_model_card_count_both_sets(there):
    data = there["datasets"]["persons"]
    assert cost.images_tested(data) == 46
    assert cost.attacked(there, "persons", "ca_plus") == 36
    assert cost.attacked(there, "persons", "es") == 10
    data["attack_queries"], whole = 20, data["attack_queries"]
    assert [cost.attacked(there, "persons", name) for name in ("ca_plus", "es")] == [20, 10]
    data["attack_queries"] = whole
    assert "On 10 queries and a gallery of 36 images, with attacks" in export.card(
        there, *WORDS, Path("models/persons/act/0/model.safetensors")
    )


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


def test_the_stage_refuses_a_set_too_small_for_an_attack(there, monkeypatch):
    monkeypatch.setitem(ATTACKS, "gtt", ATTACKS["gtt"]._replace(least=1000))
    loaded = there | {"attacks": there["attacks"] | {"again": there["attacks"]["gtt"]}}
    with pytest.raises(UserError, match="persons: gtt needs a gallery of 1000 images or more; "):
        attack.attack(loaded, *WORDS, "again")
    assert not list(Path("results/persons/act/0").glob("again*"))


@pytest.mark.parametrize(
    ("attack", "labels", "cameras", "gallery", "expected"),
    [
        ("ca_plus", [0, 0], [1, 1], [0, 0, 1], "ca_plus needs for each image 1 of the set of queries, of another class "
         "or camera; the image with id 2 has 0"),
        ("ca_minus", [0, 0], [1, 1], [0, 0, 1], "ca_minus needs for each image 1 of .*; the image with id 2 has 0"),
        ("spqa_plus", [0, 1], [1, 1], [0, 0, 0, 1, 1], "spqa_plus needs for each image 4 of the gallery, .* 0 has 3"),
        ("order", [0, 1], [0, 0], [0, 1], "order needs a gallery of 3 images or more; 2 are there"),
        ("spqa_minus", [0, 1], [0, 0], [0, 1], "spqa_minus needs a gallery of 3 images or more; 2 are there"),
    ],
)  # fmt: skip
def test_sets_too_small_for_an_attack(attack, labels, cameras, gallery, expected):
    """Gallery images from camera 1 but the last of each class, which any query may find."""
    gallery = np.array(gallery)
    taken = np.where(np.append(gallery[1:] != gallery[:-1], True), 2, 1)
    given = {
        "images": QUERIES[: len(labels)], "labels": np.array(labels), "cameras": np.array(cameras),
        "gallery_images": GALLERY[: len(gallery)], "gallery_labels": gallery, "gallery_cameras": taken,
    }  # fmt: skip
    asked = {"eps": 0.1, "steps": 1}
    with pytest.raises(ValueError, match=expected) as told:
        benchmark(network(), **given, attacks=[attack], **asked)
    assert "\n" not in str(told.value)
    assert "es_d" in benchmark(network(), **given, attacks=["es"], **asked).index
