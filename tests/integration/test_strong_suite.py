"""A small strong suite from params.yaml to the report: columns, the worst of all, doubts, and the same bytes again."""

import sys

import numpy as np
import pandas as pd
import pytest

from stages.reporting import results
from stages.runtime import checksums, params

CELL = "digits/vanilla/0"
SUITE = {
    "fine": {"steps": 6, "alpha_over_eps": 0.25},
    "apgd": {"steps": 3, "optimizer": "apgd", "start": "random", "restarts": 2, "surrogate": "softplus"},
    "square": {"steps": 4, "optimizer": "square"},
}


@pytest.fixture
def ready(tiny):
    """An untrained model of digits, evaluated; eight queries, in batches of three."""

    def small(own):
        own["papers"] = ["strong"]
        own["run"] |= {"defenses": ["vanilla"], "attacks": ["ltm", "ltm_strong"]}
        own["datasets"]["digits"] |= {"attack_queries": 8, "attack_batch": 3, "eps": 0.01}
        own["datasets"]["digits"]["training"]["epochs"] = 0
        own["bases"]["strong_small"] = {"extends": "pgd_attack", "steps": 2, "suite": SUITE}
        own["attacks"]["ltm_strong"] = {"extends": "strong_small", "attack": "ltm"}
        own["visualize"]["attacks"] = []

    tiny.edit(small)
    for words in (("prepare", "digits"), ("validate", "digits"), ("train", "digits", "vanilla", 0)):
        tiny.stage(*words)
    tiny.stage("evaluate", "digits", "vanilla", 0)
    return tiny


def without_a_member(ready):
    """Results from before a member was added stop what shows them, and nothing else."""

    def later(own):
        own["bases"]["strong_small"]["suite"]["later"] = {"steps": 5}
        rows = {"vanilla": {"label": "Vanilla"}}
        own["tables"] = {
            "plain": {"extends": "table", "title": "Plain", "columns": ["ltm"], "intervals": [], "rows": rows}
        }

    ready.edit(later)
    show = (sys.executable, "-m", "workflow", "show")
    assert "LTM" in ready.run(*show, "plain").stdout
    for command in (("stages.report",), ("workflow", "show", "strong"), ("workflow", "show", f"{CELL}/ltm_strong")):
        done = ready.run(sys.executable, "-m", *command, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].partition(": ")[2] == (
            f"results/{CELL}/ltm_strong.json: has nothing of 'later', a member of attacks.ltm_strong.suite now; "
            f"run `ca-tride compute {CELL}/ltm_strong`"
        )

    def before(own):
        del own["bases"]["strong_small"]["suite"]["later"], own["tables"]

    ready.edit(before)


def test_a_suite_from_the_parameters_to_the_page(ready, monkeypatch):
    folder = ready.folder / "results/digits/vanilla/0"
    words = ("digits", "vanilla", 0)
    ready.stage("attack", *words, "ltm")
    ready.stage("attack", *words, "ltm_strong")
    suite, protocol = (pd.read_parquet(folder / f"{name}.parquet") for name in ("ltm_strong", "ltm"))
    each = np.stack([suite[f"ltm_after@{member}"] for member in SUITE])
    assert (suite["ltm_after"] == each.min(axis=0)).all()
    assert suite["ltm_after"].mean() > 30  # what is worse must show below
    assert [name for name in suite if "@" not in name] == list(protocol)
    for column in ("image_id", "target", "ltm_before", "objective_before"):
        assert (suite[column] == protocol[column]).all()

    before = ready.files("results")
    for path in folder.glob("ltm_strong*"):
        path.unlink()
    ready.stage("attack", *words, "ltm_strong")
    assert ready.files("results") == before

    said = ready.stage("report").stderr
    scores = pd.read_csv(ready.folder / "reports/scores.csv").set_index("metric")["value"]
    assert scores["ltm"] == pytest.approx(protocol["ltm_after"].mean())
    assert scores["ltm:ltm_strong"] == pytest.approx(np.minimum(suite["ltm_after"], protocol["ltm_after"]).mean())
    for member, values in zip(SUITE, each, strict=True):  # alone, without the protocol's attack
        assert scores[f"ltm:ltm_strong@{member}"] == pytest.approx(values.mean())
    without_a_member(ready)
    assert "LTM (strong)" in (ready.folder / "reports/tables/strong.md").read_text()
    page = (ready.folder / "reports/index.html").read_text()
    assert ("beats the white box" in page) == ("beats the white box" in said)

    # As the stage `transfer` writes it: images made on `act` that mislead every query.
    moved = protocol[["image_id", "row", "ltm_before"]].assign(seed=0, source="act", defense="vanilla", ltm_after=0.0)
    made = ready.folder / "results/transfer/digits/ltm.parquet"
    made.parent.mkdir(parents=True)
    moved.to_parquet(made)
    monkeypatch.chdir(ready.folder)
    own = folder.relative_to(ready.folder) / "ltm.json"
    inputs = checksums.load(own)["inputs"] | checksums.hashes(own)
    checksums.dump({"inputs": inputs}, made.with_suffix(".json"), {made.name: made})
    loaded = params.load()
    loaded["run"]["defenses"] = ["vanilla", "act"]
    (model,) = results.read_models(loaded, loaded["run"] | {"transfer": ["ltm"]})["digits"]["vanilla"]
    assert model.values["ltm:ltm_strong"] == 0
    assert model.values["ltm"] == pytest.approx(protocol["ltm_after"].mean())
