"""Outcomes of a session drawn from the calibrated belief: what an agent learns doubt from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import location_of
from cryoscout.routing.problem import RoutingProblem


def draw_outcomes(problem: RoutingProblem, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n,) good micrographs per hole, one joint draw of the prior effects and of every shot.

    Effects are drawn once per session, grid, square and patch, so that neighbours go wrong together.
    """
    effects = problem.effects
    n_grids, n_squares, n_patches = (
        int(problem.grid_of_square[-1]) + 1,
        len(problem.grid_of_square),
        len(problem.square_of_patch),
    )
    of_grid = rng.normal(0.0, np.sqrt(effects.grid), n_grids) + rng.normal(0.0, np.sqrt(effects.session))
    of_square = of_grid[problem.grid_of_square] + rng.normal(0.0, np.sqrt(effects.square), n_squares)
    of_patch = of_square[problem.square_of_patch] + rng.normal(0.0, np.sqrt(effects.patch), n_patches)
    chance = sigmoid(location_of(problem.prior_p_good, effects.total) + of_patch[problem.patch_of_hole])
    return rng.binomial(problem.shots, chance).astype(np.float64)
