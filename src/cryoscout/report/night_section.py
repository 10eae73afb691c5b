"""The night against time: what was collected, what happened when, where the time went, what another order had given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.dates as mdates
import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.advice.night import KINDS, Night, collected, minutes_on_bad, minutes_spent
from cryoscout.core.counting import counted
from cryoscout.report.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, svg_text
from cryoscout.report.page import ReportSection, ReportTable
from cryoscout.routing.bound import good_holes_bound_course
from cryoscout.routing.policies.as_recorded import policy_as_recorded
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, good_course, replay

if TYPE_CHECKING:
    import pandas as pd

    from cryoscout.routing.policies.base import Policy
    from cryoscout.session.model import Session
    from cryoscout.session.recorded_order import RecordedOrder

FEWEST_TIMED = 10
MOST_LISTED = 40
MARKED = 12
"""Things that happened are numbered in the figure as far as so many; the table lists more."""
SHARES = (0.25, 0.5, 0.75)
_COLOURS = dict(zip(KINDS, (BLUE, ORANGE, GREEN, PURPLE, GREY, SKY, VERMILLION), strict=True))


@dataclass(frozen=True)
class OtherOrders:
    """What other policies find by shares of the night, over imaged holes only and in modelled minutes."""

    minutes: NDArray[np.float64]  # (t,) since the first exposure
    found: Mapping[str, NDArray[np.float64]]  # label -> (t,) good micrographs, the first hole counted


def night_section(
    session: Session,
    night: Night,
    problem: RoutingProblem,
    threshold_angstrom: float,
    others: OtherOrders | None,
) -> ReportSection | None:
    """The section, None where too few exposures have times.

    problem : of the session, whose time model parts the minutes     others : of `other_orders`
    """
    times, good = collected(session, threshold_angstrom)
    if len(times) < FEWEST_TIMED:
        return None
    spent = minutes_spent(session, problem, session.holes["hole_id"].tolist(), night.notes)
    paragraphs = [_words_on_time(spent["minutes"], *minutes_on_bad(session, spent, threshold_angstrom))]
    if night.advised:
        paragraphs.append(
            f"{night.followed} of the {night.advised} exposures taken while an advice stood were of the hole that was "
            "advised first."
        )
    if others is not None:
        paragraphs.append(_words_on_others(others))
    if night.passed_over:
        paragraphs.append(f"Events that were not understood, and are left out: {night.passed_over}.")
    said = night.said[:MOST_LISTED]
    rows = [
        [
            str(number),
            "before the first exposure"
            if each.microscope_at is None
            else f"{each.microscope_at:%Y-%m-%d %H:%M}",
            each.what,
            each.author or "-",
        ]
        for number, each in enumerate(said, start=1)
    ]
    more = len(night.said) - len(said)
    caption = "What was said and noted, by the microscope's time"
    caption += f"; {more} more are in cryoscout log" if more else ""
    return ReportSection(
        "The night",
        paragraphs,
        svg=_figure(times, good, spent, night),
        table=ReportTable(caption, ["", "when", "what", "who"], rows) if rows else None,
        note="Imaging is as long as an exposure in the same patch takes; moving is what a switch takes on top, by the "
        "time model; focus, looking and pauses are what people entered; what is left is waiting, up to three visits, "
        "and lost beyond. A bad hole costs its minutes of imaging.",
    )


def other_orders(
    problem: RoutingProblem, truth: Truth, order: RecordedOrder, others: Mapping[str, Policy], seed: int
) -> OtherOrders | None:
    """Replays from the hole that was imaged first, over imaged holes only.

    problem : without holes that have no result     others : label -> policy
    None where fewer than two holes of the recorded order have a result.
    """
    holes = [hole for hole in order.holes.tolist() if truth.measured[hole]]
    if len(holes) < 2:
        return None
    tiers = problem.time_model.tiers_min(problem.shots)
    steps = pairwise(holes)
    night_min = sum(float(tiers[problem.tier_between(here, there)]) for here, there in steps)
    problem = replace(problem, crossing="drop", budget_min=problem.time_model.setup_min + night_min)
    first = holes[0]
    (recorded,) = replay(problem, truth, policy_as_recorded(order), [first], seed)
    at = np.array([*SHARES, 1.0]) * problem.budget_min
    own = float(truth.good[first])
    found = {"as recorded": own + good_course(recorded, at)}
    for label, policy in others.items():
        (route,) = replay(problem, truth, policy, [first], seed)
        found[label] = own + good_course(route, at)
    found["exact bound"] = own + good_holes_bound_course(problem, truth, first, at)
    return OtherOrders(at, found)


def _words_on_time(minutes: Mapping[str, float], bad: int, bad_min: float) -> str:
    total = sum(minutes.values())
    parts = [
        f"{minutes['moving']:.0f} min to moving",
        f"{bad_min:.0f} min to {counted(bad, 'exposures')} that were not good",
    ]
    words = {"focus": "focus", "looking": "looking", "pause": "pauses", "waiting": "waiting", "lost": "gaps"}
    parts += [f"{minutes[kind]:.0f} min to {word}" for kind, word in words.items() if minutes[kind] >= 0.5]
    return f"Of {total:.0f} min, so much was not spent on good micrographs: {', '.join(parts)}."


def _words_on_others(others: OtherOrders) -> str:
    rows = []
    for place, share in enumerate(SHARES):
        counts = ", ".join(f"{label} {values[place]:.0f}" for label, values in others.found.items())
        rows.append(f"after {100 * share:.0f} % ({others.minutes[place]:.0f} min): {counts}")
    return (
        "What another order of the same imaged holes would have found by then, in the minutes of the time model: "
        f"{'; '.join(rows)}. Holes that were not imaged are unknown, and count for nobody."
    )


@rc_context({"text.parse_math": False})
def _figure(
    times: Sequence[pd.Timestamp], good: NDArray[np.float64], spent: Mapping[str, Any], night: Night
) -> Markup:
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    curve, strip = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    curve.step(
        [_days(each) for each in times],
        good,
        where="post",
        color=GREEN,
        linewidth=1.8,
    )
    curve.set_ylabel("good micrographs")
    curve.set_ylim(0, max(1.0, 1.1 * float(good[-1])))
    marked = [
        (number, each) for number, each in enumerate(night.said, start=1) if each.microscope_at is not None
    ]
    for number, each in marked[:MARKED]:
        at, across = _days(each.microscope_at), curve.get_xaxis_transform()
        curve.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
        curve.text(at, 1.01, str(number), transform=across, ha="center", va="bottom", fontsize=8)
    parts: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for interval in spent["intervals"]:
        at, end = _days(interval["from"]), _days(interval["to"])
        wide = end - at
        total = sum(interval[kind] for kind in KINDS)
        for kind in KINDS:
            if interval[kind] and total:
                part = wide * interval[kind] / total
                parts[kind].append((at, part))
                at += part
    # One collection for each kind: a piece for each interval of a long night takes minutes to draw.
    for kind, ranges in parts.items():
        if ranges:
            strip.broken_barh(ranges, (0, 1), facecolors=_COLOURS[kind])
    shown = [kind for kind in KINDS if spent["minutes"][kind] >= 0.5]
    for kind in shown:
        strip.plot(
            [], [], color=_COLOURS[kind], linewidth=6, label=f"{kind} {spent['minutes'][kind]:.0f} min"
        )
    strip.set_yticks([])
    strip.set_ylim(0, 1)
    axis = mdates.AutoDateLocator()  # type: ignore[no-untyped-call]
    strip.xaxis.set_major_locator(axis)
    strip.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axis))  # type: ignore[no-untyped-call]
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, labelcolor=BLACK)
    words = f"Good micrographs against the microscope's time, {int(good[-1])} at the end; below, where the time went."
    return svg_text(figure, words, "night")


def _days(at: Any) -> float:
    """Days since 1970, as matplotlib counts them."""
    return float(np.datetime64(at, "us").astype(np.int64)) / 86_400e6
