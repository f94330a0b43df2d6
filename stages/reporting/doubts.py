"""What speaks against a model's values: a collapse, attacks that look broken, and attacks that were too weak."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from stages.core.evaluation_checks import unattacked
from stages.core.metrics import collapse
from stages.reporting.results import Model


def every(models: Mapping[str, Mapping[str, list[Model]]]) -> Iterator[tuple[str, str, Model]]:
    """Dataset, defense and model, of all models."""
    for dataset, by_defense in models.items():
        for defense, found in by_defense.items():
            yield from ((dataset, defense, model) for model in found)


class Doubt(NamedTuple):
    """Something that speaks against one model's values: a collapse, or a sign that its attacks were too weak."""

    dataset: str
    defense: str
    seed: int
    reason: str


def collapses(models: Mapping[str, Mapping[str, list[Model]]]) -> list[Doubt]:
    """All models that have no ranking left, and why, of those by dataset and defense."""
    return [
        Doubt(dataset, defense, model.seed, collapse(*itemgetter("recall_at_1", "chance", "spread")(model.values)))
        for dataset, defense, model in every(models)
        if model.values["collapsed"]
    ]


def weak_attacks(models: Mapping[str, Mapping[str, list[Model]]]) -> list[Doubt]:
    """All signs that attacks were too weak, of the models by dataset and defense."""
    return [
        Doubt(dataset, defense, model.seed, line) for dataset, defense, model in every(models) for line in model.doubts
    ]


class FailedCheck(NamedTuple):
    """An attack that looks broken, and why."""

    dataset: str
    defense: str
    seed: int
    attack: str
    reason: str


def failed_checks(models: Mapping[str, Mapping[str, list[Model]]]) -> list[FailedCheck]:
    """All attacks that may not have attacked, of the models by dataset and defense."""
    return [
        FailedCheck(dataset, defense, model.seed, attack, why)
        for dataset, defense, model in every(models)
        for attack, checks in model.checks.items()
        for why in unattacked(checks)
    ]
