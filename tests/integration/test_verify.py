"""`ca-tride verify`: a study run anew has the recorded bytes, and what differs is named by its first stage."""

import json
import sys
from copy import deepcopy

import pytest

from workflow.commands import verify

MADE = {"train": {"models/a": "1", "models/b": "2"}, "evaluate": {"results/a": "3"}}


def test_equal_digests_differ_in_nothing():
    assert verify.compared(MADE, deepcopy(MADE)) == ""


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda made: made["evaluate"].update({"results/a": "0"}), "results/a: of other bytes, the first that differs"),
        (lambda made: made["train"].pop("models/b"), "models/b: missing, the first that differs"),
        (lambda made: made["train"].update({"models/c": "4"}), "models/c: new, the first that differs"),
    ],
)
def test_one_difference_is_named_with_its_stage(change, line):
    made = deepcopy(MADE)
    change(made)
    said = verify.compared(made, MADE)
    assert said.startswith(line)
    assert said.endswith("look at " + ("evaluate" if "results" in line else "train"))


def test_of_many_differences_the_first_stage_is_named():
    other = {stage: dict.fromkeys(files, "0") for stage, files in MADE.items()}
    assert verify.compared(other, MADE).startswith("models/a: of other bytes")
    assert verify.compared(other, MADE).endswith("look at train; 2 more files differ")


def test_figures_of_another_platform_may_differ_as_seeds_do():
    recorded = {"digits/act/0": {"recall_at_1": 88.0, "ers": 20.0}}
    assert verify.far_from({"digits/act/0": {"recall_at_1": 96.0, "ers": 24.9}}, recorded) == []
    far = verify.far_from({"digits/act/0": {"recall_at_1": 88.0, "ers": 25.1}}, recorded)
    assert far == ["digits/act/0: ers is 25.1, recorded 20.0"]
    assert len(verify.far_from({}, recorded)) == 2


def run(project, *words, check=True):
    return project.run(sys.executable, "-m", "workflow", "verify", *words, "--cores", "1", check=check)


@pytest.mark.engines
def test_a_study_is_recorded_and_verified(tiny):
    tiny.edit(lambda params: params["run"].update(attacks=["es"]))
    refused = run(tiny, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "verify: params.yaml: no record was made of this study; `ca-tride verify --record`"
    )
    here = verify.this_platform()
    assert f"files of {here}" in run(tiny, "--record").stdout
    part = json.loads((tiny.folder / verify.RECORD).read_text())[here]
    made = {stage for stage, files in part["digests"].items() if files}
    assert made == set(verify.OUTPUTS) - {"transfer"}  # of which this study has none
    assert not (tiny.folder / "models").exists()
    assert f"have the recorded bytes ({here})" in run(tiny).stdout

    path = tiny.folder / "stages" / "core" / "attacks" / "embedding.py"
    path.write_text(path.read_text() + "\n# a comment changes nothing\n")
    losses = tiny.folder / "stages" / "core" / "losses.py"
    losses.write_text(losses.read_text() + "\n# nor does this\n")
    attack = tiny.folder / "stages" / "attack.py"
    before = attack.read_text()
    attack.write_text(before.replace('{"eps": config.eps,', '{"eps": 2 * config.eps,'))
    assert attack.read_text() != before
    wrong = run(tiny, check=False)
    assert wrong.returncode == 1
    assert "verify: results/digits/ca_tride/0/es.json: of other bytes" in wrong.stderr
    assert "look at attack" in wrong.stderr

    part["digests"]["train"] = dict.fromkeys(part["digests"]["train"], "0" * 64)
    (tiny.folder / verify.RECORD).write_text(json.dumps({"another processor": part}))
    assert "is not in workflow/reference/digests.json; R@1 and ERS are as near" in run(tiny).stdout
