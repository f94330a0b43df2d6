"""Robustness scores from the ten raw sub-scores (method.md 5)."""

from collections.abc import Mapping

SUB_SCORES = ("ca_plus", "ca_minus", "qa_plus", "qa_minus", "tma", "es_d", "es_r", "ltm", "gtm", "gtt")


def normalised(sub_scores: Mapping[str, float]) -> dict[str, float]:
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


def ers(sub_scores: Mapping[str, float]) -> float:
    """Empirical robustness score: plain mean of the ten normalised sub-scores, no clipping (method.md 5.1).

    Args:
        sub_scores: CA+, CA-, QA+, QA- as percentile ranks in percent, TMA a cosine, ES:D a distance in [0, 2],
            ES:R, LTM, GTM, GTT in percent.

    Raises:
        KeyError: one of the ten is missing.
    """
    return sum(normalised(sub_scores).values()) / len(SUB_SCORES)
