"""Routes that always take the candidate with the best score, many at once: how an agent is judged while it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.ties import relative_tolerance
from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.settings import ViewSettings
from cryoscout.learning.states import NO_HOLE
from cryoscout.learning.weights import PolicyFile

Scores = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
"""(rows (R, N_INPUTS), begin (E + 1,)) -> (R,) scores; every state has a row."""


@dataclass(frozen=True)
class GreedyRoutes:
    """What the routes found."""

    good: NDArray[np.float64]  # (E,) good micrographs, the visit that crosses the budget included
    visited: NDArray[np.int64]  # (E,)
    reward: NDArray[np.float64]  # (E,)


def greedy_routes(
    session: TrainingSession,
    view: ViewSettings,
    scores: Scores,
    starts: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    reward: str = "cryorl",
) -> GreedyRoutes:
    """One route from every start hole, (E,), by the published rules (the visit that crosses the budget counts).

    rng : for sessions whose outcomes are drawn; others use none
    """
    n_routes = len(starts)
    routes = BatchedRoutes([session], view, n_routes, rng, reward=reward)
    for route, start in enumerate(starts):
        routes.reset(route, session=0, start_hole=int(start))
    found = GreedyRoutes(np.zeros(n_routes), np.zeros(n_routes, dtype=np.int64), np.zeros(n_routes))
    active = routes.minutes <= routes.rules.budget_min[0]
    while True:
        seen = routes.look(active)
        counts = np.diff(seen.begin)
        active &= counts > 0
        if not active.any():
            return found
        begin = np.concatenate([[0], np.cumsum(counts[active])])
        holes = np.full(n_routes, NO_HOLE, dtype=np.int64)
        holes[active] = seen.holes[best_rows(scores(seen.rows, begin), begin)]
        step = routes.step(holes)
        found.good[:] += step.good
        found.reward[:] += step.reward
        found.visited[active] += 1
        active &= ~(step.terminated | step.truncated)


def whole_routes(
    session: TrainingSession, trained: PolicyFile, starts: NDArray[np.int64], advance: Callable[[], None]
) -> NDArray[np.int64]:
    """(E, n) every hole of a session in the order in which a trained policy visits it, the start first.

    session : its problem allows every hole, with a budget that holds them all; `advance` is called after each visit
    What a visit gave is counted as the session's outcomes say, as in the training.
    Raises InputError where the budget ends before the last hole.
    """
    n, n_routes = session.problem.n_holes, len(starts)
    network = NumpyNetwork(trained.settings.network, trained.weights)
    routes = BatchedRoutes([session], trained.settings.view, n_routes, np.random.default_rng(0))
    for route, start in enumerate(starts):
        routes.reset(route, session=0, start_hole=int(start))
    found = np.empty((n_routes, n), dtype=np.int64)
    found[:, 0] = starts
    for visit in range(1, n):
        seen = routes.look()
        scores = np.concatenate(
            [network.scores(seen.rows[seen.begin[e] : seen.begin[e + 1]]) for e in range(n_routes)]
        )
        found[:, visit] = seen.holes[best_rows(scores, seen.begin)]
        step = routes.step(found[:, visit])
        if visit + 1 < n and step.truncated.any():
            raise InputError(
                f"The budget of a whole route must hold all {n} holes. Got one that ends after {visit} instead."
            )
        advance()
    return found


def first_values(
    session: TrainingSession, trained: PolicyFile, starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(E, n) what a trained policy thinks of every hole next after a start: its learned values; NaN of the start.

    session : its problem allows every hole; each is scored as a candidate, whatever the policy's view leaves out
    """
    network = NumpyNetwork(trained.settings.network, trained.weights)
    view = trained.settings.view.model_copy(update={"candidates": "holes"})
    values = np.full((len(starts), session.problem.n_holes), np.nan)
    routes = BatchedRoutes([session], view, 1, np.random.default_rng(0))
    for of_start, start in zip(values, starts.tolist(), strict=True):
        routes.reset(0, session=0, start_hole=start)
        seen = routes.look()
        of_start[seen.holes] = network.scores(seen.rows)
    return values


def best_rows(scores: NDArray[np.floating], begin: NDArray[np.int64]) -> NDArray[np.int64]:
    """(E,) row of the highest score of every state, the first of equals. Every state must have a row.

    As `first_of_the_best` of each state's scores, for all of them at once.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)  # diverged: the loss will say so
    best = np.maximum.reduceat(scores, begin[:-1])
    largest = np.maximum.reduceat(np.where(np.isfinite(scores), np.abs(scores), 0.0), begin[:-1])
    lowest_best = best - relative_tolerance(scores) * largest
    is_best = scores >= np.repeat(lowest_best, np.diff(begin))
    rows = np.where(is_best, np.arange(len(scores)), len(scores))
    return np.asarray(np.minimum.reduceat(rows, begin[:-1]), dtype=np.int64)
