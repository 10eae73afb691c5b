"""Figures that studies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cryoscout.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION, house_style


@dataclass(frozen=True)
class DotRow:
    """One line of a dot figure; NaN where there is no figure."""

    label: str
    ours: NDArray[np.float64]  # (panels,) mean
    ours_std: NDArray[np.float64]  # (panels,)
    published: NDArray[np.float64]  # (panels,)


def dots_figure(
    rows: Sequence[DotRow], panel_titles: Sequence[str], bound: NDArray[np.float64], x_label: str
) -> Figure:
    """One panel per title, one line per row from the top: ours a dot with its deviation, published a diamond.

    bound : (panels,) drawn as a dashed line, NaN where it is missing
    """
    with house_style():
        figure = Figure(figsize=(10.5, 0.36 * len(rows) + 1.5), layout="constrained")
        panels = figure.subplots(1, len(panel_titles), sharey=True, squeeze=False)[0]
        y = np.arange(len(rows), dtype=np.float64)
        for at, (axes, title) in enumerate(zip(panels, panel_titles, strict=True)):
            ours = np.array([row.ours[at] for row in rows])
            spread = np.array([row.ours_std[at] for row in rows])
            published = np.array([row.published[at] for row in rows])
            axes.axvline(bound[at], color=BLACK, lw=1.2, linestyle=(0, (5, 2)))
            axes.errorbar(ours, y, xerr=spread, fmt="o", color=BLUE, ms=6, lw=1.4, capsize=2)
            axes.plot(published, y, linestyle="none", marker="D", ms=6, mfc="white", mec=VERMILLION, mew=1.4)
            axes.set_title(title, fontsize=10)
            axes.set_xlim(left=0)
            axes.set_xlabel(x_label)
            axes.grid(axis="x", color="#e4e4e0", lw=0.8)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(y, [row.label for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.legend(
            handles=[
                Line2D([], [], color=BLUE, marker="o", ms=6, lw=1.4, label="ours, mean ± std"),
                Line2D(
                    [], [], linestyle="none", marker="D", ms=6, mfc="white", mec=VERMILLION, label="published"
                ),
                Line2D([], [], color=BLACK, lw=1.2, linestyle=(0, (5, 2)), label="exact bound"),
            ],
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
    return figure


def gains_figure(
    x: NDArray[np.float64],
    series: Mapping[str, Sequence[tuple[float, float, float] | None]],
    x_label: str,
    y_label: str,
) -> Figure:
    """Differences with their intervals against a setting, one marker and colour per series.

    series : by name, one (mean, low, high) per x, None where it is missing
    """
    looks = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"))
    with house_style():
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.add_subplot()
        shift = 0.012 * (float(x.max()) - float(x.min()) or 1.0)
        for place, ((name, points), (colour, marker)) in enumerate(zip(series.items(), looks, strict=False)):
            here = np.array([i for i, point in enumerate(points) if point is not None], dtype=np.int64)
            if len(here) == 0:
                continue
            mean, low, high = np.array([point for point in points if point is not None]).T
            axes.errorbar(
                x[here] + shift * (place - 1),
                mean,
                yerr=[mean - low, high - mean],
                color=colour,
                marker=marker,
                capsize=3,
                lw=1.6,
                label=name,
            )
        axes.axhline(0.0, color=BLACK, lw=0.8)
        axes.set_xticks(x)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y", color="#e4e4e0", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return figure


def times_figure(rows: Mapping[str, Sequence[float]], panel_titles: Sequence[str]) -> Figure:
    """One panel per title, one bar per row from the top, its value written at its end.

    rows : by name, one value per panel in the unit of its title, NaN where it is missing
    """
    with house_style():
        figure = Figure(figsize=(10.5, 0.42 * len(rows) + 1.2), layout="constrained")
        panels = figure.subplots(1, len(panel_titles), sharey=True, squeeze=False)[0]
        y = np.arange(len(rows), dtype=np.float64)
        for at, (axes, title) in enumerate(zip(panels, panel_titles, strict=True)):
            values = np.array([row[at] for row in rows.values()], dtype=np.float64)
            bars = axes.barh(y, np.nan_to_num(values), height=0.6, color=BLUE)
            axes.bar_label(
                bars, ["missing" if np.isnan(each) else f"{each:.3g}" for each in values], padding=3
            )
            axes.set_title(title, fontsize=10)
            axes.margins(x=0.18)
            axes.tick_params(axis="y", length=0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(y, list(rows))
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def intervals_figure(
    rows: Mapping[str, Sequence[tuple[float, float, float] | None]],
    panel_titles: Sequence[str],
    x_label: str,
    *,
    references: Sequence[float],
    bands: Sequence[tuple[float, float] | None] | None = None,
) -> Figure:
    """One panel per title, one line per row from the top: a value with its interval.

    rows : by name, one (value, low, high) per panel, None where it is missing
    references : (panels,) a dashed line in each panel     bands : what is allowed around it, shaded
    """
    with house_style():
        figure = Figure(figsize=(10.5, 0.34 * len(rows) + 1.2), layout="constrained")
        panels = figure.subplots(1, len(panel_titles), sharey=True, squeeze=False)[0]
        for at, (axes, title) in enumerate(zip(panels, panel_titles, strict=True)):
            band = None if bands is None else bands[at]
            if band is not None:
                axes.axvspan(*band, color=GREEN, alpha=0.13, lw=0)
            axes.axvline(references[at], color=BLACK, lw=1.2, linestyle=(0, (5, 2)))
            for y, points in enumerate(rows.values()):
                point = points[at]
                if point is not None:
                    value, low, high = point
                    axes.plot([low, high], [y, y], color=BLUE, lw=1.4)
                    axes.plot([value], [y], color=BLUE, marker="o", ms=6)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(x_label)
            axes.grid(axis="x", color="#e4e4e0", lw=0.8)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(np.arange(len(rows)), list(rows))
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure
