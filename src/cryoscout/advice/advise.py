"""One advice: from a session, what is asked and where the microscope stands, to a route, its forecast and reasons.

`plan`, the report and the live advisor all take theirs from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.looks import planned_looks
from cryoscout.advice.obeyed import Obeyed, PlaceIndex, obeyed
from cryoscout.advice.setting import AdviceRequest, Setting, setting_of
from cryoscout.advice.shortest_way import as_listed, positions_of
from cryoscout.advice.work_list import (
    PlannedLook,
    PlannedRoute,
    WorkList,
    place_names,
    planned_route,
    work_list_of,
)
from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError
from cryoscout.core.telling import Progress, no_progress
from cryoscout.formats.serialem.patterns_unsaid import notes_on_patterns_unsaid
from cryoscout.routing.course import Course
from cryoscout.routing.from_session import is_planned_as_new, stands_at_a_look, start_of_plan
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.times import keeps_grid_switch
from cryoscout.session.overrides import Overrides

if TYPE_CHECKING:
    from cryoscout.session.model import Session


@dataclass(frozen=True)
class Advice:
    """What to image next, what it will give, and why."""

    setting: Setting
    planned: PlannedRoute  # from where the microscope stands to the end of the budget
    work_list: WorkList  # the same with names, reasons and notes

    @property
    def problem(self) -> RoutingProblem:
        """What was planned: holes imaged, results known and minutes left, all as of now."""
        return self.planned.course.problem


def advise(
    session: Session, request: AdviceRequest, course: Course | None = None, progress: Progress = no_progress
) -> Advice:
    """The advice for a session as it stands.

    course : the visits and results since the session was read, on the problem of `setting_of`; the advice is then for
        what it leaves, with the minutes that are left. None starts at the session's last imaged hole, or at the
        request's hole, with the whole budget.
    Raises the errors of `setting_of`, DataError when no hole is left to plan, PolicyError when the policy breaks its
    contract.
    """
    setting = setting_of(session, request)
    problem, start, said, budget_min = _what_is_left(session, request, setting, course)
    n_available = int(problem.available().sum())
    if n_available == 0 and not problem.has_unseen:
        raise _nothing_to_plan(session, setting, int((said.out & setting.problem.available()).sum()))
    visits_at_most = min(
        n_available, int(problem.budget_min / problem.time_model.tiers_min(problem.shots)[0])
    )
    with progress("planning", visits_at_most) as step:
        planned = planned_route(
            problem,
            setting.policy,
            start_hole=start,
            seed=request.seed,
            progress=step,
            arrange=partial(_arranged, session, problem, start, said),
        )
    looks = _planned_looks(session, setting, planned, request.seed)
    work_list = work_list_of(
        planned,
        place_names(session),
        session=session.name,
        policy=setting.policy.name,
        prediction=setting.prediction.name,
        threshold_angstrom=setting.threshold_angstrom,
        budget_min=budget_min,
        # What decides over the list first, then how far its numbers can be trusted; each once.
        notes=tuple(
            dict.fromkeys(
                (
                    *(
                        ()
                        if len(planned.course) or looks
                        else (_note_on_an_empty_plan(setting, planned.course, start, budget_min),)
                    ),
                    *_note_on_holes_after_looks(n_available - len(planned.course), looks),
                    *_notes_on_unseen(session, problem, setting, looks),
                    *_notes_on_choice(session, setting, request),
                    *(f"{note}." for note in notes_on_patterns_unsaid(session)),
                    *_notes_on_overrides(said, problem),
                    *_notes_on_outcomes(session, problem, request.as_new),
                    *_notes_on_start(session, problem, start),
                    *setting.prediction.notes,
                    *setting.prediction.cautions,
                    *setting.time_notes,
                )
            )
        ),
        looks=looks,
    )
    return Advice(setting, planned, work_list)


def _what_is_left(
    session: Session, request: AdviceRequest, setting: Setting, course: Course | None
) -> tuple[RoutingProblem, int, Obeyed, float]:
    """What a plan begins with: (the problem without what is left out and in minutes of visits, the hole that it starts
    at, what the operator said, the minutes with those for pauses)."""
    if course is None:
        problem = setting.problem
        start = start_of_plan(session, request.from_hole, request.as_new, request.loaded)
        if request.from_hole is None and not is_planned_as_new(session, request.as_new):
            problem = replace(problem, stands_at=stands_at_a_look(session, request.loaded))
    else:
        problem, start = course.remaining(), course.here
    budget_min = problem.budget_min
    problem = problem.with_budget(problem.time_model.visits_min(budget_min))
    said = _said(session, problem, request.as_new)
    if said.out.any():
        problem = replace(problem, allowed=problem.available() & ~said.out)
    if problem.places is not None:
        problem = replace(problem, places=replace(problem.places, square_out=said.squares_out))
    return problem, start, said, budget_min


_LOOKS = 2
"""Second word of the seed of the draws behind looks."""


def _planned_looks(
    session: Session, setting: Setting, planned: PlannedRoute, seed: int
) -> tuple[PlannedLook, ...]:
    """The squares to open after the planned visits, the best rate first; none where the policy does not look."""
    from cryoscout.routing.policies.explore import Explore

    policy, problem = setting.policy, planned.course.problem
    if not isinstance(policy, Explore) or not problem.has_unseen:
        return ()
    found = policy.places(
        planned.course.observation(), np.random.default_rng([seed, _LOOKS]), whole_plan=True
    )
    left_min = problem.budget_min - planned.course.minutes_used
    return planned_looks(found, place_names(session), problem.tree, left_min)


def _note_on_holes_after_looks(n_left: int, looks: tuple[PlannedLook, ...]) -> tuple[str, ...]:
    """That holes which are seen wait for the looks of a plan: what a look shows decides which of them are worth it.

    n_left : holes that could be planned and are not
    """
    if n_left < 1 or not any(look.in_plan for look in looks):
        return ()
    return (
        f"{counted(n_left, 'holes', 'are')} seen and not in this list, because a look gives more now: plan again after "
        "it, or plan them now with --looks free.",
    )


def _notes_on_unseen(
    session: Session, problem: RoutingProblem, setting: Setting, looks: tuple[PlannedLook, ...]
) -> tuple[str, ...]:
    """How much is unseen, what follows from that, and what of the looks cannot be."""
    from cryoscout.session.looks import notes_on_looks

    places = problem.places
    if places is None:
        return tuple(f"{note}." for note in notes_on_looks(session))
    squares, patches = int((~places.square_looked).sum()), int((~places.patch_looked).sum())
    said = [f"{counted(squares, 'squares')} and {counted(patches, 'patches')} were not looked at yet."]
    if not looks:
        if not _lists_looks(setting):
            said.append(_words_on_a_policy_without_looks(setting))
        return (" ".join(said), *(f"{note}." for note in notes_on_looks(session)))
    if problem.time_model.patch_look_min is None:
        said.append(
            f"The time model {problem.time_model.name} has no minutes of looks: they take the move alone. "
            "--time-model y1-looks-as-sketched has some."
        )
    if not len(places.square_features[0]) or np.isnan(places.square_features).all():
        known = session.squares[["area_um2", "brightness"]].notna().any(axis=None)
        said.append(
            "Squares do not differ in what is known of their size and brightness: those of which nothing is seen are "
            "alike."
            if known
            else "Nothing says how large or how bright squares are: those of which nothing is seen are alike."
            + _REMEDY_OF_ATLAS.get(session.info.format, "")
        )
    if places.square_xy_um is None or np.isnan(places.square_xy_um).all():
        said.append("No stage position of a square is known.")
    return (*said, *(f"{note}." for note in notes_on_looks(session)))


def _lists_looks(setting: Setting) -> bool:
    """Whether the policy says which squares to open; the other policies that look choose one look at a time."""
    from cryoscout.routing.policies.explore import Explore

    return isinstance(setting.policy, Explore)


def _words_on_a_policy_without_looks(setting: Setting) -> str:
    from cryoscout.routing.policies.base import LookingPolicy

    name = setting.policy_name
    if isinstance(setting.policy, LookingPolicy):
        return (
            f"Policy {name} looks in replays alone (cryoscout replay --looks charged) and plans here what is seen; "
            "--policy explore lists the squares to open."
        )
    return f"Policy {name} plans what is seen alone; --policy explore looks too."


_REMEDY_OF_ATLAS = {
    "epu": " Remedy: name Atlas.dm of the grid beside the session's folder, with --update; it lies outside that "
    "folder, and has positions too."
}
"""Where the vendor says what squares are like; of the others files that say more are not known."""


def _said(session: Session, problem: RoutingProblem, as_new: bool) -> Obeyed:
    """What operators said; nothing of it holds where the session is planned as new."""
    overrides = Overrides() if is_planned_as_new(session, as_new) else session.overrides
    index = PlaceIndex(
        {name: place for place, name in enumerate(session.holes["hole_id"])},
        {name: place for place, name in enumerate(session.squares["square_id"])},
    )
    return obeyed(overrides, index, problem.square_of_hole)


def _arranged(
    session: Session,
    problem: RoutingProblem,
    start: int,
    said: Obeyed,
    route: Sequence[int],
    p_good: NDArray[np.float64],
) -> list[int]:
    """The route as operators said, and equally good holes of a stay by the shortest way of the stage."""
    free = problem.available()
    if start != NOWHERE:
        free[start] = False
    minutes = problem.budget_min - problem.time_model.setup_min
    return as_listed(
        problem, start, route, said, free, p_good, minutes, positions_of(session), at=problem.stands_at
    )


def _notes_on_overrides(said: Obeyed, problem: RoutingProblem) -> tuple[str, ...]:
    parts = []
    if said.out.any():
        parts.append(f"{int(said.out.sum())} of {problem.n_holes} holes are banned or skipped")
    if said.pinned or said.pinned_squares:
        parts.append(f"{counted(len(said.pinned) + len(said.pinned_squares), 'places', 'are')} pinned")
    if said.first or said.square_order:
        parts.append("an order was given")
    return (f"As the operator said: {', '.join(parts)}.",) if parts else ()


def _note_on_an_empty_plan(setting: Setting, course: Course, start: int, budget_min: float) -> str:
    """Why nothing is planned; the first hole is the nearest one that is left. budget_min : pauses not set aside"""
    problem = course.problem
    left = [hole for hole in problem.available().nonzero()[0].tolist() if hole != start]
    if not left and problem.has_unseen:
        if not _lists_looks(setting):
            return "Nothing is planned: no hole that is not imaged is seen yet. Remedy: --policy explore, which looks."
        if problem.places is not None and not problem.places.unseen_squares(problem.tree).any():
            return (
                "Nothing is left to plan: all squares that are not looked at are left out, as the operator said. "
                "Remedy: take an override back."
            )
        first_min = course.first_look_ends_min()
        return (
            f"Nothing fits: the first look takes {first_min:.4g} min, and what it shows takes more, of "
            f"{problem.budget_min:.4g} min. Remedy: give more time, or your own times with --time-model."
        )
    if not left:
        return (
            "Nothing is left to plan: the only hole that is not imaged is the one the stage is at. "
            "Remedy: leave --from out."
        )
    tiers_min = problem.time_model.tiers_min(problem.shots)
    tier = min(problem.tier_between(start, hole) for hole in left)
    first_min = problem.time_model.setup_min + float(tiers_min[tier])
    if first_min > problem.budget_min:
        aside_min = budget_min - problem.budget_min
        rest = f" of the {problem.budget_min:.4g} that pauses leave ({aside_min:.2g} min are set aside)"
        return (
            f"Nothing fits: the first hole takes {first_min:.4g} min{rest if aside_min else ''}. "
            "Remedy: give more time, or your own times with --time-model."
        )
    return (
        f"Nothing is planned: the policy chose no hole that fits; the nearest takes {first_min:.4g} min. "
        "Remedy: --policy expected takes every hole that fits."
    )


def _notes_on_start(session: Session, problem: RoutingProblem, start: int) -> tuple[str, ...]:
    """Where the last look left the stage; where no grid is known to be loaded, that the first step pays for it."""
    if (at := problem.stands_at) is not None:
        names = place_names(session)
        where = (
            f"square {names.squares[at.square]}"
            if at.patch == NOWHERE
            else f"patch {names.patches[at.patch]}"
        )
        return (f"The plan starts at {where}, which was looked at after the last exposure.",)
    if start != NOWHERE or problem.tree.loaded_grid != NOWHERE or keeps_grid_switch(session):
        return ()
    grids = ", ".join(session.grids["grid_id"].head(3))
    return (
        f"No grid is known to be loaded, so the first step costs a grid switch; --loaded GRID says which one is in "
        f"({grids}{', ...' if len(session.grids) > 3 else ''}).",
    )


def _nothing_to_plan(session: Session, setting: Setting, n_said_out: int) -> DataError:
    """Why no hole may be planned: the operator chose none of those that are left, banned them, or none is left."""
    left_out = setting.n_not_chosen
    if n_said_out:
        return DataError(
            f"Session {session.name} must have a hole that is neither imaged, nor banned, nor skipped. Got "
            f"{n_said_out} that operators banned or skipped instead, and no other. Remedy: take an override back, or "
            "add --as-new to plan as if nothing was imaged or said."
        )
    if not left_out:
        return DataError(
            f"Session {session.name} must have a hole that is not imaged yet. Got {session.n_holes} imaged holes "
            "instead. Remedy: add --as-new to plan it as if nothing was imaged."
        )
    may_be_exposed = (
        " If they were acquired, import their .mdoc files first." if _loses_marks(session) else ""
    )
    return DataError(
        f"Session {session.name} must have a hole that is {_CHOSEN_WORD.get(session.info.format, 'chosen')} and not "
        f"imaged yet. Got {left_out} holes that are not instead. Remedy: choose holes in your program and import with "
        f"--update, or add --also-unchosen to plan these.{may_be_exposed}"
    )


_CHOSEN_WORD = {"serialem": "marked Acquire", "epu": "selected", "smartscope": "selected"}
"""What the vendors call a chosen hole."""


def _loses_marks(session: Session) -> bool:
    from cryoscout.routing.from_session import MARK_GOES_WITH_THE_IMAGE

    return session.info.format in MARK_GOES_WITH_THE_IMAGE


def _notes_on_choice(session: Session, setting: Setting, request: AdviceRequest) -> tuple[str, ...]:
    """How many holes the operator did not choose, whether they are left out, and what to do about it."""
    count, word = setting.n_not_chosen, _CHOSEN_WORD.get(session.info.format, "chosen")
    if not count:
        return ()
    if not request.also_unchosen:
        return (
            f"{counted(count, 'holes')} that {agreed(count, 'are')} not {word} {agreed(count, 'are')} left out; "
            "--also-unchosen plans them too.",
        )
    said = f"{counted(count, 'holes')} that {agreed(count, 'are')} not {word} may be planned."
    if _loses_marks(session):
        said += (
            " SerialEM takes the mark off what it has acquired: only holes with an imported .mdoc are known to be "
            "exposed, so import all of them."
        )
    return (said,)


def _notes_on_outcomes(session: Session, problem: RoutingProblem, as_new: bool) -> tuple[str, ...]:
    if problem.imaged is None:
        if as_new or session.info.built_in:
            return ("Planned as new: outcomes are hidden.",)
        return ()
    imaged = int(problem.imaged.sum())
    return (f"{counted(imaged, 'holes', 'are')} imaged already and not planned.",) if imaged else ()
