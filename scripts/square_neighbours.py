"""How alike neighbouring squares are beyond their grid and what the atlas shows, in simulated sessions.

    python scripts/square_neighbours.py [SESSIONS]

Of sessions of the preset `atlas` the share of good holes of every square, less what its grid, area and brightness
explain, is correlated with that of the nearest square of the grid, and with those of all others of the grid: what a
grid's mean explains makes these correlations negative. Prints the mean over sessions and its standard error.
"""

from __future__ import annotations

import sys

import numpy as np

from cryoscout.session.looks import atlas_features
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

FIRST_SEED = 5_100_000
"""Of no study."""


def correlations(seed: int) -> tuple[float, float]:
    """Of one session: with the nearest square, and with any other of the grid."""
    tables = simulate_tables(simulation_named("atlas"), seed)
    session = to_session(tables, "atlas")
    tree = session.tree()
    square = tree.square_of_hole
    number = np.bincount(square, minlength=tree.n_squares)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(square, weights=values, minlength=tree.n_squares) / number

    known = np.nan_to_num(atlas_features(session))
    design = np.column_stack([np.eye(tree.n_grids)[tree.grid_of_square], known])
    good = mean(tables.good)
    rest = good - design @ np.linalg.lstsq(design, good, rcond=None)[0]
    x_um, y_um = mean(tables.x_um), mean(tables.y_um)
    apart_um = np.hypot(x_um[:, None] - x_um, y_um[:, None] - y_um)
    apart_um[tree.grid_of_square[:, None] != tree.grid_of_square] = np.inf
    np.fill_diagonal(apart_um, np.inf)
    nearest = rest * rest[apart_um.argmin(axis=1)]
    pairs = (rest[:, None] * rest)[np.isfinite(apart_um)]
    return float(nearest.mean() / rest.var()), float(pairs.mean() / rest.var())


def main() -> None:
    """Print the mean correlation."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    found = np.array([correlations(FIRST_SEED + number) for number in range(sessions)])
    error = found.std(axis=0, ddof=1) / np.sqrt(sessions)
    for what, mean, spread in zip(
        ("nearest squares", "any two squares of a grid"), found.mean(axis=0), error, strict=True
    ):
        print(f"{sessions} sessions: correlation of {what} {mean:+.3f} ± {spread:.3f}")


if __name__ == "__main__":
    main()
