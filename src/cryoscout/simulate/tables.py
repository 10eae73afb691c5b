"""Simulated sessions as tables: a thousand to a million holes with known truth, scores and times in seconds.

The truth is built on the logit scale, as the belief models it: the logit of an exposure being good is an
intercept plus effects of grid, square, patch and hole plus a smooth random field over the stage, so that
neighbours resemble.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtri

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.simulate.fields import SmoothField
from cryoscout.simulate.layout import Layout, lay_out
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.visits import visit_times_s

GOOD_RANKS = (0.0, 0.026, 0.132, 0.66, 1.0)
GOOD_ANGSTROM = (2.04, 3.17, 3.36, 4.45, GOOD_THRESHOLD_ANGSTROM)
BAD_RANKS = (0.0, 0.187, 0.594, 0.919, 0.984, 1.0)
BAD_ANGSTROM = (GOOD_THRESHOLD_ANGSTROM, 7.63, 10.55, 18.15, 23.9, 28.12)
"""CTF resolution by rank of quality, among the good and among the fitted bad exposures: quantiles of Y1."""


@dataclass(frozen=True)
class SimulatedTables:
    """One simulated session; holes are sorted by grid, square, patch, as in RoutingProblem.

    Stage coordinates: um, x right, y up, origin at the centre of the hole's own grid.
    """

    settings: SimulationSettings
    seed: int
    patch_of_hole: NDArray[np.int32]  # (n,) int32, sorted
    square_of_patch: NDArray[np.int32]  # (P,) int32, sorted
    grid_of_square: NDArray[np.int32]  # (S,) int32, sorted
    x_um: NDArray[np.float64]  # (n,) stage
    y_um: NDArray[np.float64]  # (n,) stage
    true_logit: NDArray[np.float64]  # (n,) logit of the probability that one exposure of the hole is good
    good: NDArray[np.float64]  # (n,) good exposures of the hole, 0..shots
    ctf_max_res_angstrom: NDArray[np.float64]  # (n, shots) <= 6 where good, inf where the fit failed
    score: NDArray[
        np.float64
    ]  # (n,) raw classifier probability that the hole is good, as miscalibrated as asked
    started_s: NDArray[np.float64]  # (n, shots) seconds from the session's start, all holes visited in order
    square_area_um2: NDArray[np.float64]  # (S,) as the atlas shows it: more patches, more area, with noise
    square_brightness: NDArray[
        np.float64
    ]  # (S,) grey on the atlas, 1 the mean of the session; thin ice is bright
    square_is_exception: NDArray[np.bool_]  # (S,) whose brightness says nothing of its ice

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.good)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))

    def problem(self, budget_min: float) -> RoutingProblem:
        """The planning problem of this session, as new, with the raw score as p_good."""
        return RoutingProblem(
            tree=HoleTree(self.patch_of_hole, self.square_of_patch, self.grid_of_square),
            prior_p_good=self.score,
            budget_min=budget_min,
            time_model=self.settings.time_model,
            shots=self.settings.shots,
        )

    def truth(self) -> Truth:
        """What every hole gives; all holes are measured."""
        return Truth(self.good, np.ones(self.n_holes, dtype=bool))


def simulate_tables(settings: SimulationSettings, seed: int) -> SimulatedTables:
    """Simulate one session.

    seed : >= 0; the same seed gives the same tables. Each part (tree, quality, outcomes, score, times, atlas) draws
    from its own generator, so that another classifier or time model leaves the truth as it is.
    Cost: n log n in holes (the CTF ranks); a million takes seconds, because no covariance matrix is formed.
    Raises InputError when the seed is negative.
    """
    if seed < 0:
        raise InputError(f"The seed must be 0 or more. Got {seed} instead.")
    tree_rng, quality_rng, outcome_rng, score_rng, time_rng, atlas_rng = np.random.default_rng(seed).spawn(6)
    layout = lay_out(settings, tree_rng)
    square_of_hole = layout.square_of_patch[layout.patch_of_hole]
    true_logit = _true_logit(settings, layout, quality_rng)
    quality = true_logit[:, None] + outcome_rng.logistic(size=(settings.holes, settings.shots))
    is_good = quality > 0
    area_um2, brightness, is_exception = _atlas(settings, layout, true_logit, atlas_rng)
    return SimulatedTables(
        settings=settings,
        seed=seed,
        patch_of_hole=layout.patch_of_hole,
        square_of_patch=layout.square_of_patch,
        grid_of_square=layout.grid_of_square,
        x_um=layout.x_um,
        y_um=layout.y_um,
        true_logit=true_logit,
        good=is_good.sum(axis=1).astype(np.float64),
        ctf_max_res_angstrom=_ctf_angstrom(quality, settings.failed_fit_share, outcome_rng),
        score=_score(settings, is_good[:, 0], score_rng),
        started_s=visit_times_s(
            settings,
            layout.grid_of_square[square_of_hole],
            square_of_hole,
            layout.patch_of_hole,
            time_rng,
        ),
        square_area_um2=area_um2,
        square_brightness=brightness,
        square_is_exception=is_exception,
    )


def _atlas(
    settings: SimulationSettings, layout: Layout, true_logit: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Area, um2, brightness and whether it is an exception, (S,) each, of every square on the atlas.

    Ice that is too thick is dark and bad, so brightness goes with the square's mean true logit as far as asked.
    """
    square_of_hole = layout.square_of_patch[layout.patch_of_hole]
    ice = np.bincount(square_of_hole, weights=true_logit) / np.bincount(square_of_hole)
    spread = float(ice.std())
    ice = (ice - ice.mean()) / spread if spread > 0 else np.zeros(settings.squares)
    patches = np.bincount(layout.square_of_patch, minlength=settings.squares)
    noise, seen = rng.normal(size=(2, settings.squares))
    is_exception = rng.random(settings.squares) < settings.atlas_exceptions_share
    follows = np.where(is_exception, 0.0, settings.atlas_brightness_correlation)
    shown = follows * ice + np.sqrt(1.0 - follows**2) * noise
    patch_um2 = settings.holes_per_patch * settings.hole_pitch_um**2
    area_um2 = patches * patch_um2 * np.exp(settings.atlas_area_noise_sd * seen)
    return area_um2, 1.0 + settings.atlas_brightness_sd * shown, is_exception


def _true_logit(
    settings: SimulationSettings, layout: Layout, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n,) sum of all effects, with the intercept that makes the expected share of good what was asked."""
    grid = rng.normal(0.0, settings.grid_effect_sd, settings.grids)
    square = rng.normal(0.0, settings.square_effect_sd, settings.squares) + grid[layout.grid_of_square]
    patch = rng.normal(0.0, settings.patch_effect_sd, settings.patches) + square[layout.square_of_patch]
    effects = _smooth_field(settings, layout, rng)
    effects += patch[layout.patch_of_hole]
    effects += rng.normal(0.0, settings.hole_effect_sd, settings.holes)

    def excess_share(intercept: float) -> float:
        return float(expit(effects + intercept).mean()) - settings.share_good

    outside = float(np.abs(effects).max()) + 40.0
    effects += brentq(excess_share, -outside, outside, xtol=1e-6)
    return effects


def _smooth_field(
    settings: SimulationSettings, layout: Layout, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n,) of the holes, in the order of the layout."""
    field = SmoothField.drawn(settings.field_sd, settings.field_length_um, settings.grids, rng)
    grid_of_hole = layout.grid_of_square[layout.square_of_patch][layout.patch_of_hole]
    return field.at(grid_of_hole, layout.x_um, layout.y_um)


def _ctf_angstrom(
    quality: NDArray[np.float64], failed_fit_share: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n, shots) CTF resolution: falls with quality, and is at most 6 exactly where quality is > 0.

    Failed fits (inf) fall on bad exposures at random, so that their share of all exposures is as asked.
    """
    ctf = np.full(quality.shape, np.inf)
    is_good = quality > 0
    n_bad = int(quality.size - is_good.sum())
    failing = min(1.0, failed_fit_share * quality.size / n_bad) if n_bad else 0.0
    fitted_bad = ~is_good & (rng.random(quality.shape) >= failing)
    ctf[is_good] = np.interp(_ranks_from_best(quality[is_good]), GOOD_RANKS, GOOD_ANGSTROM)
    ctf[fitted_bad] = np.interp(_ranks_from_best(quality[fitted_bad]), BAD_RANKS, BAD_ANGSTROM)
    return ctf


def _ranks_from_best(quality: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) mid-ranks between 0 and 1, both excluded; the highest quality comes first."""
    ranks = np.empty(len(quality))
    ranks[np.argsort(-quality, kind="stable")] = (np.arange(len(quality)) + 0.5) / max(len(quality), 1)
    return ranks


def _score(
    settings: SimulationSettings, is_good: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n,) raw probability of good from a latent signal with the asked accuracy about the first exposure.

    Signal z ~ normal(+m, 1) where good, normal(-m, 1) where bad; accuracy = Phi(m). The logit of good given
    z is 2 m z where half of the holes are good, and the overconfidence multiplies it.
    """
    mean = float(ndtri(settings.classifier_accuracy))
    signal = rng.normal(0.0, 1.0, len(is_good)) + np.where(is_good, mean, -mean)
    score: NDArray[np.float64] = expit(settings.classifier_overconfidence * 2 * mean * signal)
    return score
