"""Looking ahead: the adaptive planner's choice against others, by routes simulated on draws from the belief.

Before it moves to another patch the policy draws outcomes of all holes from the posterior, runs the time-price planner
(`price.py`), which goes on learning in the draw, from each candidate patch, and leaves the adaptive planner's choice
only for one that is better on these draws beyond their noise (rollout, Bertsekas et al. 1997).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.belief.calibration import sigmoid
from cryoscout.core.settings import Settings
from cryoscout.learning.price import (
    N_TERMS,
    best_free,
    price_of,
    price_tree,
    simulate_route,
)
from cryoscout.learning.residual import reachable
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import STOP, Observation, PolicyKind
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN


class RolloutSettings(Settings):
    """How far and how often to look ahead."""

    draws: Annotated[int, Field(ge=2, le=1000)] = 8
    """Draws of all outcomes per choice; every candidate meets the same ones."""
    candidates: Annotated[int, Field(ge=2, le=20)] = 3
    """Patches compared, the adaptive planner's among them."""
    horizon_min: Annotated[float, Field(gt=0.0)] = 60.0
    """Minutes that are simulated; what follows is valued by its plan."""
    standard_errors: Annotated[float, Field(ge=0.0)] = 1.0
    """How much better another patch must be, in standard errors of the paired difference."""


class Rollout:
    """The adaptive planner with a look ahead before every move to another patch."""

    name: str = "rollout"
    kind: PolicyKind = "learned"
    default_prediction: str = "combined"
    drops_crossing: bool = False
    settings_type: ClassVar[type[RolloutSettings]] = RolloutSettings

    def __init__(self, settings: RolloutSettings | None = None) -> None:
        self.settings = settings or RolloutSettings()
        self._adaptive = Adaptive()

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        self._problem, self._rng = problem, rng
        self._adaptive.reset(problem, start_hole, rng)
        self._belief = self._adaptive.effect_belief
        self._tree = price_tree(problem)
        self._allowed = problem.available()
        self.looked, self.left_plan = 0, 0

    def next_hole(self, observation: Observation) -> int:
        """The adaptive planner's hole, or the surest hole of a patch that looks better."""
        planned = self._adaptive.next_hole(observation)
        if planned == STOP or observation.here == NOWHERE:
            return planned
        problem = self._problem
        here_patch = int(problem.patch_of_hole[observation.here])
        last = observation.outcome[observation.here]
        shots = problem.shots if observation.results is None else observation.results[observation.here]
        stays = int(problem.patch_of_hole[planned]) == here_patch
        if stays and not last < shots / 2:
            return planned  # a good hole is no reason to look elsewhere
        left = problem.budget_min - observation.minutes_used + ROUNDING_MIN
        free = self._allowed & ~observation.visited
        reached = free & reachable(problem, here_patch, left) if problem.crossing == "drop" else free
        patches = self._candidates(observation, reached, here_patch, left, planned)
        if len(patches) < 2:
            return planned
        self.looked += 1
        found = self._simulate(patches, observation, free, left)
        gain = found[1:] - found[0]
        mean, error = gain.mean(axis=1), gain.std(axis=1, ddof=1) / np.sqrt(gain.shape[1])
        sure = mean - self.settings.standard_errors * error
        best = int(np.argmax(sure))
        if sure[best] <= 0:
            return planned
        self.left_plan += 1
        return int(best_free(self._tree, reached, patches[1 + best]))

    def _candidates(
        self,
        observation: Observation,
        free: NDArray[np.bool_],
        here_patch: int,
        left_min: float,
        planned: int,
    ) -> list[int]:
        """The planned hole's patch, then the best-looking others of every tier."""
        problem, tree = self._problem, self._tree
        values = self._belief.p_good()
        n_patches = len(problem.square_of_patch)
        net_patch, count = np.empty(n_patches), np.empty(n_patches, dtype=np.int64)
        net_square = np.empty(len(problem.grid_of_square))
        net_grid = np.empty(int(problem.grid_of_square[-1]) + 1)
        price_of(tree, values, free, here_patch, left_min, net_patch, net_square, net_grid, count)
        worth = net_patch + 0.1 * np.maximum(net_square[problem.square_of_patch], 0.0)
        worth += 0.02 * np.maximum(net_grid[problem.grid_of_patch], 0.0)
        worth[np.bincount(problem.patch_of_hole[free], minlength=n_patches) == 0] = -np.inf
        square, grid = problem.square_of_patch, problem.grid_of_patch
        tier = np.where(square == square[here_patch], 1, np.where(grid == grid[here_patch], 2, 3))
        tier[here_patch] = 0
        patches = [int(problem.patch_of_hole[planned])]
        best_of_tier = [int(np.argmax(np.where(tier == of, worth, -np.inf))) for of in range(4)]
        for patch in [*best_of_tier, *np.argsort(-worth).tolist()]:
            if patch not in patches and np.isfinite(worth[patch]):
                patches.append(patch)
        return patches[: self.settings.candidates]

    def _simulate(
        self, patches: list[int], observation: Observation, free: NDArray[np.bool_], left_min: float
    ) -> NDArray[np.float64]:
        """(candidates, draws) good micrographs of routes that begin in each patch."""
        belief, tree = self._belief, self._tree
        effects = belief.draw_effects(self.settings.draws, self._rng)
        n_seen = np.bincount(
            self._problem.patch_of_hole[observation.visited], minlength=len(tree.square_of_patch)
        )
        found = np.empty((len(patches), self.settings.draws))
        evidence = belief.evidence
        for draw, of_patch in enumerate(effects):
            chance = sigmoid(belief.location + of_patch[self._problem.patch_of_hole])
            good = (self._rng.random(len(chance)) < chance).astype(np.float64)
            for row, patch in enumerate(patches):
                found[row, draw] = simulate_route(
                    tree, good, free, evidence, n_seen, observation.here, left_min,
                    np.zeros((0, N_TERMS + 2)), patch, self.settings.horizon_min,
                )  # fmt: skip
        return found
