"""What follows from per-query values: means, scores, and the same over resampled queries."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.core.metrics import collapse
from stages.core.scores import EXACT, FURTHER, MADE_OF, STANDARD_ATTACKS, STRONG, Value, ars_reconstructed, ers
from stages.core.seeding import seed_of
from stages.core.stats import resampled_means

LEAST_ERS = 1e-9  # in percent, so that the share of an ERS of 0 that survives is a number
RANKED = ("ca_plus", "ca_minus", "qa_plus", "qa_minus")


class Queries(NamedTuple):
    """Per-query values by metric: benign ones of all queries, and those of the attacked images before and after.

    Where queries and gallery are two sets, candidate attacks have a row for each gallery image and query attacks one
    for each query; what the shorter of them lacks is missing.
    """

    benign: pd.DataFrame
    before: pd.DataFrame
    after: pd.DataFrame


def metric_name(metric: str, attack: str) -> str:
    """Name of an attack's metric in scores.csv.

    Plain for the nine standard blocks and for metrics that only one attack has, ``metric:block`` for others.
    """
    own = FURTHER.get(metric.removesuffix("_ties_half")) == attack
    return metric if attack in STANDARD_ATTACKS or own else f"{metric}:{attack}"


def scores(benign: Mapping[str, float], queries: Queries, dataset: str) -> tuple[dict[str, float], dict[str, Value]]:
    """All values of a model by metric, and the same over resampled queries (R,) for what is made of query means.

    ``benign`` are the values of ``benign.json``, in percent. One seed for all models of a ``dataset``: every value sees
    the same resampled queries.
    """
    spread = benign["spread"]
    collapsed = bool(collapse(benign["recall_at_1"], benign["chance"], spread))
    values = dict(benign) | scored(column_means(queries.after), column_means(queries.before), spread, collapsed)
    same = seed_of("bootstrap", dataset)
    draws = scored(column_draws(queries.after, same), column_draws(queries.before, same), spread, collapsed)
    draws |= column_draws(queries.benign, same)
    return values | {"collapsed": float(collapsed)}, draws


def column_means(frame: pd.DataFrame) -> dict[str, Value]:
    """Mean of each column."""
    return {str(name): float(frame[name].mean()) for name in frame}


def column_draws(frame: pd.DataFrame, seed: int) -> dict[str, Value]:
    """Means of each column over resampled rows, (R,); columns of one length are resampled jointly."""
    draws: dict[str, Value] = {}
    lengths = frame.count()
    for length in dict.fromkeys(lengths.tolist()) if len(frame) else ():
        names = lengths.index[lengths == length]
        means = resampled_means(frame[names].to_numpy(dtype=np.float64)[:length], seed=seed)
        draws |= {str(name): means[:, position] for position, name in enumerate(names)}
    return draws


def scored(after: dict[str, Value], before: dict[str, Value], spread: float, collapsed: bool) -> dict[str, Value]:
    """``after`` with the scores that can be computed from it; values are numbers, or arrays of resampled means."""
    known = {score for score, parts in MADE_OF.items() if all(name in after for name in parts)}
    if "ers" not in known:
        return after
    found = {"ers": ers(after)}
    if "ers_exact" in known:
        found["ers_exact"] = ers(after | {plain: after[exact] for plain, exact in EXACT.items()})
    if "ers_strong" in known:
        found["ers_strong"] = ers({plain: after[strong] for plain, strong in STRONG.items()})
        found["ers_surviving"] = 100 * found["ers_strong"] / np.maximum(found["ers"], LEAST_ERS)
    half_after, half_before = (
        values | {name: values[f"{name}_ties_half"] for name in RANKED} for values in (after, before)
    )
    found["ars_reconstructed"] = ars_reconstructed(half_after, half_before, spread=spread, collapsed=collapsed)
    return after | found
