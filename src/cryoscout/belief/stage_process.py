"""Prediction given labels of the same session: scores in context, a smooth field over the stage, nested effects.

The logit of hole h is location_h + field(x_h, y_h) + grid + square + patch effect: location as in `context.py`, the
field a zero-mean Gaussian process with a Matern 3/2 kernel within each grid, the effects independent Gaussians. These
are four terms of one covariance, so effects alone and the field alone are special cases. Everything is fitted to the
labelled holes by maximum marginal likelihood, with weak priors (StagePriors), in Laplace's approximation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from cryoscout.belief.context import CONTEXT_SD, context_features
from cryoscout.belief.effects import EffectVariances, Variance, marginal_probability
from cryoscout.belief.laplace import EvidenceGradient, LabelledBlock, LaplacePosterior, laplace_posterior
from cryoscout.belief.stage_field import FieldBasis, inducing_positions
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.settings import Settings

Term = Literal["patch", "square", "grid", "stage"]
TERMS: tuple[Term, ...] = get_args(Term)

MOST_INDUCING = 300
"""Labelled positions per grid that carry the field. Up to so many distinct ones the field is exact; above, it is the
one given its values at 300 of them, spread out by farthest-point selection, and no shorter than they resolve."""

RADII_PER_LENGTH = 2.0
"""Least length of the field over the largest distance of a labelled position from its nearest inducing one. A shorter
field would exist at the inducing positions alone, and the fit would take them for a kind of hole of their own."""

HOLES_AT_ONCE = 8192

_LOG_VARIANCE_BOUNDS = (-8.0, 3.0)
_LENGTH_BOUNDS_UM = (5.0, 3000.0)
_PRECISION = 1e-8
"""Relative change of the loss at which a fit ends: some 0.00001 nats for a thousand labels."""

_FAR_UM = 1e9

Numbers = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class StagePriors(Settings):
    """Weak priors of the fit, all centred on a classifier that is right: they matter below some hundred labels."""

    intercept_sd: Positive = 3.0
    """Logit; normal around 0."""
    score_sd: Positive = 1.0
    """Of the weight of the logit of the score; normal around 1."""
    context_sd: Positive = CONTEXT_SD
    """Of the weights of the patch, square and grid means; normal around 0. See `context.py`."""
    effect_sd: Positive = 0.7
    """Logit; scale of half-normal priors of the standard deviations of patch, square, grid and field, their mode
    taken in log variance, so that no variance is fitted as 0 because few squares or grids were labelled."""
    length_um: Positive = 50.0
    """Median of the log-normal prior of the field's length."""
    length_log_sd: Positive = 1.0
    """Standard deviation of the natural logarithm of the length."""


class StageProcessModel(Settings):
    """location = intercept + score * x + patch * mean x of the patch + square * ... + grid * ..., x = logit score."""

    intercept: float
    score: float
    patch: float
    square: float
    grid: float
    effects: EffectVariances
    """Variances of the effects of patch, square and grid; 0 for a term that was not asked for."""
    stage_variance: Variance
    """Variance of the smooth field (logit squared); 0 is no field."""
    length_um: Positive
    """Length l of the field: correlation (1 + s) exp(-s), s = sqrt(3) distance / l, within a grid; 0 between. Says
    nothing where the field has no variance."""
    log_evidence: float
    """Laplace's log marginal likelihood of the labels (nats), without the priors."""
    holes: int
    """Number of labelled holes behind the fit."""
    priors: StagePriors

    def location(self, score_p: Numbers, patch_of_hole: NDArray[np.int32], tree: HoleTree) -> Numbers:
        """(n,) logit of each hole without effects and field."""
        weights = np.array([self.intercept, self.score, self.patch, self.square, self.grid])
        return np.asarray(context_features(score_p, patch_of_hole, tree) @ weights)

    def p_good(
        self,
        score_p: Numbers,
        labels: Numbers,
        patch_of_hole: NDArray[np.int32],
        tree: HoleTree,
        x_um: Numbers,
        y_um: Numbers,
    ) -> Numbers:
        """(n,) probability that one more exposure of each hole is good, given the labelled outcomes.

        score_p : (n,) in 0..1     labels : (n,) 0 or 1, NaN where not labelled; there may be none
        patch_of_hole : (n,) in any order
        x_um, y_um : (n,) stage position within the grid, any origin; NaN where missing: such a hole has the field's
            prior alone, and its label says nothing of the field
        Uncertainty of effects and field is integrated out (`marginal_probability`); weights and variances are taken
        as exact. Raises InputError as `check_holes` does.
        """
        check_holes(score_p, labels, patch_of_hole, tree, x_um, y_um)
        holes = _Holes.of(labels, patch_of_hole, tree, x_um, y_um)
        location = self.location(score_p, patch_of_hole, tree)
        mean, variance = location.copy(), np.full(len(location), self.effects.total + self.stage_variance)
        for grid in holes.labelled_grids(with_field=self.stage_variance > 0):
            basis = FieldBasis(grid.between_um, self.length_um)
            field = basis.rows(grid.distance_um)
            posterior = laplace_posterior(grid.block(location, field, self.effects, self.stage_variance))
            members = np.flatnonzero(holes.grid_of_hole == grid.grid)
            for start in range(0, len(members), HOLES_AT_ONCE):
                some = members[start : start + HOLES_AT_ONCE]
                shift, variance[some] = grid.predict(some, basis, posterior, self)
                mean[some] += shift
        return marginal_probability(mean, variance)


def fit_stage_process(
    score_p: Numbers,
    labels: Numbers,
    patch_of_hole: NDArray[np.int32],
    tree: HoleTree,
    x_um: Numbers,
    y_um: Numbers,
    terms: tuple[Term, ...] = TERMS,
    priors: StagePriors | None = None,
) -> StageProcessModel:
    """Fit weights, variances and length to labelled holes by maximum marginal likelihood times StagePriors.

    score_p, labels, patch_of_hole, x_um, y_um : (n,) as in `StageProcessModel.p_good`; context is taken from all holes
    terms : variance terms to fit, the others are 0; `stage` is left out where no labelled hole has a position
    Raises InputError as `check_holes` does, and when no hole of one class is labelled; UnknownNameError for an unknown
    term.
    """
    for term in terms:
        if term not in TERMS:
            raise UnknownNameError("The variance term", term, TERMS)
    check_holes(score_p, labels, patch_of_hole, tree, x_um, y_um)
    holes = _Holes.of(labels, patch_of_hole, tree, x_um, y_um)
    labelled = ~np.isnan(labels)
    if not 0 < labels[labelled].sum() < labelled.sum():
        raise InputError(
            f"A prediction must be fitted to labelled holes of both classes. Got {int(labelled.sum())} "
            f"labels, {int(labels[labelled].sum())} good, instead. Remedy: label more holes."
        )
    asked = np.array([term in terms for term in TERMS])
    asked[3] &= bool((labelled & holes.has_position).any())
    features, priors = context_features(score_p, patch_of_hole, tree), priors or StagePriors()
    # Without the field a fit costs next to nothing, and brings the fit with it close to its end.
    start = _first_parameters(priors)
    for with_field in (False, True)[: 1 + asked[3]]:
        grids = list(holes.labelled_grids(with_field))
        fit = _Fit(features, labels, grids, asked & [True, True, True, with_field], priors)
        start, model = fit.best(start)
    return model


def check_holes(
    score_p: Numbers,
    labels: Numbers,
    patch_of_hole: NDArray[np.int32],
    tree: HoleTree,
    x_um: Numbers,
    y_um: Numbers,
) -> None:
    """Raises InputError for arrays of unequal length, patches that the tree has not, wrong labels or positions."""
    lengths = [len(of_holes) for of_holes in (score_p, labels, patch_of_hole, x_um, y_um)]
    if len(set(lengths)) > 1:
        raise InputError(
            "Scores, labels, patches, x and y must have one entry per hole. "
            f"Got {', '.join(map(str, lengths))} instead."
        )
    n_patches = len(tree.square_of_patch)
    outside = (patch_of_hole < 0) | (patch_of_hole >= n_patches)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"patch_of_hole must be indices below {n_patches}. Got {patch_of_hole[first]} at hole {first} instead."
        )
    strange = ~(np.isnan(labels) | np.isin(labels, (0.0, 1.0)))
    if strange.any():
        first = int(np.flatnonzero(strange)[0])
        raise InputError(
            f"Labels must be 0, 1 or NaN. Got {labels[first]} at hole {first} instead ({int(strange.sum())} such "
            "labels). Remedy: give NaN for holes without an outcome."
        )
    endless = np.isinf(x_um) | np.isinf(y_um)
    if endless.any():
        first = int(np.flatnonzero(endless)[0])
        raise InputError(
            f"Stage positions must be finite, or NaN where missing. Got ({x_um[first]}, {y_um[first]}) at hole "
            f"{first} instead. Remedy: give NaN for holes without a position."
        )


@dataclass(frozen=True)
class _Holes:
    """All holes of a session."""

    labels: Numbers  # (n,) 0, 1 or NaN
    patch_of_hole: NDArray[np.int32]  # (n,)
    square_of_hole: NDArray[np.int32]  # (n,)
    grid_of_hole: NDArray[np.int32]  # (n,)
    xy_um: Numbers  # (n, 2)

    @classmethod
    def of(
        cls, labels: Numbers, patch_of_hole: NDArray[np.int32], tree: HoleTree, x_um: Numbers, y_um: Numbers
    ) -> _Holes:
        """From arrays that `check_holes` has seen."""
        square_of_hole = tree.square_of_patch[patch_of_hole]
        return cls(
            labels,
            patch_of_hole,
            square_of_hole,
            tree.grid_of_square[square_of_hole],
            np.stack([x_um, y_um], axis=1),
        )

    @property
    def has_position(self) -> NDArray[np.bool_]:
        """(n,)."""
        return np.asarray(~np.isnan(self.xy_um).any(axis=1))

    def labelled_grids(self, with_field: bool) -> Iterator[_LabelledGrid]:
        """One for each grid with a label."""
        labelled = np.flatnonzero(~np.isnan(self.labels))
        for grid in np.unique(self.grid_of_hole[labelled]):
            inside = labelled[self.grid_of_hole[labelled] == grid]
            inside = inside[np.argsort(self.patch_of_hole[inside], kind="stable")]
            yield _LabelledGrid.of(self, int(grid), inside, with_field)


@dataclass(frozen=True)
class _LabelledGrid:
    """The labelled holes of one grid and what does not change with variances and length."""

    holes: _Holes
    grid: int
    inside: NDArray[np.int64]  # (m,) labelled holes, sorted by patch
    patches: NDArray[np.int32]  # (k,) labelled patches
    patch: NDArray[np.int64]  # (m,) index into patches
    squares: NDArray[np.int32]  # (s,) labelled squares
    in_square: Numbers  # (m, s) 1 where the hole is in the square
    inducing_um: Numbers  # (i, 2)
    between_um: Numbers  # (i, i) distances of the inducing positions

    @classmethod
    def of(cls, holes: _Holes, grid: int, inside: NDArray[np.int64], with_field: bool) -> _LabelledGrid:
        """inside : (m,) labelled holes of the grid, sorted by patch."""
        patches, patch = np.unique(holes.patch_of_hole[inside], return_inverse=True)
        squares, square = np.unique(holes.square_of_hole[inside], return_inverse=True)
        positions = holes.xy_um[inside[holes.has_position[inside]]] if with_field else np.empty((0, 2))
        inducing = inducing_positions(positions, MOST_INDUCING)
        in_square = (square[:, None] == np.arange(len(squares))).astype(np.float64)
        between_um = cdist(inducing, inducing)
        return cls(holes, grid, inside, patches, patch, squares, in_square, inducing, between_um)

    @cached_property
    def distance_um(self) -> Numbers:
        """(m, i) of the labelled holes from the inducing positions; out of reach where the position is missing."""
        return self.distance_from(self.inside)

    def distance_from(self, which: NDArray[np.int64]) -> Numbers:
        """(w, i) of these holes from the inducing positions; out of reach where the position is missing."""
        distance = cdist(self.holes.xy_um[which], self.inducing_um)
        return np.where(np.isnan(distance), _FAR_UM, distance)

    @property
    def covering_radius_um(self) -> float:
        """Largest distance of a labelled position from its nearest inducing one; 0 without any."""
        nearest = self.distance_um.min(axis=1, initial=_FAR_UM)
        return float(nearest[nearest < _FAR_UM].max(initial=0.0))

    def block(
        self, location: Numbers, field: Numbers, effects: EffectVariances, stage_variance: float
    ) -> LabelledBlock:
        """The labelled holes with the prior's standard deviations in the columns: grid, squares, field.

        location : (n,) of all holes     field : (m, i) basis at the labelled holes
        """
        columns = np.hstack(
            [
                np.full((len(self.inside), 1), np.sqrt(effects.grid)),
                np.sqrt(effects.square) * self.in_square,
                np.sqrt(stage_variance) * field,
            ]
        )
        good = self.holes.labels[self.inside]
        return LabelledBlock(location[self.inside], columns, self.patch, effects.patch, good)

    def predict(
        self,
        which: NDArray[np.int64],
        basis: FieldBasis,
        posterior: LaplacePosterior,
        model: StageProcessModel,
    ) -> tuple[Numbers, Numbers]:
        """Posterior mean and variance of field plus effects, (w,) each, at holes of this grid."""
        effects = model.effects
        patch, patch_known = _index_in(self.patches, self.holes.patch_of_hole[which])
        square, square_known = _index_in(self.squares, self.holes.square_of_hole[which])
        field = basis.rows(self.distance_from(which))
        columns = np.zeros((len(which), len(posterior.mean)))
        columns[:, 0] = np.sqrt(effects.grid)
        columns[np.flatnonzero(square_known), 1 + square[square_known]] = np.sqrt(effects.square)
        columns[:, 1 + len(self.squares) :] = np.sqrt(model.stage_variance) * field
        mean = columns @ posterior.mean + np.where(patch_known, posterior.patch_mean[patch], 0.0)
        apart = columns - np.where(patch_known[:, None], posterior.pull[patch], 0.0)
        variance = np.einsum("ij,ij->i", apart @ posterior.covariance, apart)
        variance += np.where(patch_known, posterior.patch_variance[patch], effects.patch)
        variance += np.where(square_known, 0.0, effects.square)
        # What the inducing positions do not say of the field here.
        variance += model.stage_variance * np.maximum(1.0 - np.square(field).sum(axis=1), 0.0)
        return mean, variance


def _index_in(
    known: NDArray[np.int32], wanted: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Index of each wanted one among the sorted known ones, and whether it is there; 0 where it is not."""
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = known[index] == wanted
    return np.where(found, index, 0), found


def _first_parameters(priors: StagePriors) -> Numbers:
    """(10,) where a fit starts: the classifier is right, and a little is left unexplained."""
    return np.concatenate([[0.0, 1.0, 0.0, 0.0, 0.0], np.log([0.3, 0.2, 0.1, 0.3, priors.length_um])])


@dataclass
class _Fit:
    """The loss of one fit, and the modes it reached last, from which the next evaluation starts.

    Parameters: five weights, four log variances (TERMS), the log of the length.
    """

    features: Numbers  # (n, 5)
    labels: Numbers  # (n,)
    grids: list[_LabelledGrid]
    asked: NDArray[np.bool_]  # (4,) terms to fit
    priors: StagePriors

    def __post_init__(self) -> None:
        self._starts: list[tuple[Numbers, Numbers] | None] = [None] * len(self.grids)

    def best(self, start: Numbers) -> tuple[Numbers, StageProcessModel]:
        """The parameters of the largest evidence times priors, (10,), and their model."""
        shortest, longest = _LENGTH_BOUNDS_UM
        radius = max(grid.covering_radius_um for grid in self.grids)
        shortest = min(max(shortest, RADII_PER_LENGTH * radius), longest)
        lengths = np.log([shortest, longest])
        bounds = [(None, None)] * 5 + [_LOG_VARIANCE_BOUNDS] * 4 + [tuple(lengths)]
        start = np.concatenate([start[:9], np.clip(start[9:], *lengths)])
        found = minimize(
            self.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": _PRECISION}
        )
        log_prior, _ = self._log_prior(found.x)
        return found.x, self._model(found.x, -float(found.fun) - log_prior)

    def loss(self, parameters: Numbers) -> tuple[float, Numbers]:
        """Minus the log of evidence times priors, and its gradient, (10,)."""
        model = self._model(parameters, 0.0)
        location = self.features @ parameters[:5]
        total, gradient = self._log_prior(parameters)
        for i, grid in enumerate(self.grids):
            basis = FieldBasis(grid.between_um, model.length_um)
            field = basis.rows(grid.distance_um)
            block = grid.block(location, field, model.effects, model.stage_variance)
            posterior = laplace_posterior(block, self._starts[i])
            self._starts[i] = posterior.mean, posterior.patch_mean
            total += posterior.log_evidence
            change = posterior.evidence_gradient()
            gradient[:9] += self._gradient(grid, block, change)
            if self.asked[3]:
                moved = np.sqrt(model.stage_variance) * basis.rows_by_log_length(grid.distance_um, field)
                gradient[9] += float(np.sum(change.by_columns[:, 1 + len(grid.squares) :] * moved))
        return -total, -gradient

    def _gradient(self, grid: _LabelledGrid, block: LabelledBlock, change: EvidenceGradient) -> Numbers:
        """(9,) of the log evidence of one grid, all but the length's.

        A column changes by half of itself with the log of its variance.
        """
        by_column = 0.5 * np.einsum("ij,ij->j", change.by_columns, block.columns)
        first = 1 + len(grid.squares)
        by_variance = [by_column[1:first].sum(), by_column[0], by_column[first:].sum()]
        by_weight = self.features[grid.inside].T @ change.by_location
        return np.concatenate([by_weight, [change.by_log_patch_variance, *by_variance]])

    def _log_prior(self, parameters: Numbers) -> tuple[float, Numbers]:
        """Log density of the priors up to a constant, and its gradient, (10,)."""
        priors, log_variances = self.priors, parameters[5:9][self.asked]
        sd = np.array([priors.intercept_sd, priors.score_sd] + [priors.context_sd] * 3)
        off = (parameters[:5] - np.array([0.0, 1.0, 0.0, 0.0, 0.0])) / sd
        over = np.exp(log_variances) / priors.effect_sd**2
        # A density in a standard deviation is that density times exp(half the log variance) in the log variance.
        value = -0.5 * float(off @ off) + 0.5 * float(np.sum(log_variances - over))
        gradient = np.zeros(10)
        gradient[:5] = -off / sd
        gradient[5:9][self.asked] = 0.5 - 0.5 * over
        if self.asked[3]:
            longer = (parameters[9] - np.log(priors.length_um)) / priors.length_log_sd
            value -= 0.5 * float(longer**2)
            gradient[9] = -longer / priors.length_log_sd
        return value, gradient

    def _model(self, parameters: Numbers, log_evidence: float) -> StageProcessModel:
        names = ("intercept", "score", "patch", "square", "grid")
        patch, square, grid, stage = (np.exp(parameters[5:9]) * self.asked).tolist()
        return StageProcessModel(
            **dict(zip(names, parameters[:5].tolist(), strict=True)),
            effects=EffectVariances(patch=patch, square=square, grid=grid),
            stage_variance=stage,
            length_um=float(np.exp(parameters[9])),
            log_evidence=log_evidence,
            holes=int((~np.isnan(self.labels)).sum()),
            priors=self.priors,
        )
