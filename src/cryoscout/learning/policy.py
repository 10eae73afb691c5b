"""A trained policy as one of the policies of `plan` and `replay`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.ties import first_of_the_best
from cryoscout.learning.numpy_network import NumpyNetwork
from cryoscout.learning.settings import N_INPUTS
from cryoscout.learning.states import (
    RouteStates,
    empty_states,
    look_into,
    n_candidates,
    start_route,
    visit,
)
from cryoscout.learning.tables import GOOD, RouteTables, eliminated_problem, route_tables
from cryoscout.learning.weights import PolicyFile
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind
from cryoscout.routing.predictions import PAPER_MODEL
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


class LearnedPolicy(AskedHoleByHole):
    """Takes the candidate with the best score, of equal ones the first; needs numpy alone.

    A visit without a result (yet) counts as one that gave nothing until its result is known.
    It does not restart: its inputs hold the last visits, and action elimination depends on the minutes at the start.
    """

    kind: PolicyKind = "learned"
    drops_crossing: bool = False

    def __init__(self, name: str, trained: PolicyFile) -> None:
        self.name = name
        self.notes = trained.notes
        self.default_prediction = str(trained.notes.get("prediction", PAPER_MODEL))
        self.settings = trained.settings
        self._network = NumpyNetwork(trained.settings.network, trained.weights)

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        reduced = eliminated_problem(problem) if self.settings.elimination else problem
        self._problem = problem
        self._nothing_left = not problem.available().any()
        if self._nothing_left:
            return
        self._tables: RouteTables = route_tables([reduced], self.settings.view)
        self._states: RouteStates = empty_states(self._tables, 1)
        n = len(self._tables.members)
        self._rows = np.empty((n, N_INPUTS), dtype=np.float32)
        self._holes = np.empty(n, dtype=np.int64)
        start_route(self._tables, self._states, 0, 0)
        self._good, self._results = problem.known_results()  # counted so far
        self._news_seen = -1
        if start_hole != NOWHERE:
            visit(self._tables, self._states, 0, start_hole, 0.0)

    def next_hole(self, observation: Observation) -> int:
        """The hole of the best candidate, or STOP when nothing fits in the budget."""
        if self._nothing_left:
            return STOP
        self._follow(observation)
        if observation.news != self._news_seen:
            self._take_in(observation)
        count = n_candidates(self._tables, self._states, 0)
        if count == 0:
            return STOP
        own_past = self.settings.view.history == "candidate"
        look_into(self._tables, self._states, 0, own_past, self._rows, self._holes, 0)
        scores = self._network.scores(self._rows[:count])
        fits = self._fits(observation, self._holes[:count])
        if not fits.any():
            return STOP
        return int(self._holes[first_of_the_best(np.where(fits, scores, -np.inf))])

    def _follow(self, observation: Observation) -> None:
        """Make the visits since the last decision: the chosen one, or those the operator made instead."""
        here = observation.here
        if here == NOWHERE or here == self._states.here[0]:
            return
        n = self._problem.n_holes
        for hole in np.flatnonzero(observation.visited & (self._states.visited[0, :n] == 0)):
            if hole != here:
                visit(self._tables, self._states, 0, int(hole), 0.0)
        visit(self._tables, self._states, 0, here, 0.0)

    def _fits(self, observation: Observation, holes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(c,) candidates whose visit counts: with crossing `count` all of them while time is left."""
        problem = self._problem
        if problem.crossing == "count":
            return np.ones(len(holes), dtype=bool)
        tiers_min = problem.time_model.tiers_min(problem.shots)
        tier = np.array([problem.tier_between(observation.here, int(hole)) for hole in holes])
        return np.asarray(observation.minutes_used + tiers_min[tier] <= problem.budget_min + ROUNDING_MIN)

    def _take_in(self, observation: Observation) -> None:
        """Add new results to the counters, later shots of known holes too."""
        before = self._good.copy()
        for hole in observation.new_results(self._good, self._results, self._problem.shots):
            good = np.float32(self._good[hole] - before[hole])
            patch = int(self._tables.patch_of_hole[hole])
            square = int(self._tables.square_of_patch[patch])
            grid = int(self._tables.grid_of_square[square])
            self._states.patch[0, patch, GOOD] += good
            self._states.square[0, square, GOOD] += good
            self._states.grid[0, grid, GOOD] += good
            self._states.recent_good[0][self._states.recent[0] == hole] = np.float32(self._good[hole])
        self._news_seen = observation.news
