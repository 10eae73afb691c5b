"""Every figure of the studies, the report and the README, in colours that all readers can tell apart.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/); nothing is said by colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from cryoscout.core.units import TIER_NAMES
from cryoscout.report.map_layout import MapLayout, lay_out
from cryoscout.report.map_scene import MapScene, RouteOnMap
from cryoscout.routing.problem import NOWHERE, RoutingProblem

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, BLACK = "#56B4E9", "#CC79A7", "#767676", "#1a1a1a"

STYLES: dict[str, tuple[str, str]] = {
    "as recorded": (BLACK, "-"),
    "random": (GREY, ":"),
    "greedy": (ORANGE, "--"),
    "genetic": (PURPLE, ":"),
    "annealing": (PURPLE, "-."),
    "offline": (SKY, "--"),
    "index": (VERMILLION, "-"),
    "expected": (GREEN, "-"),
    "adaptive": (BLUE, "-"),
}
"""Colour and line of the recorded order and of each registered policy; others take the leftovers in order."""

_SPARE = [(BLACK, "-."), (SKY, "--"), (ORANGE, "-"), (GREEN, "--"), (VERMILLION, ":")]
_LARGEST_PITCH_PT = 15.0
"""Holes further apart than this on paper look like coins."""
_TIER_WIDTH = (0.9, 1.6, 2.6, 4.0)


@dataclass(frozen=True)
class Curve:
    """One policy's course: values at moments, with the band that holds the middle of the starts."""

    label: str
    minutes: NDArray[np.float64]  # (t,)
    middle: NDArray[np.float64]  # (t,) mean over starts
    low: NDArray[np.float64]  # (t,)
    high: NDArray[np.float64]  # (t,)


def house_style() -> AbstractContextManager[None]:
    """Fonts and lines of every figure, and names drawn literally, inside a `with` block."""
    return matplotlib.rc_context(
        {
            "font.size": 9.5,
            "font.family": "sans-serif",
            "axes.edgecolor": "#6a6a66",
            "text.color": BLACK,
            # A name such as `$x^{$` is no formula.
            "text.parse_math": False,
        }
    )


def style_of(label: str, position: int) -> tuple[str, str]:
    """Colour and line style of a policy label such as `adaptive@combined`."""
    return STYLES.get(label.partition("@")[0].strip(), _SPARE[position % len(_SPARE)])


def route_figure(scene: MapScene) -> Figure:
    """The map of the tree with one route on it; a thicker line is a longer way (CryoRL, figure 3)."""
    layout = lay_out(scene.problem, scene.offset_in_patch)
    width_in = float(np.clip((layout.width + 1.0) * _LARGEST_PITCH_PT / 72.0, 7.5, 12.0))
    pitch_pt = min(0.97 * 72.0 * width_in / (layout.width + 1.0), _LARGEST_PITCH_PT)
    map_in = pitch_pt * (layout.height + 1.0) / 72.0
    with house_style():
        figure = Figure(figsize=(width_in, min(map_in, 1.3 * width_in) + 0.7), layout="constrained")
        draw_route(figure.add_subplot(), scene, layout, pitch_pt)
        columns = 4 if width_in > 10 else 3
        figure.legend(handles=_route_legend(scene), loc="outside lower center", ncols=columns, frameon=False)
    return figure


def draw_route(axes: Axes, scene: MapScene, layout: MapLayout, pitch_pt: float) -> None:
    """Draw boxes, holes and route into the axes. pitch_pt : printer's points per hole pitch there."""
    problem, drawn = scene.problem, scene.drawn
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-0.5, layout.width + 0.5)
    axes.set_ylim(-0.5, layout.height + 0.5)
    for boxes, face, edge in (
        (layout.grids, "#f4f4f2", "#8a8a86"),
        (layout.squares, "#ffffff", "#b4b4ae"),
        (layout.patches, "#fbfbf9", "#dcdcd6"),
    ):
        for box in boxes:
            axes.add_patch(
                Rectangle(
                    (box.x, box.y), box.width, box.height, facecolor=face, edgecolor=edge, linewidth=0.7
                )
            )
    for index, box in enumerate(layout.grids):
        name = scene.grid_names[index] if scene.grid_names else f"grid {index + 1}"
        axes.text(box.x + 0.5, box.y + box.height - 0.45, name, va="top", fontsize=7.5, color="#4a4a46")
    _draw_holes(axes, problem, layout, drawn, pitch_pt)
    _draw_way(axes, problem, layout, drawn)


def _draw_holes(
    axes: Axes, problem: RoutingProblem, layout: MapLayout, drawn: RouteOnMap, pitch_pt: float
) -> None:
    area = (0.5 * pitch_pt) ** 2
    rest = np.ones(problem.n_holes, dtype=bool)
    rest[drawn.route] = False
    if drawn.imaged is not None:
        rest &= ~drawn.imaged
    x, y = layout.hole_xy.T
    axes.scatter(
        x[rest],
        y[rest],
        s=area,
        c=problem.prior_p_good[rest],
        cmap="Greys",
        vmin=-0.15,
        vmax=1.5,
        linewidths=0.3,
        edgecolors="#9a9a94",
        zorder=2,
    )
    if drawn.imaged is not None:
        axes.scatter(
            x[drawn.imaged], y[drawn.imaged], s=0.8 * area, marker="+", color="#6a6a66", lw=0.8, zorder=2
        )
    if drawn.good is None:
        axes.scatter(x[drawn.route], y[drawn.route], s=1.3 * area, color=BLUE, linewidths=0, zorder=4)
        return
    good, bad = drawn.route[drawn.good], drawn.route[~drawn.good]
    axes.scatter(x[good], y[good], s=1.3 * area, color=BLUE, linewidths=0, zorder=4)
    axes.scatter(x[bad], y[bad], s=1.3 * area, marker="x", color=VERMILLION, linewidths=1.3, zorder=5)


def _draw_way(axes: Axes, problem: RoutingProblem, layout: MapLayout, drawn: RouteOnMap) -> None:
    stops = drawn.route if drawn.start_hole == NOWHERE else np.concatenate([[drawn.start_hole], drawn.route])
    points = layout.hole_xy[stops]
    tiers = [problem.tier_between(int(a), int(b)) for a, b in pairwise(stops)]
    for tier in range(4):
        segments = [points[i : i + 2] for i, each in enumerate(tiers) if each == tier]
        if segments:
            axes.add_collection(
                LineCollection(
                    segments,
                    linewidths=_TIER_WIDTH[tier],
                    colors=BLACK,
                    alpha=0.75 if tier == 0 else 0.42,
                    capstyle="round",
                    zorder=3,
                )
            )
    if drawn.start_hole != NOWHERE:
        axes.scatter(
            points[0, 0],
            points[0, 1],
            s=110,
            marker="*",
            color=ORANGE,
            edgecolors=BLACK,
            linewidths=0.7,
            zorder=7,
        )
    entered = [stop for stop, tier in enumerate(tiers, start=1) if tier > 0]
    if drawn.start_hole == NOWHERE and len(stops):
        entered.insert(0, 0)
    for number, stop in enumerate(entered, start=1):
        box = layout.patches[int(problem.patch_of_hole[stops[stop]])]
        axes.text(
            box.x,
            box.y + box.height,
            str(number),
            fontsize=6.5,
            fontweight="bold",
            color="white",
            ha="center",
            va="center",
            zorder=8,
            bbox={"boxstyle": "round,pad=0.18", "facecolor": BLACK, "edgecolor": "white", "linewidth": 0.6},
        )


def _route_legend(scene: MapScene) -> list[Line2D]:
    problem, drawn = scene.problem, scene.drawn

    def dot(label: str, **style: object) -> Line2D:
        return Line2D([], [], linestyle="none", label=label, **style)  # type: ignore[arg-type]

    visited = "planned" if drawn.good is None else "imaged, good"
    handles = [dot(visited, marker="o", markersize=7, color=BLUE)]
    if drawn.good is not None:
        handles.append(
            dot("imaged, not good", marker="x", markersize=7, markeredgewidth=1.6, color=VERMILLION)
        )
    handles.append(
        dot(
            "left out (darker: more promising)",
            marker="o",
            markersize=7,
            color="#c4c4c0",
            markeredgecolor="#9a9a94",
        )
    )
    if drawn.imaged is not None and drawn.imaged.any():
        handles.append(dot("imaged before", marker="+", markersize=7, color="#6a6a66"))
    if drawn.start_hole != NOWHERE:
        handles.append(dot("start", marker="*", markersize=11, color=ORANGE, markeredgecolor=BLACK))
    tiers_min = problem.time_model.tiers_min(problem.shots)
    for name, width, minutes in zip(TIER_NAMES, _TIER_WIDTH, tiers_min, strict=True):
        handles.append(
            Line2D([], [], color=BLACK, alpha=0.6, linewidth=width, label=f"{name}, {minutes:.3g} min")
        )
    return handles


def overview_figure(
    scene: MapScene, found: Sequence[Curve], bound: Curve, share: Sequence[Curve], title: str
) -> Figure:
    """The route's map on the left, good micrographs and their share against time on the right."""
    layout = lay_out(scene.problem, scene.offset_in_patch, aspect=1.25)
    width_in, map_in = 13.5, 8.0
    height_in = min(max(map_in * layout.height / layout.width + 1.0, 5.6), 9.5)
    with house_style():
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[map_in, width_in - map_in], squeeze=False)[0]
        pitch_pt = min(72.0 * 0.95 * map_in / (layout.width + 1.0), _LARGEST_PITCH_PT)
        axes = left.add_subplot()
        axes.set_title(title, fontsize=10.5, loc="left")
        draw_route(axes, scene, layout, pitch_pt)
        left.legend(handles=_route_legend(scene), loc="outside lower center", ncols=3, frameon=False)
        upper, lower = right.subplots(2, 1, sharex=True)
        draw_curves(upper, found, "good micrographs found", bound=bound)
        draw_curves(lower, share, "good among visited (%)", percent=True)
        lower.set_xlim(0, scene.problem.budget_min)
        lower.set_xlabel("microscope time used (min)")
    return figure


def curves_figure(
    curves: Sequence[Curve],
    y_label: str,
    *,
    bound: Curve | None = None,
    percent: bool = False,
    starts_at_zero: bool = True,
    size_in: tuple[float, float] = (8.0, 4.6),
) -> Figure:
    """Values against minutes used, one line per policy, its name at the end of the line.

    bound : drawn in black above all     starts_at_zero : False begins the axis at the first moment
    """
    with house_style():
        figure = Figure(figsize=size_in, layout="constrained")
        axes = figure.add_subplot()
        draw_curves(axes, curves, y_label, bound=bound, percent=percent)
        axes.set_xlabel("microscope time used (min)")
        if not starts_at_zero and curves:
            axes.set_xlim(curves[0].minutes[0], curves[0].minutes[-1])
    return figure


def draw_curves(
    axes: Axes,
    curves: Sequence[Curve],
    y_label: str,
    *,
    bound: Curve | None = None,
    percent: bool = False,
) -> None:
    """See `curves_figure`."""
    factor = 100.0 if percent else 1.0
    ends: list[tuple[float, str, str]] = []
    for position, curve in enumerate(curves):
        colour, line = style_of(curve.label, position)
        axes.fill_between(
            curve.minutes, factor * curve.low, factor * curve.high, color=colour, alpha=0.13, lw=0
        )
        axes.plot(curve.minutes, factor * curve.middle, color=colour, linestyle=line, lw=2)
        ends.append((factor * float(curve.middle[-1]), curve.label, colour))
    if bound is not None:
        axes.plot(bound.minutes, factor * bound.middle, color=BLACK, lw=1.4, linestyle=(0, (5, 2)))
        ends.append((factor * float(bound.middle[-1]), "exact bound", BLACK))
    last = max((float(curve.minutes[-1]) for curve in curves), default=1.0)
    axes.set_xlim(0, last)
    if last >= 180:
        axes.xaxis.set_major_locator(MultipleLocator(60 if last <= 720 else 240))
    axes.set_ylim(0, 105 if percent else None)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color="#e4e4e0", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_ylim()
    for y, label, colour in _spread(ends, 0.058 * (high - low)):
        axes.annotate(
            label, (last, y), xytext=(6, 0), textcoords="offset points", va="center", color=_readable(colour),
            fontsize=9, annotation_clip=False,
        )  # fmt: skip


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-mass bins of one prediction."""

    title: str
    p_mean: NDArray[np.float64]  # (bins,) mean p_good
    share_good: NDArray[np.float64]  # (bins,)
    low: NDArray[np.float64]  # (bins,) interval of the share
    high: NDArray[np.float64]  # (bins,)


def reliability_figure(predictions: Sequence[ReliabilityBins]) -> Figure:
    """One square panel per prediction: the share of good holes against p_good, beside the diagonal."""
    with house_style():
        figure = Figure(figsize=(2.7 * len(predictions) + 0.4, 3.2), layout="constrained")
        panels = figure.subplots(1, len(predictions), sharey=True, squeeze=False)[0]
        for axes, bins in zip(panels, predictions, strict=True):
            axes.plot([0, 1], [0, 1], color=BLACK, lw=1.0, linestyle=(0, (5, 2)))
            axes.vlines(bins.p_mean, bins.low, bins.high, color=BLUE, lw=1.4)
            axes.plot(bins.p_mean, bins.share_good, linestyle="none", marker="o", ms=5, color=BLUE)
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xlabel="mean p_good of a tenth")
            axes.set_title(bins.title, fontsize=10)
            axes.grid(color="#e4e4e0", lw=0.8)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("share of good holes, 95 % interval")
    return figure


def _readable(colour: str) -> str:
    """A darker shade for text: the palette's light hues do not reach a readable contrast on white."""
    dark = {ORANGE: "#8a5f00", SKY: "#1b6f9e", PURPLE: "#93456f", GREEN: "#00664b", VERMILLION: "#a34700"}
    return dark.get(colour, colour)


def _spread(ends: list[tuple[float, str, str]], least: float) -> list[tuple[float, str, str]]:
    """Move labels apart to at least `least`, each as little as possible, in the order of their values.

    Method: with y_i - i least the demand is that values do not decrease: pooling adjacent violators.
    """
    ends = sorted(ends)
    pools: list[tuple[float, int]] = []  # mean, how many
    for place, (y, _, _) in enumerate(ends):
        pools.append((y - place * least, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (before, more) = pools.pop(), pools.pop()
            pools.append(((mean * count + before * more) / (count + more), count + more))
    moved = [mean for mean, count in pools for _ in range(count)]
    return [
        (y + place * least, label, colour)
        for place, (y, (_, label, colour)) in enumerate(zip(moved, ends, strict=True))
    ]


def svg_text(figure: Figure, title: str, prefix: str) -> Markup:
    """The figure as one inline `<svg>` element with a title for screen readers; it loads nothing.

    prefix : put before every id, so that several figures can stand on one page
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "cryoscout", "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    head, _, body = text.partition(">")
    head = re.sub(r'\s(width|height)="[^"]*"', "", head, count=2)
    head += f' style="max-width: {96 * figure.get_size_inches()[0]:.0f}px"'
    named = f'role="img" aria-labelledby="{prefix}-title"><title id="{prefix}-title">{escape(title)}</title>'
    # Matplotlib escapes the texts of the figure itself.
    return Markup(f"{head} {named}{body}")  # noqa: S704


def png_bytes(figure: Figure, dots_per_inch: int = 110) -> bytes:
    """The figure as PNG, without a date in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()
