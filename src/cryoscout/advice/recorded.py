"""The recorded order of a session beside the policies: its routes, its real minutes, and the sentences about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryoscout.routing.problem import RoutingProblem
    from cryoscout.routing.replay import ReplayResult
    from cryoscout.session.model import Session
    from cryoscout.session.recorded_order import RecordedOrder

AS_RECORDED = "as recorded"
"""Stands where a policy's name stands, for the order in which the session was imaged."""

RANDOM = "random"
_ONLY_PREDICTED_GOOD = frozenset({"greedy", "genetic", "annealing", "offline"})
"""Policies that visit no hole but those predicted good: where all holes are predicted alike they can tell nothing."""


def default_policies(session: Session, usual: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The policies that are compared where none is named, and notes on what was chosen.

    usual : `policy` or `policy@prediction`, for a session with predictions
    Left out is what needs predictions where there are none; `random` is added where nothing else can be compared with.
    """
    from cryoscout.learning.registry import policy_and_prediction, policy_named
    from cryoscout.routing.predictions import FLAT, resolve_prediction

    kept: list[str] = []
    left_out: list[str] = []
    for spec in usual:
        name, named = policy_and_prediction(spec)
        prediction, _ = resolve_prediction(session, named, policy_named(name).default_prediction)
        says_nothing = prediction == FLAT and name in _ONLY_PREDICTED_GOOD
        (left_out if says_nothing else kept).append(spec)
    if RANDOM not in kept and session.recorded_order() is None:
        kept.insert(0, RANDOM)
    notes = [
        f"{spec} is left out: it visits only holes that are predicted good, and session {session.name} has no "
        f"predictions. --policies {spec} replays it all the same."
        for spec in left_out
    ]
    return tuple(kept), tuple(notes)


def notes_on_order(session: Session, order: RecordedOrder | None) -> tuple[str, ...]:
    """What the recorded order rests on, where that is not the time of every hole."""
    if order is None:
        return (
            f"Session {session.name} does not say in which order its holes were imaged: times are missing, so there "
            f"is no row {AS_RECORDED!r}.",
        )
    if order.basis == "names":
        return (
            f"{AS_RECORDED}: session {session.name} has no times; the order is that of the numbers in its names.",
        )
    if order.untimed:
        return (
            f"{AS_RECORDED}: {order.untimed} of {len(order.holes)} measured holes have no time and come last.",
        )
    return ()


def minutes_recorded(order: RecordedOrder, problem: RoutingProblem, result: ReplayResult) -> float | None:
    """Minutes a recorded route really took, by the session's own times; None where the order rests on names.

    From the start of the exposure at the start hole to that at the last hole, with pauses and whatever else was imaged
    in between. A step without times, and the one round from the last hole to the first, takes the time model's minutes.
    """
    import numpy as np

    from cryoscout.routing.problem import NOWHERE

    if order.basis != "times":
        return None
    stops = np.concatenate([[result.start_hole], result.route])
    started_min = np.where(stops == NOWHERE, np.nan, order.started_min[stops])
    tiers_min = problem.time_model.tiers_min(problem.shots)
    total_min = 0.0
    for here, there, real_min in zip(stops[:-1], stops[1:], np.diff(started_min), strict=True):
        is_known = real_min >= 0.0  # NaN is not
        total_min += float(real_min if is_known else tiers_min[problem.tier_between(int(here), int(there))])
    return total_min


def mean_minutes_recorded(
    order: RecordedOrder, problem: RoutingProblem, results: Sequence[ReplayResult]
) -> float | None:
    """Mean of `minutes_recorded` over routes."""
    minutes = [minutes_recorded(order, problem, result) for result in results]
    known = [each for each in minutes if each is not None]
    return sum(known) / len(known) if known else None


def words_on_as_recorded(minutes_mean: Sequence[float | None]) -> str:
    """What the row of the recorded order is.

    minutes_mean : of `mean_minutes_recorded`, one per budget
    """
    words = (
        f"{AS_RECORDED}: the session's own order from the same starts on, round to its beginning at the end, in the "
        "same minutes by the same time model"
    )
    real = [f"{minutes:.0f}" for minutes in minutes_mean if minutes is not None]
    if not real:
        return f"{words}."
    return (
        f"{words}; by the session's own times {', '.join(real)} min, with pauses and what is left out here."
    )


def minutes_of_all_holes(problem: RoutingProblem) -> float:
    """Fewest minutes in which every available hole is visited, starting at one of them, which is not counted.

    Every entry but those of the start is paid once, in whatever order (see `docs/time-model.md`).
    """
    import numpy as np

    t = problem.time_model.tiers_min(problem.shots)
    free = problem.available()
    levels = (problem.patch_of_hole, problem.square_of_hole, problem.grid_of_hole)
    entries = [int(free.sum()), *(len(np.unique(level[free])) for level in levels)]
    prices_min = (t[0], t[1] - t[0], t[2] - t[1], t[3] - t[2])
    return problem.time_model.setup_min + sum(
        float(price) * (count - 1) for price, count in zip(prices_min, entries, strict=True)
    )


@dataclass(frozen=True)
class LongBudget:
    """A budget in which a route can visit every measured hole: there a comparison says little."""

    measured: int
    minutes: float  # of `minutes_of_all_holes`
    budget_min: float
    complete: tuple[str, ...]  # labels whose routes all visit every measured hole
    is_everyone: bool  # whether these are all that were compared

    @property
    def words(self) -> str:
        """A sentence for people."""
        said = f"The session has only {self.measured} measured holes, {self.minutes:.0f} minutes by this time model"
        if not self.complete:
            return f"{said}: within {self.budget_min:g} minutes a route can image them all."
        if self.is_everyone:
            return f"{said}; every policy images them all."
        *others, last = self.complete
        listed = f"{', '.join(others)} and {last} image" if others else f"{last} images"
        return f"{said}; {listed} them all."


def long_budget(problem: RoutingProblem, visited_mean: Mapping[str, float]) -> LongBudget | None:
    """What to say where the budget holds every measured hole; None where it does not.

    problem : its available holes are those with an outcome     visited_mean : by label, over starts at one of them
    """
    from cryoscout.routing.time_model import ROUNDING_MIN

    measured = int(problem.available().sum())
    minutes = minutes_of_all_holes(problem)
    if minutes > problem.budget_min + ROUNDING_MIN:
        return None
    complete = tuple(label for label, visits in visited_mean.items() if images_all(visits, measured))
    return LongBudget(measured, minutes, problem.budget_min, complete, len(complete) == len(visited_mean))


def images_all(visited_mean: float, measured: int) -> bool:
    """Whether every route visits every measured hole but the one it starts at."""
    return visited_mean > measured - 1 - 1e-9


def reference_among(labels: Sequence[str]) -> str | None:
    """What the last policy is compared with: the recorded order, else `random`, else the first; None: nothing else."""
    others = labels[:-1]
    if AS_RECORDED in others:
        return AS_RECORDED
    drawn = [label for label in others if label.partition("@")[0] == RANDOM]
    return next(iter([*drawn, *others]), None)


def headline(found: Mapping[str, float], bound: float, budget_min: float, long: LongBudget | None) -> str:
    """The sentence a reader takes away: what the last policy finds, and what it is compared with.

    found : mean good micrographs by label, in order     bound : mean     long : of `long_budget`
    """
    label = list(found)[-1]
    reference = reference_among(list(found))
    if long is not None and {label, reference or label} <= set(long.complete):
        each = "each of them" if len(long.complete) > 1 else "it"
        return f"{long.words} In {budget_min:g} minutes {each} finds {found[label]:.1f} good micrographs."
    text = f"{label} finds {found[label]:.1f} good micrographs "
    if reference is None:
        text += f"in {budget_min:g} minutes (bound {bound:.1f})"
    else:
        name = "the recorded order found" if reference == AS_RECORDED else f"{reference} finds"
        text += f"where {name} {found[reference]:.1f} in the same {budget_min:g} minutes (bound {bound:.1f})"
    if reference is not None and reference.partition("@")[0] == RANDOM:
        text += "; random pays for constant switching"
    return f"{text}." if long is None else f"{text}. {long.words}"
