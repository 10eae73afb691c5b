from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscout.core.errors import UnknownNameError
from cryoscout.simulate.presets import TABLE_PRESETS, simulation_named
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables


def intra_class_correlation(value: NDArray[np.float64], group: NDArray[np.int32]) -> float:
    """One-way analysis of variance, groups of unequal size; a plain loop over groups."""
    groups = [value[group == one] for one in np.unique(group)]
    sizes = np.array([len(members) for members in groups])
    n, k = len(value), len(groups)
    between = sum(len(members) * (members.mean() - value.mean()) ** 2 for members in groups) / (k - 1)
    within = sum(((members - members.mean()) ** 2).sum() for members in groups) / (n - k)
    usual_size = (n - (sizes**2).sum() / n) / (k - 1)
    return float((between - within) / (between + (usual_size - 1) * within))


def test_y1_like_has_the_tree_of_y1() -> None:
    y1_like = simulation_named("y1-like")
    assert (y1_like.holes, y1_like.patches, y1_like.squares, y1_like.grids) == (3538, 173, 25, 16)


def test_y1_like_has_the_share_ctf_quantiles_and_correlations_of_y1_on_average() -> None:
    rows = []
    for seed in range(60):
        tables = simulate_tables(simulation_named("y1-like"), seed)
        square = tables.square_of_patch[tables.patch_of_hole]
        levels = (tables.patch_of_hole, square, tables.grid_of_square[square])
        ctf = np.quantile(tables.ctf_max_res_angstrom, [0.05, 0.25, 0.5, 0.75, 0.95])
        correlations = [intra_class_correlation(tables.good, level) for level in levels]
        says_right = (tables.score >= 0.5) == (tables.good > 0)
        rows.append([tables.good.mean(), says_right.mean(), *correlations, *ctf])
    share, accuracy, patch, square_, grid, *quantiles = np.mean(rows, axis=0)
    assert share == pytest.approx(0.379, abs=0.005)
    assert accuracy == pytest.approx(0.885, abs=0.005)
    assert (patch, square_, grid) == pytest.approx((0.39, 0.26, 0.21), abs=0.02)
    assert quantiles == pytest.approx([3.4, 4.5, 7.7, 10.8, 19.4], rel=0.05)


@pytest.mark.parametrize(
    ("name", "holes", "grids"), [("small", 1000, 4), ("daily", 100_000, 12), ("million", 1_000_000, 12)]
)
def test_other_presets_have_their_size(name: str, holes: int, grids: int) -> None:
    preset = simulation_named(name)
    assert (preset.holes, preset.grids) == (holes, grids)


def test_daily_can_be_simulated_and_a_grid_fits_on_its_3_mm() -> None:
    tables = simulate_tables(simulation_named("daily"), 0)
    assert tables.n_holes == 100_000
    assert np.hypot(tables.x_um, tables.y_um).max() < 1500


def test_a_million_holes_can_be_simulated() -> None:
    tables = simulate_tables(simulation_named("million"), 0)
    assert tables.n_holes == 1_000_000
    assert tables.nbytes < 100e6
    assert tables.good.mean() == pytest.approx(0.379, abs=0.002)
    assert np.hypot(tables.x_um, tables.y_um).max() < 1500


def test_presets_survive_json() -> None:
    for preset in TABLE_PRESETS.values():
        assert SimulationSettings.model_validate_json(preset.model_dump_json()) == preset


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'y1-like'"):
        simulation_named("y1-lik")
