"""The hash of a job's code: what changes it and what does not, on small projects of a few lines."""

import ast
import textwrap

import pytest

from workflow import code

PROJECT = {
    "stages/__init__.py": "",
    "stages/core/__init__.py": "",
    "stages/train.py": '''
        """Train."""
        from typing import TYPE_CHECKING

        from stages.core import losses
        from stages.runtime import cli

        if TYPE_CHECKING:
            from stages.core.typed import Typed

        MARGIN = 0.2

        def main():
            """Run."""
            cli.main(train)

        def train(block: "Typed"):
            # A comment.
            from stages.core.methods import METHODS, DEFENSES
            return DEFENSES[block], METHODS, losses.triplet(MARGIN)

        def unused():
            return 1

        if __name__ == "__main__":
            main()
        ''',
    "stages/core/losses.py": """
        import torch
        from .pieces import distance

        def triplet(margin):
            return distance() + margin

        def other():
            return torch
        """,
    "stages/core/pieces.py": """
        SEEN = []
        SEEN.append(1)

        def distance():
            return 2

        def farther():
            return 3
        """,
    "stages/core/methods.py": """
        from stages.core import first, second

        METHODS = {"first": first.first}

        DEFENSES = {
            "first": first.first,
            "second": second.second,
            "third": second.third,
        }
        """,
    "stages/core/first.py": """
        def first(kind="plain"):
            return kind
        """,
    "stages/core/second.py": """
        try:
            from stages.core.pieces import farther
        except ImportError:
            farther = None

        def second(other="third"):
            return 2

        def third():
            return farther()
        """,
    "stages/core/typed.py": "class Typed: ...",
    "stages/runtime/__init__.py": "",
    "stages/runtime/cli.py": "def main(stage): stage()",
}


@pytest.fixture
def hashed(tmp_path):
    """A function that hashes the job of the project with some edits: a file, and what to replace by what."""

    def digest(*edits, named=("first",)):
        files = {name: textwrap.dedent(text) for name, text in PROJECT.items()}
        for name, old, new in edits:
            assert old in files[name]
            files[name] = files[name].replace(old, new, 1) if old else files[name] + new
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for cached in (code.source, code.read, code.digest):
            cached.cache_clear()
        return code.digest("stages.train", named and frozenset(named), tmp_path)

    return digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stages/train.py", '"""Run."""', '"""Run it, and say so."""'),
        ("stages/train.py", '"""Train."""', ""),
        ("stages/train.py", "# A comment.", "# Another."),
        ("stages/train.py", "return DEFENSES[block], METHODS, losses.triplet(MARGIN)",
         "return (\n        DEFENSES[block],\n        METHODS,\n        losses.triplet(MARGIN),\n    )"),
        ("stages/train.py", "return 1", "return 0"),
        ("stages/train.py", "", "\n\ndef more():\n    return 1\n"),
        ("stages/core/losses.py", "return torch", "return 0"),
        ("stages/core/pieces.py", "return 3", "return 4"),
        ("stages/core/methods.py", '    "third": second.third,\n', ""),
        ("stages/core/methods.py", '"third": second.third', '"third": second.second'),
        ("stages/core/second.py", "return 2", "return 3"),
        ("stages/core/typed.py", "...", "x = 1"),
        ("stages/runtime/cli.py", "stage()", "print(stage())"),
    ],
)  # fmt: skip
def test_what_no_job_runs_changes_nothing(hashed, name, old, new):
    assert hashed((name, old, new)) == hashed()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stages/train.py", "MARGIN = 0.2", "MARGIN = 0.3"),
        ("stages/train.py", "losses.triplet(MARGIN)", "losses.other()"),
        ("stages/train.py", '"""Train."""', '"""Train."""\nprint()'),
        ("stages/core/losses.py", "+ margin", "- margin"),
        ("stages/core/losses.py", "import distance", "import farther as distance"),
        ("stages/core/pieces.py", "return 2", "return 5"),
        ("stages/core/pieces.py", "SEEN.append(1)", "SEEN.append(2)"),  # runs on import
        ("stages/core/__init__.py", "", "print()"),
        ("stages/core/methods.py", '"first": first.first,', '"first": second.second,'),
        ("stages/core/methods.py", '"first": first.first}', '"first": second.second}'),  # no registry: all of it
        ("stages/core/first.py", "return kind", "return kind, 1"),
        ("stages/core/losses.py", "def triplet", "@torch.no_grad()\ndef triplet"),
    ],
)
def test_what_a_job_runs_changes_its_hash(hashed, name, old, new):
    assert hashed((name, old, new)) != hashed()


def test_only_entries_that_are_named_count(hashed):
    edit = ("stages/core/second.py", "return farther()", "return farther")
    assert hashed(edit, named=["third"]) != hashed(named=["third"])
    assert hashed(edit, named=["second"]) != hashed(named=["second"])  # a default of the code names it
    assert hashed(edit, named=["first"]) == hashed(named=["first"])
    assert hashed(edit, named=None) != hashed(named=None)


def test_what_an_if_or_a_try_imports_is_followed(hashed):
    edit = ("stages/core/pieces.py", "return 3", "return 4")
    assert hashed(edit, named=["third"]) != hashed(named=["third"])


@pytest.mark.parametrize(
    ("bound", "used"),
    [
        ("from stages.core.pieces import made_somehow", "made_somehow"),  # the source does not show how
        ("from stages.core.pieces import *", "farther"),
        ("import stages.core.pieces", "stages.core.pieces.farther"),
        ("import stages.core.pieces as pieces", "vars(pieces)"),
    ],
)
def test_of_what_cannot_be_told_apart_all_counts(hashed, bound, used):
    edits = [
        ("stages/train.py", "MARGIN = 0.2", f"{bound}\nMARGIN = 0.2"),
        ("stages/train.py", "(MARGIN)\n", f"(MARGIN), {used}\n"),
    ]
    assert hashed(*edits, ("stages/core/pieces.py", "return 3", "return 4")) != hashed(*edits)


def test_spelling_without_positions_docstrings_and_empty_fields():
    one = ast.parse('def f(a, *, b=1):\n    """Say."""\n    # why\n    return f"{a}" + "x"\n')
    two = ast.parse("def f(\n    a, *,\n    b = 1\n):\n    return f\"{a}\" + 'x'\n")
    assert code.canonical(one) == code.canonical(two)
    assert "type_params" not in code.canonical(one)
    for other in ("def f(a, *, b=True):\n  return f'{a}' + 'x'", "def f(a, *, b=1):\n  return f'{a!r}' + 'x'"):
        assert code.canonical(ast.parse(other)) != code.canonical(two)
