"""The figure of the study `perception`: accuracy against labels, reliability, precision by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoscout.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, png_bytes
from cryoscout.study.images.cases import Case

if TYPE_CHECKING:
    from cryoscout.study.images.perception import Found

LOOKS = {
    "supervised": (GREY, "o"),
    "fixmatch": (BLUE, "s"),
    "iterative-fixmatch": (SKY, "D"),
    "defixmatch": (ORANGE, "^"),
    "softmatch": (GREEN, "v"),
    "align": (VERMILLION, "P"),
    "barlow-twins": (PURPLE, "X"),
    "pseudo-label": (BLACK, "*"),
    "own-pseudo-label": (GREY, "*"),
}


def figure(found: Found, column: Sequence[Case], others: Sequence[Case], full: Case) -> bytes:
    """PNG of three panels; what is missing is not drawn."""
    drawing = Figure(figsize=(13.0, 4.6), layout="constrained")
    accuracy, reliability, rounds = drawing.subplots(1, 3, width_ratios=[1.3, 1.0, 0.8])
    _accuracy(accuracy, found, [*column, *others], full)
    _reliability(reliability, found, column, full)
    _rounds(rounds, found, next(case for case in column if case.method == "iterative-fixmatch"))
    return png_bytes(drawing)


def _accuracy(axes: Axes, found: Found, cases: Sequence[Case], full: Case) -> None:
    for method, (colour, marker) in LOOKS.items():
        mine = sorted(
            (case for case in cases if case.method == method and found.seeds(case)), key=lambda c: c.labels
        )
        for form, line in (("", "-"), ("+belief", "--")):
            means = [100.0 * found.values(case, form, "accuracy").mean() for case in mine]
            axes.plot(
                [100.0 * case.labels for case in mine], means, line, color=colour, marker=marker, markersize=5,
                linewidth=1.3, label=None if form else method,
            )  # fmt: skip
    for form, line in (("", "-"), ("+belief", "--")):
        if found.seeds(full):
            level = 100.0 * found.values(full, form, "accuracy").mean()
            label = f"all labels{', belief' if form else ''}"
            axes.axhline(
                level,
                color=BLACK,
                linestyle=line,
                linewidth=1.0,
                label=label,
            )
    axes.set_xlabel("labelled holes (% of training holes)")
    axes.set_ylabel("accuracy on test holes (%)")
    axes.set_title("y3: dashed with the belief", fontsize=10)
    axes.set_xscale("log")
    axes.set_xticks([5, 10, 20], ["5", "10", "20"])
    axes.minorticks_off()
    _legend(axes)


def _reliability(axes: Axes, found: Found, column: Sequence[Case], full: Case) -> None:
    axes.plot([0, 1], [0, 1], color=BLACK, linewidth=0.8)
    fixmatch = next(case for case in column if case.method == "fixmatch")
    shown = (
        (fixmatch, "", BLUE, "s", "-"),
        (fixmatch, "+belief", BLUE, "s", "--"),
        (full, "", BLACK, "o", "-"),
    )
    for case, form, colour, marker, line in shown:
        if not found.seeds(case):
            continue
        points = np.mean([result["scores"][form]["reliability"] for result in found.results(case)], axis=0)
        axes.plot(
            points[:, 0], points[:, 1], line, color=colour, marker=marker, markersize=4, linewidth=1.2,
            label=f"{case.method}{form}",
        )  # fmt: skip
    axes.set_xlabel("predicted probability of good (tenths of the holes)")
    axes.set_ylabel("share that was good")
    axes.set_title("reliability, 10 % of the labels", fontsize=10)
    _legend(axes)


def _rounds(axes: Axes, found: Found, iterative: Case) -> None:
    for score, colour, marker in (("precision", BLUE, "s"), ("accuracy", ORANGE, "^")):
        courses = [[each[score] for each in result["rounds"]] for result in found.results(iterative)]
        if courses and all(courses):
            course = 100.0 * np.mean(courses, axis=0)
            axes.plot(range(1, len(course) + 1), course, color=colour, marker=marker, label=score)
    axes.set_xlabel("round of iterative-fixmatch")
    axes.set_ylabel("on test holes (%)")
    axes.set_title("rounds, 10 % of the labels", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)


def _legend(axes: Axes) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=8, frameon=False)
