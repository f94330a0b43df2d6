"""Bad input ends in one line that names the key or file and the fix, a non-zero exit, and nothing half-written."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from project_params import LOADED

from stages.runtime import artifacts, checksums, params
from stages.runtime.errors import UserError


def changed(change):
    loaded = copy.deepcopy(LOADED)
    change(loaded)
    return loaded


BAD = {
    "unknown top key": (lambda p: p.update(runs={}), "unknown key 'runs'; did you mean 'run'?"),
    "unknown key": (lambda p: p["datasets"]["digits"].update(epz=0.1), "datasets.digits: unknown key 'epz'"),
    "missing key": (lambda p: p["datasets"]["digits"].pop("eps"), "datasets.digits: key 'eps' is missing"),
    "wrong type": (lambda p: p["run"].update(seeds=["a"]), "run.seeds.0: 'a' is not of type 'integer'"),
    "exponent read as text": (
        lambda p: p["training"]["small"].update(learning_rate="1e-3"),
        "training.small.learning_rate: '1e-3' is not of type 'number'; write a number above 0 (write 1.0e-5",
    ),
    "eps of 8": (lambda p: p["datasets"]["digits"].update(eps=8), "datasets.digits.eps: 8 is greater than"),
    "unknown dataset": (
        lambda p: p["run"].update(datasets=["digit"]),
        "run.datasets: 'digit' is not there; did you mean",
    ),
    "unknown defense": (
        lambda p: p["run"].update(defenses=["catride"]),
        "run.defenses: 'catride' is not there; did you",
    ),
    "unknown attack": (lambda p: p["run"].update(attacks=["fgsm"]), "run.attacks: 'fgsm' is not there; choose from"),
    "unknown method": (lambda p: p["defenses"]["act"].update(method="atc"), "defenses.act.method: 'atc' is not there"),
    "unknown miner": (lambda p: p["defenses"]["act"].update(miner="soft"), "defenses.act.miner: 'soft' is not there"),
    "unknown option": (
        lambda p: p["defenses"]["act"]["options"].update(stepz=3),
        "defenses.act.options: unknown key 'stepz'; did you mean 'steps'?",
    ),
    "option of wrong type": (
        lambda p: p["defenses"]["act"]["options"].update(steps=1.5),
        "defenses.act.options.steps: 1.5 is not of type int",
    ),
    "option outside its choices": (
        lambda p: p["defenses"]["hm"]["options"].update(destination="lga"),
        "defenses.hm.options.destination: 'lga' is not of type Literal['linear_gradual', 'squared_gradual'",
    ),
    "empty list option": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(phases=[]),
        "defenses.ca_tride.options.phases: [] is not of type Sequence[Literal['candidates', 'anchors']]",
    ),
    "per-dataset option without default": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(lam={"cars": 9.5}),
        "defenses.ca_tride.options.lam: key 'default' is missing",
    ),
    "per-dataset option of no name": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(lam={"default": 10, None: 9.5}),
        "defenses.ca_tride.options.lam: None is not there; choose from cars, ",
    ),
    "values by datasets of several kinds": (
        lambda p: p["attacks"]["ltm"].update(steps={"default": "x", 5: "y", None: "z"}),
        "attacks.ltm.steps",
    ),
    "per-dataset option of a number": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(lam={"default": 10, 196: 9.5}),
        "defenses.ca_tride.options.lam: 196 is not there; choose from cars, ",
    ),
    "unknown family": (
        lambda p: p["attacks"]["es"].update(family="embed"),
        "attacks.es.family: es lives in 'embedding'; write that",
    ),
    "unknown reader": (lambda p: p["datasets"]["digits"].update(reader="digit"), "datasets.digits.reader: 'digit'"),
    "unknown column": (
        lambda p: p["tables"]["ars"]["columns"].append("erz"),
        "tables.ars.columns: 'erz' is not there",
    ),
    "unknown attack in a column": (
        lambda p: p["tables"]["ars"]["columns"].append("gtm:gtm_exakt"),
        "tables.ars.columns: 'gtm_exakt' is not there; did you mean 'gtm_exact'?",
    ),
    "family of another attack": (
        lambda p: p["attacks"]["es"].update(family="query"),
        "attacks.es.family: es lives in 'embedding'; write that",
    ),
    "unknown backbone in a defense": (
        lambda p: p["defenses"]["est"]["training"].update(backbone="nope"),
        "defenses.est.training.backbone: 'nope' is not there",
    ),
    "weights that are neither": (
        lambda p: p["datasets"]["digits"]["training"].update(weights="imagenet1k"),
        "weights: 'imagenet1k' is not one of ['imagenet', 'none']; write imagenet or none",
    ),
    "no weights key": (lambda p: p["training"]["small"].pop("weights"), "training.small: key 'weights' is missing"),
    "weights of a backbone that has none": (
        lambda p: p["datasets"]["digits"]["training"].update(weights="imagenet"),
        "datasets.digits.training.weights: there are no ImageNet weights of 'digits_cnn'; write none, or choose a",
    ),
    "weights in a defense of a backbone that has none": (
        lambda p: p["defenses"]["est"]["training"].update(weights="imagenet"),
        "defenses.est.training.weights: there are no ImageNet weights of 'digits_cnn'",
    ),
    "unknown device": (
        lambda p: p["training"]["small"].update(device="gpu"),
        "training.small.device: 'gpu' is not one of ['cpu', 'cuda']; write cpu or cuda",
    ),
    "epochs below none": (
        lambda p: p["training"]["small"].update(epochs=-1),
        "training.small.epochs: -1 is less than the minimum of 0; write a whole number of at least 0",
    ),
    "no number": (
        lambda p: p["datasets"]["digits"].update(eps=float("nan")),
        "datasets.digits.eps: nan is not a finite number",
    ),
    "no steps": (
        lambda p: p["defenses"]["act"]["options"].update(steps=0),
        "defenses.act.options.steps: 0 is too small",
    ),
    "negative lambda": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(lam={"default": 10, "cars": -1}),
        "defenses.ca_tride.options.lam: -1 is too small",
    ),
    "huge seed": (lambda p: p["run"].update(seeds=[10**20]), "run.seeds.0: 100000000000000000000 is greater than"),
    "unknown row": (
        lambda p: p["tables"]["main"]["rows"].update(foo={"label": "Foo"}),
        "tables.main.rows: 'foo' is not there",
    ),
    "crop over side": (lambda p: p["datasets"]["digits"].update(crop=9), "datasets.digits.crop: 9 is larger than side"),
    "path in a name": (lambda p: p["datasets"].update({"../x": p["datasets"]["digits"]}), "datasets: '../x' does not"),
    "option for an unknown dataset": (
        lambda p: p["defenses"]["ca_tride"]["options"].update(lam={"default": 10, "car": 9.5}),
        "defenses.ca_tride.options.lam: 'car' is not there; did you mean 'cars'?",
    ),
    "attack with a reserved name": (
        lambda p: p["attacks"].update(benign=p["attacks"]["es"]),
        "attacks: 'benign' should not be valid",
    ),
    "address without a checksum": (
        lambda p: p["datasets"]["cub"]["fetch"][0].pop("md5"),
        "datasets.cub.fetch.0: ",
    ),
    "checksum cut short": (
        lambda p: p["datasets"]["cub"]["fetch"][0].update(md5="97ec"),
        "datasets.cub.fetch.0.md5: '97ec' does not match",
    ),
    "address of no file": (
        lambda p: p["datasets"]["cub"]["fetch"][0].update(url="https://example.org/"),
        "datasets.cub.fetch.0.url: 'https://example.org/' does not match",
    ),
    "classes of one image": (
        lambda p: p["datasets"]["cub"]["expected"].update(images_per_class=[1, 60]),
        "expected.images_per_class.0: 1 is less than the minimum of 2; write a whole number of at least 2: retrieval",
    ),
    "queries in words": (
        lambda p: p["datasets"]["cub"].update(attack_queries="many"),
        "datasets.cub.attack_queries: 'many' is not valid under any of the given schemas; write all or a whole number",
    ),
    "not a mapping": (lambda p: p.update(run=[1]), "run: [1] is not of type 'object'"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_params_are_named(name):
    change, expected = BAD[name]
    with pytest.raises(UserError) as caught:
        params.check(changed(change))
    assert expected in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("run: [", "not valid YAML"), ("run: 1\nrun: 2", "line 2: key 'run' is written twice"), ("", "is not of type")],
)
def test_bad_yaml_is_named(tmp_path, text, expected):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=expected):
        params.load(path)


def test_missing_params_say_where_to_run(tmp_path):
    with pytest.raises(UserError, match="run from the project's folder"):
        params.load(tmp_path / "params.yaml")


def test_options_resolve_by_dataset_and_profiles_merge():
    loaded = changed(lambda p: p["datasets"].update(cars=p["datasets"]["digits"]))
    assert params.defense(loaded, "ca_tride", "digits")["options"]["lam"] == 10
    assert params.defense(loaded, "ca_tride", "cars")["options"]["lam"] == 9.5
    assert params.defense(loaded, "est", "digits")["training"]["freeze_batchnorm"] is False
    assert params.defense(loaded, "act", "digits")["training"]["freeze_batchnorm"] is True


def test_a_defense_may_bring_a_backbone_with_its_weights():
    profile = {"backbone": "resnet18", "weights": "imagenet"}
    params.check(changed(lambda p: p["defenses"]["est"].update(training=profile)))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "digit", "act", 0), "datasets: no block named 'digit'; did you mean 'digits'?"),
        (("train", "../digits", "act", 0), "datasets: no block named '../digits'"),
        (("train", "digits", "atc", 0), "defenses: no block named 'atc'; did you mean 'act'?"),
        (("train", "digits", "act", -1), "seed -1: out of range"),
        (("train", "digits", "act", 0), "data/digits/validation.json: missing; run `python -m stages.validate digits`"),
        (("validate", "digits"), "data/digits/images.npy: missing; run `python -m stages.prepare digits` first"),
        (("evaluate", "digits", "act", 0), "model.safetensors: missing; run `python -m stages.train digits act 0`"),
        (("attack", "digits", "act", 0, "qa"), "attacks: no block named 'qa'"),
        (("report",), "results: nothing of the run is there; run `snakemake --cores 8` or, for one model, `python -m"),
    ],
)
def test_bad_words_and_missing_inputs(project, words, expected):
    separator = ["--"] if words[1:] else []  # so that -1 is a word and not an option
    done = project.stage(words[0], *separator, *words[1:], check=False)
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert project.files("data", "models", "results", "reports", "logs") == {}


def test_snakemake_stops_on_bad_params_with_the_same_line(project):
    project.edit(lambda p: p["run"].update(defenses=["catride"]))
    done = project.run("snakemake", "--cores", "1", "-n", check=False)
    assert done.returncode != 0
    assert "params.yaml: run.defenses: 'catride' is not there; did you mean 'ca_tride'?" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_snakemake_refuses_an_overlay_that_the_stages_would_not_see(project):
    (project.folder / "overlay.yaml").write_text("run: {seeds: [5]}\n")
    done = project.run("snakemake", "--cores", "1", "-n", "--configfile", "overlay.yaml", check=False)
    assert done.returncode != 0
    assert "params.yaml: overlaid with --config or --configfile" in done.stdout + done.stderr


@pytest.mark.parametrize("content", ["[]", "{}", "{", "null"])
def test_json_of_another_shape_is_named(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = Path("results/x/act/0/benign.json")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(
        UserError, match=r"benign\.json: (damaged|not valid JSON).*run `python -m stages\.evaluate x act 0`"
    ):
        checksums.load_json(path, "metrics")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("data/cub/images.npy", "python -m stages.prepare cub"),
        ("data/cub/validation.json", "python -m stages.validate cub"),
        ("models/cub/act/3/history.csv", "python -m stages.train cub act 3"),
        ("results/cub/act/3/gallery.npy", "python -m stages.evaluate cub act 3"),
        ("results/cub/act/3/ltm.json", "python -m stages.attack cub act 3 ltm"),
        ("results/cub/act/3/ltm_examples.npy", "python -m stages.attack cub act 3 ltm"),
        ("results/cub/act/3/my_examples.parquet", "python -m stages.attack cub act 3 my_examples"),
        ("results/transfer/cub/ltm.parquet", "python -m stages.transfer cub ltm"),
        ("reports/metrics.json", "snakemake --cores 8 reports/metrics.json"),
    ],
)
def test_a_path_tells_the_command_that_makes_the_file(path, command):
    assert artifacts.made_by(Path(path)) == command


def test_stages_run_without_git(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "digits"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"commit": null' in (project.folder / "logs" / "provenance" / "prepare" / "digits.json").read_text()
