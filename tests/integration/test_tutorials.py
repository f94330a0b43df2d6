"""The tutorials under docs/ are run as they stand: files written, params.yaml edited, commands typed."""

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import give_digits

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+) ?([\w./]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HASH = re.compile(r"<sha256 of (.+?)>")


def merge(into, change):
    """Put a snippet's keys where a person would; lists and values replace."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def follow(project, name):
    """Do what a tutorial says, block by block; the output of its commands."""
    said = []
    for kind, target, text in BLOCK.findall((DOCS / name).read_text()):
        if kind in ("python", "csv") or (kind == "yaml" and target != "params.yaml"):
            (project.folder / target).parent.mkdir(exist_ok=True)
            (project.folder / target).write_text(text)
        elif kind == "diff":
            patch = ["patch", "-p1", "--fuzz=0"]
            subprocess.run(patch, cwd=project.folder, input=text, text=True, check=True, capture_output=True)
        elif kind == "yaml":
            known = HASH.sub(lambda found: sha256((project.folder / found[1]).read_bytes()).hexdigest(), text)
            project.edit(lambda params, known=known: merge(params, yaml.safe_load(known)))
        elif kind == "console":
            for line in text.splitlines():
                assert line.startswith("$ "), line
                done = project.run("bash", "-c", line.removeprefix("$ "))
                said.append(done.stdout)
    return said


@pytest.fixture
def quick(tiny):
    """The tiny study with few attacked queries."""
    tiny.edit(lambda params: params["datasets"]["digits"].update(attack_queries=40))
    return tiny


def cells(project, table="main"):
    """A table's values by defense and metric."""
    frame = pd.read_csv(project.folder / f"reports/tables/{table}.csv").dropna(subset="value")
    return frame.set_index(["defense", "metric"])["value"]


@pytest.mark.tutorials
def test_own_model(quick):
    said = follow(quick, "own_model.md")
    assert "| My model" in next(text for text in said if "CA-TRIDE" in text)
    found = cells(quick)
    assert found["my_model", "recall_at_1"] > 40
    assert 0 < found["my_model", "ers"] < 100
    scores = pd.read_csv(quick.folder / "reports/scores.csv").pivot(index="metric", columns="defense", values="value")
    assert (scores["theirs"] == scores["vanilla"]).all()
    assert not (scores["my_model"] == scores["vanilla"]).all()
    page = (quick.folder / "reports/index.html").read_text()
    assert "my_model:build" in page


@pytest.mark.tutorials
def test_python(project):
    said, harder = follow(project, "python.md")
    found = {line.split()[0]: line.split()[1:] for line in said.splitlines()}
    values = {line.split()[0]: float(line.split()[1]) for line in harder.splitlines() if line[:2] in ("er", "lt", "or")}
    assert 0 < values["ers_strong"] < values["ers"]
    assert values["ltm:ltm_hard"] <= values["ltm"]
    assert {"ers_surviving", "ltm:ltm_square", "order"} <= values.keys()
    assert {"recall_at_1", "es_r", "gtt", "ers"} <= set(found)
    value, low, high = map(float, found["ers"])
    assert 0 < low <= value <= high < 100


@pytest.mark.tutorials
def test_add_defense(quick):
    follow(quick, "add_defense.md")
    found = cells(quick)
    assert found["noise", "recall_at_1"] > 40
    assert found["noise", "ers"] != found["vanilla", "ers"]


@pytest.mark.tutorials
def test_add_attack(quick):
    said = follow(quick, "add_attack.md")
    assert "LTM (center)" in said[-1]
    found = cells(quick, "mine")
    assert found["vanilla", "ltm:center"] < found["vanilla", "recall_at_1"]
    assert "center on digits" in (quick.folder / "reports/index.html").read_text()


@pytest.mark.tutorials
def test_add_dataset(quick):
    follow(quick, "add_dataset.md")
    frame = pd.read_csv(quick.folder / "reports/tables/main.csv").dropna(subset="value")
    assert set(frame["dataset"]) == {"mine"}
    assert set(frame["defense"]) == {"vanilla", "act"}


def own(project, **model):
    """Write a block that names a model, and run its first stage."""
    block = {"method": "own", "model": model}
    project.edit(lambda params: params["defenses"].update(mine=block))
    project.edit(lambda params: params["run"].update(defenses=["mine"]))
    return project.stage("train", "digits", "mine", "0", check=False)


@pytest.mark.tutorials
def test_add_paper(tiny):
    said = follow(tiny, "add_paper.md")
    frame = pd.read_csv(tiny.folder / "reports/tables/example.csv").set_index(["defense", "metric"])
    assert frame["published"].dropna().to_dict() == {
        ("vanilla", "recall_at_1"): 95.0, ("vanilla", "es_d"): 0.9, ("hard_triplets", "recall_at_1"): 12.5,
    }  # fmt: skip
    for (_, metric), row in frame[frame["published"].notna()].iterrows():
        slack = 2.0 if metric == "recall_at_1" else 0.04  # 2 % of the metric's range
        inside = row["low"] - slack <= row["published"] <= row["high"] + slack
        assert (row["interval_over"], row["verdict"]) == ("seeds", "match" if inside else "differs")
    assert frame.loc[("hard_triplets", "recall_at_1"), "verdict"] == "differs"
    assert frame.loc[("hard_triplets", "es_d"), "verdict"] == "no published value"
    assert "### Triplets, random and hard: digits" in said[-1]
    assert "- The values are made up." in said[-1]
    assert "example" in set(pd.read_csv(tiny.folder / "reports/comparison.csv")["table"])
    (tiny.folder / "workflow/papers/example/tables.yaml").write_text("tables: {example: {extends: tabel}}")
    refused = tiny.stage("report", check=False).stderr
    assert "workflow/papers/example/tables.yaml: tables.example.extends: 'tabel' is not there; did you mean" in refused


MODULES = {
    "not a module": ("def build():\n    return 3\n", "gave int; return a torch.nn.Module"),
    "an error": ("def build():\n    raise ValueError('no weights')\n", "failed (ValueError: no weights)"),
    "wrong images": (
        "from torch import nn\ndef build():\n    return nn.Conv2d(3, 1, 3)\n",
        "cannot take images of shape",
    ),
    "no embedding": (
        "from torch import nn\ndef build():\n    return nn.Conv2d(1, 4, 3)\n",
        "must map B images to a tensor",
    ),
    "no gradient": (
        "import torch\nfrom torch import nn\nclass M(nn.Flatten):\n    @torch.no_grad()\n    def forward(self, x):\n"
        "        return super().forward(x)\ndef build():\n    return M()\n",
        "no gradient reaches the images",
    ),
    "noise as a defense": (
        "import torch\nfrom torch import nn\nclass M(nn.Flatten):\n    def forward(self, x):\n"
        "        return super().forward(x + 0.01 * torch.randn_like(x))\ndef build():\n    return M()\n",
        "defenses.mine.model: the model cannot be measured: it is randomized: two calls on the same images",
    ),
}


@pytest.fixture
def prepared(project, checked):
    """A project with checked digits."""
    return give_digits(project, checked)


@pytest.mark.parametrize("name", MODULES)
def test_a_model_that_cannot_be_attacked_is_refused_in_one_line(prepared, name):
    text, expected = MODULES[name]
    (prepared.folder / "mine.py").write_text(text)
    done = own(prepared, **{"import": "mine:build", "revision": 0})
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("train: ")
    assert expected in said
    assert not (prepared.folder / "models/digits/mine").exists() or not any(
        (prepared.folder / "models/digits/mine/0").iterdir()
    )


def test_a_checkpoint_that_is_not_the_one_named_is_refused(prepared):
    done = own(prepared, safetensors="x.safetensors", sha256="0" * 64)
    assert "x.safetensors: missing" in done.stderr
    (prepared.folder / "x.safetensors").write_bytes(b"other")
    done = own(prepared, safetensors="x.safetensors", sha256="0" * 64)
    assert done.returncode == 1
    assert f"has SHA-256 {sha256(b'other').hexdigest()}" in done.stderr.splitlines()[-1]


def test_a_model_of_another_revision_is_not_taken_for_this_one(prepared):
    (prepared.folder / "mine.py").write_text("from torch import nn\ndef build():\n    return nn.Flatten()\n")
    assert own(prepared, **{"import": "mine:build", "revision": 0}).returncode == 0

    def raised(params):
        params["defenses"]["mine"]["model"]["revision"] = 1

    prepared.edit(raised)
    done = prepared.stage("evaluate", "digits", "mine", "0", check=False)
    assert done.returncode == 1
    assert "run `python -m stages.train digits mine 0` again" in done.stderr.splitlines()[-1]
