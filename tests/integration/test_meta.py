"""Files beside the code that name other files, tools or versions: what they name is there."""

import re
import subprocess
from pathlib import Path
from shutil import which

import yaml

ROOT = Path(__file__).resolve().parents[2]


def tracked(*folders):
    told = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in told.stdout.splitlines() if (ROOT / name).exists()]


def test_hooks_before_a_commit_are_tools_of_the_environment():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for hook in hooks:
        program = hook["entry"].split()[0]
        assert which(program), program
        assert program in lint
    assert len(hooks) == 5


def test_the_hosted_check_is_the_one_anybody_can_run():
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_make_targets_that_pages_name_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / name for name in tracked("*.md") if not name.startswith(("CHANGELOG", "tests"))]
    for page in pages:
        for target in re.findall(r"(?:^\$ |`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE):
            assert target in targets, (page, target)


def test_forms_for_issues_have_what_their_host_wants():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form), path
        for field in form["body"]:
            assert field["type"] in ("textarea", "input", "checkboxes"), path
            assert field["attributes"]["label"], path
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids)), path
