"""The work list: the holes a policy wants in this budget, in order, with what every switch costs and why.

It is what an operator takes to the microscope, so it knows names, not indices, and never passes the budget.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.counts import CountForecast, forecast_count
from cryoscout.core.errors import InputError
from cryoscout.core.names import as_cell
from cryoscout.core.units import TIER_NAMES
from cryoscout.routing.course import Course
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies.base import Policy, belief_of
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.session.model import Session

if TYPE_CHECKING:
    from cryoscout.advice.square_maps import SquareMap

_FORECAST = 1
"""Second word of the seed of the forecast."""

_OF_A_HOLE = (
    *("hole", "patch", "square", "grid", "x_um", "y_um"),
    *("p_good", "tier", "minutes", "minutes_used"),
)
_OF_A_LOOK = (
    "expected_good",
    "good_80_low",
    "good_80_high",
    "good_per_min",
    "good_per_min_80_low",
    "good_per_min_80_high",
)
CSV_COLUMNS = ("order", *_OF_A_HOLE, "step", *_OF_A_LOOK)
"""`step` is image, look or, beyond the minutes that are left, look later; what follows is of a look."""


@dataclass(frozen=True)
class PlaceNames:
    """The vendor's ids, in the order of the problem's indices, and where the stage finds the holes."""

    holes: tuple[str, ...]  # (n,)
    patches: tuple[str, ...]  # (P,)
    squares: tuple[str, ...]  # (S,)
    grids: tuple[str, ...]  # (G,)
    x_um: NDArray[np.float64] | None = None  # (n,) stage position, NaN unknown; None where no hole has one
    y_um: NDArray[np.float64] | None = None  # (n,)
    square_x_um: NDArray[np.float64] | None = None  # (S,) stage position, NaN unknown
    square_y_um: NDArray[np.float64] | None = None  # (S,)


@dataclass(frozen=True)
class PlannedVisit:
    """One hole of the work list."""

    order: int  # 1-based
    hole: str
    patch: str
    square: str
    grid: str
    x_um: float | None  # stage position of the hole; None where it is not known
    y_um: float | None
    p_good: float  # that one exposure of the hole is good, as believed when the plan is made
    tier: int  # 0 same patch, 1 new patch, 2 new square, 3 new grid
    minutes: float  # of this visit, its switch included
    minutes_used: float  # when the visit has ended
    best_p_left: (
        float | None
    )  # highest p_good not taken in the patch this visit leaves; None if none was left


@dataclass(frozen=True)
class PlannedLook:
    """A square to open next, or to go on looking into: what a look there is worth as far as is known now."""

    order: int  # 1-based
    square: str
    grid: str
    patch: str | None  # the patch to look at; None: the square itself is looked at first
    x_um: float | None  # stage position of the square; None where it is not known
    y_um: float | None
    expected_good: float  # of the holes that will be worth their minutes
    good_80: tuple[float, float]  # interval
    minutes: float  # expected, looks included
    rate: float  # expected good micrographs per minute
    rate_80: tuple[float, float]  # interval
    in_plan: bool  # whether the minutes that are left are planned to reach it

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**vars(self), "good_80": list(self.good_80), "rate_80": list(self.rate_80)}

    @property
    def sentence(self) -> str:
        """What to do and what it is worth, in words."""
        at = f" at {self.x_um:.0f}, {self.y_um:.0f} µm" if None not in (self.x_um, self.y_um) else ""
        what = (
            f"square {self.square}" if self.patch is None else f"patch {self.patch} of square {self.square}"
        )
        low, high = self.rate_80
        return (
            f"Look at {what} of grid {self.grid}{at}: {self.rate:.2f} good micrographs per minute expected there "
            f"(80 %: {low:.2f} to {high:.2f}), {self.expected_good:.1f} in {self.minutes:.0f} min."
        )


@dataclass(frozen=True)
class PatchStay:
    """Consecutive visits in one patch, as the operator reads them, and why the plan came here."""

    visits: tuple[PlannedVisit, ...]
    switch_min: float  # minutes of the first visit beyond one in the same patch
    reason: str

    @property
    def first(self) -> PlannedVisit:
        """The visit that entered the patch."""
        return self.visits[0]

    @property
    def p_good_mean(self) -> float:
        """Mean probability of the holes taken in this stay."""
        return float(np.mean([visit.p_good for visit in self.visits]))

    @property
    def minutes(self) -> float:
        """Minutes of the whole stay, the switch included."""
        return sum(visit.minutes for visit in self.visits)

    @property
    def switch(self) -> str:
        """Which level was crossed to come here, in words."""
        return TIER_NAMES[self.first.tier]


@dataclass(frozen=True)
class WorkList:
    """A plan for one budget. Minutes are the time model's; counts are good micrographs, all shots of all holes."""

    session: str
    policy: str
    prediction: str
    budget_min: float
    time_model: str
    threshold_angstrom: float
    start: str | None  # the hole the plan starts from, None when it starts outside every grid
    visits: tuple[PlannedVisit, ...]
    same_patch_min: float  # minutes of a visit without a switch
    expected_good: float
    interval_50: tuple[float, float]
    interval_80: tuple[float, float]
    notes: tuple[str, ...] = ()
    set_aside_min: float = 0.0  # of the budget, for the pauses that come with so many minutes of visits
    shots: int = 1  # exposures per hole: a hole is expected to give shots * p_good good micrographs
    looks: tuple[PlannedLook, ...] = ()  # after the visits: squares to open next, the best rate first

    @property
    def minutes_used(self) -> float:
        """Minutes when the last visit has ended; 0 for an empty plan."""
        return self.visits[-1].minutes_used if self.visits else 0.0

    @property
    def switches(self) -> dict[str, int]:
        """How many visits entered another patch, square or grid; each counts once, at its highest level."""
        tiers = [visit.tier for visit in self.visits]
        return {"patch": tiers.count(1), "square": tiers.count(2), "grid": tiers.count(3)}

    @property
    def switch_cost_min(self) -> float:
        """Minutes spent on switches: what the visits take beyond visits that stay in their patch."""
        return sum(visit.minutes - self.same_patch_min for visit in self.visits)

    def stays(self) -> list[PatchStay]:
        """The visits grouped by patch, in order; a patch that is left and entered again makes two stays."""
        return [
            _stay(tuple(visits), self.same_patch_min) for _, visits in groupby(self.visits, key=_Entries())
        ]

    def to_json(self) -> dict[str, Any]:
        """The plan as one JSON-able object.

        Keys: session, policy, prediction, budget_min, set_aside_min (of it, for pauses),
        time_model, threshold_angstrom, start (hole id or
        null), shots (exposures per hole),
        holes [{hole, patch, square, grid, x_um, y_um (stage, null where not known), p_good, tier, minutes,
        minutes_used}], expected_good, interval_50,
        interval_80 ([low, high] good micrographs), minutes_used, switches {patch, square, grid},
        switch_cost_min, looks (squares to open after the visits, [] where nothing is unseen; fields of PlannedLook),
        notes. `tier` is 0 same patch, 1 new patch, 2 new square, 3 new grid. p_good is of one exposure;
        expected_good is of all exposures of all holes, the sum of shots * p_good.
        """
        return {
            "session": self.session,
            "policy": self.policy,
            "prediction": self.prediction,
            "budget_min": self.budget_min,
            "set_aside_min": self.set_aside_min,
            "time_model": self.time_model,
            "threshold_angstrom": self.threshold_angstrom,
            "start": self.start,
            "shots": self.shots,
            "holes": [{name: getattr(visit, name) for name in _OF_A_HOLE} for visit in self.visits],
            "expected_good": self.expected_good,
            "interval_50": list(self.interval_50),
            "interval_80": list(self.interval_80),
            "minutes_used": self.minutes_used,
            "switches": self.switches,
            "switch_cost_min": self.switch_cost_min,
            "looks": [look.to_json() for look in self.looks],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """One line per step under the header CSV_COLUMNS, unknown positions empty; lines end in a line feed.

        Looks stand after the holes: hole, p_good, tier and minutes_used empty, x_um and y_um of the square.
        A name that a spreadsheet would take for a formula has an apostrophe before it, which `formats.own.table` takes
        off again. p_good is of one exposure: a hole of several shots is expected to give shots times as many good
        micrographs.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for visit in self.visits:
            writer.writerow([as_cell({**vars(visit), "step": "image"}.get(name)) for name in CSV_COLUMNS])
        for look in self.looks:
            step = "look" if look.in_plan else "look later"
            values = (look.expected_good, *look.good_80, look.rate, *look.rate_80)
            cells = {
                **vars(look), "order": len(self.visits) + look.order, "step": step,
                **dict(zip(_OF_A_LOOK, values, strict=True)),
            }  # fmt: skip
            writer.writerow([as_cell(cells.get(name)) for name in CSV_COLUMNS])
        return text.getvalue()

    def to_html(self, maps: Sequence[SquareMap] = ()) -> str:
        """One page to print, with a box to tick for every hole and look; nothing is loaded from elsewhere.

        maps : of `atlas_maps` and `square_maps`, drawn above the list
        """
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("cryoscout.advice"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        template = environment.get_template("worklist.html.j2")
        return template.render(plan=self, within=name_within, maps=maps)


class _Entries:
    """Key for groupby: the number of switches so far, so that each stay has its own key."""

    def __init__(self) -> None:
        self.entered = 0

    def __call__(self, visit: PlannedVisit) -> int:
        self.entered += visit.tier > 0
        return self.entered


def _stay(visits: tuple[PlannedVisit, ...], same_patch_min: float) -> PatchStay:
    first = visits[0]
    if first.tier == 0:
        reason = "starts here"
    elif first.order == 1:
        reason = "first hole"
    elif first.best_p_left is None:
        reason = "patch finished"
    else:
        reason = f"best left behind: p {first.best_p_left:.2f}"
    return PatchStay(visits, first.minutes - same_patch_min, reason)


def name_within(child: str, parent: str) -> str:
    """The part of a child's id that its parent's id does not say; vendors repeat the parents in every id."""
    rest = child.removeprefix(parent).lstrip("_-/ ")
    return rest or child


@dataclass(frozen=True)
class PlannedRoute:
    """A policy's whole route, and what its own belief says that it will give."""

    course: Course
    p_good: NDArray[np.float64]  # (n,) per exposure, as believed when the plan is made
    forecast: CountForecast  # good micrographs of the route


def planned_route(
    problem: RoutingProblem,
    policy: Policy,
    *,
    start_hole: int,
    seed: int,
    progress: Callable[[], None] | None = None,
    arrange: Callable[[Sequence[int], NDArray[np.float64]], list[int]] | None = None,
) -> PlannedRoute:
    """Plan, and forecast on the belief that the policy planned on.

    start_hole : index of the last hole imaged, or NOWHERE     seed : of the policy's draws and the intervals
    progress : called after every visit     arrange : given the holes in order and p_good, (n,), as believed now, the
    holes as the operator wants them
    Raises PolicyError when the policy breaks its contract.
    """
    course = plan_route(problem, policy, start_hole, seed, progress)
    belief = belief_of(policy, problem)
    if arrange is not None:
        wanted = arrange(course.route.tolist(), belief.p_good())
        course = Course(problem, start_hole, counts_crossing=False)
        for hole in wanted:
            if not course.takes(hole):
                break
            course.visit(hole)
    # Its own generator: how many draws the policy made must not move the intervals.
    rng = np.random.default_rng([seed, _FORECAST])
    forecast = forecast_count(belief, course.route, problem.shots, rng, loadings=problem.fit_loadings)
    return PlannedRoute(course, belief.p_good(), forecast)


def work_list_of(
    planned: PlannedRoute,
    names: PlaceNames,
    *,
    session: str,
    policy: str,
    prediction: str,
    threshold_angstrom: float,
    budget_min: float | None = None,
    notes: tuple[str, ...] = (),
    looks: tuple[PlannedLook, ...] = (),
) -> WorkList:
    """The planned route with names.

    session, policy, prediction, threshold_angstrom, notes : said in the list
    budget_min : what the problem's budget is of, when minutes for pauses are set aside; None: nothing is
    Raises InputError when the names do not fit the problem.
    """
    course, forecast = planned.course, planned.forecast
    problem = course.problem
    visits = named_visits(course, names, planned.p_good)
    return WorkList(
        session=session,
        policy=policy,
        prediction=prediction,
        budget_min=problem.budget_min if budget_min is None else budget_min,
        set_aside_min=0.0 if budget_min is None else budget_min - problem.budget_min,
        time_model=problem.time_model.name,
        threshold_angstrom=threshold_angstrom,
        start=None if course.start_hole == NOWHERE else names.holes[course.start_hole],
        visits=visits,
        same_patch_min=float(problem.time_model.tiers_min(problem.shots)[0]),
        expected_good=forecast.expected,
        interval_50=forecast.interval_50,
        interval_80=forecast.interval_80,
        notes=notes,
        shots=problem.shots,
        looks=looks,
    )


def named_visits(course: Course, names: PlaceNames, p_good: NDArray[np.float64]) -> tuple[PlannedVisit, ...]:
    """The visits of a course with names, minutes, and what each switch left behind.

    p_good : (n,) as believed when the plan is made, outcomes known so far taken in
    Raises InputError when names and problem do not have the same number of holes.
    """
    problem = course.problem
    if len(names.holes) != problem.n_holes:
        raise InputError(f"Names must be given for {problem.n_holes} holes. Got {len(names.holes)} instead.")
    tiers_min = problem.time_model.tiers_min(problem.shots)
    free = problem.available()
    here = course.start_hole
    if here != NOWHERE:
        free[here] = False
    visits = []
    steps = zip(course.route.tolist(), course.tiers.tolist(), course.minutes.tolist(), strict=True)
    for order, (hole, tier, used_min) in enumerate(steps, start=1):
        patch = int(problem.patch_of_hole[hole])
        square = int(problem.square_of_patch[patch])
        visits.append(
            PlannedVisit(
                order=order,
                hole=names.holes[hole],
                patch=names.patches[patch],
                square=names.squares[square],
                grid=names.grids[int(problem.grid_of_square[square])],
                x_um=_known(names.x_um, hole),
                y_um=_known(names.y_um, hole),
                p_good=float(p_good[hole]),
                tier=tier,
                minutes=float(tiers_min[tier]),
                minutes_used=used_min,
                best_p_left=None if tier == 0 or here == NOWHERE else _best_left(problem, p_good, free, here),
            )
        )
        free[hole] = False
        here = hole
    return tuple(visits)


def _known(position_um: NDArray[np.float64] | None, hole: int) -> float | None:
    if position_um is None or not np.isfinite(position_um[hole]):
        return None
    return float(position_um[hole])


def _best_left(
    problem: RoutingProblem, p_good: NDArray[np.float64], free: NDArray[np.bool_], here: int
) -> float | None:
    low, high = np.searchsorted(
        problem.patch_of_hole, [problem.patch_of_hole[here], problem.patch_of_hole[here] + 1]
    )
    left = p_good[low:high][free[low:high]]
    return float(left.max()) if len(left) else None


def place_names(session: Session) -> PlaceNames:
    """The vendor's ids of holes, patches, squares and grids, in the order of the problem's indices; stage positions."""
    return PlaceNames(
        holes=tuple(session.holes["hole_id"]),
        patches=tuple(session.patches["patch_id"]),
        squares=tuple(session.squares["square_id"]),
        grids=tuple(session.grids["grid_id"]),
        x_um=session.holes["x_um"].to_numpy(dtype=np.float64),
        y_um=session.holes["y_um"].to_numpy(dtype=np.float64),
        square_x_um=session.squares["x_um"].to_numpy(dtype=np.float64),
        square_y_um=session.squares["y_um"].to_numpy(dtype=np.float64),
    )
