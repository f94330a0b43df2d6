"""One command line: each command has its help and its one-line errors, and loads nothing that it does not need."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from stages.runtime import params
from workflow.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def run(*words, folder=ROOT):
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
               "from workflow.__main__ import main; main()", *words]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_module_is_a_command_and_every_command_a_module():
    modules = {path.stem for path in (ROOT / "workflow/commands").glob("[!_]*.py")}
    assert modules == set(COMMANDS)


def test_the_program_is_the_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"ca-tride": "workflow.__main__:main"}
    by_module = subprocess.run([sys.executable, "-m", "workflow", "-h"], cwd=ROOT, capture_output=True, text=True)
    assert by_module.stdout == run("--help").stdout
    assert by_module.stdout.startswith("usage: ca-tride [-h] COMMAND ...")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from workflow.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'yaml', 'rich', 'snakemake', 'rocrate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"usage: ca-tride {name} [-h]")
    assert len(said.split("\n\n")[1].split()) > 5  # the description


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("show", "man"), "show: params.yaml: tables: no block named 'man'; did you mean 'main'?"),
        (("compute", "a/b"), "compute: a/b: not a cell; write dataset/defense/seed/attack, or benign for the attack"),
        (("bundle",), "bundle: reports/index.html: missing; run `ca-tride compute` first"),
        (("crate",), "crate: reports/index.html: missing; run `ca-tride compute` first"),
        (("export", "digits/act"), "export: digits/act/benign: not a cell"),
        (("evidence", "man", "there"), "evidence: params.yaml: tables: no block named 'man'; did you mean 'main'?"),
        (("licenses",), "licenses: constraints.txt: missing"),
        (("compute", "--cores", "0"), "ca-tride compute: error: argument --cores: '0' is neither"),
        (("verify", "--cores", "many"), "ca-tride verify: error: argument --cores: 'many' is neither"),
        (("sync", "make"), "ca-tride sync: error: argument engine: invalid choice: 'make'"),
        (("fetch", "cup"), "fetch: params.yaml: datasets: no block named 'cup'; did you mean 'cub'?"),
        (("plan", "--", "-n"), "ca-tride: error: plan takes nothing after --"),
        (("plans",), "ca-tride: error: argument COMMAND: invalid choice: 'plans'"),
        ((), "ca-tride: error: the following arguments are required: COMMAND"),
    ],
)
def test_an_error_is_one_line_that_names_what_is_wrong(project, words, line):
    done = project.run(sys.executable, "-m", "workflow", *words, check=False)
    assert done.returncode
    assert done.stdout == ""
    *usage, last = done.stderr.splitlines()
    assert last.startswith(line)
    assert not usage or usage[0].startswith("usage: ")


def test_evidence_holds_published_values_and_the_jobs_of_its_table_alone(project):
    records = project.folder / "logs" / "provenance" / "train"
    records.mkdir(parents=True)
    record = {"stage": "train", "seconds": 3600.0, "commit": "abc", "packages": {"torch": "2.13.0"}}
    for words in (["fashion", "vanilla", "0"], ["fashion", "elsewhere", "0"], ["digits", "vanilla", "0"]):
        (records / f"{'-'.join(words)}.json").write_text(json.dumps(record | {"words": words}))
    attacks = records.with_name("attack")
    attacks.mkdir()
    for attack in ("ltm", "ltm_strong"):  # the table's columns are of the protocol's attacks
        written = record | {"stage": "attack", "words": ["fashion", "vanilla", "0", attack]}
        (attacks / f"fashion-vanilla-0-{attack}.json").write_text(json.dumps(written))
    (records.parent / "crate").mkdir()  # Snakemake leaves its RO-Crate beside the records
    (records.parent / "crate" / "ro-crate-metadata.json").write_text("{}")
    done = project.run(sys.executable, "-m", "workflow", "evidence", "robrank_fashion", "out/fashion")
    assert done.stdout == "out/fashion: 35 cells from 2 jobs that took 2.0 hours\n"
    out = project.folder / "out" / "fashion"
    assert sorted(path.name for path in out.iterdir()) == [
        "jobs.csv", "params.yaml", "robrank_fashion.csv", "robrank_fashion.md", "scores.csv",
    ]  # fmt: skip
    assert (out / "params.yaml").read_bytes() == (project.folder / "params.yaml").read_bytes()
    jobs = (out / "jobs.csv").read_text().splitlines()
    assert [job.partition(",3600,")[0] for job in jobs[1:]] == [
        "attack,fashion vanilla 0 ltm",
        "train,fashion vanilla 0",
    ]
    lines = (out / "robrank_fashion.md").read_text().splitlines()
    compared = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.count("|") == 7]
    assert compared.count(["row", "metric", "published", "ours", "difference", "verdict"]) == 1
    assert ["N/A", "R@1", "87.6", "not run", "", "not run"] in compared
    assert len([line for line in compared if line[-1] == "not run" and line[2][0].isdigit()]) == 4 * 5


def test_evidence_has_the_values_of_each_seed_and_the_figures_that_show_something(finished):
    words = (sys.executable, "-m", "workflow", "evidence", "main", "out")
    for keep in ("out/figures/of_an_earlier_run.svg", "out/notes.md"):
        path = finished.folder / keep
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    finished.run(*words)
    drawn = finished.folder / "out" / "figures"
    assert sorted(path.name for path in drawn.iterdir()) == ["history_digits.svg", "tradeoff.svg"]
    assert (finished.folder / "out" / "notes.md").exists()
    before = {path.name: path.read_bytes() for path in drawn.iterdir()}
    finished.run(*words)
    assert {path.name: path.read_bytes() for path in drawn.iterdir()} == before
    # The table has this one model and all attacks of the run, so its values seed by seed are those of the report.
    assert (drawn.parent / "scores.csv").read_bytes() == (finished.folder / "reports" / "scores.csv").read_bytes()


def test_evidence_of_a_table_that_was_not_run_has_no_figure_and_a_broken_record_is_named(project):
    words = (sys.executable, "-m", "workflow", "evidence", "strong", "out")
    assert project.run(*words).stdout.startswith("out: 98 cells from 0 jobs")
    assert not (project.folder / "out" / "figures").exists()
    records = project.folder / "logs" / "provenance" / "train"
    records.mkdir(parents=True)
    (records / "digits-act-0.json").write_text("[]")
    done = project.run(*words, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("evidence: logs/provenance/train/digits-act-0.json: not the record of a job (")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["scores", "jobs", "history"])
def test_evidence_refuses_a_table_whose_files_would_replace_its_own(project, name):
    project.edit(lambda loaded: loaded["tables"].update({name: {"extends": "table", "title": "Mine"}}))
    done = project.run(sys.executable, "-m", "workflow", "evidence", name, "out", check=False)
    assert done.returncode == 1
    assert done.stderr == f"evidence: params.yaml: tables.{name}: evidence has files of that name; rename the block\n"
    assert not (project.folder / "out").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "evidence").rglob("params.yaml")), ids=str)
def test_parameters_of_the_evidence_are_valid(path):
    loaded = params.load(path)
    assert set(loaded["run"]["datasets"]) <= set(loaded["datasets"])


def test_outside_a_study_each_command_says_where_to_be(tmp_path):
    for name in ("plan", "compute", "prune", "verify"):
        done = run(name, folder=tmp_path)
        assert done.returncode == 1, name
        assert done.stderr.startswith(f"{name}: params.yaml: cannot be read"), name
        assert done.stderr.endswith("run from the project's folder\n"), name
        assert list(tmp_path.iterdir()) == [], name


def test_arguments_after_the_dashes_are_snakemakes(monkeypatch):
    from workflow import progress

    given = []
    monkeypatch.setattr(progress, "run", given.append)
    main(["compute", "--cores", "3", "--", "--keep-going", "-n"])
    assert given == [["--cores", "3", "--keep-going", "-n"]]


def test_the_version_stands_once():
    """Beside pyproject.toml only what cannot read it: the citation file and the dated changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    newest = next(line for line in released if line != "## Unreleased")
    assert newest == f"## {version} - {citation['date-released']}"
    assert citation["version"] == version
