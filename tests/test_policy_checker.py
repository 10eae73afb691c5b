"""The conformance checker must see every clause broken, and the exhaustive judge must be right by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.testing import (
    ConformanceError,
    check_policy,
    conformance_problems,
    exhaustive_best,
    random_problem,
)


class First(AskedHoleByHole):
    """A policy that keeps its contract: the first free hole that fits."""

    name = "first"
    kind = "planner"
    default_prediction = "combined"
    drops_crossing = False

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        self.problem, self.start_hole, self.rng = problem, start_hole, rng
        self._problem = problem
        self.available = problem.available()

    def fitting(self, observation: Observation) -> np.ndarray:
        minutes = self.problem.time_model.tiers_min(self.problem.shots)[
            self.problem.tree.tiers_from(observation.here)
        ]
        fits = (observation.minutes_used + minutes <= self.problem.budget_min) | (
            self.problem.crossing == "count"
        )
        return np.flatnonzero(self.available & ~observation.visited & fits)

    def next_hole(self, observation: Observation) -> int:
        holes = self.fitting(observation)
        return int(holes[0]) if len(holes) else STOP


class NoKind(First):
    kind = "magic"


class NoName(First):
    name = ""


class NoCrossingRule(First):
    drops_crossing = "yes"


class NoReset:
    name, kind, default_prediction, drops_crossing = "no reset", "planner", "combined", False


class Repeats(First):
    def next_hole(self, observation: Observation) -> int:
        hole = super().next_hole(observation)
        return observation.here if observation.here != NOWHERE and hole != STOP else hole


class IgnoresImaged(First):
    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.mine: set[int] = set()

    def next_hole(self, observation: Observation) -> int:
        for hole in range(self.problem.n_holes):
            if hole not in self.mine and super().next_hole(observation) != STOP:
                self.mine.add(hole)
                return hole
        return STOP


class IgnoresAllowed(First):
    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.available = np.ones(problem.n_holes, dtype=bool)


class NeverStops(First):
    def next_hole(self, observation: Observation) -> int:
        hole = super().next_hole(observation)
        return 0 if hole == STOP else hole


class OutOfRange(First):
    def next_hole(self, observation: Observation) -> int:
        return self.problem.n_holes


class NotAnInt(First):
    def next_hole(self, observation: Observation) -> int:
        return float(super().next_hole(observation))  # type: ignore[return-value]


class PassesBudget(First):
    def fitting(self, observation: Observation) -> np.ndarray:
        return np.flatnonzero(self.available & ~observation.visited)


class OwnRandomness(First):
    rolled = np.random.default_rng(1)

    def next_hole(self, observation: Observation) -> int:
        holes = self.fitting(observation)
        return int(self.rolled.choice(holes)) if len(holes) else STOP


class RemembersRoutes(First):
    resets = 0

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.resets += 1

    def next_hole(self, observation: Observation) -> int:
        holes = self.fitting(observation)
        return int(holes[self.resets % len(holes)]) if len(holes) else STOP


class MarksObservation(First):
    def next_hole(self, observation: Observation) -> int:
        hole = super().next_hole(observation)
        observation.visited[0] = True
        return hole


class MarksProblemByForce(First):
    def next_hole(self, observation: Observation) -> int:
        self.problem.prior_p_good.flags.writeable = True
        self.problem.prior_p_good[0] = 0.123
        return super().next_hole(observation)


class AssumesItsOwnVisits(First):
    """Breaks when the operator images another hole than it chose."""

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        if start_hole != NOWHERE:
            self.available[start_hole] = False

    def next_hole(self, observation: Observation) -> int:
        mine = Observation(
            ~self.available, observation.here, observation.minutes_used, observation.outcome, 0
        )
        hole = super().next_hole(mine)
        if hole != STOP:
            self.available[hole] = False
        return hole


class HoldsTruth(First):
    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.answers = Truth(np.ones(problem.n_holes), np.ones(problem.n_holes, dtype=bool))


class Restarts(First):
    """Its choice follows from what it sees alone."""

    restarts = True


class NoRestartRule(First):
    restarts = "perhaps"  # type: ignore[assignment]


class NoPlan:
    name, kind, default_prediction, drops_crossing, restarts = "no plan", "planner", "combined", False, False
    reset, next_hole, fitting = First.reset, First.next_hole, First.fitting


class PlansTheFirstVisitOnly(First):
    def plan(self, observation: Observation) -> list[int]:
        return super().plan(observation)[:1]


class PlansBackwards(First):
    def plan(self, observation: Observation) -> list[int]:
        return super().plan(observation)[::-1]


class PlansByDoing(First):
    """Its plan leaves it at the end of the route."""

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.planned: list[int] = []

    def plan(self, observation: Observation) -> list[int]:
        self.planned = super().plan(observation)
        return self.planned

    def next_hole(self, observation: Observation) -> int:
        hole = super().next_hole(observation)
        return self.planned[0] if self.planned and observation.visited[self.planned[0]] else hole


class CountsItsVisits(Restarts):
    """Goes to and fro by the number of visits that it made itself: a new start cannot know it."""

    def next_hole(self, observation: Observation) -> int:
        holes = self.fitting(observation)
        made = int((observation.visited & self.available).sum())
        return int(holes[-(made % 2)]) if len(holes) else STOP


@pytest.mark.parametrize("kept", [First, Restarts])
def test_a_policy_that_keeps_its_contract_passes(kept: type[First]) -> None:
    check_policy(kept)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (NoKind, "kind 'magic'"),
        (NoName, "name as text"),
        (NoCrossingRule, "drops_crossing"),
        (NoRestartRule, "whether it restarts"),
        (NoReset, "attributes and methods"),
        (NoPlan, "attributes and methods.*Missing: plan"),
        (PlansTheFirstVisitOnly, "no results.*plan must name the holes"),
        (PlansBackwards, "plan must begin with the next hole"),
        (PlansByDoing, "visited or imaged"),
        (CountsItsVisits, "started anew.*it claims to restart"),
        (Repeats, "visited or imaged"),
        (IgnoresImaged, "visited or imaged"),
        (IgnoresAllowed, "an allowed hole"),
        (OutOfRange, "a hole or STOP"),
        (NotAnInt, "return an int"),
        (PassesBudget, "pass the budget"),
        (OwnRandomness, "same seed"),
        (RemembersRoutes, "reset must forget"),
        (MarksObservation, "write into"),
        (MarksProblemByForce, r"write into .*\(prior_p_good\)"),
        (AssumesItsOwnVisits, "overridden.*visited or imaged"),
        (HoldsTruth, "hold a Truth"),
    ],
)
def test_each_broken_clause_is_named(broken: type, clause: str) -> None:
    with pytest.raises(ConformanceError, match=clause):
        check_policy(broken)


def test_a_policy_must_stop_when_nothing_is_left() -> None:
    endless = {"endless budget": conformance_problems()["endless budget"]}
    check_policy(First, problems=endless)
    with pytest.raises(ConformanceError, match="it must STOP when no hole is left"):
        check_policy(NeverStops, problems=endless)


class ForgetsResultsNeverCome(First):
    def next_hole(self, observation: Observation) -> int:
        if observation.news == 0 and observation.minutes_used > 60:
            return self.problem.n_holes  # it waited for a result for an hour
        return super().next_hole(observation)


def test_results_that_never_come_are_tried() -> None:
    with pytest.raises(ConformanceError, match="no results"):
        check_policy(ForgetsResultsNeverCome)


class CountsFirstResultsOnly(First):
    """Takes a hole's first result for all of its results, as if the shots without one were bad."""

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.good: dict[int, float] = {}

    def next_hole(self, observation: Observation) -> int:
        for hole in np.flatnonzero(~np.isnan(observation.outcome)):
            self.good.setdefault(int(hole), float(observation.outcome[hole]))
        holes = self.fitting(observation)
        return int(holes[int(sum(self.good.values())) % len(holes)]) if len(holes) else STOP


def test_later_shots_of_a_hole_must_be_taken_in() -> None:
    three_shots = {"three shots": conformance_problems()["three shots"]}
    with pytest.raises(ConformanceError, match=r"three shots, shot by shot.*results shot by shot must lead"):
        check_policy(CountsFirstResultsOnly, problems=three_shots)


class DependsOnTheOrder(First):
    """Weighs every result by how many came before it."""

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.known: list[int] = []

    def next_hole(self, observation: Observation) -> int:
        known = np.flatnonzero(~np.isnan(observation.outcome)).tolist()
        self.known += [hole for hole in known if hole not in self.known]
        weighed = sum(place * hole for place, hole in enumerate(self.known))
        holes = self.fitting(observation)
        return int(holes[weighed % len(holes)]) if len(holes) else STOP


def test_results_must_lead_to_one_place_in_whatever_order_they_come() -> None:
    with pytest.raises(ConformanceError, match="results shot by shot must lead where they lead at once"):
        check_policy(DependsOnTheOrder)


class TripsOverStart(First):
    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        super().reset(problem, start_hole, rng)
        self.trips = start_hole != NOWHERE

    def next_hole(self, observation: Observation) -> int:
        return self.start_hole if self.trips else super().next_hole(observation)


def test_a_start_hole_counts_as_visited() -> None:
    with pytest.raises(ConformanceError, match="from hole"):
        check_policy(TripsOverStart)


def test_own_problems_can_be_given_to_the_checker() -> None:
    check_policy(OutOfRange, problems={})
    with pytest.raises(ConformanceError, match="mine, from nowhere"):
        check_policy(OutOfRange, problems={"mine": conformance_problems()["plain"]})


def test_a_crossing_visit_may_be_offered_where_it_counts() -> None:
    check_policy(PassesBudget, problems={"count": conformance_problems()["crossing counts"]})


@given(seed=st.integers(0, 10_000), n_holes=st.integers(1, 40))
def test_random_problems_are_valid_and_repeat_with_their_seed(seed: int, n_holes: int) -> None:
    made = [
        random_problem(np.random.default_rng(seed), n_holes, shots=2, share_imaged=0.3, share_allowed=0.7)
        for _ in range(2)
    ]
    for name, value in vars(made[0]).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(made[1], name))
    problem = made[0]
    assert problem.n_holes == n_holes
    assert len(problem.square_of_patch) == problem.patch_of_hole[-1] + 1
    assert problem.imaged is not None
    assert problem.outcome is not None
    assert np.all(np.isnan(problem.outcome[~problem.imaged]))


def two_patches(budget_min: float) -> RoutingProblem:
    """Patch 0 holds holes 0 and 1, patch 1 of another square of the same grid holds hole 2."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 1], dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
            np.array([0, 0], dtype=np.int32),
        ),
        prior_p_good=np.array([0.2, 0.3, 0.6]),
        budget_min=budget_min,
    )


@pytest.mark.parametrize(
    ("budget_min", "start_hole", "crossing", "best"),
    [
        (19.0, NOWHERE, "drop", 0.0),
        (20.0, NOWHERE, "drop", 0.6),  # one hole from outside
        (22.0, NOWHERE, "drop", 0.6),  # holes 0 and 1 give 0.5 only
        (30.0, NOWHERE, "drop", 0.9),  # 20 + 10: holes 1 and 2
        (32.0, NOWHERE, "drop", 1.1),  # 20 + 2 + 10
        (19.0, NOWHERE, "count", 0.6),
        (20.0, NOWHERE, "count", 0.9),  # the second visit starts at 20 min and counts
        (2.0, 0, "drop", 0.3),
        (2.0, 0, "count", 0.9),
        (10.0, 0, "drop", 0.6),
    ],
)
def test_the_exhaustive_judge_agrees_with_hand_calculation(
    budget_min: float, start_hole: int, crossing: Crossing, best: float
) -> None:
    problem = two_patches(budget_min)
    assert exhaustive_best(problem, problem.prior_p_good, start_hole, crossing) == pytest.approx(best)


def test_the_exhaustive_judge_refuses_what_it_cannot_finish() -> None:
    problem = random_problem(np.random.default_rng(0), 9)
    with pytest.raises(InputError, match="at most 8 holes"):
        exhaustive_best(problem, problem.prior_p_good)
