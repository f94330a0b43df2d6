"""The style of the report's figures, and writing them with bytes that depend on the data alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colors, told apart with any color vision; lines and markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "p", "*")
LINES = ("-", "--", "-.", ":")
Labels = Mapping[str, str]  # of all defenses, in the order that gives each its color and marker
INK, FAINT = "#222222", "#b5b5b5"
STYLE: Any = {
    "svg.hashsalt": "ca-tride",
    "svg.fonttype": "path",  # looks the same on a machine without the font
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # labels are a user's words, in which a dollar is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def marks(defense: str, labels: Labels) -> dict[str, Any]:
    """Color and marker of a defense by its place among the labels, the same in every figure."""
    place = list(labels).index(defense)
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[(place // 7 + place) % len(MARKERS)]}


def line(defense: str, labels: Labels) -> dict[str, Any]:
    """Color and line style of a defense by its place among the labels, the same in every figure."""
    place = list(labels).index(defense)
    return {"color": COLORS[place % len(COLORS)], "linestyle": LINES[place % len(LINES)]}


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure (inches) and write it as <path>.svg and <path>.png, without date and with fixed ids."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None, "Creator": None})
        figure.savefig(path.with_name(path.name + ".png"), dpi=160, metadata={"Software": None})


def not_run(figure: Figure, what: str) -> bool:
    """Say in an empty figure that there is nothing to draw; False, which tells that the figure shows nothing."""
    figure.text(0.5, 0.5, f"not run: {what}", ha="center", va="center", color=INK)
    return False


def legend(figure: Figure, axis: Axes) -> None:
    """One legend under all panels, of what ``axis`` shows, in as many columns as fit."""
    handles, labels = axis.get_legend_handles_labels()
    for columns in range(min(len(labels), max(2, int(figure.get_figwidth() // 1.6))), 0, -1):
        made = figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()


def grid(axis: Axes, direction: Literal["x", "y", "both"] = "y") -> None:
    """Faint lines behind the data."""
    axis.grid(axis=direction, color=FAINT, linewidth=0.5, alpha=0.6)
    axis.set_axisbelow(True)
