"""Is every defense above the undefended model, seed by seed? Prints ERS, its lead over vanilla and R@1 kept.

Reads the results of the run that params.yaml describes; brackets are 95 % bootstrap intervals over queries, the lead's
from the same resampled queries for both models.

    python -m benchmarks.order
"""

from typing import NamedTuple

from stages.core.stats import Interval, percentile_interval
from stages.reporting.results import read_models
from stages.runtime import params


class TrainState(NamedTuple):
    """One model against the vanilla model of its seed: ERS and its lead with intervals, R@1 kept in percent."""

    seed: int
    defense: str
    ers: float
    interval: Interval
    lead: Interval
    recall_kept: float


def standings(loaded: params.Params, dataset: str) -> list[TrainState]:
    """Every model of the run on one dataset, compared with ``vanilla``."""
    models, found = read_models(loaded)[dataset], []
    for vanilla in models["vanilla"]:
        for defense, seeds in models.items():
            model = next(one for one in seeds if one.seed == vanilla.seed)
            found.append(
                TrainState(
                    model.seed,
                    defense,
                    model.values["ers"],
                    percentile_interval(model.draws["ers"]),
                    percentile_interval(model.draws["ers"] - vanilla.draws["ers"]),
                    100 * model.values["recall_at_1"] / vanilla.values["recall_at_1"],
                )
            )
    return found


def main() -> None:
    """Print one table per dataset."""
    loaded = params.load()
    for dataset in loaded["run"]["datasets"]:
        print(f"{dataset}\n\n| seed | defense | ERS | lead over vanilla | R@1 kept |\n|---:|:---|---:|---:|---:|")
        for row in standings(loaded, dataset):
            ers = f"{row.ers:.1f} [{row.interval.low:.1f}, {row.interval.high:.1f}]"
            lead = f"[{row.lead.low:.1f}, {row.lead.high:.1f}]" if row.defense != "vanilla" else ""
            print(f"| {row.seed} | {row.defense} | {ers} | {lead} | {row.recall_kept:.0f} % |")


if __name__ == "__main__":
    main()
