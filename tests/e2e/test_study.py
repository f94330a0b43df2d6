"""The digits study at full length: minutes, behind `make test-slow`."""

import pytest

from benchmarks.order import standings
from stages.runtime import params

pytestmark = pytest.mark.slow
HOUR = 3600


def test_the_order_is_sane_over_three_seeds(project, monkeypatch):
    """Vanilla has the lowest ERS; ACT, HM and CA-TRIDE lead by more than the bootstrap interval and keep R@1."""
    project.edit(lambda loaded: loaded["run"].update(seeds=[0, 1, 2]))
    project.run("snakemake", "--cores", "2", "--quiet", "all", timeout=HOUR)
    monkeypatch.chdir(project.folder)
    rows = standings(params.load(), "digits")
    print(*rows, sep="\n")
    assert len(rows) == 21
    for row in rows:
        if row.defense != "vanilla":
            assert row.lead.low > 0, row
            assert row.recall_kept >= 60, row


def test_full_length_runs_are_byte_identical_in_two_folders(tmp_path):
    """One engine each, at the published number of steps and the default number of epochs."""
    from conftest import Project

    made = []
    for name in ("here", "there/deeper"):
        (tmp_path / name).mkdir(parents=True)
        project = Project(tmp_path / name)
        project.edit(
            lambda loaded: loaded["run"].update(defenses=["vanilla", "est", "ca_tride"], attacks=["qa_minus", "es"])
        )
        if made:
            project.run("dvc", "init", "--no-scm", "-q")
            project.run("dvc", "repro", "-q", timeout=HOUR)
        else:
            project.run("snakemake", "--cores", "2", "--quiet", "all", timeout=HOUR)
        made.append(project.files("models", "results", "reports"))
    first, second = ({name: data for name, data in files.items() if ".gitignore" not in name} for files in made)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
