"""What a message offers in place of a word that is not known."""

import pytest

from stages.runtime.errors import LISTED, choose

MANY = [f"block{number:02}" for number in range(70)]


@pytest.mark.parametrize(
    ("word", "known", "offered"),
    [
        ("vanila", ["act", "vanilla"], "did you mean 'vanilla'?"),
        ("xyz", ["vanilla", "act"], "choose from act, vanilla"),
        ("xyz", MANY[:LISTED], f"choose from {', '.join(MANY[:LISTED])}"),
        ("xyz", MANY, f"choose from {', '.join(MANY[:LISTED])} and 50 more"),
    ],
)
def test_the_nearest_name_or_the_first_of_them(word, known, offered):
    assert choose(word, known) == offered
