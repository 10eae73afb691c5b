"""What the ice does: the film's thickness, which holes dry, freeze wrongly or get dirty, and the CTF that follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from cryoscout.core.errors import DataError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.simulate.fields import SmoothField
from cryoscout.simulate.lattice import LatticeLayout
from cryoscout.simulate.scene_settings import SceneSettings

Floats = NDArray[np.float64]

_FAR = 50.0
"""A change of ln CTF that makes all holes good, or none."""


class HoleKind(IntEnum):
    """What is in a hole."""

    VITREOUS = 0
    EMPTY = 1
    """No ice at all."""
    DRY = 2
    """Ice dried to almost nothing, a thin broken film."""
    CRYSTALLINE = 3
    CONTAMINATED = 4


@dataclass(frozen=True, eq=False)
class Film:
    """The ice film of a scene as a function of the place, before holes dry or freeze wrongly."""

    square_x_um: NDArray[np.float64]  # (S,) centre of the square, stage
    square_y_um: NDArray[np.float64]  # (S,)
    grid_of_square: NDArray[np.int32]  # (S,)
    square_mean_nm: NDArray[np.float64]  # (S,) sample, grid and square together
    square_gradient: NDArray[np.float64]  # (S, 2) nm per um
    field: SmoothField

    def thickness_nm(
        self, square: NDArray[np.int32], x_um: NDArray[np.float64], y_um: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n,) film at stage places of these squares; below 0 where it would have drained away."""
        slope = self.square_gradient[square]
        thickness = self.field.at(self.grid_of_square[square], x_um, y_um)
        thickness += self.square_mean_nm[square]
        thickness += slope[:, 0] * (x_um - self.square_x_um[square])
        thickness += slope[:, 1] * (y_um - self.square_y_um[square])
        return thickness

    def gradient_nm_per_um(
        self, square: NDArray[np.int32], x_um: NDArray[np.float64], y_um: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n, 2) slope of the film along x and y."""
        slope: NDArray[np.float64] = self.square_gradient[square]
        return slope + self.field.gradient_per_um(self.grid_of_square[square], x_um, y_um)


def draw_film(settings: SceneSettings, layout: LatticeLayout, rng: np.random.Generator) -> Film:
    """Sample, grid and square means, square slopes and the smooth field."""
    sample_of_grid = np.arange(settings.grids) * settings.samples // settings.grids
    mean_nm = settings.thickness_nm + rng.normal(0.0, settings.sample_thickness_sd_nm, settings.samples)
    grid_nm = mean_nm[sample_of_grid] + rng.normal(0.0, settings.grid_thickness_sd_nm, settings.grids)
    square_nm = grid_nm[layout.grid_of_square]
    square_nm += rng.normal(0.0, settings.square_thickness_sd_nm, settings.squares)
    return Film(
        square_x_um=layout.square_x_um,
        square_y_um=layout.square_y_um,
        grid_of_square=layout.grid_of_square,
        square_mean_nm=square_nm,
        square_gradient=rng.normal(0.0, settings.square_gradient_sd_nm_per_um, (settings.squares, 2)),
        field=SmoothField.drawn(
            settings.field_thickness_sd_nm, settings.field_length_um, settings.grids, rng
        ),
    )


def contaminated_share(settings: SceneSettings, layout: LatticeLayout, rng: np.random.Generator) -> Floats:
    """(n,) share of the hole's area under contamination, a smooth field of its own and a part for each hole."""
    grid = layout.grid_of_square[layout.square_of_patch][layout.patch_of_hole]
    field = SmoothField.drawn(
        settings.contamination_field_sd, settings.contamination_field_length_um, settings.grids, rng
    )
    logit = field.at(grid, layout.x_um, layout.y_um)
    logit += settings.contamination_logit
    logit += rng.normal(0.0, settings.contamination_hole_sd, settings.holes)
    share: Floats = expit(logit)
    return share


def draw_kinds(
    settings: SceneSettings,
    film_nm: Floats,
    contamination: Floats,
    square_of_hole: NDArray[np.int32],
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """(n,) HoleKind. What dries is decided first, then what crystallises; contamination is told of what is left."""
    dried_nm = film_nm + rng.logistic(0.0, 1.0, settings.holes) * settings.film_noise_nm
    crystalline_logit = settings.crystalline_logit + rng.normal(
        0.0, settings.crystalline_square_sd, settings.squares
    )
    crystalline = rng.random(settings.holes) < expit(crystalline_logit)[square_of_hole]
    return np.select(
        [
            dried_nm < settings.empty_below_nm,
            dried_nm < settings.dry_below_nm,
            crystalline,
            contamination > settings.contaminated_above,
        ],
        [HoleKind.EMPTY, HoleKind.DRY, HoleKind.CRYSTALLINE, HoleKind.CONTAMINATED],
        default=HoleKind.VITREOUS,
    ).astype(np.int8)


def ice_thickness_nm(
    settings: SceneSettings, kind: NDArray[np.int8], film_nm: Floats, rng: np.random.Generator
) -> Floats:
    """(n,) of the ice in the holes: the film, no thinner than what holds; little where dry, 0 where empty."""
    left_nm = settings.dry_thickness_nm * rng.uniform(0.5, 1.5, settings.holes)
    return np.select(
        [kind == HoleKind.EMPTY, kind == HoleKind.DRY],
        [0.0, left_nm],
        default=np.maximum(film_nm, settings.thinnest_nm),
    )


def visible_ln_ctf(
    settings: SceneSettings, kind: NDArray[np.int8], thickness_nm: Floats, contamination: Floats
) -> Floats:
    """(n,) mean ln CTF resolution (angstrom) given all that an image of the hole could show.

    Convex in the thickness and lowest at the best one: thicker ice scatters inelastically and several times and
    spreads the focus over its depth, thinner ice holds less that scatters.
    """
    excess = thickness_nm / settings.best_thickness_nm - 1
    loss = np.where(excess > 0, settings.thick_loss, settings.thin_loss) * excess**2
    ln_ctf = (
        np.log(settings.best_ctf_angstrom) + loss + settings.crystalline_loss * (kind == HoleKind.CRYSTALLINE)
    )
    ln_ctf = np.select(
        [kind == HoleKind.EMPTY, kind == HoleKind.DRY],
        [np.log(settings.empty_ctf_angstrom), np.log(settings.dry_ctf_angstrom)],
        default=ln_ctf,
    )
    visible: Floats = ln_ctf + settings.contamination_loss * contamination
    return visible


def common_shift(
    settings: SceneSettings, ln_ctf: Floats, sd: Floats, p_failed: Floats, share_good: float
) -> float:
    """What must be added to ln CTF of all holes so that the expected share of good exposures is as asked.

    ln_ctf, sd : (n,) mean and standard deviation of an exposure
    Raises DataError when failed fits and holes without ice leave no such share.
    """

    def excess_share(shift: float) -> float:
        return (
            float(p_at_most(settings, ln_ctf + shift, sd, p_failed, GOOD_THRESHOLD_ANGSTROM).mean())
            - share_good
        )

    if excess_share(-_FAR) < 0:
        raise DataError(
            f"share_good must be at most {share_good + excess_share(-_FAR):.3f}, what failed fits leave of this "
            f"scene. Got {share_good} instead. Remedy: ask for fewer good holes or fewer failed fits."
        )
    return float(brentq(excess_share, -_FAR, _FAR, xtol=1e-6))


def hidden_sd(settings: SceneSettings, kind: NDArray[np.int8]) -> Floats:
    """(n,) standard deviation of the part of ln CTF that no image shows."""
    return np.where(without_ice(kind), np.hypot(settings.difficulty, settings.no_ice_sd), settings.difficulty)


def failed_share(settings: SceneSettings, kind: NDArray[np.int8]) -> Floats:
    """(n,) probability that the CTF fit of an exposure fails outright."""
    return np.where(without_ice(kind), settings.failed_share_no_ice, settings.failed_share)


def without_ice(kind: NDArray[np.int8]) -> NDArray[np.bool_]:
    """(n,) whether the hole is empty or dry."""
    no_ice: NDArray[np.bool_] = (kind == HoleKind.EMPTY) | (kind == HoleKind.DRY)
    return no_ice


def draw_ctf_angstrom(
    settings: SceneSettings, ln_ctf: Floats, p_failed: Floats, rng: np.random.Generator
) -> Floats:
    """(n, shots) CTF resolution of each exposure; inf where the fit fails or comes out coarser than the range."""
    noise = rng.normal(0.0, settings.exposure_sd, (len(ln_ctf), settings.shots))
    ctf = np.maximum(np.exp(ln_ctf[:, None] + noise), settings.finest_angstrom)
    fails = (rng.random(ctf.shape) < p_failed[:, None]) | (ctf > settings.coarsest_angstrom)
    ctf[fails] = np.inf
    return ctf


def p_at_most(
    settings: SceneSettings, ln_ctf: Floats, sd: Floats | float, p_failed: Floats, threshold_angstrom: float
) -> Floats:
    """(n,) probability that an exposure has a fit at or below the threshold.

    ln_ctf : mean     sd : of ln CTF about it, 0 allowed
    """
    if threshold_angstrom < settings.finest_angstrom:
        return np.zeros(len(ln_ctf))
    below = np.log(min(threshold_angstrom, settings.coarsest_angstrom)) - ln_ctf
    with np.errstate(divide="ignore"):
        p_fine: Floats = (
            ndtr(np.divide(below, sd)) if np.all(np.asarray(sd) > 0) else _with_zero_sd(below, sd)
        )
    return (1 - p_failed) * p_fine


def _with_zero_sd(below: Floats, sd: Floats | float) -> Floats:
    spread = np.broadcast_to(np.asarray(sd, dtype=np.float64), below.shape)
    safe = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, ndtr(below / safe), (below >= 0).astype(np.float64))
