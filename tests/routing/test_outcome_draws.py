"""Drawn outcomes: their mean is the prediction, and neighbours go wrong together."""

from __future__ import annotations

import numpy as np
import pytest
from learning_samples import even_session

from cryoscout.belief.effects import EffectVariances
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.outcome_draws import draw_outcomes
from cryoscout.routing.problem import RoutingProblem

N_DRAWS = 6000


def problem_with(effects: EffectVariances, shots: int = 1) -> RoutingProblem:
    """2 grids x 2 squares x 2 patches x 4 holes, p_good from 0.05 to 0.95."""
    of = even_session().problem
    p_good = np.random.default_rng(5).permutation(np.linspace(0.05, 0.95, 32))
    return RoutingProblem(
        HoleTree(of.patch_of_hole, of.square_of_patch, of.grid_of_square),
        p_good,
        60.0,
        effects=effects,
        shots=shots,
    )


def drawn(problem: RoutingProblem, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([draw_outcomes(problem, rng) for _ in range(N_DRAWS)])


LARGE = EffectVariances(patch=1.0, square=0.7, grid=0.5, session=0.3)


@pytest.mark.parametrize("shots", [1, 3])
def test_the_mean_of_the_draws_is_p_good(shots: int) -> None:
    problem = problem_with(LARGE, shots)
    good = drawn(problem)
    assert set(np.unique(good)) <= set(range(shots + 1))
    error = np.sqrt(shots**2 * problem.prior_p_good * (1 - problem.prior_p_good) / N_DRAWS)
    # Five standard errors, and half a percent for the logistic normal being matched by its probit approximation.
    assert (np.abs(good.mean(axis=0) - shots * problem.prior_p_good) <= 5 * error + 0.005 * shots).all()


def test_the_nearer_two_holes_are_the_more_alike_they_turn_out() -> None:
    good = drawn(problem_with(LARGE))
    together = np.corrcoef(good.T)
    of = even_session().problem
    square, grid = of.square_of_hole, of.grid_of_hole
    other = ~np.eye(32, dtype=bool)
    same_patch = other & (of.patch_of_hole[:, None] == of.patch_of_hole)
    same_square = (square[:, None] == square) & ~same_patch & other
    same_grid = (grid[:, None] == grid) & ~same_square & ~same_patch & other
    elsewhere = grid[:, None] != grid
    means = [together[pairs].mean() for pairs in (same_patch, same_square, same_grid, elsewhere)]
    assert means[0] > means[1] + 0.02 > means[2] + 0.04 > means[3] + 0.06
    assert means[3] > 0.01  # the session's own effect


def test_without_effects_holes_are_independent() -> None:
    together = np.corrcoef(
        drawn(problem_with(EffectVariances(patch=0.0, square=0.0, grid=0.0, session=0.0))).T
    )
    assert np.abs(together[~np.eye(32, dtype=bool)]).max() < 5 / np.sqrt(N_DRAWS)


def test_the_same_generator_draws_the_same() -> None:
    problem = problem_with(LARGE)
    a, b = (draw_outcomes(problem, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
