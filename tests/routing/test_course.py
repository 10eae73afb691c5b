"""The stepper: minutes, views and results of a route as it goes; what remains of a problem; compiled loops agree."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.course import Course, PolicyError
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import PRESETS, ROUNDING_MIN
from cryoscout.testing import random_problem


def three_holes(**changes: object) -> RoutingProblem:
    """Two holes of one patch and one on another grid."""
    index = np.array([0, 0, 1], dtype=np.int32)
    tree = HoleTree(index, index[1:], index[1:])
    return RoutingProblem(tree, np.array([0.5, 0.25, 1.0]), budget_min=30.0, **changes)


def slow_minutes(problem: RoutingProblem, start: int, route: list[int]) -> list[float]:
    """Minutes at the end of each visit, said once more in the plainest words."""
    tiers_min = problem.time_model.tiers_min(problem.shots)
    places = [
        None if hole == NOWHERE else
        (problem.patch_of_hole[hole], problem.square_of_hole[hole], problem.grid_of_hole[hole])
        for hole in [start, *route]
    ]  # fmt: skip
    used, ends = problem.time_model.setup_min, []
    for before, after in pairwise(places):
        if before is None or before[2] != after[2]:
            used += float(tiers_min[3])
        elif before[1] != after[1]:
            used += float(tiers_min[2])
        elif before[0] != after[0]:
            used += float(tiers_min[1])
        else:
            used += float(tiers_min[0])
        ends.append(used)
    return ends


@given(st.integers(0, 10_000), st.data())
def test_any_route_takes_the_minutes_of_its_switches(seed, data):
    problem = random_problem(np.random.default_rng(seed), 9, share_imaged=0.3, shots=1 + seed % 3)
    free = np.flatnonzero(problem.available()).tolist()
    start = data.draw(st.sampled_from([NOWHERE, *free]))
    route = data.draw(st.permutations([hole for hole in free if hole != start]))
    course = Course(problem, start)
    for hole in route:
        ends_min = course.ends_min(hole)
        assert course.takes(hole) == (ends_min <= problem.budget_min + ROUNDING_MIN)
        course.visit(hole)
        assert course.minutes_used == ends_min
    assert course.route.tolist() == route
    assert course.minutes == pytest.approx(slow_minutes(problem, start, route))
    assert not course.free.any()


def test_an_observation_follows_the_course_and_cannot_be_written():
    course = Course(three_holes())
    seen = course.observation()
    course.visit(1)
    course.take_result(1, 1.0)
    assert seen.visited.tolist() == [False, True, False]
    assert seen.outcome[1] == 1.0
    assert course.observation().news == seen.news + 1
    for array in (seen.visited, seen.outcome, seen.results, course.free):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = True


def test_the_shots_of_a_hole_may_come_one_by_one():
    course = Course(three_holes(shots=3))
    course.visit(0)
    course.take_result(0, 1.0, shots=1)
    assert (course.observation().outcome[0], course.observation().results[0]) == (1.0, 1.0)
    course.take_result(0, 2.0, shots=3)
    assert (course.observation().outcome[0], course.observation().results[0]) == (2.0, 3.0)


@pytest.mark.parametrize("hole", [0, 3, -2])
def test_a_hole_that_was_visited_or_is_none_is_refused(hole):
    course = Course(three_holes(), start_hole=0)
    with pytest.raises(PolicyError, match=re.escape(f"Got {hole} instead")):
        course.visit(hole)
    assert len(course) == 0


@pytest.mark.parametrize("answer", ["a", 0.0, None, np.float64(1)])
def test_an_answer_that_is_no_whole_number_is_one_clear_error(answer):
    class Answers:
        name = "mine"

        def next_hole(self, observation):
            return answer

    message = f"Policy 'mine' must answer with the whole number of a hole, or STOP. Got {answer!r} instead."
    with pytest.raises(PolicyError, match=re.escape(message)):
        Course(three_holes(), start_hole=0).ask(Answers())


def test_a_start_must_be_a_hole():
    with pytest.raises(InputError, match="must be a hole index below 3 or NOWHERE"):
        Course(three_holes(), start_hole=3)


@given(st.integers(0, 10_000))
def test_what_remains_is_the_problem_as_it_would_be_read_now(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 9, share_imaged=0.3, share_allowed=0.8)
    free = np.flatnonzero(problem.available())
    course = Course(problem, start_good=None)
    for hole in rng.permutation(free)[: len(free) // 2].tolist():
        if not course.takes(hole):
            break
        course.visit(hole)
        if rng.random() < 0.6:
            course.take_result(hole, float(rng.integers(2)))
    left_min = problem.budget_min - course.minutes_used
    if left_min <= 0:
        return
    left = course.remaining()
    assert left.budget_min == left_min
    assert left.time_model.setup_min == 0.0
    assert left.available().tolist() == course.free.tolist()
    assert not left.available()[course.route].any()
    assert np.array_equal(left.belief().p_good(), left.belief().p_good())
    told = problem.belief()
    known = [hole for hole in course.route.tolist() if not np.isnan(course.observation().outcome[hole])]
    for hole in known:
        told.observe(hole, float(course.observation().outcome[hole]), 1)
    assert left.belief().p_good() == pytest.approx(told.p_good(), abs=1e-5)


def test_the_set_up_is_paid_once():
    model = PRESETS["cryorl"].model_copy(update={"setup_min": 7.0})
    course = Course(three_holes(time_model=model))
    course.visit(0)
    assert course.minutes.tolist() == [27.0]
    assert course.remaining().budget_min == 3.0
    assert Course(course.remaining(), course.here).minutes_used == 0.0
