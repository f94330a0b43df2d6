"""The one exception that users cause and may see."""


class UserError(Exception):
    """Something the user can mend. The message is one line that names the key or file and the fix."""


def reason(error: BaseException) -> str:
    """What another library complains of, in one line."""
    return " ".join(str(error).split("\n")[0].split())[:200].rstrip(":;,. ") or type(error).__name__


def choose(word: str, known: list[str]) -> str:
    """Say what could have been meant by ``word``: the nearest of ``known``, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(sorted(known))}"
