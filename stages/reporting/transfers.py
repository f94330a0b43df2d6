"""Transfer between defenses: matrices of what one model's perturbed images do to another, as tables and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.scores import SHARES
from stages.reporting.plotting import INK, drawn, not_run
from stages.reporting.tables import column, grid, write_csv

Transfers = dict[str, dict[str, pd.DataFrame]]  # per-query values by dataset and attack
HOW_TO_READ = (
    "Rows: the defense whose model the perturbed images were made on. Columns: the defense whose model they are "
    "measured on, with the targets that the images aim at. Values are sub-scores as in ERS, in percent of the ideal; "
    "higher is more robust. The diagonal is the attack itself. A value below the diagonal of its column says that "
    "images from elsewhere hurt this defense more than its own attack, which is then too weak, or gradients are masked."
)


def sub_scores_of(table: pd.DataFrame) -> list[str]:
    """The metrics of a transfer that are sub-scores; ranks of kept items, say, are none."""
    return [name for name in SHARES if f"{name}_after" in table]


def cells(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per source and measured defense, in the order of the run: queries, seeds, means, and sub-scores.

    A seed's models are measured on images of the same seed, all on the same queries, so means over seeds are plain.
    """
    columns = {when: f"{metric}_{when}" for when in ("before", "after")}
    groups = table.groupby(["source", "defense"], sort=False)
    means = groups[list(columns.values())].mean().set_axis(list(columns), axis=1)
    means.insert(0, "queries", groups["row"].nunique())
    means.insert(1, "seeds", groups["seed"].nunique())
    shares = means[list(columns)].apply(SHARES[metric]).add_prefix("share_")
    return means.join(shares).reset_index()


def matrix(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Sub-scores in percent: one row per source, one column per measured defense."""
    found, order = cells(table, metric), list(dict.fromkeys(table["source"]))
    return found.pivot(index="source", columns="defense", values="share_after").loc[order, order]


def write(found: Transfers, run: Mapping[str, Any], labels: Mapping[str, str], folder: Path) -> None:
    """Write transfer_<attack>.csv, one cell per line, and .md, one matrix per dataset and metric."""
    for attack in run["transfer"]:
        lines, parts = [], []
        for dataset, table in ((data, by_attack[attack]) for data, by_attack in found.items() if attack in by_attack):
            for metric in sub_scores_of(table):
                part = cells(table, metric)
                part.insert(0, "dataset", dataset)
                part.insert(1, "metric", metric)
                lines.append(part)
                parts.append(markdown(f"Transfer of {title(metric, attack)}: {dataset}", table, metric, labels))
        nothing = pd.DataFrame(columns=["dataset", "metric", "source", "defense"])
        write_csv(pd.concat(lines) if lines else nothing, folder / f"transfer_{attack}.csv")
        text = "\n".join([*parts, HOW_TO_READ]) if parts else f"### Transfer of {attack}: not run"
        (folder / f"transfer_{attack}.md").write_text(f"{text}\n")


def title(metric: str, attack: str) -> str:
    """The heading of a metric, with the attack's block where that says more."""
    heading = column(metric).heading
    return heading if metric.startswith(attack) else f"{heading} ({attack})"


def markdown(heading: str, table: pd.DataFrame, metric: str, labels: Mapping[str, str]) -> str:
    """A matrix as a GitHub table under its title."""
    found = matrix(table, metric)
    body = [[labels[source], *(f"{value:.1f}" for value in row)] for source, *row in found.itertuples()]
    shown = pd.DataFrame(body, columns=["made on \\ measured on", *(labels[name] for name in found.columns)])
    seeds = table["seed"].nunique()
    sample = f"{table['row'].nunique()} queries, {seeds} seed{'s' if seeds > 1 else ''}."
    return f"### {heading}\n\n{grid(shown)}\n\n{sample}\n"


def draw(path: Path, by_attack: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> bool:
    """One heat map per attack and metric: rows are the models that images were made on, columns those measured."""
    panels = [(metric, attack, table) for attack, table in by_attack.items() for metric in sub_scores_of(table)]
    count = max((table["source"].nunique() for *_, table in panels), default=1)
    across = min(3, max(1, len(panels)))
    down = -(-max(1, len(panels)) // across)
    side = 0.52 * count + 1.7
    with drawn(path, side * across + 0.7, side * down + 0.3) as figure:
        if not panels:
            return not_run(figure, "transfer")
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for axis, (metric, attack, table) in zip(axes, panels, strict=False):
            found = matrix(table, metric)
            mesh = axis.pcolormesh(found.to_numpy(), cmap="cividis", vmin=0, vmax=100, edgecolors="white", linewidth=1)
            for (row, place), value in np.ndenumerate(found.to_numpy()):
                style = {"color": "white" if value < 55 else INK, "weight": "bold" if row == place else "normal"}
                axis.text(place + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=8, **style)
            names = [labels[name] for name in found.index]
            middles = [place + 0.5 for place in range(len(names))]
            axis.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(middles, names)
            axis.tick_params(length=0)
            axis.invert_yaxis()
            axis.set_aspect("equal")
            axis.spines[:].set_visible(False)
            axis.set_title(title(metric, attack))
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.colorbar(mesh, ax=list(axes), shrink=0.6, label="sub-score (%), higher is more robust")
        figure.supxlabel("measured on", fontsize=9)
        figure.supylabel("made on", fontsize=9)
    return True
