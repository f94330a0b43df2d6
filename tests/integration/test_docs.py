"""What the docs tell people to write or type is accepted: every YAML block and every command line, on every page.

Pages that `test_tutorials.py` follows are run there as they stand; here the words of every command are read by the
program that it calls, and every block of YAML is put into params.yaml as a person would.
"""

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from inspect import signature
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from stages.runtime import checks, cli, params
from stages.runtime.errors import UserError
from workflow.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "data/raw/*/README.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
TUTORIALS = ROOT / "tests/integration/test_tutorials.py"
FOLLOWED = {f"docs/{name}" for name in re.findall(r'follow\(\w+, "(.+?)"\)', TUTORIALS.read_text())}
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
SETTING = re.compile(r"([a-z_]+(?:\.[a-z0-9_]+)*): (\S.*)")
SHORT = ("extends", "grid", "papers", "bases", "profile")  # resolved before the schema is asked
PLACEHOLDERS = {"NAME": "digits", "STAGE": "report"}
SCHEMA = checks.SCHEMA.read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def text_of(page):
    return (ROOT / page).read_text()


def spans(page):
    """Pieces of code inside the prose of a page."""
    return [" ".join(span.split()) for span in SPAN.findall(BLOCK.sub("", text_of(page)))]


def commands(page):
    """Command lines of a page: those of its console blocks, and those in its prose."""
    lines = [
        line for kind, text in BLOCK.findall(text_of(page)) if kind in ("", "console") for line in text.splitlines()
    ]
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ") or line.split(" ")[0] in CHECKS]
    typed += [span for span in spans(page) if " " in span and span.split(" ")[0] in CHECKS]
    return [part for line in typed for part in re.split(r" && ", line)]


def blocks(page):
    return [text for kind, text in BLOCK.findall(text_of(page)) if kind == "yaml"]


def accept(folder, changed):
    """Read parameters as every stage does, from a file."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(changed))
    return params.load(path)


def written():
    """The content of params.yaml, not written out."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def merged(into, change):
    for key, value in change.items():
        old = into.get(key)
        into[key] = merged(dict(old), value) if isinstance(old, dict) and isinstance(value, dict) else value
    return into


def on_file(name):
    assert (ROOT / name).exists(), name


def check_python(words):
    if words[:2] == ["-m", "pytest"]:
        on_file(words[2])
    elif words[0] == "-m":
        assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file(), words[1]
        if words[1] == "stages.runtime.forkserver":
            CHECKS[words[2]](words[3:])
        elif words[1].startswith("stages."):
            check_stage(words[1].partition(".")[2], words[2:])
    elif words[0] == "-c":
        compile(words[1], "-c", "exec")
    elif words[0] not in ("make_images.py", "score.py", "harder.py"):  # made by the page that runs it
        on_file(words[0])


def check_ca_tride(words):
    """The command takes the words, and what they name is in params.yaml."""
    if words in ([], ["--help"]):
        return
    name, *rest = words
    assert name in COMMANDS, name
    parser = argparse.ArgumentParser()
    importlib.import_module(f"workflow.commands.{name}").configure(parser)
    given = vars(parser.parse_args(rest[: rest.index("--")] if "--" in rest else rest))
    loaded = params.load(ROOT / "params.yaml")
    if name == "fetch":
        assert loaded["datasets"][given["dataset"]]["fetch"]
    elif name in ("compute", "show") and (asked := given["name"]):
        of_evidence = (path for path in ROOT.glob("docs/evidence/**/params.yaml") if f"{asked}:" in path.read_text())
        found = (loaded, *(params.load(path) for path in of_evidence))
        assert any(asked in one["tables"] for one in found) or cli.cell(asked, loaded)
    elif name == "export":
        cli.cell(f"{given['model']}/benign", loaded)


def check_stage(stage, words):
    names = list(signature(getattr(importlib.import_module(f"stages.{stage}"), stage)).parameters)[1:]
    assert len(words) == len(names), (stage, words)
    given = {name: int(word) if name == "seed" else word for name, word in zip(names, words, strict=True)}
    cli.check_words(given, params.load(ROOT / "params.yaml"))


def check_make(words):
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert re.search(
            rf"\$\({name}\)|\$\(if \$\({name}\)" if is_variable else rf"^{name}:", MAKEFILE, re.MULTILINE
        ), word


def check_snakemake(words):
    from snakemake.cli import get_argument_parser

    given = get_argument_parser().parse_args(words)
    for profile in given.profile or ():
        on_file(profile)
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for rule in given.forcerun or ():
        assert f"rule {rule}:" in rules


def check_dvc(words):
    from dvc.cli import parse_args
    from dvc.utils.hydra import apply_overrides

    given = parse_args(words)
    if changes := getattr(given, "set_param", None):
        with TemporaryDirectory() as folder:
            path = Path(shutil.copy(ROOT / "params.yaml", folder))
            apply_overrides(str(path), changes)
            params.load(path)


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install"
    for before, word in pairwise(words):
        if before in ("-c", "-r"):
            on_file(word)
        elif match := re.fullmatch(r"\.\[(.+)\]", word):
            assert match[1] in extras


def check_git(words):
    if words != ["clone"]:
        done = subprocess.run(["git", words[0], "-h"], capture_output=True, text=True, check=False)
        assert "usage: git" in done.stdout + done.stderr


def check_torchrun(words):
    check_python(words[words.index("-m") :])


def check_shell(words):
    """A command of every system; project files that it names are there, tables are configured or of a transfer."""
    loaded = params.load(ROOT / "params.yaml")
    tables = {*loaded["tables"], *(f"transfer_{attack}" for attack in loaded["attacks"]), "mine", "example"}
    for word in words:
        if match := re.fullmatch(r"reports/tables/(\w+)\.md", word):
            assert match[1] in tables
        elif word.startswith(("docs/", "workflow/", "stages/")):
            on_file(word)


def check_kubectl(words):
    assert words[:2] == ["apply", "-f"]
    assert yaml.safe_load((ROOT / words[2]).read_text())["kind"]


def check_docker(words):
    """Not run anywhere, which the page says: no docker here."""
    assert words[0] in ("build", "run")
    assert words[0] == "run" or (ROOT / "Dockerfile").is_file()
    assert "Not run" in text_of("docs/running.md")


CHECKS = {
    "python": check_python, "make": check_make, "snakemake": check_snakemake, "dvc": check_dvc, "pip": check_pip,
    "git": check_git, "torchrun": check_torchrun, "kubectl": check_kubectl, "docker": check_docker,
    "ca-tride": check_ca_tride, "pip-audit": lambda words: on_file(words[-1]),
    "pre-commit": lambda words: on_file(".pre-commit-config.yaml"),
} | dict.fromkeys(("cat", "cp", "mkdir", "find", "source", "sha256sum", "ulimit"), check_shell)  # fmt: skip


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_line_is_one_that_its_program_takes(page, capsys):
    for line in commands(page):
        for placeholder, word in PLACEHOLDERS.items():
            line = re.sub(rf"\b{placeholder}\b(?!=)", word, line)
        program, *words = shlex.split(line, comments=True)
        try:
            CHECKS[program](words)
        except KeyError as error:
            pytest.fail(f"{page}: `{line}`: {error}")
        except (SystemExit, Exception) as error:
            pytest.fail(f"{page}: `{line}`: {error} {capsys.readouterr().err[-300:]}")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page not in FOLLOWED])
def test_every_block_of_yaml_is_accepted(tmp_path, page):
    for block in blocks(page):
        changed = merged(written(), yaml.safe_load(block))
        changed["run"]["datasets"] += changed["datasets"].keys() - written()["datasets"].keys()
        accept(tmp_path, changed)


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_in_the_prose_is_accepted(tmp_path, page):
    for span in spans(page):
        match = SETTING.fullmatch(span)
        if not match or match[1].startswith("dvc."):
            continue
        key, change = match[1], yaml.safe_load(match[2])
        if isinstance(change, dict) and "extends" in change:  # a block, which its page says where to put
            key = f"defenses.{key}"
        if "." in key:
            for part in reversed(key.split(".")):
                change = {part: change}
            accept(tmp_path, merged(written(), change))
        else:
            assert re.search(rf"^\s+{key}:", SCHEMA, re.MULTILINE) or key in SHORT, span


@pytest.mark.parametrize("file", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.yaml")))
def test_whole_files_of_parameters_are_accepted(file):
    params.load(ROOT / file)


def test_the_checks_see_what_they_are_for(tmp_path):
    """Pages and commands are found, and what is wrong does not pass."""
    assert {"README.md", "docs/data.md", "data/raw/cub/README.md"} <= set(PAGES)
    assert {"docs/own_model.md", "docs/add_dataset.md"} <= FOLLOWED
    assert sum(len(commands(page)) for page in PAGES) > 100
    assert blocks("docs/data.md")
    for wrong in ("python -m stages.train digits", "python -m stages.nothing", "make no-such-target", "dvc reproduce",
                  "snakemake --no-such-option", "ca-tride sync git", "ca-tride fetch digits", "git no-such-command",
                  "ca-tride show no_such_table", "pip install -e '.[none]'",
                  "dvc exp run -S datasets.digits.training.epoch=1"):  # fmt: skip
        program, *words = shlex.split(wrong)
        with pytest.raises((Exception, SystemExit)):
            CHECKS[program](words)
    lacking = blocks("docs/data.md")[0].replace("reader: folder", "")
    with pytest.raises(UserError, match="'reader' is missing"):
        accept(tmp_path, merged(written(), yaml.safe_load(lacking)))
