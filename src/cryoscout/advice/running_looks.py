"""What a running session looks at next where places are unseen, and what its whole plan gives by when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.looks import planned_looks, square_of_look
from cryoscout.advice.obeyed import Obeyed
from cryoscout.advice.outlook import moments_of
from cryoscout.advice.walk import Walk
from cryoscout.advice.work_list import PlaceNames, PlannedLook
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.problem import RoutingProblem

if TYPE_CHECKING:
    from cryoscout.advice.running import Now
    from cryoscout.routing.policies.explore import Explore

LOOKS_SHOWN = 5
"""Squares to look at next that are listed."""
_DRAWS = 3
"""Second word of the seed of the draws behind a forecast with unseen places."""


def next_looks(
    policy: Explore,
    problem: RoutingProblem,
    names: PlaceNames,
    observation: Observation,
    said: Obeyed,
    now: Now,
    free: NDArray[np.bool_],
    walk: Walk,
    seed: int,
) -> tuple[PlannedLook, ...]:
    """What is looked at now and after it; none where a hole comes first, or operators named one that is free.

    policy : started on the problem     free : (n,) holes that may be visited     walk : the plan over seen holes
    """
    if any(free[hole] for hole in (*said.first, *said.pinned)):
        return ()
    step = policy.next_step(observation)
    asked = _squares_asked_for(problem, said, now, step, walk)
    if not isinstance(step, Look) and not asked:
        return ()
    values = policy.places(observation, np.random.default_rng([seed, now.revision]), LOOKS_SHOWN, asked)
    if isinstance(step, Look) and not asked:
        # The look of this step first: its place has the best rate, but for ties.
        values.sort(key=lambda value: value.look != step)
    elif not isinstance(step, Look) and (
        not values or square_of_look(values[0].look, problem.tree) not in asked
    ):
        return ()  # what is asked for does not fit any more
    return planned_looks(values, names, problem.tree, now.minutes_left)


def _squares_asked_for(problem: RoutingProblem, said: Obeyed, now: Now, step: Step, walk: Walk) -> list[int]:
    """Squares that operators want and of which something is unseen, in the order to look at them now.

    Of an order those that come before the first one in which holes are planned; pinned ones once the plan looks, or
    leaves the open patch.
    """
    if problem.places is None or not (said.square_order or said.pinned_squares):
        return []
    unseen = problem.places.unseen_squares(problem.tree)
    planned = set(problem.square_of_hole[walk.holes].tolist())
    ordered = []
    for square in said.square_order:
        if square in planned:
            break
        if unseen[square]:
            ordered.append(square)
    stays = (
        not isinstance(step, Look) and step != STOP and problem.patch_of_hole[step] == now.patch_in(problem)
    )
    pinned = [] if stays else [square for square in said.pinned_squares if unseen[square]]
    return list(dict.fromkeys([*ordered, *pinned]))


def counts_by_moments(
    policy: Explore, observation: Observation, now: Now, seed: int
) -> NDArray[np.int64] | None:
    """(draws, t) good micrographs from now to each moment of the outlook, of all that the plan holds, unseen places
    included; None where no minutes are left."""
    if now.minutes_left <= 0:
        return None
    rng = np.random.default_rng([seed, _DRAWS, int((now.results > 0).sum())])
    return policy.counts_by(observation, moments_of(now.minutes_left), rng)
