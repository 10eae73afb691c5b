"""Named kinds of simulated sessions: as tables alone, and as specimens from which images are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.routing.time_model import TimeModel
from cryoscout.simulate.image_settings import ImageSettings
from cryoscout.simulate.scene import Scene
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.settings import SimulationSettings

_EVEN = {"holes_per_patch_spread": 0.1, "patches_per_square_spread": 0.2, "squares_per_grid_spread": 0.2}

ATLAS_TIMES = TimeModel(
    name="atlas",
    same_patch_min=1.5,
    new_patch_min=3.0,
    new_square_min=3.0,
    new_grid_min=3.0,
    patch_look_min=1.5,
    square_look_min=3.0,
)
"""Those of `y1-looks-as-sketched` in whole steps of 1.5 minutes: exact plans of thousands of minutes are quick."""

TABLE_PRESETS: dict[str, SimulationSettings] = {
    "small": SimulationSettings(holes=1_000, holes_per_patch=10, patches_per_square=5, squares_per_grid=5),
    "y1-like": SimulationSettings(),
    "atlas": SimulationSettings(
        squares_per_grid=12.5,
        square_effect_sd=1.3,
        grid_effect_sd=0.65,
        atlas_brightness_correlation=0.7,
        atlas_exceptions_share=0.15,
        time_model=ATLAS_TIMES,
    ),
    "daily": SimulationSettings(
        holes=100_000, holes_per_patch=30, patches_per_square=20, squares_per_grid=14, **_EVEN
    ),
    "million": SimulationSettings(
        holes=1_000_000, holes_per_patch=40, patches_per_square=25, squares_per_grid=84, **_EVEN
    ),
}
"""`small`: tests and first steps; `y1-like`: the tree, share of good, intra-class correlations (0.39 / 0.26 /
0.21 within patch / square / grid, on average over seeds), CTF quantiles and classifier of the Y1 session;
`atlas`: squares, patches and holes of `y1-like` on two grids, whose squares differ as the grids of Y1 do (the two
effects changed places), with an atlas on which brightness says something of the ice, and looks that take minutes; fixed
before anything was run on it; `daily`: the holes a facility of several microscopes targets in a day, 12 grids;
`million`: the largest size that planning is meant for, 12 grids."""

_Y1_SIM = SceneSettings(
    thickness_nm=22.6,
    grid_thickness_sd_nm=23.3,
    square_thickness_sd_nm=8.83,
    field_thickness_sd_nm=19.9,
    empty_below_nm=14.0,
    dry_below_nm=24.0,
    crystalline_logit=-1.36,
    crystalline_square_sd=1.55,
    best_ctf_angstrom=3.38,
    thick_loss=0.183,
    crystalline_loss=0.79,
    dry_ctf_angstrom=6.86,
    empty_ctf_angstrom=10.8,
    no_ice_sd=0.404,
    difficulty=0.0682,
    failed_share_no_ice=0.0152,
)

_Y3 = _Y1_SIM.model_copy(
    update={
        "holes": 8653,
        "patches": 771,
        "squares": 58,
        "grids": 9,
        "share_good": 0.5,
        "thickness_nm": 58.5,
        "grid_thickness_sd_nm": 31.9,
        "square_thickness_sd_nm": 4.28,
        "field_thickness_sd_nm": 15.1,
        "hole_thickness_sd_nm": 3.3,
        "crystalline_logit": -3.83,
        "best_ctf_angstrom": 4.0,
        "thick_loss": 0.119,
        "difficulty": 0.191,
    }
)

_DAILY_IMAGES = _Y1_SIM.model_copy(
    update={
        "holes": 100_000,
        "patches": 3_333,
        "squares": 167,
        "grids": 12,
        **_EVEN,
        "exposed_share": 0.05,
        "exposed_share_of_patch": 0.5,
        "samples": 4,
        "sample_thickness_sd_nm": 12.0,
        "thickness_nm": 45.0,
        "best_ctf_angstrom": 3.8,
        "thick_loss": 0.14,
        "difficulty": 0.15,
    }
)

SCENE_PRESETS: dict[str, SceneSettings] = {"y1-sim": _Y1_SIM, "y3": _Y3, "daily-images": _DAILY_IMAGES}
"""`y1-sim`: the counts of Y1 (its split: 3,538 holes), with ice fitted so that CTF quantiles, share of good,
intra-class correlations and failed fits are Y1's on average over seeds (scripts/fit_simulator.py); `y3`: the counts of
SSL2-RL's Y3 and half of the holes good in every scene, many near 6 angstrom, correlations of Y1, and images that tell
little: accuracies near that paper's; `daily-images`: a day of a facility, 12 grids of four samples, one hole in
twenty imaged. Numbers are changed here only before any method is trained on what they make."""

IMAGE_PRESETS: dict[str, ImageSettings] = {
    "y3": ImageSettings(
        dose_e_per_px=5.0,
        film_mottle=0.04,
        film_ice_share=0.7,
        specks_per_um2=3.0,
        uneven_illumination=0.08,
        square_spread=0.8,
        aim_error_um=0.1,
        patch_margin_um=1.1,
    ),
}
"""How the specimens of SCENE_PRESETS are seen where not by the defaults. `y3`: a fast scan at low dose with an uneven
beam, mottled film, frost and holes that are aimed at badly, so that much of a crop says nothing of the ice. Chosen so
that supervised learning comes near the accuracies of SSL2-RL, Table 1 (a) (scripts/supervised_curve.py)."""

Y3_VALIDATION_HOLES = 2_164
"""Of 8,653; the other 6,489 are for training (SSL2-RL, section 4)."""

_SPLIT_SEED = 3
_MOST_TRIES = 1_000


def simulation_named(name: str) -> SimulationSettings:
    """The preset of that name. Raises UnknownNameError with the nearest name."""
    try:
        return TABLE_PRESETS[name]
    except KeyError:
        raise UnknownNameError("The simulation preset", name, TABLE_PRESETS) from None


def scene_named(name: str) -> SceneSettings:
    """The preset with images of that name. Raises UnknownNameError with the nearest name."""
    try:
        return SCENE_PRESETS[name]
    except KeyError:
        raise UnknownNameError("The simulation preset with images", name, SCENE_PRESETS) from None


def image_settings_named(name: str) -> ImageSettings:
    """How the preset of that name is seen. Raises UnknownNameError with the nearest name."""
    scene_named(name)
    return IMAGE_PRESETS.get(name, ImageSettings())


def y3_validation(scene: Scene) -> NDArray[np.bool_]:
    """(n,) the validation holes of a `y3` scene: whole patches, 2,164 holes; fixed: it follows from the tree alone.

    Raises InputError for a scene of another size.
    """
    expected = SCENE_PRESETS["y3"].holes
    if scene.n_holes != expected:
        raise InputError(
            f"The scene must have the {expected} holes of y3. Got {scene.n_holes} instead. "
            "Remedy: split other sessions with cryoscout.session.splits.split_by."
        )
    return whole_patches(scene.patch_of_hole, Y3_VALIDATION_HOLES, np.random.default_rng(_SPLIT_SEED))


def whole_patches(
    patch_of_hole: NDArray[np.int32], holes: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(n,) a random part of exactly so many holes that holds whole patches.

    Patches are taken in random order while they fit; where the last ones leave a gap, another order is tried.
    Raises InputError when no order of many fills the part exactly.
    """
    sizes = np.bincount(patch_of_hole)
    for _ in range(_MOST_TRIES):
        taken = np.zeros(len(sizes), dtype=bool)
        left = holes
        for patch in rng.permutation(len(sizes)):
            if sizes[patch] <= left:
                taken[patch] = True
                left -= int(sizes[patch])
        if left == 0:
            part: NDArray[np.bool_] = taken[patch_of_hole]
            return part
    raise InputError(
        f"The number of holes must be one that whole patches can give. Got {holes} instead. "
        "Remedy: ask for a few more or fewer."
    )
