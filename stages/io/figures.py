"""Figures of the report, as SVG files whose bytes depend on nothing but the data."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

CURVES = {
    "loss": "loss (clean)",
    "loss_adversarial": "loss (trained)",
    "collapseness": "collapseness",
    "hardness": "hardness",
    "recall_at_1": "R@1 (%)",
}


def save(figure: Figure, path: Path) -> None:
    """Write an SVG without date and with fixed element ids."""
    with mpl.rc_context({"svg.hashsalt": "ca-tride", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def histories(by_defense: Mapping[str, list[pd.DataFrame]], title: str) -> Figure:
    """Loss, collapseness, hardness and R@1 over epochs, one line per defense (mean of its seeds)."""
    figure = Figure(figsize=(3.2 * len(CURVES), 3.4), layout="constrained")
    figure.suptitle(title)
    for axis, (name, label) in zip(figure.subplots(1, len(CURVES)), CURVES.items(), strict=True):
        for defense, tables in by_defense.items():
            mean = pd.concat(tables).groupby("epoch")[name].mean().dropna()
            axis.plot(mean.index + 1, mean, label=defense, linewidth=1.4)
        axis.set_xlabel("epoch")
        axis.set_title(label, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(labels)), frameon=False)
    return figure
