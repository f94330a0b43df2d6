"""Error bars: bootstrap over queries, t-interval over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """A closed interval on the scale of the quantity it belongs to."""

    low: float
    high: float


def bootstrap_mean(
    values: NDArray[np.floating], *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean over queries, ``values`` (Q,) with one value per query."""
    values = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(low), float(high))


def t_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """Student t-interval of the mean over seeds; None with fewer than three values."""
    from scipy.stats import t

    if len(values) < 3:
        return None
    sample = np.asarray(values, dtype=np.float64)
    half = float(t.ppf((1 + confidence) / 2, len(sample) - 1)) * sample.std(ddof=1) / np.sqrt(len(sample))
    return Interval(float(sample.mean() - half), float(sample.mean() + half))


class Estimate(NamedTuple):
    """A mean over seeds with its interval and what that is over: "seeds", "queries", or "" where there is none."""

    mean: float
    interval: Interval | None
    over: str


def estimate(values: Sequence[float], per_query: NDArray[np.floating] | None, *, seed: int) -> Estimate:
    """Estimate one figure of the tables.

    Args:
        values: one value per seed.
        per_query: (seeds, queries) whose mean it is, or None for figures that are not means over queries.
        seed: of the bootstrap.

    Returns:
        With three seeds or more a t-interval over seeds, else a bootstrap over queries of the mean over seeds.
    """
    mean = float(np.mean(values))
    over_seeds = t_interval(values)
    if over_seeds is not None:
        return Estimate(mean, over_seeds, "seeds")
    if per_query is not None:
        return Estimate(mean, bootstrap_mean(np.asarray(per_query).mean(axis=0), seed=seed), "queries")
    return Estimate(mean, None, "")
