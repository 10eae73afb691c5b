"""Fit the simulated specimen to the real Y1 session, and from it the specimen of the size of Y3.

    python scripts/fit_simulator.py [y1-sim] [y3]

prints the fitted numbers, rounded, to be copied into src/cryoscout/simulate/presets.py, and what they give beside
their targets. Method of moments: nonlinear least squares over summary figures, averaged over scenes of fixed
seeds, each divided by a tolerance. The targets of `y1-sim` are computed from the built-in session, both parts of
its split; the accuracies aimed at are settings of this script. `y3` starts from the fit of `y1-sim` as it stands
in the presets. Nothing is trained here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cryoscout.simulate.bayes import bayes_accuracy
from cryoscout.simulate.presets import SCENE_PRESETS
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.scene_settings import SceneSettings
from cryoscout.simulate.summary import (
    QUANTILES,
    SessionSummary,
    summary_of_scene,
    summary_of_session,
    y1_in_split,
)

FIRST_SEED = 7_000_000
"""Seeds of the scenes that are fitted; the study's and the tests' lie elsewhere."""

ACCURACY = "accuracy, relative thickness"
NEAR = "share within 1 angstrom of the threshold"

SIGNED = {"thickness_nm": 20.0, "crystalline_logit": 2.0}
"""Varied on their own scale, in these units; all others on the scale of their logarithm."""


@dataclass(frozen=True)
class Fit:
    """What to vary, and where to get.

    targets : figure -> (value, tolerance)     free : names of settings     scenes : averaged over
    accuracy_holes : behind the accuracy; more where scenes differ more, as with the few grids of y3
    prior : tolerance of a free number's departure from where it starts, in its logarithm or its unit
    precision : of the sum of squares at which the search stops
    """

    targets: Mapping[str, tuple[float, float]]
    free: tuple[str, ...]
    scenes: int
    accuracy_holes: int
    prior: float
    precision: float


def y1_fit() -> Fit:
    """CTF quantiles to 5 %, the others to about the third digit that the session determines."""
    y1 = summary_of_session(y1_in_split()).by_name()
    names = list(y1)
    targets = {name: (np.log(y1[name]), 0.03) for name in names[: len(QUANTILES)]}
    targets["share of good"] = (y1["share of good"], 0.004)
    targets["share of failed fits"] = (y1["share of failed fits"], 0.0008)
    for level in ("patch", "square", "grid"):
        name = f"correlation of good within a {level}"
        targets[name] = (y1[name], 0.01)
    targets[ACCURACY] = (0.90, 0.004)
    free = (
        "thickness_nm",
        "grid_thickness_sd_nm",
        "square_thickness_sd_nm",
        "field_thickness_sd_nm",
        "best_ctf_angstrom",
        "thick_loss",
        "crystalline_logit",
        "crystalline_square_sd",
        "crystalline_loss",
        "dry_ctf_angstrom",
        "empty_ctf_angstrom",
        "no_ice_sd",
        "difficulty",
        "failed_share_no_ice",
    )
    return Fit(targets, free, scenes=100, accuracy_holes=200_000, prior=1.0, precision=3e-3)


def y3_fit() -> Fit:
    """Half of the holes good, correlations as in Y1, and little to be seen in a scaled image."""
    y1 = summary_of_session(y1_in_split()).by_name()
    targets = {
        ACCURACY: (0.68, 0.004),
        "share of failed fits": (y1["share of failed fits"], 0.003),
        NEAR: (0.30, 0.02),
    }
    for level in ("patch", "square", "grid"):
        name = f"correlation of good within a {level}"
        targets[name] = (y1[name], 0.015)
    free = (
        "thickness_nm",
        "grid_thickness_sd_nm",
        "square_thickness_sd_nm",
        "field_thickness_sd_nm",
        "hole_thickness_sd_nm",
        "thick_loss",
        "crystalline_logit",
        "difficulty",
    )
    return Fit(targets, free, scenes=100, accuracy_holes=1_000_000, prior=1.0, precision=1e-2)


FITS = {"y1-sim": y1_fit, "y3": y3_fit}

STARTS = {
    "y1-sim": SceneSettings(
        thickness_nm=24.0,
        grid_thickness_sd_nm=20.0,
        square_thickness_sd_nm=10.0,
        field_thickness_sd_nm=19.0,
        empty_below_nm=14.0,
        dry_below_nm=24.0,
        crystalline_logit=-1.4,
        crystalline_square_sd=1.7,
        best_ctf_angstrom=3.4,
        dry_ctf_angstrom=7.0,
        empty_ctf_angstrom=11.0,
        thick_loss=0.19,
        no_ice_sd=0.4,
        failed_share_no_ice=0.016,
        difficulty=0.09,
    ),
    "y3": SCENE_PRESETS["y1-sim"].model_copy(
        update={
            "holes": 8653,
            "patches": 771,
            "squares": 58,
            "grids": 9,
            "share_good": 0.5,
            "thickness_nm": 60.0,
            "grid_thickness_sd_nm": 31.0,
            "square_thickness_sd_nm": 5.0,
            "field_thickness_sd_nm": 15.0,
            "best_ctf_angstrom": 4.0,
            "thick_loss": 0.115,
            "crystalline_logit": -3.7,
            "difficulty": 0.19,
        }
    ),
}
"""Where the search starts: counts, numbers that are not fitted, and rough values of those that are."""


def mean_summary(settings: SceneSettings, scenes: int, accuracy_holes: int) -> dict[str, float]:
    """Each figure averaged over scenes; the accuracy too."""
    rows: list[SessionSummary] = [
        summary_of_scene(simulate_scene(settings, FIRST_SEED + at)) for at in range(scenes)
    ]
    named = [row.by_name() for row in rows]
    found = {name: float(np.mean([row[name] for row in named])) for name in named[0]}
    found[ACCURACY] = bayes_accuracy(settings, holes=accuracy_holes, first_seed=FIRST_SEED + 10_000).relative
    return found


def fitted(start: SceneSettings, fit: Fit) -> SceneSettings:
    """The settings with the free numbers changed, rounded to three digits."""

    def settings_at(point: NDArray[np.float64]) -> SceneSettings:
        changes: dict[str, float] = {}
        for name, step in zip(fit.free, point, strict=True):
            old = getattr(start, name)
            new = old + SIGNED[name] * (step - 1) if name in SIGNED else old * np.exp(step - 1)
            changes[name] = float(f"{new:.3g}") if rounding else float(new)
        return SceneSettings.model_validate({**start.model_dump(), **changes})

    def residuals(point: NDArray[np.float64]) -> NDArray[np.float64]:
        found = mean_summary(settings_at(point), fit.scenes, fit.accuracy_holes)
        misses = [
            ((np.log(found[name]) if name.startswith("CTF") else found[name]) - value) / tolerance
            for name, (value, tolerance) in fit.targets.items()
        ]
        print(f"  {0.5 * np.square(misses).sum():.2f}", flush=True)
        return np.array([*misses, *((point - 1) / fit.prior)])

    rounding = False
    solution = least_squares(
        residuals,
        np.ones(len(fit.free)),
        diff_step=[0.02] * len(fit.free),
        x_scale=0.3,
        max_nfev=12,
        ftol=3e-3,
    )
    rounding = True
    return settings_at(solution.x)


def main(names: list[str]) -> None:
    """Fit the named presets and print what was found."""
    for name in names or list(FITS):
        fit = FITS[name]()
        settings = fitted(STARTS[name], fit)
        print(f"{name}:")
        for free in fit.free:
            print(f"    {free}={getattr(settings, free)},")
        found = mean_summary(settings, fit.scenes, fit.accuracy_holes)
        for figure, value in found.items():
            print(f"  {figure}: {value:.4g}{_aim(fit, figure)}")


def _aim(fit: Fit, figure: str) -> str:
    if figure not in fit.targets:
        return ""
    value = fit.targets[figure][0]
    return f"  target {np.exp(value) if figure.startswith('CTF') else value:.4g}"


if __name__ == "__main__":
    main(sys.argv[1:])
