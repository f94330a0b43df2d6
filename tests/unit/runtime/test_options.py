"""Options of a defense are checked against its annotations, and an annotation that cannot be is refused by file."""

import pytest
import yaml

from stages.runtime import registries
from stages.runtime.errors import UserError

HEAD = "def mine(batch, schedule, *, eps: float, option{}) -> None:\n    pass\n"
KINDS = {
    ": bool = False": ([True, False], [0, 1, "true", None]),
    ": int | None = None": ([None, 0, 7], [True, 1.5, "7"]),
    ": None | float = None": ([None, 1, 0.5], [False, "x"]),
    ": Optional[str] = None": (["a", None], [1]),
    ": int = 1": ([3], [True, None, 0.5]),
    ': Literal["a", "b"] | None = None': (["a", "b", None], ["c", 1]),
    ': Literal["a"] | float = "a"': (["a", 2.5], ["b", None]),
    ': Literal["a"] = "a"': (["a"], ["b"]),
    ": Sequence[bool] = ()": ([[True, False]], [[1], [], True]),
    ": bool | int = 1": ([True, 3], [0.5, None]),
}


@pytest.fixture
def defense(tmp_path, monkeypatch):
    """Write a defense of one option, as somebody adds one, and give what tells whether a value fits it."""
    (tmp_path / "stages" / "core" / "defenses").mkdir(parents=True)
    monkeypatch.setattr(registries, "CORE", tmp_path / "stages" / "core")

    def write(text):
        (tmp_path / "stages" / "core" / "defenses" / "mine.py").write_text(text)
        registries.options.cache_clear()
        return lambda value: registries.options("mine")["option"].admits(value)

    yield write
    registries.options.cache_clear()


@pytest.mark.parametrize("annotation", KINDS)
def test_values_of_the_annotated_kind_only(defense, annotation):
    check = defense(HEAD.format(annotation))
    right, wrong = KINDS[annotation]
    for value in right:
        assert check(yaml.safe_load(yaml.safe_dump(value)))
    for value in wrong:
        assert not check(value)


@pytest.mark.parametrize(
    "annotation",
    [
        ": dict[str, int]",
        ": torch.Tensor",
        ": complex",
        ": Sequence",
        ": Literal[1, 2]",
        ": list[int] | None",
        "",
        ": 'int'",
    ],
)
def test_another_annotation_is_refused_by_file_and_option(defense, annotation):
    check = defense(HEAD.format(annotation))
    with pytest.raises(
        UserError, match=r"^stages/core/defenses/mine.py: option 'option' is annotated .*; annotate it bool, "
    ):
        check(1)


def test_a_file_without_its_function_is_refused(defense):
    check = defense("def other() -> None:\n    pass\n")
    with pytest.raises(UserError, match=r"^stages/core/defenses/mine.py: defines no function 'mine'; give it the name"):
        check(1)
