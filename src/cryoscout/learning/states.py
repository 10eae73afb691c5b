"""States of many routes as a few small arrays, and the compiled steps on them: start, visit, look.

A candidate's features (CryoRL, Table 1), in this order: predicted good; visited; for its patch, square and grid the
unvisited holes, those predicted good, the visited holes, the good micrographs, as shares of FULL; whether a visit
enters a new patch, a new square, a new grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from cryoscout.learning.settings import N_FEATURES, N_FRAMES, N_INPUTS, History
from cryoscout.learning.tables import RouteTables

FULL_PATCH, FULL_SQUARE, FULL_GRID = 25.0, 150.0, 500.0
"""Counts are divided by these and clipped at 1 (the release; the paper's table says 150 for a grid)."""

NO_HOLE = -1


class RouteStates(NamedTuple):
    """States of E routes; the second length is that of the largest session."""

    session: NDArray[np.int64]  # (E,)
    here: NDArray[np.int64]  # (E,) last visited hole, NO_HOLE before the first
    visited: NDArray[np.uint8]  # (E, N)
    left: NDArray[np.int32]  # (E, Q) holes left in each queue
    next_member: NDArray[np.int32]  # (E, Q) place of the next hole within its queue
    patch: NDArray[np.float32]  # (E, P, 4) counters, columns as in tables.py
    square: NDArray[np.float32]  # (E, S, 4)
    grid: NDArray[np.float32]  # (E, G, 4)
    recent: NDArray[np.int64]  # (E, N_FRAMES) visited holes, the last first; NO_HOLE where there were fewer
    recent_good: NDArray[np.float32]  # (E, N_FRAMES) good micrographs they gave, where known

    @property
    def n_routes(self) -> int:
        """Number of routes E."""
        return len(self.here)


def empty_states(tables: RouteTables, n_routes: int) -> RouteStates:
    """States of `n_routes` routes; call `start_routes` before use."""

    def largest(begin: NDArray[np.int64]) -> int:
        return int(np.diff(begin).max())

    return RouteStates(
        session=np.zeros(n_routes, dtype=np.int64),
        here=np.full(n_routes, NO_HOLE, dtype=np.int64),
        visited=np.zeros((n_routes, largest(tables.hole_begin)), dtype=np.uint8),
        left=np.zeros((n_routes, largest(tables.queue_begin)), dtype=np.int32),
        next_member=np.zeros((n_routes, largest(tables.queue_begin)), dtype=np.int32),
        patch=np.zeros((n_routes, largest(tables.patch_begin), 4), dtype=np.float32),
        square=np.zeros((n_routes, largest(tables.square_begin), 4), dtype=np.float32),
        grid=np.zeros((n_routes, largest(tables.grid_begin), 4), dtype=np.float32),
        recent=np.full((n_routes, N_FRAMES), NO_HOLE, dtype=np.int64),
        recent_good=np.zeros((n_routes, N_FRAMES), dtype=np.float32),
    )


@nb.njit(cache=True)
def _take_counters(into, counters, begin, end):  # type: ignore[no-untyped-def]
    for place in range(begin, end):
        for counter in range(counters.shape[1]):
            into[place - begin, counter] = counters[place, counter]


@nb.njit(cache=True)
def start_route(tables: RouteTables, states: RouteStates, route: int, session: int) -> None:
    """Set one route back to before its first visit in this session."""
    states.session[route] = session
    states.here[route] = NO_HOLE
    # Loops, here and below: assignments of slices take seconds to compile.
    begin, end = tables.hole_begin[session], tables.hole_begin[session + 1]
    for hole in range(end - begin):
        states.visited[route, hole] = tables.visited0[begin + hole]
    begin, end = tables.queue_begin[session], tables.queue_begin[session + 1]
    for queue in range(end - begin):
        states.left[route, queue] = (
            tables.members_begin[begin + queue + 1] - tables.members_begin[begin + queue]
        )
        states.next_member[route, queue] = 0
    begin, end = tables.patch_begin[session], tables.patch_begin[session + 1]
    _take_counters(states.patch[route], tables.patch0, begin, end)
    begin, end = tables.square_begin[session], tables.square_begin[session + 1]
    _take_counters(states.square[route], tables.square0, begin, end)
    begin, end = tables.grid_begin[session], tables.grid_begin[session + 1]
    _take_counters(states.grid[route], tables.grid0, begin, end)
    states.recent[route] = NO_HOLE
    states.recent_good[route] = 0.0


@nb.njit(cache=True)
def visit(tables: RouteTables, states: RouteStates, route: int, hole: int, good: float) -> None:
    """Visit a hole that gives `good` micrographs; one that is in no queue (a start) may be visited too."""
    session = states.session[route]
    queue = tables.queue_of_hole[tables.hole_begin[session] + hole]
    fresh = states.visited[route, hole] == 0
    states.visited[route, hole] = 1
    if fresh and queue >= 0:
        states.left[route, queue] -= 1
        begin = tables.members_begin[tables.queue_begin[session] + queue]
        end = tables.members_begin[tables.queue_begin[session] + queue + 1]
        place = states.next_member[route, queue]
        while begin + place < end and states.visited[route, tables.members[begin + place]]:
            place += 1
        states.next_member[route, queue] = place
    patch = tables.patch_of_hole[tables.hole_begin[session] + hole]
    square = tables.square_of_patch[tables.patch_begin[session] + patch]
    grid = tables.grid_of_square[tables.square_begin[session] + square]
    predicted = tables.predicted[tables.hole_begin[session] + hole]
    if fresh:
        for counters in (states.patch[route, patch], states.square[route, square], states.grid[route, grid]):
            if queue >= 0:
                counters[0] -= 1.0
                counters[1] -= predicted
            counters[2] += 1.0
            counters[3] += good
    for frame in range(N_FRAMES - 1, 0, -1):
        states.recent[route, frame] = states.recent[route, frame - 1]
        states.recent_good[route, frame] = states.recent_good[route, frame - 1]
    states.recent[route, 0] = hole
    states.recent_good[route, 0] = good
    states.here[route] = hole


@nb.njit(cache=True)
def tier_of(tables: RouteTables, session: int, here: int, there: int) -> int:
    """0 same patch, 1 same square, 2 same grid, 3 other grid or `here` is NO_HOLE."""
    if here == NO_HOLE:
        return 3
    a = tables.patch_of_hole[tables.hole_begin[session] + here]
    b = tables.patch_of_hole[tables.hole_begin[session] + there]
    if a == b:
        return 0
    a = tables.square_of_patch[tables.patch_begin[session] + a]
    b = tables.square_of_patch[tables.patch_begin[session] + b]
    if a == b:
        return 1
    a = tables.grid_of_square[tables.square_begin[session] + a]
    b = tables.grid_of_square[tables.square_begin[session] + b]
    return 2 if a == b else 3


@nb.njit(cache=True)
def _frame(
    tables: RouteTables,
    states: RouteStates,
    route: int,
    hole: int,
    back: int,
    here: int,
    out: NDArray[np.float32],
    row: int,
    column: int,
) -> None:
    """Write N_FEATURES features of a hole to out[row, column:], as they were `back` visits ago, reached from `here`.

    The visits taken back are visits an agent chose: a start hole is never among them. Scalars, no slices: this is
    the innermost loop of acting and of learning.
    """
    session = states.session[route]
    first_hole, first_patch = tables.hole_begin[session], tables.patch_begin[session]
    first_square = tables.square_begin[session]
    patch = tables.patch_of_hole[first_hole + hole]
    square = tables.square_of_patch[first_patch + patch]
    grid = tables.grid_of_square[first_square + square]
    out[row, column] = tables.predicted[first_hole + hole]
    out[row, column + 1] = states.visited[route, hole]
    for which in range(4):
        out[row, column + 2 + which] = states.patch[route, patch, which]
        out[row, column + 6 + which] = states.square[route, square, which]
        out[row, column + 10 + which] = states.grid[route, grid, which]
    for undone in range(back):
        before = states.recent[route, undone]
        was_left = tables.queue_of_hole[first_hole + before] >= 0
        its_patch = tables.patch_of_hole[first_hole + before]
        its_square = tables.square_of_patch[first_patch + its_patch]
        if before == hole:
            out[row, column + 1] = 0.0
        if tables.grid_of_square[first_square + its_square] != grid:
            continue
        levels = 3 if its_patch == patch else 2 if its_square == square else 1
        for level in range(levels):  # grid, square, patch
            at = column + 10 - 4 * level
            if was_left:
                out[row, at] += 1.0
                out[row, at + 1] += tables.predicted[first_hole + before]
            out[row, at + 2] -= 1.0
            out[row, at + 3] -= states.recent_good[route, undone]
    for which in range(4):
        out[row, column + 2 + which] = min(out[row, column + 2 + which] / FULL_PATCH, 1.0)
        out[row, column + 6 + which] = min(out[row, column + 6 + which] / FULL_SQUARE, 1.0)
        out[row, column + 10 + which] = min(out[row, column + 10 + which] / FULL_GRID, 1.0)
    tier = 3
    if here != NO_HOLE:
        here_patch = tables.patch_of_hole[first_hole + here]
        here_square = tables.square_of_patch[first_patch + here_patch]
        if here_patch == patch:
            tier = 0
        elif here_square == square:
            tier = 1
        elif tables.grid_of_square[first_square + here_square] == grid:
            tier = 2
    for level in range(3):  # a new patch, square, grid
        out[row, column + 14 + level] = 1.0 if tier > level else 0.0


@nb.njit(cache=True)
def describe(
    tables: RouteTables,
    states: RouteStates,
    route: int,
    hole: int,
    own_past: bool,
    out: NDArray[np.float32],
    row: int,
) -> None:
    """Write the N_INPUTS numbers of one candidate to out[row], oldest frame first.

    own_past : the candidate's own features at the last steps (the first state stands in where there were fewer
    visits); else those of the last visited holes (zeros where there were fewer)
    """
    for frame in range(N_FRAMES - 1, 0, -1):
        column = (N_FRAMES - 1 - frame) * N_FEATURES
        if own_past:
            back = frame
            while back > 0 and states.recent[route, back] == NO_HOLE:
                back -= 1
            _frame(tables, states, route, hole, back, states.recent[route, back], out, row, column)
            continue
        before = states.recent[route, frame - 1]
        if before == NO_HOLE:
            out[row, column : column + N_FEATURES] = 0.0
        else:
            _frame(tables, states, route, before, 0, states.recent[route, frame], out, row, column)
    _frame(tables, states, route, hole, 0, states.here[route], out, row, (N_FRAMES - 1) * N_FEATURES)


@nb.njit(cache=True)
def n_candidates(tables: RouteTables, states: RouteStates, route: int) -> int:
    """Queues with a hole left."""
    session = states.session[route]
    count = 0
    for queue in range(tables.queue_begin[session + 1] - tables.queue_begin[session]):
        if states.left[route, queue] > 0:
            count += 1
    return count


@nb.njit(cache=True)
def look_into(
    tables: RouteTables,
    states: RouteStates,
    route: int,
    own_past: bool,
    rows: NDArray[np.float32],
    holes: NDArray[np.int64],
    first: int,
) -> int:
    """Write the inputs and holes of all candidates of one route from row `first` on; returns how many."""
    session = states.session[route]
    queues = tables.queue_begin[session]
    last_frame = N_INPUTS - N_FEATURES
    row = first
    for queue in range(tables.queue_begin[session + 1] - queues):
        if states.left[route, queue] == 0:
            continue
        hole = tables.members[tables.members_begin[queues + queue] + states.next_member[route, queue]]
        holes[row] = hole
        if own_past or row == first:
            describe(tables, states, route, hole, own_past, rows, row)
        else:  # the frames of visited holes are the same for every candidate
            for column in range(last_frame):
                rows[row, column] = rows[first, column]
            _frame(tables, states, route, hole, 0, states.here[route], rows, row, last_frame)
        row += 1
    return row - first


@nb.njit(cache=True)
def _look_all(
    tables: RouteTables,
    states: RouteStates,
    own_past: bool,
    begin: NDArray[np.int64],
    rows: NDArray[np.float32],
    holes: NDArray[np.int64],
) -> None:
    for route in range(len(begin) - 1):
        if begin[route + 1] > begin[route]:
            look_into(tables, states, route, own_past, rows, holes, begin[route])


@nb.njit(cache=True)
def _count_all(tables: RouteTables, states: RouteStates, active: NDArray[np.bool_]) -> NDArray[np.int64]:
    begin = np.zeros(len(states.here) + 1, dtype=np.int64)
    for route in range(len(states.here)):
        begin[route + 1] = begin[route] + (n_candidates(tables, states, route) if active[route] else 0)
    return begin


class Look(NamedTuple):
    """What may be chosen in E states: candidates of state e are rows begin[e] .. begin[e + 1]."""

    begin: NDArray[np.int64]  # (E + 1,)
    rows: NDArray[np.float32]  # (R, N_INPUTS)
    holes: NDArray[np.int64]  # (R,) the hole each candidate would image


def look(
    tables: RouteTables, states: RouteStates, history: History, active: NDArray[np.bool_] | None = None
) -> Look:
    """Every candidate of every active route, (E,) bool; the others have no rows."""
    if active is None:
        active = np.ones(states.n_routes, dtype=np.bool_)
    begin = _count_all(tables, states, active)
    rows = np.empty((int(begin[-1]), N_INPUTS), dtype=np.float32)
    holes = np.empty(int(begin[-1]), dtype=np.int64)
    _look_all(tables, states, history == "candidate", begin, rows, holes)
    return Look(begin, rows, holes)
