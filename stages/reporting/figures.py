"""Figures of the report. Each draws what it has and says so where that is nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from stages.core.scores import EXACT, SUB_SCORES, normalized
from stages.core.stats import Estimate, estimate
from stages.reporting.plotting import COLORS, INK, Labels, drawn, grid, legend, line, marks, not_run
from stages.reporting.results import Model
from stages.reporting.seeds import estimated
from stages.reporting.tables import Row, column

CURVES = {
    "loss": "loss (clean triplets)",
    "loss_adversarial": "loss (trained)",
    "collapseness": "collapseness",
    "hardness": "hardness",
    "recall_at_1": "R@1 (%)",
}
ByDefense = Mapping[str, list[Model]]
Value = TypeVar("Value")


def _bar(cell: Estimate) -> list[list[float]]:
    """Lengths of an interval's two arms, as matplotlib wants them; 0 where rounding puts the mean outside."""
    low, high = cell.interval or (cell.mean, cell.mean)
    return [[max(0.0, cell.mean - low)], [max(0.0, high - cell.mean)]]


def tradeoff(path: Path, panels: Mapping[str, list[Row]], labels: Labels, ran: list[str]) -> bool:
    """ERS against R@1: ours with both intervals, published points hollow, one panel per dataset."""
    with drawn(path, max(5.2, 3.3 * len(panels)), 4.2) as figure:
        if not panels:
            return not_run(figure, "no table")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (dataset, rows) in zip(axes, panels.items(), strict=True):
            for row in rows:
                style = marks(row.defense, labels)
                if ours := _point(row.cells):
                    bars = {"xerr": _bar(ours[0]), "yerr": _bar(ours[1]), "capsize": 2, "elinewidth": 0.9}
                    axis.errorbar([ours[0].mean], [ours[1].mean], **bars, **style, linestyle="", markersize=7)
                if printed := _point(row.published):
                    hollow = {"facecolors": "none", "edgecolors": style["color"], "marker": style["marker"]}
                    axis.scatter(*printed, s=46, linewidths=1.4, **hollow)
            axis.set_title(dataset if dataset in ran else f"{dataset}: published, not run")
            axis.set_xlabel("R@1 on clean images (%)")
            grid(axis, "both")
        axes[0].set_ylabel("ERS (%), higher is more robust")
        every = [row for rows in panels.values() for row in rows]
        shown = [row for row in every if _point(row.cells) is not None or _point(row.published) is not None]
        for defense, label in {row.defense: row.label for row in shown}.items():
            axes[0].plot([], [], linestyle="", label=label, **marks(defense, labels))
        if any(_point(row.published) for row in shown):
            axes[0].scatter([], [], facecolors="none", edgecolors=INK, label="published (hollow)")
        legend(figure, axes[0])
    return any(_point(row.cells) for row in shown)


def _point(values: Mapping[str, Value | None]) -> tuple[Value, Value] | None:
    """R@1 and ERS, where a row has both."""
    x, y = values.get("recall_at_1"), values.get("ers")
    return None if x is None or y is None else (x, y)


def comparison(path: Path, rows: list[Row], columns: list[str], labels: Labels) -> bool:
    """A table's values beside the published ones: one panel per column, one line per row with a published value."""
    pairs = [row for row in rows if row.is_published]
    shown = [name for name in columns if any(row.published.get(name) is not None for row in pairs)]
    with drawn(path, max(5.2, 2.3 * len(shown) + 1.2), 0.42 * len(pairs) + 1.6) as figure:
        if not any(row.cells.get(name) for row in pairs for name in shown):
            return not_run(figure, "rows with published values")
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, shown, strict=True):
            for place, row in enumerate(pairs):
                cell, printed = row.cells.get(name), row.published[name]
                if cell:
                    color = marks(row.defense, labels)["color"]
                    axis.errorbar([cell.mean], [place], xerr=_bar(cell), fmt="o", color=color, capsize=2)
                if printed is not None:
                    axis.plot([printed], [place], "D", mfc="none", mec=INK, markersize=7)
            axis.set_title(column(name).axis)
            axis.set_yticks(range(len(pairs)), [row.label for row in pairs])
            axis.margins(x=0.2, y=0.25)
            grid(axis, "x")
        axes[0].invert_yaxis()
        axes[0].plot([], [], "o", color=INK, label="ours, with 95 % interval")
        axes[0].plot([], [], "D", mfc="none", mec=INK, label="published")
        legend(figure, axes[0])
    return True


def sub_scores(path: Path, models: ByDefense, labels: Labels) -> bool:
    """Ten normalized sub-scores, one panel per defense; behind them, gray, the mean over all defenses."""
    shown = {
        defense: bars
        for defense, found in models.items()
        if (bars := [_normalized(found, name) for name in SUB_SCORES]) and any(bars)
    }
    columns = min(4, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    with drawn(path, 2.9 * columns + 0.8, 2.7 * rows) as figure:
        if not shown:
            return not_run(figure, "the nine attacks of ERS")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        figure.set_layout_engine("constrained", h_pad=0.12)
        means = [pd.Series([bar.mean for bars in shown.values() if (bar := bars[i])]).mean() for i in range(10)]
        for axis, (defense, bars) in zip(axes, shown.items(), strict=False):
            grid(axis, "x")
            for place, (name, bar) in enumerate(zip(SUB_SCORES, bars, strict=True)):
                axis.plot([means[place]], [place], "|", color="#777777", markersize=11)
                if bar:
                    style = marks(defense, labels)
                    axis.barh(place, bar.mean, height=0.62, color=style["color"], alpha=0.85)
                    axis.errorbar([bar.mean], [place], xerr=_bar(bar), color=INK, elinewidth=0.9)
                axis.set_yticks(range(10), [column(name).heading for name in SUB_SCORES])
            axis.set_title(labels[defense])
            axis.set_xlim(0, 100)
        axes[0].invert_yaxis()
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        figure.supxlabel("share of the ideal (%), higher is more robust; gray ticks: mean of all defenses", fontsize=9)
    return True


def _normalized(models: list[Model], name: str) -> Estimate | None:
    found = [model for model in models if all(part in model.values for part in SUB_SCORES)]
    if not found:
        return None
    return estimate([normalized(m.values)[name] for m in found], [normalized(m.draws)[name] for m in found])


def history(path: Path, models: ByDefense, labels: Labels) -> bool:
    """Losses, collapseness, hardness and R@1 over epochs: a line per defense, a band over its seeds."""
    curves = {defense: [model.history for model in found if len(model.history)] for defense, found in models.items()}
    known = {defense: tables for defense, tables in curves.items() if tables}
    with drawn(path, 3.0 * len(CURVES), 3.5) as figure:
        if not known:
            return not_run(figure, "no model was trained")
        axes = figure.subplots(1, len(CURVES))
        for axis, (name, label) in zip(axes, CURVES.items(), strict=True):
            for defense, tables in known.items():
                by_epoch = pd.concat(tables).dropna(subset=[name]).groupby("epoch")[name]
                mean, style = by_epoch.mean(), line(defense, labels)
                axis.plot(mean.index + 1, mean, label=labels[defense], linewidth=1.5, **style)
                if len(tables) > 1:
                    axis.fill_between(mean.index + 1, by_epoch.min(), by_epoch.max(), color=style["color"], alpha=0.15)
            axis.set_xlabel("epoch")
            axis.set_title(label)
            grid(axis)
        legend(figure, axes[0])
    return True


def variants(path: Path, models: ByDefense, labels: Labels) -> bool:
    """Sub-scores of ES, LTM and GTM as published (reference) and as described (exact), one panel each."""
    metrics = [metric for metric in EXACT if any(estimated(found, EXACT[metric]) for found in models.values())]
    with drawn(path, 3.0 * max(2, len(metrics)), 3.6) as figure:
        if not metrics:
            return not_run(figure, "add es_exact, ltm_exact and gtm_exact to run.attacks")
        names = [defense for defense, found in models.items() if found]
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            for place, defense in enumerate(names):
                pair = [estimated(models[defense], name) for name in (metric, EXACT[metric])]
                for cell, offset, filled in zip(pair, (-0.14, 0.14), (False, True), strict=True):
                    if cell:
                        color = COLORS[0] if filled else COLORS[1]
                        style = {"color": color, "mfc": color if filled else "white"}
                        axis.errorbar([cell.mean], [place + offset], xerr=_bar(cell), fmt="o", **style)
            axis.set_title(column(metric).axis)
            axis.set_yticks(range(len(names)), [labels[name] for name in names])
            grid(axis, "x")
        axes[0].invert_yaxis()
        axes[0].plot([], [], "o", mfc="white", color=COLORS[1], label="reference: as published")
        axes[0].plot([], [], "o", color=COLORS[0], label="exact: as described")
        legend(figure, axes[0])
    return True


def sweep(path: Path, models: ByDefense, labels: Labels, block: Mapping[str, Any], x: Callable[[str], float]) -> bool:
    """A table's columns against eps or steps of their attacks: one panel per metric, one line per defense."""
    points: dict[str, list[tuple[float, str]]] = {}
    for name in block["columns"]:
        metric, _, attack = name.partition(":")
        points.setdefault(metric, []).append((x(attack or metric), name))
    found = {
        metric: {
            defense: [(at, cell) for at, name in sorted(named) if (cell := estimated(models.get(defense, []), name))]
            for defense in block["rows"]
        }
        for metric, named in points.items()
    }
    with drawn(path, 3.6 * len(found), 3.8) as figure:
        if all(len(cells) < 2 for by_defense in found.values() for cells in by_defense.values()):
            return not_run(figure, "add the attacks of this table to run.attacks")
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (metric, by_defense) in zip(axes, found.items(), strict=True):
            for defense, cells in by_defense.items():
                if cells:
                    strengths, means = [at for at, _ in cells], [cell.mean for _, cell in cells]
                    arms = [[_bar(cell)[side][0] for _, cell in cells] for side in (0, 1)]
                    style = line(defense, labels) | marks(defense, labels) | {"markersize": 4}
                    axis.errorbar(strengths, means, yerr=arms, label=labels[defense], capsize=2, **style)
            if block["sweep"] == "steps":
                steps = sorted({at for cells in by_defense.values() for at, _ in cells})
                axis.set_xscale("log", base=2)
                axis.set_xticks(steps, [f"{value:g}" for value in steps])
            axis.set_xlabel("PGD steps" if block["sweep"] == "steps" else "eps (pixels in [0, 1])")
            axis.set_title(column(metric).axis)
            grid(axis)
        legend(figure, axes[0])
    return True
