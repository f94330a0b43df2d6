"""The whole study, small, through both engines: the same bytes from either, in different folders."""

import csv
import json

import pytest

from stages.core.scores import SUB_SCORES, ers


def byte_identical(first, second):
    """Declared outputs of two projects; both lists and contents must agree."""
    folders = ("data", "models", "results", "reports")
    one, two = first.files(*folders), second.files(*folders)
    for helper in [name for name in (*one, *two) if name.startswith("data/.code/") or name.endswith(".gitignore")]:
        one.pop(helper, None), two.pop(helper, None)
    assert sorted(one) == sorted(two)
    return [name for name in one if one[name] != two[name]]


@pytest.fixture
def engines(tmp_path):
    """Two copies of the tiny project in different folders."""
    from conftest import Project, shrink

    projects = []
    for name in ("by_snakemake", "elsewhere/by_dvc"):
        (tmp_path / name).mkdir(parents=True)
        projects.append(Project(tmp_path / name))
        projects[-1].edit(shrink)
    return projects


def test_snakemake_and_dvc_make_the_same_bytes(engines):
    snakemake, dvc = engines
    snakemake.run("snakemake", "--cores", "2")
    dvc.run("dvc", "init", "--no-scm", "-q")
    dvc.run("dvc", "repro", "-q")
    assert byte_identical(snakemake, dvc) == []

    again = snakemake.run("snakemake", "--cores", "2", "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert "up to date" in dvc.run("dvc", "status").stdout

    content = snakemake.files("data", "models", "results", "reports")
    assert not [name for name, data in content.items() if str(snakemake.folder).encode() in data]

    with (snakemake.folder / "reports" / "scores.csv").open() as file:
        scores = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert set(SUB_SCORES) <= set(scores)
    assert scores["ers"] == pytest.approx(ers(scores), abs=1e-8)
    metrics = json.loads((snakemake.folder / "reports" / "metrics.json").read_text())
    assert metrics["digits"]["ca_tride"]["0"]["ers"] == pytest.approx(scores["ers"], abs=1e-6)

    table = (snakemake.folder / "reports" / "tables" / "main.md").read_text()
    assert "| CA-TRIDE" in table
    assert table.count("not run") == 6 * 18  # six rows of the table were not in this run
    page = (snakemake.folder / "reports" / "index.html").read_text()
    assert "CA-TRIDE" in page
    assert "http" not in page
