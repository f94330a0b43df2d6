"""What speaks against a model's values: a collapse, attacks that look broken, and attacks that were too weak."""

from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from stages.core.evaluation_checks import unattacked
from stages.core.metrics import collapse
from stages.reporting.results import Model, every


class Doubt(NamedTuple):
    """Something that speaks against one model's values, or against those of one ``attack``."""

    dataset: str
    defense: str
    seed: int
    reason: str
    attack: str = ""

    @property
    def words(self) -> str:
        """The words of the job that they are of."""
        return " ".join(filter(None, (self.dataset, self.defense, str(self.seed), self.attack)))


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


def failed_checks(models: Mapping[str, Mapping[str, list[Model]]]) -> list[Doubt]:
    """All attacks that may not have attacked, of the models by dataset and defense."""
    return [
        Doubt(dataset, defense, model.seed, why, attack)
        for dataset, defense, model in every(models)
        for attack, checks in model.checks.items()
        for why in unattacked(checks)
    ]
