"""What is said of a defense by its models of several seeds: marks, means, ranks and leads."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.core.stats import Estimate, estimate
from stages.reporting.results import Model

SHRUNK_BELOW = 0.1  # a mean pairwise distance under this is marked: ERS rewards shrinking


def mark(models: Sequence[Model]) -> str:
    """Say "collapsed" or "shrunk" where any seed is; "" otherwise."""
    if any(model.values["collapsed"] for model in models):
        return "collapsed"
    return "shrunk" if any(model.values["spread"] < SHRUNK_BELOW for model in models) else ""


def having(models: Sequence[Model], metric: str) -> list[Model]:
    """The models that have a metric."""
    return [model for model in models if metric in model.values]


def estimated(models: Sequence[Model], metric: str) -> Estimate | None:
    """Our estimate of a metric over the seeds that have it; None where it did not run."""
    found = having(models, metric)
    if not found:
        return None
    draws = [model.draws[metric] for model in found if metric in model.draws]
    return estimate([model.values[metric] for model in found], draws)


def ranking(models: Mapping[str, Sequence[Model]], metric: str) -> list[str]:
    """The defenses that have a metric by its mean, the highest first.

    Means are over the seeds that all of them have it in, as differences are: a seed that one of them lacks would rank
    its difficulty. Where no seed has it in all, each mean is over the seeds of its own.
    """
    found = {defense: those for defense, each in models.items() if (those := having(each, metric))}
    shared = set.intersection(*({model.seed for model in those} for those in found.values())) if found else set()
    means = {
        defense: np.mean([model.values[metric] for model in those if model.seed in shared or not shared])
        for defense, those in found.items()
    }
    return sorted(means, key=lambda defense: -means[defense])


def lead(first: Sequence[Model], second: Sequence[Model], metric: str) -> Estimate | None:
    """By how much ``first`` is above ``second`` in a metric, over the seeds and the resampled queries of both.

    None where no seed has it in both.
    """
    others = {model.seed: model for model in having(second, metric)}
    pairs = [(model, others[model.seed]) for model in having(first, metric) if model.seed in others]
    if not pairs:
        return None
    gaps = [one.values[metric] - other.values[metric] for one, other in pairs]
    return estimate(gaps, [one.draws[metric] - other.draws[metric] for one, other in pairs])
