"""`dvc exp run -S key=value` changes that key and nothing else: DVC writes into mappings that YAML aliases share."""

import shutil
from pathlib import Path

import pytest
import yaml
from engine_world import git
from own_images import make_own

from stages.io import params

ROOT = Path(__file__).resolve().parents[1]


def mappings(value, path=()):
    """All mappings below a value, with their keys."""
    if isinstance(value, dict):
        yield path, value
        for key, below in value.items():
            yield from mappings(below, (*path, key))


def test_no_two_blocks_share_a_mapping():
    """A row of a table may: nobody runs experiments with labels."""
    loaded = yaml.safe_load((ROOT / "params.yaml").read_text())
    seen = {}
    for path, mapping in mappings({name: block for name, block in loaded.items() if name != "tables"}):
        assert seen.setdefault(id(mapping), path) == path, "write {<<: *name} instead of *name"


def leaves(loaded):
    """Values by dotted key, a mapping by dataset as one value."""
    for path, mapping in mappings(loaded):
        for key, value in mapping.items():
            if not isinstance(value, dict):
                yield ".".join(map(str, (*path, key))), value


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("defenses.act.options.steps=2", {"defenses.act.options.steps"}),
        ("defenses.act_s.options.steps=2", {"defenses.act_s.options.steps"}),
        ("defenses.hm_ics.options.ics_weight.sop=1", {"defenses.hm_ics.options.ics_weight.sop"}),
        (
            "defenses.ca_tride.options.lam=5",
            {f"defenses.ca_tride.options.lam{part}" for part in ("", ".default", ".cars", ".sop")},
        ),
        ("datasets.cub.training.epochs=3", {"datasets.cub.training.epochs"}),
        ("attacks.es.steps=3", {"attacks.es.steps"}),
        ("run.datasets=[cub]", {"run.datasets"}),
    ],
)
def test_an_override_changes_what_it_names(tmp_path, override, changed):
    from dvc.utils.hydra import apply_overrides

    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(str(path), [override])
    before, after = dict(leaves(params.load(ROOT / "params.yaml"))), dict(leaves(params.load(path)))
    assert {key for key in before | after if before.get(key) != after.get(key)} == changed


@pytest.mark.engines
def test_a_queued_experiment_on_own_images_runs_once_dvc_knows_them(study):
    """As docs/running.md says: the copy that a queue works in holds what git and DVC know."""
    make_own(study)
    study.edit(lambda params: params["run"].update(datasets=["own"], defenses=["vanilla"], attacks=["es"]))
    study.run("dvc", "add", "--quiet", "data/raw/own")
    git(study, "add", "data/raw/own.dvc", "data/raw/.gitignore", "params.yaml")
    git(study, "commit", "-qm", "own images")
    study.run("dvc", "exp", "run", "--queue", "-S", "datasets.own.training.epochs=2")
    study.run("dvc", "exp", "run", "--run-all")
    assert "Success" in study.run("dvc", "queue", "status").stdout
