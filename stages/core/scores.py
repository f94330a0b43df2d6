"""Robustness scores from the ten raw sub-scores (method.md 5).

All functions work on numbers and, element by element, on arrays of resampled means.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

Figure = Any  # a float, or an array of resampled means (R,)
STANDARD_ATTACKS = ("ca_plus", "ca_minus", "qa_plus", "qa_minus", "tma", "es", "ltm", "gtm", "gtt")  # as ERS takes them
SUB_SCORES = ("ca_plus", "ca_minus", "qa_plus", "qa_minus", "tma", "es_d", "es_r", "ltm", "gtm", "gtt")


def normalised(sub_scores: Mapping[str, Figure]) -> dict[str, Figure]:
    """Each raw sub-score as a share of its ideal, in percent, higher is more robust (method.md 5.1)."""
    return {
        "ca_plus": 2 * sub_scores["ca_plus"],
        "ca_minus": 100 - sub_scores["ca_minus"],
        "qa_plus": 2 * sub_scores["qa_plus"],
        "qa_minus": 100 - sub_scores["qa_minus"],
        "tma": 100 * (1 - sub_scores["tma"]),
        "es_d": 100 * (2 - sub_scores["es_d"]) / 2,
        "es_r": sub_scores["es_r"],
        "ltm": sub_scores["ltm"],
        "gtm": sub_scores["gtm"],
        "gtt": sub_scores["gtt"],
    }


def ers(sub_scores: Mapping[str, Figure]) -> Figure:
    """Empirical robustness score: plain mean of the ten normalised sub-scores, no clipping (method.md 5.1).

    Args:
        sub_scores: CA+, CA-, QA+, QA- as percentile ranks in percent, TMA a cosine, ES:D a distance in [0, 2],
            ES:R, LTM, GTM, GTT in percent.

    Raises:
        KeyError: one of the ten is missing.
    """
    return sum(normalised(sub_scores).values()) / len(SUB_SCORES)


def benign_relative(after: Mapping[str, Figure], before: Mapping[str, Figure], spread: float) -> dict[str, Figure]:
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


def _share(part: Figure, whole: Figure) -> Figure:
    whole_or_one = np.where(np.asarray(whole) > 0, whole, 1.0)
    return np.where(np.asarray(whole) > 0, np.clip(100 * part / whole_or_one, 0, 100), 0.0)[()]


def ars_reconstructed(
    after: Mapping[str, Figure], before: Mapping[str, Figure], *, spread: float, collapsed: bool
) -> Figure:
    """Mean of the ten benign-relative sub-scores: our reconstruction, not the paper's ARS (method.md 5.2, 5.3).

    Args:
        after: the ten sub-scores under attack, in the units of ``ers``; ranks count ties as half.
        before: the same measured on the clean items with the same targets.
        spread: mean pairwise distance of the clean gallery, in [0, 2].
        collapsed: a collapsed model has no ranking to protect and scores 0.
    """
    mean = sum(benign_relative(after, before, spread).values()) / len(SUB_SCORES)
    return 0 * mean if collapsed else mean
