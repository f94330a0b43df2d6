"""What the project is made of and whom it talks to: locked files, licenses, no telemetry, no loader that runs code."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pins(name):
    """Name, version and marker of each pinned line."""
    return set(re.findall(r"^([^\s#=]+==[^\s;\\]+(?: ; [^\\\n]+)?)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_lock_holds_the_same_versions_with_hashes():
    """`make lock` rewrites it. No line of it names an address."""
    text = (ROOT / "requirements.lock").read_text()
    locked, pinned = ({pin.split(" ;")[0] for pin in pins(name)} for name in ("requirements.lock", "constraints.txt"))
    assert locked == pinned
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:60]
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_every_pinned_package_has_a_license_in_the_table():
    """`ca-tride licenses` rewrites it."""
    rows = re.findall(r"^\| (\S+) \| (\d\S*) \| (.+) \|$", (ROOT / "docs/licenses.md").read_text(), re.MULTILINE)
    listed = {f"{name}=={version}" for name, version, _ in rows}
    assert listed == {pin.split(" ;")[0].strip() for pin in pins("constraints.txt")}
    unknown = [name for name, _, license in rows if license == "see the package"]
    assert unknown == []


def calls(path):
    """(dotted name, keyword names) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


FORBIDDEN = ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open",
             "yaml.unsafe_load", "pd.read_pickle", "joblib.load")  # fmt: skip


def test_no_loader_that_runs_code_and_no_shell():
    """Beside ruff's S rules: loaders only with the argument that makes them safe, and no unpacking without checks."""
    for folder in ("stages", "workflow", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for name, words in calls(path):
                assert name not in FORBIDDEN, (path, name)
                assert not name.endswith(".extractall"), path
                assert words.get("shell", "False") == "False", path
                if name == "torch.load":
                    assert words["weights_only"] == "True", path
                if name == "np.load":
                    assert words["allow_pickle"] == "False", path
                if name in ("yaml.load", "Image.open"):
                    assert {"Loader", "formats"} & set(words), path


EAR = """
import os, sys
OWN = ("None", "localhost", "127.0.0.1", "::1")
def hook(event, arguments):
    asked = {"socket.getaddrinfo": 0, "socket.connect": 1}.get(event)
    name = arguments[asked] if asked is not None else None
    name = name[0] if isinstance(name, tuple) else name if event == "socket.getaddrinfo" else None
    if str(name) not in OWN:
        with open(os.environ["EAR"], "a") as file:
            file.write(f"{event} {arguments} {sys.argv}\\n")
sys.addaudithook(hook)
"""


@pytest.fixture
def listening(tiny, tmp_path_factory, monkeypatch):
    """A project whose Python processes, daemons included, write down every address they ask for."""
    ear = tmp_path_factory.mktemp("ear")
    (tiny.folder / "sitecustomize.py").write_text(EAR)
    monkeypatch.setenv("EAR", str(ear / "heard"))
    for name in ("DVC_NO_ANALYTICS", "GX_ANALYTICS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    return tiny, ear / "heard"


def quietly(project, *command):
    """Run as a user does, without the variable that the tests set for DVC."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project.folder),
    }
    return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)


def test_nothing_is_told_to_anybody(listening):
    """Neither DVC's nor great-expectations' analytics ask for an address, from nothing but this project's settings."""
    project, heard = listening
    (project.folder / ".dvc").mkdir()
    (project.folder / ".dvc/config").write_text(
        (ROOT / ".dvc/config").read_text().replace("[core]", "[core]\n    no_scm = true")
    )
    for command in (
        ("dvc", "status"),
        ("dvc", "repro", "-q", "prepare@digits"),
        ("snakemake", "--cores", "1", "--dry-run", "--quiet"),
        (sys.executable, "-m", "stages.validate", "digits"),
    ):
        done = quietly(project, *command)
        assert done.returncode == 0, (command, done.stderr[-2000:])
    assert not heard.exists(), heard.read_text()


def test_the_ear_hears(listening):
    project, heard = listening
    quietly(
        project,
        sys.executable,
        "-c",
        "import socket\ntry: socket.getaddrinfo('name.invalid', 80)\nexcept OSError: pass",
    )
    assert "name.invalid" in heard.read_text()
