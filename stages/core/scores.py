"""Robustness scores from the ten raw sub-scores (method.md 5).

All functions work on numbers and, element by element, on arrays of resampled means.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Value = Any  # a float, or an array of resampled means (R,)
# The attack that each of the ten sub-scores of ERS comes from, in the order of the tables.
ATTACK_OF = {
    "ca_plus": "ca_plus",
    "ca_minus": "ca_minus",
    "qa_plus": "qa_plus",
    "qa_minus": "qa_minus",
    "tma": "tma",
    "es_d": "es",
    "es_r": "es",
    "ltm": "ltm",
    "gtm": "gtm",
    "gtt": "gtt",
}
SUB_SCORES = tuple(ATTACK_OF)
STANDARD_ATTACKS = tuple(dict.fromkeys(ATTACK_OF.values()))  # as ERS takes them
# The same for the attacks outside ERS that have metrics of their own (method.md 10).
FURTHER = {
    "spqa_plus": "spqa_plus",
    "spqa_plus_kept": "spqa_plus",
    "spqa_minus": "spqa_minus",
    "spqa_minus_kept": "spqa_minus",
    "order": "order",
    "order_src": "order",
    "order_kept": "order",
}
MEASURED_BY = ATTACK_OF | FURTHER
# The sub-scores in the exact variant, where it differs from the reference variant, and under the strong suites.
EXACT = {"es_d": "es_d:es_exact", "es_r": "es_r:es_exact", "ltm": "ltm:ltm_exact", "gtm": "gtm:gtm_exact"}
STRONG = {name: f"{name}:{attack}_strong" for name, attack in ATTACK_OF.items()}
MADE_OF = {  # the values that each score needs
    "ers": SUB_SCORES,
    "ars_reconstructed": SUB_SCORES,
    "ers_exact": (*SUB_SCORES, *EXACT.values()),
    "ers_strong": (*SUB_SCORES, *STRONG.values()),
    "ers_surviving": (*SUB_SCORES, *STRONG.values()),
}
# A raw sub-score as a share of its ideal, in percent: 100 where the attack achieved nothing, higher is more robust.
# SPQA like QA, and the order attack, whose tau is 0 on average without an attack, like TMA.
SHARES: dict[str, Callable[[Value], Value]] = {
    "ca_plus": lambda rank: 2 * rank,
    "ca_minus": lambda rank: 100 - rank,
    "qa_plus": lambda rank: 2 * rank,
    "qa_minus": lambda rank: 100 - rank,
    "tma": lambda cosine: 100 * (1 - cosine),
    "es_d": lambda shift: 100 * (2 - shift) / 2,
    "es_r": lambda recall: recall,
    "ltm": lambda recall: recall,
    "gtm": lambda recall: recall,
    "gtt": lambda retained: retained,
    "spqa_plus": lambda rank: 2 * rank,
    "spqa_minus": lambda rank: 100 - rank,
    "order": lambda tau: 100 * (1 - tau),
}


def normalized(sub_scores: Mapping[str, Value]) -> dict[str, Value]:
    """Each raw sub-score as a share of its ideal, in percent, higher is more robust (method.md 5.1)."""
    return {name: SHARES[name](sub_scores[name]) for name in SUB_SCORES}


def ers(sub_scores: Mapping[str, Value]) -> Value:
    """Empirical robustness score: plain mean of the ten normalized sub-scores, no clipping (method.md 5.1).

    Args:
        sub_scores: CA+, CA-, QA+, QA- as percentile ranks in percent, TMA a cosine, ES:D a distance in [0, 2],
            ES:R, LTM, GTM, GTT in percent.

    Raises:
        KeyError: one of the ten is missing.
    """
    return sum(normalized(sub_scores).values()) / len(SUB_SCORES)


def benign_relative(after: Mapping[str, Value], before: Mapping[str, Value], spread: float) -> dict[str, Value]:
    """How much of its own benign state a model keeps under each attack, in percent, 0 to 100 (method.md 5.3).

    Rank attacks: the share of the possible displacement that was resisted. ES:R, LTM, GTM, GTT: after divided by
    before. TMA: relative to the benign cosine. ES:D: relative to ``spread``, the mean pairwise distance of the clean
    gallery. A term whose benign value is 0 counts as 0.
    """
    kept = {name: (after[name], before[name]) for name in ("ca_plus", "qa_plus", "es_r", "ltm", "gtm", "gtt")}
    kept |= {name: (100 - after[name], 100 - before[name]) for name in ("ca_minus", "qa_minus")}
    kept["tma"] = (1 - after["tma"], 1 - before["tma"])
    kept["es_d"] = (spread - after["es_d"], spread + 0 * after["es_d"])
    return {name: _share(*kept[name]) for name in SUB_SCORES}


def _share(part: Value, whole: Value) -> Value:
    whole_or_one = np.where(np.asarray(whole) > 0, whole, 1.0)
    return np.where(np.asarray(whole) > 0, np.clip(100 * part / whole_or_one, 0, 100), 0.0)[()]


def ars_reconstructed(
    after: Mapping[str, Value], before: Mapping[str, Value], *, spread: float, collapsed: bool
) -> Value:
    """Mean of the ten benign-relative sub-scores: our reconstruction, not the paper's ARS (method.md 5.2, 5.3).

    Args:
        after: the ten sub-scores under attack, in the units of ``ers``; ranks count ties as half.
        before: the same measured on the clean items with the same targets.
        spread: mean pairwise distance of the clean gallery, in [0, 2].
        collapsed: a collapsed model has no ranking to protect and scores 0.
    """
    mean = sum(benign_relative(after, before, spread).values()) / len(SUB_SCORES)
    return 0 * mean if collapsed else mean
