"""What attacks measure: its names, which way an attack moves it, and the worst of several runs by it.

Apart from the scores, so that a corrected formula of a score attacks nothing again.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Which way an attack moves what it measures: +1 where it wins by raising it, -1 by lowering it. Behind the ten of ERS
# come the further attacks: SPQA and the order attack also want the items that they leave alone to stay on top.
ATTACK_DIRECTIONS = {
    "ca_plus": -1,
    "ca_minus": 1,
    "qa_plus": -1,
    "qa_minus": 1,
    "tma": 1,
    "es_d": 1,
    "es_r": -1,
    "ltm": -1,
    "gtm": -1,
    "gtt": -1,
    "spqa_plus": -1,
    "spqa_plus_kept": -1,
    "spqa_minus": 1,
    "spqa_minus_kept": -1,
    "order": 1,
    "order_src": 1,
    "order_kept": -1,
}


def metrics_of(columns: Iterable[object]) -> list[str]:
    """Names of what an attack measured, from the columns of its per-query values.

    Columns of a suite's members are left out, whatever those are called.
    """
    measured = [
        name.removesuffix("_after") for name in map(str, columns) if name.endswith("_after") and "@" not in name
    ]
    return [name for name in measured if name != "objective"]


def direction(metric: str) -> int:
    """+1 if an attack wins by raising the metric, -1 if by lowering it; ranks with ties as half follow the strict.

    Raises:
        KeyError: a metric that no attack measures.
    """
    return ATTACK_DIRECTIONS[metric.removesuffix("_ties_half")]


def worst_case(metric: str, runs: ArrayLike | Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The attack's best value of a metric for each query, (Q,), over several runs of one goal (R, Q).

    It is the metric's own worst: where a goal is measured twice (ES:D and ES:R) the two may come from different runs.
    No query is ever stronger than in any single run.
    """
    values = np.asarray(runs, dtype=np.float64)
    return values.max(axis=0) if direction(metric) > 0 else values.min(axis=0)
