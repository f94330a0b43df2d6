"""Container, Slurm and Kubernetes files: read line by line and dry-run; what really runs is in docs/running.md."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INSTRUCTIONS = {"FROM", "RUN", "USER", "WORKDIR", "ENV", "COPY", "CMD"}


def instructions():
    """Pairs of instruction and its words from the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def ignored(name):
    """Whether .dockerignore leaves a path out; the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch(name, pattern) or fnmatch(name, f"{pattern}/*")):
            out = not line.startswith("!")
    return out


def test_the_image_is_pinned_unprivileged_and_built_from_files_that_exist():
    lines = instructions()
    assert {name for name, _ in lines} == INSTRUCTIONS
    assert lines[0] == ("FROM", "python:3.11.7-slim-bookworm")
    assert dict(lines)["USER"] == "study"
    after = lines[[name for name, _ in lines].index("USER") :]
    installs = [words for name, words in after if name == "RUN"]
    assert len(installs) == 1
    assert "-c constraints.txt" in installs[0]
    assert "--no-cache-dir" in installs[0]
    for words in (words for name, words in lines if name == "COPY"):
        for source in words.split()[1:-1]:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source
    assert yaml.safe_load(dict(lines)["CMD"]) == ["snakemake", "--cores", "all"]


@pytest.mark.parametrize("name", ["Snakefile", "params.yaml", "stages/train.py", "data/raw/cub/README.md"])
def test_code_goes_into_the_image(name):
    assert (ROOT / name).exists()
    assert not ignored(name)


@pytest.mark.parametrize(
    "name",
    [".git/HEAD", ".venv/bin/python", "data/digits/images.npy", "data/raw/cub/images.tgz", "models/a", "logs/x"],
)
def test_data_and_results_stay_out_of_the_image(name):
    assert ignored(name)


def test_the_kubernetes_job_runs_the_profile_beside_it(project):
    folder = ROOT / "workflow/profiles/kubernetes"
    job = yaml.safe_load((folder / "job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert dict(instructions())["WORKDIR"] == container["workingDir"]
    profile = re.search(r"--profile (\S+)", container["command"][-1])[1]
    assert ROOT / profile == folder
    limit = yaml.safe_load((folder / "config.yaml").read_text())["resources"]
    assert limit == [f"gpu={container['resources']['limits']['nvidia.com/gpu']}"]
    assert "rule train" in (done := project.run("snakemake", "-n", "--profile", profile)).stdout + done.stderr


def test_the_slurm_profile_is_understood(project):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra slurm")
    done = project.run("snakemake", "-n", "--profile", "workflow/profiles/slurm")
    assert "rule train" in done.stdout + done.stderr
    assert "mem_mb" in done.stdout + done.stderr
