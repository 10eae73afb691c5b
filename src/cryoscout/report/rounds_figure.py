"""One picture of a coupling: what each round did to the classifier and to its guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryoscout.report.figures import BLUE, GREEN, ORANGE, VERMILLION, house_style, png_bytes

PANELS = (
    ("held_out_accuracy", "held-out results right (%)", 100.0, BLUE),
    ("held_out_return", "held-out return (y − c)", 1.0, GREEN),
    ("p_changed", "mean change of p_good", 1.0, ORANGE),
)


def rounds_png(rounds: Sequence[Mapping[str, Any]], chosen: int) -> bytes:
    """PNG: one panel per measure, by round; the round that is kept is marked.

    rounds : as in the report of `cryoscout couple`, None where a measure is not known
    """
    with house_style():
        figure = Figure(figsize=(10.5, 3.2), layout="constrained")
        for axes, (name, label, scale, colour) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            known = [(each["number"], scale * each[name]) for each in rounds if each[name] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=colour, marker="o")
            kept = [point for point in known if point[0] == chosen]
            if kept:
                axes.plot(*kept[0], color=VERMILLION, marker="o", markersize=10, fillstyle="none")
            axes.set_xlabel("round (0: pretraining)")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return png_bytes(figure)
