"""Study `localization`: where the labels of a route are better than those of the classifier that drives it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.coupling.theory import inconsistency, localization
from cryoscout.report.figures import BLACK, BLUE, GREY, ORANGE, SKY, png_bytes
from cryoscout.study.coupling.examples import EXAMPLES, Example
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

COSTS_PER_LENGTH = (0.0, 0.05, 0.1, 0.2, 0.4)
DRAWN_AT = 0.2
PAPER_FIGURES = {"path planning": "Figure 1", "localization": "Figure 6"}


def trials(profile: Profile) -> list[Trial]:
    """One per example and movement cost; both profiles have the same."""
    del profile
    return [
        Trial(f"{name}, {cost:g} per length", {"example": name, "cost_per_length": cost}, 0)
        for name in EXAMPLES
        for cost in COSTS_PER_LENGTH
    ]


def run_one(trial: Trial) -> Json:
    """The best route of one example and cost, and what its labels are."""
    example = EXAMPLES[trial.parameters["example"]]
    route = example.best_route(trial.parameters["cost_per_length"]).route
    labels, found = example.by_route(route), localization(route, example.part, example.n_positive)
    return {
        "route": route.tolist(),
        "accuracy": example.accuracy(labels),
        "classifier": example.accuracy(example.by_classifier()),
        "inconsistency": inconsistency(labels, example.part),
        "switches": found.switches, "mixed": found.mixed, "most_mixed": found.most_mixed, "tight": found.is_tight,
    }  # fmt: skip


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The table, the maps, the rows."""
    del profile
    lines, plain = [], []
    for row in rows:
        name, cost = row.trial.parameters["example"], row.trial.parameters["cost_per_length"]
        plain.append({"example": name, "cost_per_length": cost, **(row.result or {})})
        result = row.result
        cells = (
            [MISSING] * 5
            if result is None
            else [
                f"{100.0 * result['classifier']:.0f} %",
                f"{100.0 * result['accuracy']:.0f} %",
                f"{result['inconsistency']:.2f}",
                f"{result['switches']}",
                f"{result['mixed']} of at most {result['most_mixed']}{' (reached)' if result['tight'] else ''}",
            ]
        )
        lines.append([name, f"{cost:g}", *cells])
    header = [
        "", "movement cost per length", "classifier right", "route right", "R_B of the route", "switches",
        "mixed parts, by the lemma",
    ]  # fmt: skip
    text = "\n\n".join(
        [
            "Twelve states on a map, a classifier that errs, and the *best* route for SSL2-RL's objective (3), found "
            "exactly: no agent that learned worse than it could. The first N_C states of the route, as many as there "
            "are targets, are labelled as targets. The first two examples are in the manner of the paper's Figures 1 "
            "and 6, whose coordinates are not published. What R_B and the lemma are: [Why routes label "
            "well](../explanation/localization.md).",
            markdown_table(header, lines),
            "Without a movement cost the route only ranks the classifier's probabilities. A cost that is large enough "
            "makes each group be visited whole, and corrects every error of the classifier in it. A cost between the "
            "two can be worse than none: the route then takes a near state of the wrong group for a far one of the "
            "right group. And where labels do not follow the groups the same cost spoils a classifier that was right: "
            "the route propagates labels through neighbourhoods, it does not know better.",
            f"The maps have a cost of {DRAWN_AT:g}. Squares are targets; orange is what is labelled wrong; numbers "
            "are the order of visits, and the thick line is the part of the route that is labelled positive.",
        ]
    )
    return Page(text, figure(rows), plain)


def figure(rows: Sequence[TrialRow]) -> bytes:
    """PNG: each example by the classifier (above) and by the route (below)."""
    drawing = Figure(figsize=(12.5, 7.4), layout="constrained")
    axes = drawing.subplots(2, len(EXAMPLES))
    at = {row.trial.parameters["example"]: row for row in rows
          if row.trial.parameters["cost_per_length"] == DRAWN_AT}  # fmt: skip
    for column, (name, example) in enumerate(EXAMPLES.items()):
        _draw(axes[0, column], example, example.by_classifier())
        axes[0, column].set_title(f"{name}: the classifier", fontsize=10)
        axes[1, column].set_title("the route's decision rule", fontsize=10)
        result = at[name].result if name in at else None
        if result is not None:
            route = np.array(result["route"], dtype=np.int64)
            _draw_route(axes[1, column], example, route)
            _draw(axes[1, column], example, example.by_route(route), route)
    return png_bytes(drawing)


def _draw(
    axes: Axes, example: Example, labels: NDArray[np.bool_], route: NDArray[np.int64] | None = None
) -> None:
    wrong = labels != example.target
    for target, marker in ((True, "s"), (False, "o")):
        rows = np.flatnonzero(example.target == target)
        face = [ORANGE if wrong[row] else BLUE if labels[row] else "white" for row in rows]
        x, y = example.xy[rows].T
        axes.scatter(x, y, s=150, marker=marker, c=face, edgecolors=BLACK, zorder=2)
    if example.line is not None and route is None:
        a, b, c = example.line
        axes.plot(
            [(c - b * height) / a for height in (0.4, 4.2)], [0.4, 4.2], color=BLACK, linewidth=1.2, zorder=1
        )
    for place, row in enumerate([] if route is None else route):
        axes.annotate(f"{place + 1}", example.xy[row] + (0.14, 0.14), fontsize=8, color=BLACK)
    axes.set_aspect("equal")
    axes.margins(0.12)
    axes.set_xticks([])
    axes.set_yticks([])
    right = example.accuracy(labels)
    axes.set_xlabel(f"{100.0 * right:.0f} % right")


def _draw_route(axes: Axes, example: Example, route: NDArray[np.int64]) -> None:
    for step, (here, there) in enumerate(pairwise(route)):
        positive = step + 1 < example.n_positive
        x, y = example.xy[[here, there]].T
        colour, width = (SKY, 3.0) if positive else (GREY, 0.9)
        axes.plot(x, y, color=colour, linewidth=width, zorder=1)


STUDY = Study(
    "localization",
    "Where the labels of a route are better than the classifier's",
    trials,
    run_one,
    page,
    (*PACKAGES_BEHIND_RESULTS, "coupling"),
)
