"""Signs that attacks were too weak, with the model that each is of."""

from collections.abc import Mapping
from typing import NamedTuple

from stages.reporting.results import Model


class Doubt(NamedTuple):
    """A sign that one model's attacks were too weak."""

    dataset: str
    defense: str
    seed: int
    reason: str


def of_models(models: Mapping[str, Mapping[str, list[Model]]]) -> list[Doubt]:
    """All signs that attacks were too weak, of the models by dataset and defense."""
    return [
        Doubt(dataset, defense, model.seed, line)
        for dataset, by_defense in models.items()
        for defense, found in by_defense.items()
        for model in found
        for line in model.doubts
    ]
