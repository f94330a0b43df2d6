"""A run as an RO-Crate, and a checkpoint to pass on."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from conftest import copy_of

from stages.models import checkpoints

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = ROOT / ".venv" / "crate" / "bin" / "python"


@pytest.fixture(scope="module")
def study(tmp_path_factory, finished_folder):
    """A finished tiny study."""
    return copy_of(finished_folder, tmp_path_factory.mktemp("study"))


def entities(study):
    """What the crate that the run itself wrote describes, by id."""
    crate = json.loads((study.folder / "logs/provenance/crate/ro-crate-metadata.json").read_text())
    return {entity["@id"]: entity for entity in crate["@graph"]}


def test_a_run_leaves_a_crate_that_leads_from_parameters_to_reports(study):
    found = entities(study)
    action = found["#run"]
    assert (action["instrument"], action["object"]) == ({"@id": "Snakefile"}, [{"@id": "params.yaml"}])
    results = {result["@id"] for result in action["result"]}
    assert {"reports/index.html", "reports/tables/main.csv", "logs/provenance/train/digits-ca_tride-0.json"} <= results
    assert action["endTime"].startswith("20")
    assert found["./"]["mentions"] == {"@id": "#run"} or {"@id": "#run"} in found["./"]["mentions"]
    folder = study.folder / "logs/provenance/crate"
    for name in results | {"params.yaml", "Snakefile"}:
        assert (folder / name).read_bytes() == (study.folder / name).read_bytes(), name


@pytest.mark.crate
@pytest.mark.parametrize("profile", ["workflow-run-crate", "process-run-crate", "workflow-ro-crate"])
def test_the_crate_is_valid(study, profile):
    if not VALIDATOR.exists():
        pytest.skip("no roc-validator: make test-crate installs it")
    folder = study.folder / "logs/provenance/crate"
    command = [str(VALIDATOR), str(ROOT / "tests/validate_crate.py"), str(folder), profile]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-2]) > 20

    broken = json.loads((folder / "ro-crate-metadata.json").read_text())
    broken["@graph"] = [entity for entity in broken["@graph"] if entity["@id"] != "Snakefile"]
    copy = study.folder / "broken"
    copy.mkdir(exist_ok=True)
    (copy / "ro-crate-metadata.json").write_text(json.dumps(broken))
    done = subprocess.run([*command[:2], str(copy), profile], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_an_exported_checkpoint_explains_itself(study):
    done = study.run(sys.executable, "-m", "workflow", "export", "digits/ca_tride/0")
    folder = study.folder / done.stdout.split()[-1]
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "DATA_LICENSE.txt",
        "model.safetensors",
        "history.csv",
    }
    card = (folder / "README.md").read_text()
    scores = (study.folder / "reports/scores.csv").read_text().splitlines()
    ers = next(float(line.rsplit(",", 1)[1]) for line in scores if ",ers," in line)
    assert f"| ers | {ers:.4g} |" in card
    assert "30 of them attacked" in card
    assert "method: ca_tride" in card
    assert sha256((folder / "model.safetensors").read_bytes()).hexdigest() in card
    assert "CC BY 4.0" in (folder / "DATA_LICENSE.txt").read_text()
    assert checkpoints.load(folder / "model.safetensors")(torch.zeros(2, 1, 8, 8)).shape == (2, 128)


OWN = """from torch import nn


def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
"""


@pytest.mark.parametrize("name", ["imported", "copied"])
def test_the_card_of_a_model_made_elsewhere_loads_it_and_claims_nothing(study, name):
    trained = study.folder / "models/digits/ca_tride/0/model.safetensors"
    (study.folder / "elsewhere.py").write_text(OWN)
    (study.folder / "theirs.safetensors").write_bytes(trained.read_bytes())
    known = sha256(trained.read_bytes()).hexdigest()
    before = (study.folder / "params.yaml").read_text()
    study.edit(
        lambda params: params["defenses"].update(
            imported={"method": "own", "model": {"import": "elsewhere:build", "revision": 1}},
            copied={"method": "own", "model": {"safetensors": "theirs.safetensors", "sha256": known}},
        )
    )
    study.stage("train", "digits", name, 0)
    study.run(sys.executable, "-m", "workflow", "export", f"digits/{name}/0")
    (study.folder / "params.yaml").write_text(before)
    folder = study.folder / f"export/digits-{name}-0"
    card = (folder / "README.md").read_text()
    assert "## Training" not in card
    assert "apache" not in card
    code = (
        card.partition("```python\n")[2].partition("```")[0]
        + "import torch\nprint(model(torch.zeros(2, 1, 8, 8)).shape)"
    )
    shape = {"imported": "torch.Size([2, 8])\n", "copied": "torch.Size([2, 128])\n"}[name]
    command = ("env", f"PYTHONPATH={study.folder}", "sh", "-c", 'cd "$1" && "$2" -c "$3"', "sh")
    assert study.run(*command, str(folder), sys.executable, code).stdout == shape


def test_what_was_not_trained_is_not_exported(study):
    done = study.run(sys.executable, "-m", "workflow", "export", "digits/act/0", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("export: models/digits/act/0/model.safetensors: missing; run")
    assert not (study.folder / "export/digits-act-0").exists()
