"""The contract of policies where everything is seen, small problems, and the slow exhaustive judge of planners."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import CryoscoutError, InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.course import Course, PolicyError
from cryoscout.routing.policies.base import STOP, Policy, PolicyKind, missing_of_a_policy
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import PRESETS, ROUNDING_MIN, TimeModel
from cryoscout.testing.looks import check_looks

EXHAUSTIVE_HOLES = 8
"""More holes than this would take the exhaustive judge minutes."""


class ConformanceError(CryoscoutError):
    """A policy breaks a clause of its contract; the message names the policy, the problem and the clause."""


# --- small problems -------------------------------------------------------------------------------


def random_problem(
    rng: np.random.Generator,
    n_holes: int = 12,
    *,
    budget_min: float | None = None,
    time_model: TimeModel = PRESETS["cryorl"],
    shots: int = 1,
    crossing: Crossing = "drop",
    share_imaged: float = 0.0,
    share_allowed: float = 1.0,
) -> RoutingProblem:
    """A random small problem: up to n patches in up to n squares in up to n grids, p_good on a grid of 0.05.

    n_holes : >= 1     budget_min : None draws one that allows between one visit and all of them
    share_imaged : each hole is imaged before the plan with this probability, half of these with a result
    share_allowed : each hole is kept by action elimination with this probability
    """
    patch_of_hole = _random_parents(rng, n_holes)
    square_of_patch = _random_parents(rng, int(patch_of_hole[-1]) + 1)
    grid_of_square = _random_parents(rng, int(square_of_patch[-1]) + 1)
    p_good = rng.integers(0, 21, size=n_holes) / 20.0  # a coarse grid: ties, zeros and ones happen
    tiers_min = time_model.tiers_min(shots)
    if budget_min is None:
        budget_min = time_model.setup_min + float(
            rng.uniform(tiers_min[3], n_holes * float(tiers_min[2]) + 20.0)
        )
    imaged = outcome = allowed = None
    if share_imaged > 0:
        imaged = rng.random(n_holes) < share_imaged
        known = imaged & (rng.random(n_holes) < 0.5)
        outcome = np.where(known, rng.binomial(shots, p_good).astype(np.float64), np.nan)
    if share_allowed < 1:
        allowed = rng.random(n_holes) < share_allowed
    return RoutingProblem(
        tree=HoleTree(patch_of_hole, square_of_patch, grid_of_square),
        prior_p_good=p_good,
        budget_min=budget_min,
        time_model=time_model,
        shots=shots,
        crossing=crossing,
        imaged=imaged,
        outcome=outcome,
        allowed=allowed,
    )


def _random_parents(rng: np.random.Generator, n_children: int) -> NDArray[np.int32]:
    """Sorted parents 0, 0, 1, ...: (n_children,) int32, every parent with at least one child."""
    opens_parent = rng.random(n_children) < rng.uniform(0.15, 0.6)
    opens_parent[0] = False
    return np.cumsum(opens_parent).astype(np.int32)


def conformance_problems(seed: int = 0) -> dict[str, RoutingProblem]:
    """The problems every policy must serve, by what is special about each."""
    rng = np.random.default_rng([seed, 0x5EED])
    slow_start = PRESETS["cryorl"].model_copy(
        update={"name": "overheads", "setup_min": 7.0, "per_square_overhead_min": 3.0, "extra_shot_min": 0.5}
    )
    plain = random_problem(rng, 14)
    all_imaged = replace(plain, imaged=np.ones(14, dtype=bool), outcome=np.full(14, np.nan))
    return {
        "plain": plain,
        "crossing counts": random_problem(rng, 12, crossing="count", budget_min=64.0),
        "endless budget": random_problem(rng, 9, budget_min=1e6),
        "endless budget, crossing counts": random_problem(rng, 9, budget_min=1e6, crossing="count"),
        "budget below one visit": replace(plain, budget_min=1.0),
        "one hole": random_problem(rng, 1, budget_min=100.0),
        "every p_good 0": replace(plain, prior_p_good=np.zeros(14)),
        "every p_good 1": replace(plain, prior_p_good=np.ones(14)),
        "three shots": random_problem(rng, 10, shots=3, time_model=slow_start),
        "imaged holes": random_problem(rng, 14, share_imaged=0.4),
        "every hole imaged": all_imaged,
        "eliminated holes": random_problem(rng, 14, share_allowed=0.5),
        "no hole allowed": replace(plain, allowed=np.zeros(14, dtype=bool)),
        "patches and squares without holes": RoutingProblem(
            tree=HoleTree(
                np.array([1, 1, 1, 3, 3, 6], dtype=np.int32),
                np.array([0, 1, 1, 3, 3, 4, 4, 4], dtype=np.int32),
                np.array([0, 0, 2, 2, 3, 5], dtype=np.int32),
            ),
            prior_p_good=np.array([0.9, 0.5, 0.2, 0.7, 0.0, 1.0]),
            budget_min=70.0,
        ),
        "a loaded grid": replace(plain, tree=replace(plain.tree, loaded_grid=plain.tree.n_grids - 1)),
        "a loaded grid that just fits": replace(
            plain, tree=replace(plain.tree, loaded_grid=0), budget_min=10.0
        ),
        "stage positions": _on_the_stage(random_problem(rng, 14, share_imaged=0.4), rng),
    }


def _on_the_stage(problem: RoutingProblem, rng: np.random.Generator) -> RoutingProblem:
    """The problem with a stage position for most holes, 3 um apart within a patch and 90 um between squares."""
    n = problem.n_holes
    row = 90.0 * problem.square_of_hole + 12.0 * problem.patch_of_hole
    stage_um = np.stack([row, 3.0 * np.arange(n)], axis=1)
    stage_um[rng.random(n) < 0.2] = np.nan
    return replace(problem, stage_um=stage_um)


# --- the exhaustive judge -------------------------------------------------------------------------


def exhaustive_best(
    problem: RoutingProblem,
    values: NDArray[np.float64],
    start_hole: int = NOWHERE,
    crossing: Crossing | None = None,
) -> float:
    """The largest sum of `values` over the holes of any route within the budget, by trying every route.

    values : (n,) what a visit of each hole gives, for example p_good or true good micrographs
    start_hole : index, already imaged, not counted, or NOWHERE     crossing : None takes the problem's own
    Raises InputError when more than 8 holes may be visited.
    """
    drop = (problem.crossing if crossing is None else crossing) == "drop"
    tiers_min = problem.time_model.tiers_min(problem.shots)
    latest_min = problem.budget_min + ROUNDING_MIN
    free = frozenset(int(hole) for hole in np.flatnonzero(problem.available())) - {start_hole}
    if len(free) > EXHAUSTIVE_HOLES:
        raise InputError(
            f"An exhaustive search must have at most {EXHAUSTIVE_HOLES} holes. Got {len(free)} instead."
        )

    def best_from(here: int, used_min: float, left: frozenset[int]) -> float:
        best = 0.0
        if used_min > latest_min:
            return best
        for hole in left:
            ends_min = used_min + float(tiers_min[problem.tier_between(here, hole)])
            if drop and ends_min > latest_min:
                continue
            best = max(best, float(values[hole]) + best_from(hole, ends_min, left - {hole}))
        return best

    return best_from(start_hole, problem.time_model.setup_min, free)


# --- the checker ----------------------------------------------------------------------------------

Results = Literal["at once", "late", "never", "shot by shot", "together"]
"""`shot by shot` and `together`: one shot of each hole before every decision, or nothing at all, while the operator
chooses the holes; then all that is known."""
RESULTS_LATE_BY_MIN = 12.0
OPERATOR_VISITS = 4
"""Visits that the operator chooses where results come shot by shot or together."""


@dataclass(frozen=True)
class _Trial:
    """One route to be asked for: the problem, where it starts, and how the microscope answers."""

    label: str
    problem: RoutingProblem
    start_hole: int
    results: Results = "at once"
    overridden: bool = False  # the operator images another hole instead, every third visit


def check_policy(
    policy_factory: Callable[[], Policy],
    problems: Mapping[str, RoutingProblem] | None = None,
    seed: int = 0,
) -> None:
    """Check every clause of the contract of policies on small problems.

    policy_factory : makes a new policy     problems : by name; None takes `conformance_problems(seed)`
    Clauses: it declares its name, kind, default prediction and crossing rule; it chooses allowed holes, none
    twice, none that was imaged before; it stops with STOP when nothing is left; where a crossing visit is
    dropped it never offers one; it works from NOWHERE and from a hole, with results at once, late or never,
    and after the operator imaged another hole instead; results handed over shot by shot lead where the same
    results lead at once; the same seed gives the same route; `plan` names the holes that it then visits when no result
    comes, and changes nothing; `reset` makes it as good as new; where it claims that it restarts, a new start on what
    is known goes on as it did; it writes into nothing it is given; it holds no Truth; and where looks are charged those
    of `check_looks`, with the worlds' own problems.
    Raises ConformanceError naming the first broken clause, InputError where the factory makes nothing.
    """
    _check_declaration(_made_by(policy_factory))
    trials = [
        trial
        for label, problem in (conformance_problems(seed) if problems is None else problems).items()
        for trial in _trials_of(label, problem)
    ]
    reused = policy_factory()
    routes = []
    for index, trial in enumerate(trials):
        route = _route(policy_factory(), trial, [seed, index])
        if _route(policy_factory(), trial, [seed, index]) != route:
            raise _broken(reused, trial, "the same seed must give the same route")
        routes.append(route)
    for index, trial in enumerate(trials):
        if trial.results == "shot by shot":
            together = _route(policy_factory(), replace(trial, results="together"), [seed, index])
            if together != routes[index]:
                raise _broken(reused, trial, "results shot by shot must lead where they lead at once")
    for index, trial in reversed(list(enumerate(trials))):
        if _route(reused, trial, [seed, index]) != routes[index]:
            raise _broken(reused, trial, "reset must forget the routes before it")
    for index, trial in enumerate(trials):
        _check_plan(policy_factory(), trial, [seed, index], routes[index])
        if reused.restarts:
            _check_restarts(policy_factory, trial, [seed, index], routes[index])
    if problems is None:
        check_looks(policy_factory, seed=seed)


def _made_by(policy_factory: Callable[[], Policy]) -> Policy:
    try:
        return policy_factory()
    except Exception as error:
        name = getattr(policy_factory, "__name__", type(policy_factory).__name__)
        raise InputError(
            "check_policy must be given what makes a policy when it is called without arguments. Got "
            f"{type(error).__name__}: {error} from {name} instead. Remedy: for a class that takes arguments, "
            f"check_policy(lambda: {name}(...))."
        ) from error


PLANNED_EVERY = 4
"""Decisions between two plans that the checker asks for."""


def _check_plan(policy: Policy, trial: _Trial, seed: list[int], route: list[int]) -> None:
    """Ask for plans on the way: each begins with the next hole, and where no result comes it is the rest."""
    microscope = _Microscope(trial, seed, asks_for_plans=True)
    try:
        again = microscope.drive(policy)
    except PolicyError as error:
        raise _broken(policy, trial, f"plan must keep the rules of next_hole ({error})") from error
    except ValueError as error:
        if "read-only" in str(error):
            raise _broken(policy, trial, f"plan must not write into what it is given ({error})") from error
        raise
    if again != route:
        raise _broken(policy, trial, "plan must leave the policy as it was")
    for begin, plan, answer in microscope.plans:
        if plan and plan[0] != answer:
            raise _broken(policy, trial, f"plan must begin with the next hole, {answer}, got {plan[0]}")
        if trial.results == "never" and not trial.overridden and plan != route[begin:]:
            raise _broken(
                policy, trial, f"plan must name the holes it then visits, {route[begin:]}, got {plan}"
            )


def _check_restarts(
    policy_factory: Callable[[], Policy], trial: _Trial, seed: list[int], route: list[int]
) -> None:
    """Start anew after each visit of the route, on what is known then: the rest of it must be the same."""
    if trial.results not in ("at once", "never") or trial.overridden:
        return  # what is on its way, or what the operator does next, a new start cannot know
    microscope = _Microscope(trial, seed)
    for visits, hole in enumerate(route, start=1):
        microscope.visit(hole)
        rest = microscope.started_anew()
        if rest is None:
            return
        policy = policy_factory()
        if (goes_on := _route(policy, rest, seed)) != route[visits:]:
            raise _broken(
                policy, rest, f"it claims to restart and must go on with {route[visits:]}, got {goes_on}"
            )


def _trials_of(label: str, problem: RoutingProblem) -> list[_Trial]:
    free = np.flatnonzero(problem.available())
    trials = [_Trial(f"{label}, from nowhere", problem, NOWHERE)]
    if len(free):
        from_hole = int(free[len(free) // 2])
        trials += [
            _Trial(f"{label}, from hole {from_hole}", problem, from_hole),
            _Trial(f"{label}, results late", problem, NOWHERE, "late"),
            _Trial(f"{label}, no results", problem, NOWHERE, "never"),
            _Trial(f"{label}, overridden", problem, NOWHERE, "at once", overridden=True),
            _Trial(f"{label}, shot by shot", problem, NOWHERE, "shot by shot"),
        ]
    if problem.imaged is not None and problem.imaged.any():
        from_hole = int(np.flatnonzero(problem.imaged)[-1])
        trials.append(_Trial(f"{label}, from imaged hole {from_hole}", problem, from_hole))
    return trials


def _broken(policy: Policy, trial: _Trial, clause: str) -> ConformanceError:
    return ConformanceError(f"Policy {policy.name!r} breaks its contract on {trial.label!r}: {clause}.")


def _check_declaration(policy: Policy) -> None:
    who = f"Policy {type(policy).__name__!r}"
    if missing := missing_of_a_policy(policy):
        raise ConformanceError(
            f"{who} must have the attributes and methods of Policy. Missing: {', '.join(missing)}. Remedy: OwnPolicy "
            "of cryoscout.routing.policies.base brings all but next_hole."
        )
    for attribute in ("name", "default_prediction"):
        value = getattr(policy, attribute)
        if not isinstance(value, str) or not value:
            raise ConformanceError(f"{who} must declare its {attribute} as text. Got {value!r} instead.")
    if policy.kind not in get_args(PolicyKind):
        raise ConformanceError(
            f"{who} must be one of {get_args(PolicyKind)}. Got kind {policy.kind!r} instead."
        )
    if not isinstance(policy.drops_crossing, bool):
        raise ConformanceError(
            f"{who} must say whether it drops_crossing. Got {policy.drops_crossing!r} instead."
        )
    if not isinstance(policy.restarts, bool):
        raise ConformanceError(f"{who} must say whether it restarts. Got {policy.restarts!r} instead.")


def _read_only(problem: RoutingProblem) -> RoutingProblem:
    """A copy of the problem none of whose arrays can be written by accident."""
    arrays = {
        item.name: _frozen(getattr(problem, item.name))
        for item in fields(problem)
        if isinstance(getattr(problem, item.name), np.ndarray)
    }
    of_tree = {
        name: _frozen(each) for name, each in vars(problem.tree).items() if isinstance(each, np.ndarray)
    }
    tree = replace(problem.tree, **cast("dict[str, Any]", of_tree))
    return replace(problem, tree=tree, **cast("dict[str, Any]", arrays))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _is_same_array(one: NDArray[Any], other: object) -> bool:
    """By bytes: the one is a copy of the other, and this is asked at every decision."""
    if not isinstance(other, np.ndarray) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.tobytes() == other.tobytes()


def _changed(before: object, after: object) -> str | None:
    """Name of the first array that differs, or None."""
    for name, value in vars(before).items():
        if isinstance(value, HoleTree) and (of_tree := _changed(value, getattr(after, name))):
            return of_tree
        if isinstance(value, np.ndarray) and not _is_same_array(value, getattr(after, name)):
            return name
    return None


def _route(policy: Policy, trial: _Trial, seed: list[int]) -> list[int]:
    """The route of one trial as replayed by the contract's own rules; each rule is checked on the way."""
    try:
        return _Microscope(trial, seed).drive(policy)
    except ValueError as error:
        if "read-only" in str(error):
            raise _broken(policy, trial, f"it must not write into what it is given ({error})") from error
        raise


class _Microscope:
    """Plays the session of one trial: keeps the minutes, the visits and the results."""

    def __init__(self, trial: _Trial, seed: list[int], *, asks_for_plans: bool = False) -> None:
        problem = trial.problem
        self.trial, self.seed = trial, seed
        self.asks_for_plans, self.plans = asks_for_plans, cast("list[tuple[int, list[int], int]]", [])
        results = np.random.default_rng([*seed, 1])
        self.good = results.binomial(problem.shots, problem.prior_p_good).astype(np.float64)
        known_at_once = trial.start_hole != NOWHERE and trial.results == "at once"
        self.course = Course(
            problem,
            trial.start_hole,
            start_good=float(self.good[trial.start_hole]) if known_at_once else None,
        )
        self.pending: list[tuple[float, int]] = []
        self.operator = np.random.default_rng([*seed, 2])
        by_shots = trial.results in ("shot by shot", "together")
        self.operator_visits = min(OPERATOR_VISITS, int(self.course.free.sum()) // 2) if by_shots else 0

    def drive(self, policy: Policy) -> list[int]:
        trial, problem = self.trial, _read_only(self.trial.problem)
        policy.reset(problem, trial.start_hole, np.random.default_rng(self.seed))
        route: list[int] = []
        while not self.course.is_over():
            self._hand_over_results(len(route))
            shown = self.course.observation()
            seen = replace(
                shown,
                visited=_frozen(shown.visited),
                outcome=_frozen(shown.outcome),
                results=_frozen(cast("NDArray[np.float64]", shown.results)),
            )
            asked = self.asks_for_plans and len(route) % PLANNED_EVERY == 0
            plan = policy.plan(seen) if asked else []
            hole = self._checked(policy, policy.next_hole(seen))
            if asked:
                self.plans.append((len(route), plan, hole))
            for before, after in ((shown, seen), (trial.problem, problem)):
                if name := _changed(before, after):
                    raise _broken(policy, trial, f"it must not write into what it is given ({name})")
            if len(route) < self.operator_visits:
                # Whatever the policy wants: else what it knows so far would decide which results there are.
                hole = self._operators_choice(STOP)
            if hole == STOP:
                break
            if policy.drops_crossing and not self._fits(hole):
                break
            if trial.overridden and len(route) % 3 == 2:
                hole = self._operators_choice(hole)
            self.visit(hole)
            route.append(hole)
        if any(isinstance(value, Truth) for value in getattr(policy, "__dict__", {}).values()):
            raise _broken(policy, trial, "it must not hold a Truth")
        return route

    def _fits(self, hole: int) -> bool:
        return self.course.ends_min(hole) <= self.trial.problem.budget_min + ROUNDING_MIN

    def _hand_over_results(self, visits: int) -> None:
        how, shots = self.trial.results, self.trial.problem.shots
        if how == "never" or (how == "together" and visits < self.operator_visits):
            return
        if how == "shot by shot" and visits < self.operator_visits:
            results = cast("NDArray[np.float64]", self.course.observation().results)
            for _, hole in self.pending:
                if results[hole] < shots:
                    self._result(hole, int(results[hole]) + 1)
            return
        delay_min = RESULTS_LATE_BY_MIN if how == "late" else 0.0
        while self.pending and self.pending[0][0] + delay_min <= self.course.minutes_used:
            self._result(self.pending.pop(0)[1], shots)

    def _result(self, hole: int, shots: int) -> None:
        """Hand over the results of the first so many shots of a hole; the good ones come last."""
        bad = self.trial.problem.shots - self.good[hole]
        self.course.take_result(hole, float(max(shots - bad, 0.0)), shots)

    def _checked(self, policy: Policy, answer: object) -> int:
        """The answer as an int, when it is one that the contract allows."""
        trial = self.trial
        try:
            hole = operator.index(cast("int", answer))
        except TypeError:
            raise _broken(policy, trial, f"next_hole must return an int, got {answer!r}") from None
        if hole == STOP:
            return hole
        if not self.course.free.any():
            raise _broken(policy, trial, f"it must STOP when no hole is left, got {hole}")
        if not 0 <= hole < trial.problem.n_holes:
            raise _broken(policy, trial, f"it must choose a hole or STOP, got {hole}")
        if self.course.observation().visited[hole]:
            raise _broken(policy, trial, f"it must not choose a hole that was visited or imaged, got {hole}")
        if not self.course.may_visit(hole):
            raise _broken(policy, trial, f"it must choose an allowed hole, got {hole}")
        if trial.problem.crossing == "drop" and not self._fits(hole):
            raise _broken(
                policy, trial, f"it must not pass the budget where a crossing visit is dropped, got {hole}"
            )
        return hole

    def _operators_choice(self, hole: int) -> int:
        """Another free hole that fits the budget, or the policy's own where there is none."""
        others = [
            int(other)
            for other in np.flatnonzero(self.course.free)
            if other != hole and self._fits(int(other))
        ]
        return int(self.operator.choice(others)) if others else hole

    def visit(self, hole: int) -> None:
        """Image the hole; its result comes later."""
        self.course.visit(hole)
        self.pending.append((self.course.minutes_used, hole))

    def started_anew(self) -> _Trial | None:
        """The rest of the session as a trial of its own, on what is known now; None where no time is left for it."""
        self._hand_over_results(len(self.course))
        if self.course.minutes_used >= self.trial.problem.budget_min:
            return None
        return replace(
            self.trial,
            label=f"{self.trial.label}, started anew at hole {self.course.here}",
            problem=self.course.remaining(),
            start_hole=self.course.here,
        )
