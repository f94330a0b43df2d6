"""Half-merged files, folders without git, and what a queued experiment is given: one line, and a way out that works."""

import sys
from pathlib import Path

import pytest

from stages.runtime import conflicts, params
from stages.runtime.errors import UserError


def half_merged(text, other=None):
    return f"<<<<<<< HEAD\n{text}=======\n{other or text}>>>>>>> theirs\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n" + half_merged("b: 1\n", "b: 2\n"), 2),
        ("a: 1\r\n<<<<<<< HEAD\r\nb: 1\r\n||||||| base\r\n=======\r\n>>>>>>> x\r\n", 2),
        ("<<<<<<<\n=======\n>>>>>>>\n", 1),
        ("title: |\n  <<<<<<< no marker, since indented\n  >>>>>>> \n", 0),
        ("# ======= a rule =======\n>>>>>>> \n", 0),
        ("a: 1 # <<<<<<< HEAD\n", 0),
    ],
)
def test_conflicts_are_told_from_text(text, line):
    assert conflicts.first_line(text) == line


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "data/raw/mine/birds.dvc"])
def test_each_file_is_named_with_its_way_out(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x: 1\n")
    conflicts.check_all()
    path.write_text("x: 1\n" + half_merged("y: 1\n"))
    with pytest.raises(UserError, match=rf"^{name}: line 2: conflict markers of a git merge; ") as caught:
        conflicts.check_all()
    assert ("git checkout --ours dvc.lock" in str(caught.value)) == (name == "dvc.lock")
    assert "delete" not in str(caught.value)


def test_stages_name_the_conflict_and_not_the_yaml(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(half_merged("run: 1\n"))
    with pytest.raises(UserError, match=r"params.yaml: line 1: conflict markers of a git merge; choose a side"):
        params.load(path)


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock"])
def test_snakemake_and_the_handover_stop_at_a_half_merged_file(study, name):
    path = study.folder / name
    path.write_text(half_merged(path.read_text() if path.exists() else "schema: '2.0'\n"))
    for command in (("snakemake", "-n"), (sys.executable, "-m", "workflow", "sync", "snakemake")):
        done = study.run(*command, check=False)
        assert done.returncode
        assert f"{name}: line 1: conflict markers of a git merge" in done.stderr
        assert "Traceback" not in done.stderr


def test_bad_yaml_is_named_by_snakemake_as_by_the_stages(study):
    path = study.folder / "params.yaml"
    path.write_text(path.read_text() + "run: [\n")
    assert "params.yaml: line " in study.run("snakemake", "-n", check=False).stderr


def test_a_folder_without_git(project):
    """As copied from a zip: one line names the way out, which works."""
    (project.folder / ".dvc").mkdir()
    (project.folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    said = project.run(sys.executable, "-m", "workflow", "sync", "snakemake", check=False)
    assert said.returncode == 1
    assert said.stderr.startswith("sync: no git repository here, which DVC wants; `dvc config core.no_scm true`")
    assert len(said.stderr.splitlines()) == 1
    project.run("dvc", "config", "core.no_scm", "true")
    project.run("dvc", "repro", "prepare@digits")
    assert (project.folder / "data/digits/manifest.parquet").exists()
