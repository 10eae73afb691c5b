"""The recorded order as a policy: it goes on from the start, and keeps every rule that planners keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.routing.policies.as_recorded import AsRecorded, policy_as_recorded
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import Truth, replay
from cryoscout.session.recorded_order import RecordedOrder
from cryoscout.testing import check_policy, conformance_problems, random_problem

ORDER = RecordedOrder(np.array([4, 1, 3, 0, 2]), "times", np.zeros(5))


def test_it_passes_the_conformance_checker() -> None:
    for label, problem in conformance_problems().items():
        holes = np.random.default_rng(1).permutation(problem.n_holes)
        check_policy(lambda holes=holes: AsRecorded(holes), {label: problem})


def route(start: int, **changes: object) -> list[int]:
    problem = replace(random_problem(np.random.default_rng(0), 5, budget_min=1e6), **changes)
    truth = Truth(np.ones(5), np.ones(5, dtype=bool))
    return replay(problem, truth, policy_as_recorded(ORDER), [start], seed=0)[0].route.tolist()


def test_it_goes_on_from_the_start_and_round_to_the_beginning() -> None:
    assert route(3) == [0, 2, 4, 1]
    assert route(4) == [1, 3, 0, 2]
    assert route(2) == [4, 1, 3, 0]


def test_from_nowhere_and_from_a_hole_that_was_not_recorded_it_begins_at_the_beginning() -> None:
    assert route(NOWHERE) == [4, 1, 3, 0, 2]
    problem = random_problem(np.random.default_rng(0), 5, budget_min=1e6)
    truth = Truth(np.ones(5), np.array([True, True, False, True, True]))
    of_four = policy_as_recorded(replace(ORDER, holes=np.array([4, 1, 3, 0])))
    assert replay(problem, truth, of_four, [2], seed=0)[0].route.tolist() == [4, 1, 3, 0]


def test_holes_that_may_not_be_visited_are_passed_over() -> None:
    assert route(3, allowed=np.array([True, False, True, True, True])) == [0, 2, 4]
    assert route(3, imaged=np.array([True, False, False, False, False]), outcome=np.full(5, np.nan)) == [
        2,
        4,
        1,
    ]


@given(seed=st.integers(0, 2**32 - 1), crossing=st.sampled_from(["count", "drop"]))
def test_its_minutes_and_its_end_are_those_of_every_policy(seed: int, crossing: str) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(2, 12)), crossing=crossing)  # type: ignore[arg-type]
    holes = rng.permutation(problem.n_holes)
    start = int(rng.integers(problem.n_holes))
    truth = Truth(rng.integers(0, 2, problem.n_holes).astype(float), np.ones(problem.n_holes, dtype=bool))
    policy = policy_as_recorded(RecordedOrder(holes, "names", np.full(problem.n_holes, np.nan)))
    result = replay(problem, truth, policy, [start], seed=0)[0]
    place = holes.tolist().index(start)
    here, used, slowly = start, problem.time_model.setup_min, []
    for hole in [*holes[place + 1 :].tolist(), *holes[:place].tolist()]:
        if used > problem.budget_min + 1e-6:
            break
        used += float(problem.time_model.tiers_min()[problem.tier_between(here, hole)])
        if used > problem.budget_min + 1e-6 and crossing == "drop":
            break
        slowly.append(hole)
        here = hole
    assert result.route.tolist() == slowly
