"""Error bars: bootstrap over queries, t-interval over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # what scipy.stats, which takes a second to import, calls as t.ppf

CONFIDENCE = 0.95
RESAMPLES = 2000
_AT_A_TIME = 50  # resamples drawn together, to bound memory on large test sets


class Interval(NamedTuple):
    """A closed interval on the scale of the quantity it belongs to."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A mean over seeds with its interval and what that is over: "seeds", "queries", or "" where there is none.

    ``bootstrap`` is the interval over queries, also where the one shown is over seeds.
    """

    mean: float
    interval: Interval | None
    over: str
    bootstrap: Interval | None = None


def resampled_means(values: NDArray[np.floating], *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Column means of ``values`` (Q, M) over resampled queries, (resamples, M).

    All columns, and all calls with the same seed and Q, see the same resamples: so scores made of several columns and
    averages over models are resampled jointly.
    """
    values = np.asarray(values, dtype=np.float64)
    rng, queries = np.random.default_rng(seed), len(values)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _AT_A_TIME):
        count = min(_AT_A_TIME, resamples - start)
        drawn = rng.integers(0, queries, (count, queries))
        weights = np.stack([np.bincount(row, minlength=queries) for row in drawn])
        means[start : start + count] = weights @ values / queries
    return means


def percentile_interval(draws: NDArray[np.floating]) -> Interval:
    """95 % percentile bootstrap interval from resampled values (R,)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(float(low), float(high))


def t_interval(values: Sequence[float]) -> Interval | None:
    """95 % Student t-interval of the mean over seeds; None with fewer than three values."""
    if len(values) < 3:
        return None
    sample = np.asarray(values, dtype=np.float64)
    half = float(stdtrit(len(sample) - 1, (1 + CONFIDENCE) / 2)) * sample.std(ddof=1) / np.sqrt(len(sample))
    return Interval(float(sample.mean() - half), float(sample.mean() + half))


def estimate(values: Sequence[float], draws: Sequence[NDArray[np.floating]]) -> Estimate:
    """Estimate one value of the tables.

    Args:
        values: one value per seed.
        draws: for each seed its resampled values (R,), or nothing for values that are not made of query means.

    Returns:
        With three seeds or more a t-interval over seeds, else a bootstrap over queries of the mean over seeds.
    """
    mean, over_seeds = float(np.mean(values)), t_interval(values)
    over_queries = percentile_interval(np.mean(draws, axis=0)) if draws else None
    if over_seeds is not None:
        return Estimate(mean, over_seeds, "seeds", over_queries)
    return Estimate(mean, over_queries, "queries" if over_queries else "", over_queries)
