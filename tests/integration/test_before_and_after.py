"""Before and after a run: what it would take, one table or cell by name, what is left over, and a zip to send."""

import copy
import sys
import zipfile

import pytest
from conftest import copy_of
from project_params import LOADED

from stages.runtime.errors import UserError
from workflow import commands, cost
from workflow.commands import compute, plan


class Pretend:
    """A network of 1,000 weights that embeds an image in 1 ms and needs 3 ms with the backward pass."""

    substitute, weights, forward, both = False, 1000, 0.001, 0.003


def test_the_estimate_counts_passes():
    network = Pretend()
    assert plan.estimate(LOADED, network, "evaluate", ("digits", "act", "0")) == pytest.approx(0.896)
    assert plan.estimate(LOADED, network, "attack", ("digits", "act", "0", "ltm")) == pytest.approx(896 * 32 * 0.003)
    # Fine 50; Auto-PGD 5 starts of 12 steps and a first look; NES 100 queries; Square Attack 60 and a first look.
    strong = plan.estimate(LOADED, network, "attack", ("digits", "act", "0", "ltm_strong"))
    assert strong == pytest.approx(896 * ((50 + 5 * 13) * 0.003 + (100 + 61) * 0.001))
    nes = plan.estimate(LOADED, network, "attack", ("digits", "act", "0", "ltm_nes"))
    assert nes == pytest.approx(896 * 32 * 100 * 0.001)
    vanilla = plan.estimate(LOADED, network, "train", ("digits", "vanilla", "0"))
    act = plan.estimate(LOADED, network, "train", ("digits", "act", "0"))
    assert vanilla == pytest.approx(901 * 30 * 5 * 0.003 + 6 * 0.896)
    hm = plan.estimate(LOADED, network, "train", ("digits", "hm", "0"))
    assert act - vanilla == pytest.approx(901 * 30 * 2 * 8 * 0.003)  # ACT perturbs positives and negatives
    assert hm - vanilla == pytest.approx(901 * 30 * 3 * 8 * 0.003)  # HM perturbs all three
    assert cost.size(LOADED, network.weights, "prepare", ("cub",)) == (5864 + 5924) * 256 * 256 * 3
    assert cost.size(LOADED, network.weights, "train", ("digits", "act", "0")) == 4000


def test_a_transfer_costs_forward_passes_of_what_is_kept():
    network, loaded = Pretend(), copy.deepcopy(LOADED)
    loaded["run"] |= {"defenses": ["vanilla", "act", "hm"], "seeds": [0, 1]}
    words = ("digits", "qa_plus")
    assert plan.estimate(loaded, network, "transfer", words) == pytest.approx(6 * 2 * 3**2 * 0.001)
    few = cost.size(loaded, network.weights, "attack", ("digits", "act", "0", "qa_plus"))
    loaded["attacks"]["qa_plus"]["keep"] = "all"
    assert plan.estimate(loaded, network, "transfer", words) == pytest.approx(896 * 2 * 3**2 * 0.001)
    more = cost.size(loaded, network.weights, "attack", ("digits", "act", "0", "qa_plus"))
    assert more - few == (896 - 6) * 8 * 8 * 4
    loaded["datasets"]["digits"]["attack_queries"] = 40
    assert plan.estimate(loaded, network, "transfer", words) == pytest.approx(40 * 2 * 3**2 * 0.001)


def test_further_attacks_are_computed_for_the_columns_that_need_them():
    columns = ["recall_at_1", "spqa_plus_kept", "order_src", "order"]
    assert commands.attacks_of(columns, list(LOADED["attacks"])) == ["spqa_plus", "order"]


def test_earlier_times_of_any_seed_are_preferred(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan.measured("train", ("digits", "act", "2")) is None
    folder = tmp_path / "logs/benchmarks/train"
    folder.mkdir(parents=True)
    for seed, seconds in ((0, 10), (1, 30)):
        (folder / f"digits-act-{seed}.tsv").write_text(f"s\th:m:s\n{seconds}.0\t0:00:10\n")
    assert plan.measured("train", ("digits", "act", "2")) == 20


def test_the_plan_lists_every_job_and_then_nothing(tiny, finished_folder, tmp_path_factory):
    before = tiny.run(sys.executable, "-m", "workflow", "plan").stdout.splitlines()
    assert [line.split()[:2] for line in before[1:9]] == [
        ["prepare", "1"], ["validate", "1"], ["train", "1"], ["evaluate", "1"], ["attack", "9"], ["visualize", "1"],
        ["report", "1"], ["total", "15"],
    ]  # fmt: skip
    assert before[-1].startswith("One job after another on this machine; 0 of 15 jobs from earlier times")
    assert not (tiny.folder / "models").exists()
    finished = copy_of(finished_folder, tmp_path_factory.mktemp("finished"))
    assert finished.run(sys.executable, "-m", "workflow", "plan").stdout.startswith("Nothing to be done")


def test_a_bundle_has_what_one_reads_and_the_same_bytes_again(finished):
    archive = finished.folder / "report.zip"
    said = finished.run(sys.executable, "-m", "workflow", "bundle").stdout
    assert said.startswith("report.zip: ")
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    assert {"params.yaml", "reports/index.html", "reports/tables/main.tex", "logs/validation/digits/index.html"} <= set(
        names
    )
    assert "logs/provenance/attack/digits-ca_tride-0-es.json" in names
    assert not [name for name in names if name.startswith(("models", "results", "data", "/", "."))]
    first = archive.read_bytes()
    finished.run(sys.executable, "-m", "workflow", "bundle")
    assert archive.read_bytes() == first


def test_a_cell_is_computed_and_shown_by_its_name(finished):
    results = finished.folder / "results/digits/ca_tride/0"
    for path in (*results.glob("gtt*"), *results.glob("tma*")):
        path.unlink()
    said = finished.run(sys.executable, "-m", "workflow", "compute", "digits/ca_tride/0/gtt", "--cores", "1").stdout
    assert said.split()[0] == "gtt"
    assert (results / "gtt.json").exists()
    assert not (results / "tma.json").exists()
    table = finished.run(sys.executable, "-m", "workflow", "show", "main").stdout
    row = next(line for line in table.splitlines() if line.startswith("| CA-TRIDE"))
    assert row.count("not run") == 3  # TMA, and the two scores made of all


def test_a_table_names_the_files_it_needs():
    wanted = compute.targets(LOADED, "step_size")
    assert len(wanted) == 7 * 5  # gtm in four variants, and benign
    assert "results/digits/ca_tride/0/gtm_exact_fine.json" in wanted
    assert len(compute.targets(LOADED, "lambda")) == 5 * 10
    assert compute.targets(LOADED, "digits/act/3/benign") == ["results/digits/act/3/benign.json"]
    published = compute.targets(LOADED, "robrank_fashion")  # on its own dataset, whatever the run's are
    assert len(published) == 7 * 10
    assert all(path.startswith("results/fashion/") for path in published)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digits/acts/0/es", "defenses: no block named 'acts'; did you mean 'act_s'?"), ("a/b", "a/b: not a cell; write")],
)
def test_a_cell_that_is_not_there_is_refused(name, expected):
    with pytest.raises(UserError, match=None) as caught:
        compute.targets(LOADED, name)
    assert expected in str(caught.value)


def test_only_what_no_block_names_is_left_over(project):
    kept = ["models/digits/act/0/model.safetensors", "results/digits/act/0/ltm_examples.npy", "data/raw/cub/x.jpg",
            "results/digits/act/0/gallery.npy", "data/digits/images.npy", "data/weights/a.pth",
            "results/transfer/digits/ltm.json", "results/digits/act/0/few_examples.json",
            "results/digits/act/0/few_examples.parquet", "results/digits/act/0/few_examples_examples.npy",
            "data/my_downloads/birds.zip", "data/mine/images.npy", "data/mine/notes.txt",
            "models/theirs/0/a.safetensors", "results/digits/act/0/notes.txt"]  # fmt: skip
    gone = ["models/digits/old/0/model.safetensors", "results/digits/act/0/old.json",
            "results/digits/act/0/old_examples.npy",
            "data/old/images.npy", "data/old/.123.manifest.parquet", "results/old/act/0/benign.json",
            "results/transfer/digits/old.parquet"]  # fmt: skip
    project.edit(lambda params: params["attacks"].update(few_examples={"extends": "ltm"}))
    for name in kept + gone:
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    listed = project.run(sys.executable, "-m", "workflow", "prune").stdout
    assert "Add --delete" in listed
    assert all((project.folder / name).exists() for name in kept + gone)
    for name in (
        "models/digits/old",
        "results/digits/act/0/old.json",
        "data/old",
        "results/old",
        "results/transfer/digits/old.parquet",
    ):
        assert f"  {name}\n" in listed
    assert project.run(sys.executable, "-m", "workflow", "prune", "--delete").stdout.endswith("6 removed.\n")
    assert all((project.folder / name).exists() for name in kept)
    assert not any((project.folder / name).exists() for name in gone)
