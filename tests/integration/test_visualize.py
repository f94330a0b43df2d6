"""Pictures of attacks: the same queries for every defense, and what they show is what the model does."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project, give_digits, shrink
from PIL import Image

from stages.core.seeding import EXAMPLES, drawn_order
from stages.models import checkpoints
from stages.reporting import pictures, thumbnails


def decoded(address):
    """The pixels of a data address, with its kind."""
    head, _, data = address.partition(";base64,")
    return head.removeprefix("data:image/"), np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_small_and_exact_pictures_keep_every_pixel_and_large_ones_shrink():
    draw = np.random.default_rng(0)
    grey, large = (draw.integers(0, 256, shape, dtype=np.uint8) for shape in ((8, 8, 1), (200, 120, 3)))
    kind, pixels = decoded(thumbnails.data_address(grey))
    assert kind == "png"
    assert (pixels == grey[..., 0]).all()
    assert decoded(thumbnails.data_address(large))[0] == "jpeg"
    kind, pixels = decoded(thumbnails.data_address(large, exact=True))
    assert (kind, pixels.shape) == ("png", (96, 58, 3))


@pytest.mark.parametrize(("eps", "factor"), [(0.3, 1.6), (8 / 255, 15.9), (0.9, 1.0)])
def test_a_magnified_perturbation_fills_the_range_and_no_more(eps, factor):
    assert thumbnails.magnification(eps) == factor
    clean = np.full((1, 2, 2), 0.5)
    shown = thumbnails.difference(clean, clean + np.array([[[eps, -eps], [0, eps / 2]]]), factor)
    expected = np.clip(0.5 + factor * np.array([[eps, -eps], [0, eps / 2]]), 0, 1)
    assert np.abs(shown[..., 0] / 255 - expected).max() < 0.003
    assert factor * eps <= 0.5 or factor == 1


def test_nearest_leaves_the_query_out_and_orders_by_distance():
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [6.0], [10.0], [15.0], [21.0]])
    own = torch.nn.functional.one_hot(torch.tensor([1, 6]), 7).bool()
    found = pictures.nearest(torch.tensor([[0.9], [20.0]]), embeddings, own)
    assert found.tolist() == [[0, 2, 3, 4, 5], [5, 4, 3, 2, 1]]


@pytest.fixture(scope="module")
def study(tmp_path_factory, checked):
    """Two defenses, two attacks of which one perturbs the query, and a third defense that was not run."""
    project = give_digits(Project(tmp_path_factory.mktemp("gallery")), checked)
    project.edit(shrink)

    def few(params):
        params["run"] |= {"defenses": ["vanilla", "act"], "attacks": ["ltm", "qa_plus"]}
        params["datasets"]["digits"]["attack_queries"] = 40
        params["datasets"]["digits"]["training"]["epochs"] = 1

    project.edit(few)
    for defense in ("vanilla", "act"):
        for stage, *attack in (("train",), ("evaluate",), ("attack", "ltm"), ("attack", "qa_plus")):
            project.stage(stage, "digits", defense, 0, *attack)
    project.stage("visualize", "digits")
    return project


def content(study):
    return json.loads((study.folder / "reports/visualize/digits.json").read_text())


def test_the_queries_are_the_first_drawn_and_the_same_for_every_defense(study):
    manifest = pd.read_parquet(study.folder / "data/digits/manifest.parquet").query("split == 'test'")
    order = drawn_order(manifest["image_id"].to_numpy())
    shown = content(study)["attacks"]
    assert list(shown) == ["ltm", "qa_plus"]
    for queries in shown.values():
        assert [query["row"] for query in queries] == order[:3]
        assert all(set(query["defenses"]) == {"vanilla", "act"} for query in queries)
    stored = np.load(study.folder / "results/digits/act/0/ltm_examples.npy")
    assert len(stored) == EXAMPLES


def test_what_is_shown_is_what_the_model_retrieves(study):
    """Neighbours before and after, their class, and the perturbed picture, from the files alone."""
    test = pd.read_parquet(study.folder / "data/digits/manifest.parquet").query("split == 'test'")
    pixels = np.load(study.folder / "data/digits/images.npy")[test.index]
    images, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, test["label"].to_numpy()
    model = checkpoints.load(study.folder / "models/digits/act/0/model.safetensors")
    with torch.no_grad():
        embeddings = model(images)
    order = drawn_order(test["image_id"].to_numpy())
    stored = np.load(study.folder / "results/digits/act/0/ltm_examples.npy")
    shown = content(study)
    for query in shown["attacks"]["ltm"]:
        row, seen = query["row"], query["defenses"]["act"]
        perturbed = torch.from_numpy(stored[sorted(order[:EXAMPLES]).index(row)])
        assert (decoded(seen["perturbed"])[1] == np.rint(255 * perturbed[0].numpy())).all()
        for name, image in (("before", images[row]), ("after", perturbed)):
            with torch.no_grad():
                distances = (embeddings - model(image[None])).norm(dim=1)
            distances[row] = torch.inf
            nearest = distances.sort().values[:5]
            assert torch.allclose(distances[[hit["row"] for hit in seen[name]]], nearest, atol=1e-5)
            assert [hit["right"] for hit in seen[name]] == [labels[hit["row"]] == labels[row] for hit in seen[name]]
        assert shown["images"][str(row)]["class"] == str(test["class_name"].iloc[row])
        assert (decoded(shown["images"][str(row)]["picture"])[1] == pixels[row, ..., 0]).all()


def test_what_is_not_there_is_left_out(study):
    path = study.folder / "reports/visualize/digits.json"
    before = path.read_bytes()
    study.stage("visualize", "digits")
    assert path.read_bytes() == before
    study.edit(lambda params: params["run"].update(defenses=["vanilla", "act", "hm"]))
    (study.folder / "results/digits/vanilla/0/ltm.json").unlink()
    done = study.stage("visualize", "digits")
    assert "no pictures of digits hm 0: not run" in done.stderr
    assert set(content(study)["attacks"]["ltm"][0]["defenses"]) == {"act"}
    assert set(content(study)["attacks"]["qa_plus"][0]["defenses"]) == {"vanilla", "act"}
    study.edit(lambda params: params["visualize"].update(attacks=[]))
    study.stage("visualize", "digits")
    assert content(study)["attacks"] == {}
    assert content(study)["images"] == {}


def test_attacks_on_candidates_are_refused(study):
    study.edit(lambda params: params["visualize"].update(attacks=["ca_plus"]))
    done = study.stage("visualize", "digits", check=False)
    assert done.returncode == 1
    assert "visualize.attacks: ca_plus perturbs candidates" in done.stderr.splitlines()[-1]


def test_a_damaged_example_file_is_named(study):
    study.edit(lambda params: params["visualize"].update(attacks=["qa_plus"]))
    (study.folder / "results/digits/act/0/qa_plus_examples.npy").write_bytes(b"x")
    done = study.stage("visualize", "digits", check=False)
    assert done.returncode == 1
    assert "qa_plus_examples.npy: damaged" in done.stderr.splitlines()[-1]
    assert "run `python -m stages.attack digits act 0 qa_plus`" in done.stderr.splitlines()[-1]
