"""Paper versus ours: one verdict per cell."""

from collections import Counter
from collections.abc import Iterable

from stages.core.stats import Estimate

COLLAPSED = "collapsed in the paper"  # published without values
MATCH, DIFFERS, FEW, NOT_RUN, UNPUBLISHED = "match", "differs", "too few seeds", "not run", "no published value"


def verdict(published: float | None, ours: Estimate | None, slack: float) -> str:
    """Compare a published value with ours.

    Args:
        published: the printed value, or None where nothing was published.
        ours: our estimate, or None where it did not run.
        slack: how far the interval is widened on both sides, in the metric's unit.

    Returns:
        "match" when the published value lies inside the t-interval over seeds, widened; "differs" when outside;
        "too few seeds" without such an interval; "not run"; "no published value".
    """
    if published is None:
        return UNPUBLISHED
    if ours is None:
        return NOT_RUN
    if ours.over != "seeds" or ours.interval is None:
        return FEW
    return MATCH if ours.interval.low - slack <= published <= ours.interval.high + slack else DIFFERS


def tally(verdicts: Iterable[str]) -> dict[str, int]:
    """How many cells with a published value have each verdict; cells without one are not counted."""
    counts = Counter(verdicts)
    return {word: counts[word] for word in (MATCH, DIFFERS, FEW, NOT_RUN)}
