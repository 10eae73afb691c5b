"""Print the prior of what unseen patches hold, fitted to the training patches of Y1.

    python scripts/fit_y1_unseen.py

Numbers of holes and patches are means. The levels of the patches (the mean logit of `combined` over their holes) are a
Gaussian tree: maximum marginal likelihood of grid, square and patch variances, and the mean.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from cryoscout.belief.effects import Y1_EFFECTS, location_of
from cryoscout.routing.predictions import named_p_good
from cryoscout.session.builtin import load_builtin


def main() -> None:
    """Fit and print."""
    session = load_builtin("y1", split="train")
    tree = session.tree()
    location = location_of(named_p_good(session, "combined"), Y1_EFFECTS.total)
    count = np.bincount(tree.patch_of_hole)
    level = np.bincount(tree.patch_of_hole, weights=location) / count
    within = float(((location - level[tree.patch_of_hole]) ** 2).sum() / (count.sum() - len(count)))
    same_square = tree.square_of_patch[:, None] == tree.square_of_patch
    same_grid = tree.grid_of_patch[:, None] == tree.grid_of_patch

    def loss(parameters: np.ndarray) -> float:
        grid, square, patch = np.exp(parameters[1:])
        covariance = grid * same_grid + square * same_square + np.diag(patch + within / count)
        prior = 0.5 * float(parameters[1:].sum())  # uniform in the standard deviations, mode in log variance
        return (
            -float(multivariate_normal.logpdf(level, np.full(len(level), parameters[0]), covariance)) - prior
        )

    found = minimize(loss, np.array([level.mean(), -1.0, -1.0, 0.0]), method="Nelder-Mead")
    grid, square, patch = np.exp(found.x[1:])
    print(
        f"mean={found.x[0]:.3f}, grid={grid:.3f}, square={square:.3f}, patch={patch:.3f}, within={within:.3f}"
    )
    n_squares = len(np.unique(tree.square_of_patch))
    print(f"holes_per_patch={count.mean():.2f}, patches_per_square={len(count) / n_squares:.2f}")


if __name__ == "__main__":
    main()
