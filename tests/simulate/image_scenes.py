"""Small scenes for the tests of images: a few clean holes whose ice a test sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cryoscout.simulate.scene import Scene, simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings


def small_scene(seed: int = 3, **settings: Any) -> Scene:
    """Two squares with two patches of twelve holes each."""
    return simulate_scene(
        SceneSettings(**{"holes": 48, "patches": 4, "squares": 2, "grids": 1, **settings}), seed
    )


def clean_scene(thickness_nm: float = 40.0, seed: int = 3, **settings: Any) -> Scene:
    """The same without any dirt, slope, tear or crystal: all holes vitreous and as thick as said."""
    clean = {"contamination_logit": -20.0, "crystalline_logit": -20.0, "crystalline_square_sd": 0.0}
    even = {
        "broken_share": 0.0,
        "missing_share": 0.0,
        "grid_thickness_sd_nm": 0.0,
        "square_thickness_sd_nm": 0.0,
        "square_gradient_sd_nm_per_um": 0.0,
        "field_thickness_sd_nm": 0.0,
        "hole_thickness_sd_nm": 0.0,
    }
    return small_scene(seed, **{**clean, **even, "thickness_nm": thickness_nm, **settings})


def with_holes(scene: Scene, **values: Any) -> Scene:
    """The scene with other kinds, thicknesses, ... of its holes: arrays, or one value for all."""
    old = {name: getattr(scene, name) for name in values}
    return replace(
        scene, **{k: np.broadcast_to(v, old[k].shape).astype(old[k].dtype) for k, v in values.items()}
    )


def middle_of(crops: np.ndarray) -> np.ndarray:
    """(m,) mean level of the inner part of each crop's hole."""
    side = crops.shape[-1]
    at = np.arange(side) - (side - 1) / 2
    inner = np.hypot(at[:, None], at[None, :]) < 0.25 * side
    return crops[:, inner].astype(float).mean(axis=1)
