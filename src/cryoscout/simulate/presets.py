"""Named kinds of simulated sessions as tables; presets with images carry other names."""

from __future__ import annotations

from cryoscout.core.errors import UnknownNameError
from cryoscout.simulate.settings import SimulationSettings

_EVEN = {"holes_per_patch_spread": 0.1, "patches_per_square_spread": 0.2, "squares_per_grid_spread": 0.2}

TABLE_PRESETS: dict[str, SimulationSettings] = {
    "small": SimulationSettings(holes=1_000, holes_per_patch=10, patches_per_square=5, squares_per_grid=5),
    "y1-like": SimulationSettings(),
    "daily": SimulationSettings(
        holes=100_000, holes_per_patch=30, patches_per_square=20, squares_per_grid=14, **_EVEN
    ),
    "million": SimulationSettings(
        holes=1_000_000, holes_per_patch=40, patches_per_square=25, squares_per_grid=84, **_EVEN
    ),
}
"""`small`: tests and first steps; `y1-like`: the tree, share of good, intra-class correlations (0.39 / 0.26 /
0.21 within patch / square / grid, on average over seeds), CTF quantiles and classifier of the Y1 session;
`daily`: the holes a facility of several microscopes targets in a day, 12 grids; `million`: the largest size
that planning is meant for, 12 grids."""


def simulation_named(name: str) -> SimulationSettings:
    """The preset of that name. Raises UnknownNameError with the nearest name."""
    try:
        return TABLE_PRESETS[name]
    except KeyError:
        raise UnknownNameError("The simulation preset", name, TABLE_PRESETS) from None
