"""Results read from files: only those that belong together."""

from pathlib import Path

import pandas as pd
import pytest

from stages.reporting import results
from stages.runtime import artifacts, checksums, params
from stages.runtime.errors import UserError
from workflow.commands import show

FOLDER = Path("results/digits/act/0")
BENIGN = {"recall_at_1": 90.0, "chance": 20.0, "spread": 1.0}
RUN = {"transfer": ["ltm"], "defenses": ["act", "hm"], "seeds": [0]}
CHECKS = {"improved": 1.0, "stuck": 0.0, "largest_change": 0.3}


def dump(path, table, report):
    """A report with its table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path.with_suffix(".parquet"), index=False)
    checksums.dump(report, path, {name.name: name for name in path.parent.glob(f"{path.stem}.parquet")})


def made_of(model, folder):
    """What evaluate records of a model."""
    return {"data/digits/images.npy": "pixels", f"models/{folder.relative_to('results')}/model.safetensors": model}


def evaluated(model, folder=FOLDER, gallery=""):
    """What evaluate leaves of a model with this content."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gallery.npy").write_text(gallery or model)
    table = pd.DataFrame({"image_id": [1, 2], "recall_at_1": [100.0, 80.0]})
    table.to_parquet(folder / "benign.parquet", index=False)
    beside = {name: folder / name for name in ("benign.parquet", "gallery.npy")}
    checksums.dump({"metrics": BENIGN, "inputs": made_of(model, folder)}, folder / "benign.json", beside)


def attacked(model, folder=FOLDER, name="ltm", ids=(1, 2)):
    """What an attack on a model leaves, whose gallery is the present one."""
    inputs = made_of(model, folder) | checksums.hashes(folder / "gallery.npy")
    table = pd.DataFrame({"image_id": ids, "row": range(len(ids)), "ltm_before": 90.0})
    table["ltm_after"] = 50.0
    means = {"ltm": {"before": 90.0, "after": 50.0}}
    dump(folder / f"{name}.json", table, {"metrics": means, "checks": CHECKS, "inputs": inputs})


def transferred(*defenses, name="ltm"):
    """What a transfer leaves between models whose contents are called like their defenses."""
    inputs = {}
    for defense in defenses:
        folder = artifacts.result_dir("digits", defense, 0)
        inputs |= made_of(defense, folder) | checksums.hashes(folder / "gallery.npy", folder / f"{name}.json")
    pairs = [{"seed": 0, "source": one, "defense": other} for one in defenses for other in defenses]
    dump(artifacts.transfer_files("digits", name)[0], pd.DataFrame(pairs), {"inputs": inputs})


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """The parameters, standing in an empty folder."""
    found = params.load()
    monkeypatch.chdir(tmp_path)
    return found


def blocks(loaded):
    return {"ltm": params.attack(loaded, "ltm", "digits")}


@pytest.mark.parametrize("changed", ["model", "gallery"])
def test_an_attack_on_another_model_is_not_shown_beside_the_present_one(loaded, changed):
    evaluated("first")
    attacked("first")
    assert results.read_model("digits", "act", 0, blocks(loaded)).values["ltm"] == 50
    assert show.cell(loaded, "digits/act/0/ltm").split() == ["ltm", "50.000", "(before:", "90.000)"]
    if changed == "model":
        evaluated("second")
    else:
        evaluated("first", gallery="rounded otherwise")
    for read in (lambda: results.read_model("digits", "act", 0, blocks(loaded)),
                 lambda: show.cell(loaded, "digits/act/0/ltm")):  # fmt: skip
        with pytest.raises(UserError) as told:
            read()
        assert str(told.value).startswith("results/digits/act/0/ltm.json: is not of the present ")
        assert str(told.value).endswith("; run `python -m stages.attack digits act 0 ltm` again")
    assert show.cell(loaded, "digits/act/0/benign").startswith("chance")
    attacked("second" if changed == "model" else "first")
    assert results.read_model("digits", "act", 0, blocks(loaded)).values["ltm"] == 50


def test_a_transfer_of_other_models_or_attacks_is_refused(loaded):
    folders = {defense: artifacts.result_dir("digits", defense, 0) for defense in ("act", "hm")}
    for defense, folder in folders.items():
        evaluated(defense, folder)
        attacked(defense, folder)
    transferred("act", "hm")
    assert len(results.read_transfers("digits", RUN)["ltm"]) == 4
    evaluated("second", folders["hm"])
    attacked("second", folders["hm"])
    for gone in ("", "benign.json", "ltm.json"):
        if gone:
            (folders["hm"] / gone).unlink()
        if gone != "ltm.json":
            with pytest.raises(UserError, match=r"^results/transfer/digits/ltm\.json: is not of the present .*"
                               r"hm.*; run `python -m stages\.transfer digits ltm` again$"):  # fmt: skip
                results.read_transfers("digits", RUN)
    assert len(results.read_transfers("digits", RUN)["ltm"]) == 4


def test_what_a_transfer_has_of_others_than_the_run_is_left_out(loaded):
    """Defenses and seeds that were taken out of the run since, as sources and as what is measured."""
    for defense in ("act", "hm"):
        evaluated(defense, artifacts.result_dir("digits", defense, 0))
        attacked(defense, artifacts.result_dir("digits", defense, 0))
    transferred("act", "hm")
    (left,) = results.read_transfers("digits", RUN | {"defenses": ["act"]})["ltm"].itertuples(index=False)
    assert left == (0, "act", "act")
    evaluated("second", artifacts.result_dir("digits", "hm", 0))  # what is left out may be of other models
    assert list(results.read_transfers("digits", RUN | {"defenses": ["act"]})) == ["ltm"]
    assert results.read_transfers("digits", RUN | {"seeds": [1]}) == {}
    assert results.read_transfers("digits", RUN | {"defenses": ["est"]}) == {}


def test_the_strong_values_of_a_table_take_transfers_of_the_run(loaded):
    """`ca-tride show` of a table with one row sees the images made on the run's other defenses, as the report does."""
    for defense in ("act", "hm"):
        evaluated(defense, artifacts.result_dir("digits", defense, 0))
        attacked(defense, artifacts.result_dir("digits", defense, 0))
    transferred("act", "hm")
    loaded["run"] |= RUN | {"datasets": ["digits"]}
    seen = []
    read = results.read_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "read_model", lambda *given: seen.append(given[4]["ltm"]) or read(*given[:4]))
        results.read_models(loaded, loaded["run"] | {"defenses": ["act"], "attacks": ["ltm"]})
    assert seen[0]["source"].tolist() == ["act", "hm"]


def test_attacked_images_are_counted_by_what_they_are(loaded):
    """A gallery of its own has other images than the queries, 1 and 2, and more of them may be attacked."""
    evaluated("first")
    attacks = {name: params.attack(loaded, name, "digits") for name in ("ltm", "ca_plus")}

    def counts():
        model = results.read_model("digits", "act", 0, attacks)
        return model.queries, model.attacked, model.candidates

    assert counts() == (2, 0, 0)
    attacked("first", name="ca_plus", ids=(5, 6, 7))
    assert counts() == (2, 0, 3)
    attacked("first", ids=(2,))
    assert counts() == (2, 1, 3)
    attacked("first", name="ca_plus", ids=(1, 2))
    assert counts() == (2, 2, 0)
