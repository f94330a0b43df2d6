"""`dvc exp run -S key=value` changes that key, and with it the blocks that say they extend the block; nothing else."""

import shutil
from pathlib import Path

import pytest
import yaml
from engine_world import git
from own_images import make_own

from stages.runtime import params

ROOT = Path(__file__).resolve().parents[2]


def overridden(folder, *overrides):
    """The parameters after `-S` of each override."""
    from dvc.utils.hydra import apply_overrides

    path = Path(shutil.copy(ROOT / "params.yaml", folder))
    apply_overrides(str(path), list(overrides))
    return params.load(path)


def blocks(loaded):
    """All blocks by section and name; what is no mapping of blocks under its section."""
    return {
        f"{section}.{name}": block
        for section, content in loaded.items()
        for name, block in content.items()
        if section not in ("run", "resume", "visualize")
    } | {section: loaded[section] for section in ("run", "resume", "visualize")}


def changed(loaded):
    before, after = blocks(params.load(ROOT / "params.yaml")), blocks(loaded)
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_params_yaml_shares_nothing():
    """No anchors, so that no two blocks are one mapping, which DVC would change for both or for neither."""
    events = list(yaml.parse((ROOT / "params.yaml").read_text()))
    assert not [event for event in events if getattr(event, "anchor", None)]
    assert len((ROOT / "params.yaml").read_text().splitlines()) < 250


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("defenses.vanilla.miner=softhard", {"defenses.vanilla"}),
        ("defenses.hm_ics.options.steps=4", {"defenses.hm_ics", "defenses.hm_ics_heavy", "defenses.hm_ics_margin",
                                             "defenses.hm_ics_half"}),
        ("defenses.tride.options.steps=2", {"defenses.tride"}),
        ("defenses.act.options.steps=2", {"defenses.act", "defenses.act_s"}),
        ("datasets.cub.training.profile=small", {"datasets.cub"}),
        ("+datasets.cub.training.epochs=3", {"datasets.cub"}),
        ("attacks.es.steps=3", {"attacks.es"}),
        ("+attacks.es.alpha_over_eps=1/16", {"attacks.es"}),
        ("run.datasets=[cub]", {"run"}),
        ("+defenses.hm_wide.options.steps=3", {"defenses.hm_wide"}),  # of a paper
        ("+defenses.act_eta4.miner=softhard", {"defenses.act_eta4"}),  # of a grid
    ],
)  # fmt: skip
def test_an_override_changes_what_it_names(tmp_path, override, expected):
    assert changed(overridden(tmp_path, override)) == expected


def test_overrides_have_the_value_that_they_give(tmp_path):
    loaded = overridden(
        tmp_path, "defenses.act.options.steps=2", "+datasets.cub.training.epochs=3", "run.datasets=[cub]"
    )
    assert params.defense(loaded, "act", "cub")["options"] == {"steps": 2, "alpha_over_eps": 0.125}
    assert loaded["datasets"]["cub"]["training"]["epochs"] == 3
    assert loaded["run"]["datasets"] == ["cub"]


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
