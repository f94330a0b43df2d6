"""The rules as a whole: documented, logged, linted, drawn; what they ask a scheduler for; Snakemake's own report."""

import json
import re
import sys
from pathlib import Path

import pytest

from stages import STAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rules(project):
    """What Snakemake knows of each rule; see snakemake_rules.py."""
    done = project.run(sys.executable, str(Path(__file__).parents[1] / "snakemake_rules.py"))
    return json.loads(done.stdout.splitlines()[-1])


def test_every_rule_is_documented_logged_and_timed(rules):
    assert set(rules) == set(STAGES)
    for name, rule in rules.items():
        assert rule["docstring"], name
        assert rule["log"][0].startswith(f"logs/{name}/"), name
        assert rule["benchmark"].startswith(f"logs/benchmarks/{name}/"), name


def test_a_job_asks_for_what_its_dataset_needs(rules):
    """A second attempt asks for twice as much; models for a GPU where training runs on one."""
    for name, rule in rules.items():
        assert 4000 < rule["large"]["mem_mb"] < 8000, name
        assert "gpu" not in rule["small"], name
        assert rule["again"] == {key: 2 * value for key, value in rule["small"].items()}, name
        assert rule["large"].get("gpu") == (1 if name in {"train", "evaluate", "attack", "transfer"} else None), name


def test_a_training_asks_for_what_its_defense_needs(rules):
    """Its profile may have another device than the dataset's, by which all models are measured."""
    for name, rule in rules.items():
        assert rule["own_profile"].get("gpu") == (1 if name == "train" else None), name


def test_an_attack_asks_for_the_memory_of_what_it_keeps(rules):
    """Of 60,502 test images of SOP, 3 x 224 x 224 float32, twice, and for a second attempt once more."""
    kept = 2 * 60_502 * 3 * 224**2 * 4 / 1e6
    for name, rule in rules.items():
        more = rule["all_kept"]["mem_mb"] - 2 * rule["large"]["mem_mb"]
        assert more == (pytest.approx(2 * kept, rel=1e-4) if name == "attack" else 0), name


def test_a_training_has_the_threads_of_its_defense(project):
    project.edit(lambda params: params["defenses"]["act"].update(training={"threads": 3}))
    done = project.run("snakemake", "-n", "--cores", "4", "results/digits/act/0/es.json")
    jobs = (told.partition(":\n") for told in (done.stdout + done.stderr).split("\nrule ")[1:])
    threads = {name: int(found[1]) for name, _, told in jobs if (found := re.search(r"threads: (\d+)\n", told))}
    assert threads == {"prepare": 4, "train": 3}  # of other jobs one, which is not told


def test_what_jobs_ask_for_limits_nothing_on_one_machine(project):
    """By default Snakemake counts cores alone."""
    assert "resources" not in (project.folder / "profiles/default/config.yaml").read_text()


@pytest.fixture
def elsewhere(tmp_path_factory):
    """This environment in a folder with a space, and a path on which another python comes first."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "an environment").symlink_to(sys.prefix)
    other = folder / "other" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 3\n")
    other.chmod(0o755)
    return str(folder / "an environment" / "bin" / "python"), f"PATH={other.parent}:/usr/bin:/bin"


@pytest.mark.engines
def test_jobs_and_hooks_run_the_python_that_runs_snakemake(project, elsewhere):
    python, path = elsewhere
    done = project.run("env", path, python, "-m", "snakemake", "--cores", "1", "data/digits/images.npy")
    assert "dvc.lock is left as it is: snakemake has jobs left to do" in done.stdout  # by the hook


@pytest.mark.engines
def test_a_command_with_a_fork_server_has_the_same_python(project, elsewhere):
    python, path = elsewhere
    shown = ("python", "-c", "import sys; print(sys.executable)")
    assert project.run("env", path, python, "-m", "stages.runtime.forkserver", *shown).stdout == f"{python}\n"


def test_snakemake_lint_is_clean(project):
    done = project.run("snakemake", "--lint")
    assert "in a good condition" in done.stdout + done.stderr


def edges_of_dot(text):
    """Pairs of rule names in graphviz source."""
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', text))
    return {(names[start], names[end]) for start, end in re.findall(r"(\d+) -> (\d+)", text)}


def edges_of_svg(text):
    """Pairs of rule names in a picture that graphviz drew."""
    names = dict(re.findall(r"<title>(\d+)</title>.*?<text[^>]*>(\w+)</text>", text, re.DOTALL))
    return {(names[start], names[end]) for start, end in re.findall(r"<title>(\d+)&#45;&gt;(\d+)</title>", text)}


def test_the_picture_of_the_graph_is_the_graph(project):
    """`make rulegraph` redraws it."""
    real = edges_of_dot(project.run("snakemake", "--rulegraph").stdout)
    assert ("prepare", "validate") in real
    assert edges_of_svg((ROOT / "docs/rulegraph.svg").read_text()) == real
    assert "docs/rulegraph.svg" in (ROOT / "README.md").read_text()


def test_snakemakes_report_shows_tables_and_figures_with_captions(finished):
    finished.run("snakemake", "--report", "report.html")
    page = (finished.folder / "report.html").read_text()
    for name in (
        "scores.csv",
        "comparison.csv",
        "main.md",
        "main.csv",
        "main.tex",
        "history_digits.svg",
        "tradeoff.png",
    ):
        assert f'"{name}"' in page, name
    for caption in (finished.folder / "workflow/report").glob("*.rst"):
        words = caption.read_text().split(":")[0].split("``")[0].split()
        assert " ".join(words) in " ".join(page.split()), caption.name
    for category in ("Scores", "Tables", "Figures", "Paper versus ours"):
        assert f'"{category}"' in page, category
