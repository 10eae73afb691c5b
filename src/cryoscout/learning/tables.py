"""Sessions as flat integer tables: what the environments and the replay buffer step through.

Several sessions lie one after the other; holes, queues, patches, squares and grids are numbered within their session.
A queue is the unit of choice: the holes of one patch that an agent cannot, or need not, tell apart, in the order in
which they would be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import ROUNDING, ranks_best_first
from cryoscout.learning.settings import ViewSettings
from cryoscout.routing.elimination import BETA_TEST, eliminated_holes
from cryoscout.routing.policies.fixed_order import predicted_good
from cryoscout.routing.problem import RoutingProblem

UNVISITED, PREDICTED_GOOD, VISITED, GOOD = range(4)
"""Columns of every counter: unvisited holes, those predicted good among them, visited holes, good micrographs."""


class RouteTables(NamedTuple):
    """Read-only tables of S sessions. `*_begin` arrays, (S + 1,), say where each session's part starts."""

    hole_begin: NDArray[np.int64]
    patch_begin: NDArray[np.int64]
    square_begin: NDArray[np.int64]
    grid_begin: NDArray[np.int64]
    queue_begin: NDArray[np.int64]
    patch_of_hole: NDArray[np.int32]  # (N,) within the session, as all indices below
    square_of_patch: NDArray[np.int32]  # (P,)
    grid_of_square: NDArray[np.int32]  # (S,)
    predicted: NDArray[np.float32]  # (N,) 0/1 or p_good: the hole's feature and its share in PREDICTED_GOOD
    queue_of_hole: NDArray[np.int32]  # (N,) -1 where the hole is not available
    patch_of_queue: NDArray[np.int32]  # (Q,)
    members_begin: NDArray[np.int64]  # (Q + 1,) into `members`
    members: NDArray[np.int32]  # (available,) holes, queue by queue
    visited0: NDArray[np.uint8]  # (N,) imaged before the route starts
    patch0: NDArray[np.float32]  # (P, 4) counters before the route starts
    square0: NDArray[np.float32]  # (S, 4)
    grid0: NDArray[np.float32]  # (G, 4)


def eliminated_problem(problem: RoutingProblem, beta: float = BETA_TEST) -> RoutingProblem:
    """The problem reduced by action elimination; as it is where the patches kept hold nothing to visit.

    The rule keeps one patch at least, whatever the budget; it may be one without an available hole.
    """
    reduced = replace(problem, allowed=eliminated_holes(problem, beta))
    return reduced if reduced.available().any() else problem


def route_tables(problems: Sequence[RoutingProblem], view: ViewSettings) -> RouteTables:
    """The tables of these problems as an agent with this view sees them.

    Holes that a problem does not allow are in no queue and in no count of unvisited holes.
    Raises InputError when there is no problem or one without an available hole.
    """
    if not problems:
        raise InputError("Training must have at least one session. Got none instead.")
    parts = [_one_session(problem, view, place) for place, problem in enumerate(problems)]
    members_begin = [np.zeros(1, dtype=np.int64)]
    for part in parts:
        members_begin.append(part.members_begin[1:] + members_begin[-1][-1])
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in RouteTables._fields
        if not name.endswith("_begin")
    }
    begins: dict[str, Any] = {
        f"{unit}_begin": np.concatenate(
            [[0], np.cumsum([len(getattr(part, column)) for part in parts])]
        ).astype(np.int64)
        for unit, column in (
            ("hole", "patch_of_hole"),
            ("patch", "square_of_patch"),
            ("square", "grid_of_square"),
            ("grid", "grid0"),
            ("queue", "patch_of_queue"),
        )
    }
    return RouteTables(**joined, **begins, members_begin=np.concatenate(members_begin))


def _one_session(problem: RoutingProblem, view: ViewSettings, place: int) -> RouteTables:
    available = problem.available()
    if not available.any():
        raise InputError(
            f"Every session must have a hole that may be visited. Got none in session {place} instead. "
            "Remedy: leave out sessions that are imaged to the end."
        )
    hard = view.labels == "hard"
    predicted = (predicted_good(problem) if hard else problem.prior_p_good).astype(np.float32)
    if view.candidates == "classes" and view.labels == "soft":
        predicted = _to_tenths(problem.prior_p_good)
    kind = _kind(problem, predicted, view)
    holes = np.flatnonzero(available)
    # Within a queue the surest first: holes that look alike to the agent need not be alike to the microscope.
    surest = ranks_best_first(problem.prior_p_good)
    holes = holes[np.lexsort((holes, surest[holes], kind[holes], problem.patch_of_hole[holes]))]
    pairs = np.stack([problem.patch_of_hole[holes], kind[holes]], axis=1)
    first = np.concatenate([[True], np.any(pairs[1:] != pairs[:-1], axis=1)])
    queue_of_hole = np.full(problem.n_holes, -1, dtype=np.int32)
    queue_of_hole[holes] = np.cumsum(first) - 1
    imaged = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged
    found = np.zeros(problem.n_holes) if problem.outcome is None else np.nan_to_num(problem.outcome)
    patch0 = np.zeros((len(problem.square_of_patch), 4), dtype=np.float32)
    for column, weight in (
        (UNVISITED, available),
        (PREDICTED_GOOD, available * predicted),
        (VISITED, imaged),
        (GOOD, imaged * found),
    ):
        patch0[:, column] = np.bincount(problem.patch_of_hole, weights=weight, minlength=len(patch0))
    square0 = np.zeros((len(problem.grid_of_square), 4), dtype=np.float32)
    np.add.at(square0, problem.square_of_patch, patch0)
    grid0 = np.zeros((int(problem.grid_of_square[-1]) + 1, 4), dtype=np.float32)
    np.add.at(grid0, problem.grid_of_square, square0)
    nothing = np.zeros(0, dtype=np.int64)
    return RouteTables(
        *(nothing,) * 5,
        patch_of_hole=problem.patch_of_hole.astype(np.int32),
        square_of_patch=problem.square_of_patch.astype(np.int32),
        grid_of_square=problem.grid_of_square.astype(np.int32),
        predicted=predicted,
        queue_of_hole=queue_of_hole,
        patch_of_queue=problem.patch_of_hole[holes][first].astype(np.int32),
        members_begin=np.append(np.flatnonzero(first), len(holes)).astype(np.int64),
        members=holes.astype(np.int32),
        visited0=imaged.astype(np.uint8),
        patch0=patch0,
        square0=square0,
        grid0=grid0,
    )


def _to_tenths(p_good: NDArray[np.float64]) -> NDArray[np.float32]:
    """p_good rounded to one decimal, (n,); what lies half way goes up, and so does what rounding put just below."""
    return (np.floor(p_good * 10.0 * (1.0 + ROUNDING) + 0.5) / 10.0).astype(np.float32)


def _kind(problem: RoutingProblem, predicted: NDArray[np.float32], view: ViewSettings) -> NDArray[np.float64]:
    """(n,) holes of one patch and kind share a queue."""
    if view.candidates == "holes":
        return np.arange(problem.n_holes, dtype=np.float64)
    if view.candidates == "dominant":
        return np.zeros(problem.n_holes)
    return -predicted.astype(np.float64)
