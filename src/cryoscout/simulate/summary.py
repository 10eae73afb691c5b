"""What a session looks like in a few figures, so that simulated ones can be held against a real one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.session.builtin import load_builtin
from cryoscout.session.model import Session
from cryoscout.simulate.scene import Scene

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)
NEAR_THRESHOLD_ANGSTROM = 1.0
FAILED_AS_ANGSTROM = 30.0
"""Failed fits count as this in quantiles and ln CTF: the end of the range that is fitted, beyond every fit of Y1."""

Groups = NDArray[np.int32]


@dataclass(frozen=True)
class SessionSummary:
    """Figures of one session; CTF in angstrom, first exposures only, failed fits as FAILED_AS_ANGSTROM."""

    ctf_quantiles: tuple[float, ...]  # at QUANTILES
    share_good: float
    share_failed: float
    share_near_threshold: float  # at most NEAR_THRESHOLD_ANGSTROM from the threshold
    correlation_in_patch: float  # of good, intra-class
    correlation_in_square: float
    correlation_in_grid: float
    ln_ctf_correlation_in_patch: float
    ln_ctf_correlation_in_square: float
    ln_ctf_correlation_in_grid: float
    holes_per_patch: tuple[float, ...]  # mean, then quartiles
    holes_per_square: tuple[float, ...]

    def by_name(self) -> dict[str, float]:
        """Every figure with its name, in the order of a page."""
        named = {
            f"CTF {100 * at:.0f} % quantile": value
            for at, value in zip(QUANTILES, self.ctf_quantiles, strict=True)
        }
        named["share of good"] = self.share_good
        named["share of failed fits"] = self.share_failed
        named[f"share within {NEAR_THRESHOLD_ANGSTROM:g} angstrom of the threshold"] = (
            self.share_near_threshold
        )
        levels = ("patch", "square", "grid")
        for level in levels:
            named[f"correlation of good within a {level}"] = getattr(self, f"correlation_in_{level}")
        for level in levels:
            named[f"correlation of ln CTF within a {level}"] = getattr(self, f"ln_ctf_correlation_in_{level}")
        for level in ("patch", "square"):
            parts = ("mean", "lower quartile", "median", "upper quartile")
            for part, value in zip(parts, getattr(self, f"holes_per_{level}"), strict=True):
                named[f"holes per {level}, {part}"] = value
        return named


def summary_of_session(
    session: Session, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM
) -> SessionSummary:
    """Of the holes whose first shot has a result. Raises DataError when none has."""
    exposures = session.exposures[session.exposures["shot"] == 1].set_index("hole_id")
    exposures = exposures[exposures["outcome"].isin(("measured", "failed"))]
    if exposures.empty:
        raise DataError(
            f"Session {session.name} must have results to be summed up. Got none instead. "
            "Remedy: import its CTF results first."
        )
    ctf = exposures["ctf_max_res_angstrom"].reindex(session.holes["hole_id"])
    has_result = session.holes["hole_id"].isin(exposures.index).to_numpy()
    tree = session.tree()
    patch, square_of_patch, grid_of_square = tree.patch_of_hole, tree.square_of_patch, tree.grid_of_square
    values = np.where(np.isnan(ctf.to_numpy()), np.inf, ctf.to_numpy())
    square = square_of_patch[patch]
    return _summary(values, has_result, (patch, square, grid_of_square[square]), threshold_angstrom)


def y1_in_split() -> Session:
    """The real Y1: the holes of the built-in session that have a place in its split, training and validation."""
    whole = load_builtin("y1", "all")
    in_split = whole.holes["hole_id"].isin(whole.predictions["hole_id"]).to_numpy()
    return whole.subset(in_split, "y1")


def summary_of_scene(scene: Scene, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> SessionSummary:
    """Of the holes that the scene's session images."""
    levels = (scene.patch_of_hole, scene.square_of_hole, scene.grid_of_hole)
    return _summary(scene.ctf_max_res_angstrom[:, 0], scene.exposed, levels, threshold_angstrom)


def _summary(
    ctf: NDArray[np.float64],
    has_result: NDArray[np.bool_],
    levels: tuple[Groups, Groups, Groups],
    threshold_angstrom: float,
) -> SessionSummary:
    ctf_all, (patch_all, square_all, _) = ctf, levels
    ctf = ctf_all[has_result]
    good = (ctf <= threshold_angstrom).astype(np.float64)
    counted = np.minimum(ctf, FAILED_AS_ANGSTROM)
    in_patch, in_square, in_grid = (intra_class_correlation(good, level[has_result]) for level in levels)
    ln_ctf = [intra_class_correlation(np.log(counted), level[has_result]) for level in levels]
    return SessionSummary(
        ctf_quantiles=tuple(float(value) for value in np.quantile(counted, QUANTILES, method="lower")),
        share_good=float(good.mean()),
        share_failed=float(np.isinf(ctf).mean()),
        share_near_threshold=float((np.abs(ctf - threshold_angstrom) <= NEAR_THRESHOLD_ANGSTROM).mean()),
        correlation_in_patch=in_patch,
        correlation_in_square=in_square,
        correlation_in_grid=in_grid,
        ln_ctf_correlation_in_patch=ln_ctf[0],
        ln_ctf_correlation_in_square=ln_ctf[1],
        ln_ctf_correlation_in_grid=ln_ctf[2],
        holes_per_patch=_mean_and_quartiles(np.bincount(patch_all)),
        holes_per_square=_mean_and_quartiles(np.bincount(square_all)),
    )


def _mean_and_quartiles(counts: NDArray[np.int64]) -> tuple[float, ...]:
    return (float(counts.mean()), *(float(value) for value in np.quantile(counts, (0.25, 0.5, 0.75))))


def intra_class_correlation(value: NDArray[np.float64], group: Groups) -> float:
    """How much alike the members of a group are: one-way analysis of variance, groups of unequal size.

    value, group : (n,); group numbers need not be sorted or without gaps
    0 for groups no different than chance makes them, 1 where all members of a group agree; NaN without two groups
    or without a group of two.
    """
    _, member = np.unique(group, return_inverse=True)
    sizes = np.bincount(member)
    n, k = len(value), len(sizes)
    if k < 2 or n <= k:
        return float("nan")
    means = np.bincount(member, weights=value) / sizes
    between = float((sizes * (means - value.mean()) ** 2).sum()) / (k - 1)
    within = float(((value - means[member]) ** 2).sum()) / (n - k)
    usual_size = (n - (sizes**2).sum() / n) / (k - 1)
    spread = between + (usual_size - 1) * within
    return float((between - within) / spread) if spread > 0 else float("nan")
