"""The whole route that a policy would take without news."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cryoscout.routing.course import Course
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Policy
from cryoscout.routing.problem import RoutingProblem


def plan_route(
    problem: RoutingProblem,
    policy: Policy,
    start_hole: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> Course:
    """The course of what the policy wants, without new outcomes, until it stops or the budget would be passed.

    start_hole : index of the last hole imaged, or NOWHERE     seed : of the policy's own draws
    progress : called after every visit
    The visit that would cross the budget is never part of a plan, whatever `problem.crossing` says.
    Raises PolicyError when the policy names a hole twice or one that is not allowed.
    """
    course = Course(problem, start_hole, counts_crossing=False)
    policy.reset(problem, start_hole, np.random.default_rng(seed))
    for hole in _wanted(course, policy):
        if not course.takes(hole):
            break
        course.visit(hole)
        if progress is not None:
            progress()
    return course


def _wanted(course: Course, policy: Policy) -> Iterator[int]:
    """Hole after hole; a policy without a plan of its own is asked each time, so that progress can be shown."""
    if type(policy).plan is not AskedHoleByHole.plan:
        yield from policy.plan(course.observation())
        return
    while course.free.any():
        hole = course.ask(policy)
        if hole == STOP:
            return
        yield hole
