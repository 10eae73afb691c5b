"""When the simulated microscope takes each exposure: the time model with its jitter and pauses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.units import SECONDS_PER_MINUTE
from cryoscout.simulate.settings import VisitSettings


def visit_times_s(
    settings: VisitSettings,
    grid_of_hole: NDArray[np.int32],
    square_of_hole: NDArray[np.int32],
    patch_of_hole: NDArray[np.int32],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(n, shots) start of each exposure of the n holes visited, in their order, all shots of a hole in turn."""
    holes = len(patch_of_hole)
    tier = np.select(
        [np.diff(level, prepend=-1) != 0 for level in (grid_of_hole, square_of_hole, patch_of_hole)],
        [3, 2, 1],
        default=0,
    )
    steps_min = np.full((holes, settings.shots), settings.time_model.extra_shot_min)
    steps_min[:, 0] = settings.time_model.tiers_min()[tier]
    steps_min *= rng.lognormal(0.0, settings.time_jitter_sd, steps_min.shape)
    paused = rng.random(holes) < settings.pause_share
    steps_min[:, 0] += np.where(paused, rng.exponential(settings.pause_mean_min, holes), 0.0)
    started_min = settings.time_model.setup_min + np.cumsum(steps_min).reshape(steps_min.shape)
    return started_min * SECONDS_PER_MINUTE
