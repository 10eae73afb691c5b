"""What an unseen patch or square may hold: how many holes, and how good the predictions and results there will be.

The logit of a hole h of patch p, as `EffectBelief` has it, is m_h + e_p. Of an unseen patch neither is known:

    m_h = L_p + d_h,   L_p = mean + weights @ features of its square + grid + square + patch term,
    e_p = weights @ features of its square + session + grid + square + patch effect,

with independent zero-mean Gaussian terms, d_h ~ N(0, within^2). A look shows L_p and d_h; e_p shows itself in results
alone. Both are linear Gaussian models, solved exactly given the patches that were seen (L_p) and the sites of their
results (e_p, as the belief keeps them). A square holds patches in proportion to its room, the area that the atlas shows
over the usual one. Means and numbers have priors fitted to the training patches of Y1
(scripts/fit_y1_unseen.py) and are learned in the session; so is how far predictions spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import ndtri

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import (
    Y1_FLAT_EFFECTS,
    EffectVariances,
    location_of,
    marginal_probability,
)
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.settings import Settings

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Variance = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]

PRIOR_P_GOOD = 0.379
"""Share of good micrographs of the Y1 training holes, rounded."""

PRIOR_CURVE = np.linspace(0.73, 0.03, 20)
"""Sorted p_good of a patch where none was seen yet, about the mean curve of the Y1 training patches."""


MOST_ROOM = 4.0
"""No square has more, whatever an atlas says: one outline around half a grid, or one whole square among specks."""
LEAST_ROOM_SEEN = 0.25
"""What a smaller piece of a square showed counts as of one of this room, or a speck would speak for many squares."""


class UnseenPrior(Settings):
    """Before anything was seen. Variances in logit squared."""

    mean: float
    mean_variance: Variance
    grid: Variance
    square: Variance
    patch: Variance
    within: Variance
    """Of the holes of one patch around its mean."""
    prediction_feature_sd: Variance = 0.7
    """Prior standard deviation of the weight of one standardised feature, for predictions; 0 where there are none."""
    feature_sd: Positive = 0.7
    """The same for results."""
    holes_per_patch: Positive
    patches_per_square: Positive
    counts_weigh: Positive = 1.0
    """How many seen patches (squares) the prior number of holes (patches) weighs as much as."""
    spread_weighs: Positive = 4.0
    """How many seen patches the prior spread of predictions weighs as much as."""


Y1_UNSEEN = UnseenPrior(
    mean=-2.13,
    mean_variance=1.0,
    grid=4.43,
    square=2.08,
    patch=2.90,
    within=6.94,
    holes_per_patch=20.4,
    patches_per_square=4.84,
)
"""Fitted to the training patches of Y1, whose scores the classifier has seen: it spreads more there than on new
patches, so the spread is learned in the session (scripts/fit_y1_unseen.py prints these numbers)."""


FLAT_UNSEEN = Y1_UNSEEN.model_copy(
    update={
        "mean": float(location_of(np.array([PRIOR_P_GOOD]), Y1_FLAT_EFFECTS.total)[0]),
        "mean_variance": 0.0,
        "grid": 0.0,
        "square": 0.0,
        "patch": 0.0,
        "within": 0.0,
        "prediction_feature_sd": 0.0,
    }
)
"""Where there are no predictions: every hole is taken alike before its result, seen or not, and only effects differ.
No look can show a prediction then, whatever the atlas says of a square."""


@dataclass(frozen=True)
class SharedTerms:
    """What the unseen patches of every square share: a sum of terms of session, features, grid and square.

    The squares of a grid share its term, so that one that turns out bad says so of the others.
    """

    design: NDArray[
        np.float64
    ]  # (S, k) of each square; before anything was seen the terms are standard normal
    terms: NDArray[np.float64]  # (k,) posterior mean of the terms
    root: NDArray[np.float64]  # (k, k) upper triangle of the Cholesky factor of their posterior precision

    def mean(self) -> NDArray[np.float64]:
        """(S,)."""
        return np.asarray(self.design @ self.terms)

    def variance(self) -> NDArray[np.float64]:
        """(S,)."""
        covariance = cho_solve((self.root, False), self.design.T, check_finite=False)
        return np.asarray(np.einsum("ij,ji->i", self.design, covariance))

    def draw(self, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Joint draws of all squares, (draws, S)."""
        normals = rng.standard_normal((len(self.terms), draws))
        terms = self.terms[:, None] + solve_triangular(self.root, normals, check_finite=False)
        return np.asarray((self.design @ terms).T)


@dataclass(frozen=True)
class UnseenPlaces:
    """What is believed of the patches of every square that are not seen yet; all of one square are alike.

    A patch's holes have logits level + shared + own + d: `shared` is common to the square, `own` to the patch.
    """

    prediction: NDArray[np.float64]  # (S,) expected L of a patch
    prediction_shared: NDArray[np.float64]  # (S,) its variance that the patches of the square share
    prediction_own: float  # variance of each patch around that
    effect: NDArray[np.float64]  # (S,) expected e of a patch
    effect_shared: NDArray[np.float64]  # (S,)
    effect_own: float
    within: float  # variance of d
    holes_per_patch: float  # expected
    patches_per_square: float  # expected of a square of room 1 that was not looked at, empty ones included
    hole_counts: NDArray[np.int64]  # (c,) numbers of holes of the patches seen so far
    patch_counts: NDArray[np.int64]  # (c,) numbers of patches of the squares looked at so far
    prior: UnseenPrior
    room: NDArray[np.float64]  # (S,) of every square
    room_seen: NDArray[np.float64]  # (c,) of the squares looked at so far, at least LEAST_ROOM_SEEN
    shared_effects: SharedTerms  # behind effect and effect_shared

    def draw_effects(self, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(draws, S) joint draws of what the unseen patches of every square share of their effects.

        Predictions are not drawn so: a look shows them before a hole is imaged, and where those of a grid turn out bad
        the plan goes on elsewhere. Effects show in results alone, when the minutes are spent.
        """
        return self.shared_effects.draw(draws, rng)

    def square_level(self) -> NDArray[np.float64]:
        """(S,) expected logit of a hole of an unseen patch: what places are ranked by where looks cost the same."""
        return self.prediction + self.effect

    def patches_of_square(self) -> NDArray[np.float64]:
        """(S,) expected patches of every square that was not looked at, empty ones included."""
        return self.patches_per_square * self.room

    def draw_holes(self, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Numbers of holes of a patch, (draws,): one that was seen, or one of the prior."""
        return self._drawn(self.hole_counts, self.prior.holes_per_patch, draws, rng)

    def draw_patches(self, square: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Numbers of patches of a square, (draws,): of its room, one that was seen elsewhere, or one of the prior."""
        room = float(self.room[square])
        seen = self.patch_counts * (room / self.room_seen)
        return self._drawn(seen, room * self.prior.patches_per_square, draws, rng)

    def _drawn(
        self, seen: NDArray[np.int64] | NDArray[np.float64], mean: float, draws: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        weigh = self.prior.counts_weigh
        from_prior = rng.random(draws) < weigh / (weigh + len(seen))
        drawn = rng.poisson(mean, draws)
        if len(seen):
            chosen = rng.choice(seen, draws)
            if np.any(seen % 1):  # up or down, so that the mean is right
                chosen = np.floor(chosen + rng.random(draws))
            drawn = np.where(from_prior, drawn, chosen)
        return np.asarray(drawn, dtype=np.int64)


def draw_looks(
    unseen: UnseenPlaces,
    square: int,
    n_patches: int | None,
    least_p: float,
    goes_on: float,
    draws: int,
    rng: np.random.Generator,
    shots: int = 1,
    effects: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Whole truths of a square's unseen patches: good micrographs, holes imaged and patches looked at, (draws,) each.

    effects : (draws,) the square's column of `UnseenPlaces.draw_effects`, where other squares are drawn too; None draws
        the square alone
    n_patches : known ones without a look; None: the square was not looked at, and the number is drawn
    least_p : holes whose p_good after the look is not above it are not imaged
    goes_on : probability that the first patch shows enough of what the square shares for the others to be looked at
    """
    good, imaged = np.zeros(draws), np.zeros(draws)
    patches = np.full(draws, n_patches) if n_patches is not None else unseen.draw_patches(square, draws, rng)
    seen_level = rng.normal(unseen.prediction[square], np.sqrt(unseen.prediction_shared[square]), draws)
    effect = (
        rng.normal(unseen.effect[square], np.sqrt(unseen.effect_shared[square]), draws)
        if effects is None
        else effects
    )
    spread = np.sqrt(unseen.prediction_shared[square])
    enough = (
        seen_level - unseen.prediction[square] >= -spread * ndtri(goes_on)
        if 0.0 < goes_on < 1.0 and spread > 0.0
        else goes_on >= 0.5
    )
    patches = np.where(enough, patches, np.minimum(patches, 1))
    total = int(patches.sum())
    of_draw = np.repeat(np.arange(draws), patches)
    level = seen_level[of_draw] + rng.normal(0.0, np.sqrt(unseen.prediction_own), total)
    effect_of_patch = effect[of_draw] + rng.normal(0.0, np.sqrt(unseen.effect_own), total)
    holes = unseen.draw_holes(total, rng)
    of_patch = np.repeat(np.arange(total), holes)
    location = level[of_patch] + rng.normal(0.0, np.sqrt(unseen.within), len(of_patch))
    # A look shows predictions alone; effects are shown by results, which are still to come.
    unknown = unseen.effect_own + unseen.effect_shared[square]
    believed = marginal_probability(location + unseen.effect[square], np.full(len(location), unknown))
    taken = believed > least_p
    chance = sigmoid(location + effect_of_patch[of_patch])
    found = np.where(taken, rng.binomial(shots, chance), 0)
    np.add.at(good, of_draw[of_patch], found)
    np.add.at(imaged, of_draw[of_patch], taken)
    return good, imaged, patches.astype(np.float64)


def believe_unseen(
    tree: HoleTree,
    location: NDArray[np.float64],
    evidence: NDArray[np.float64],
    effects: EffectVariances,
    square_looked: NDArray[np.bool_],
    patch_looked: NDArray[np.bool_],
    features: NDArray[np.float64],
    prior: UnseenPrior,
    room: NDArray[np.float64] | None = None,
) -> UnseenPlaces:
    """The belief about what is not seen, from what is.

    location : (n,) logits of the seen holes without effects     evidence : (P, 2) `EffectBelief.evidence`
    features : (S, f) standardised, NaN unknown (counts as average)
    room : (S,) for patches, 1 is usual, NaN unknown (counts as usual); None: unknown of all
    """
    room = (
        np.ones(tree.n_squares)
        if room is None
        else np.where(np.isnan(room), 1.0, np.minimum(room, MOST_ROOM))
    )
    room_seen = np.maximum(room[square_looked], LEAST_ROOM_SEEN)
    count = np.bincount(tree.patch_of_hole, minlength=tree.n_patches)
    seen = np.flatnonzero(patch_looked & (count > 0))
    level = np.bincount(tree.patch_of_hole, weights=location, minlength=tree.n_patches)[seen] / count[seen]
    known = np.nan_to_num(features)
    spread, within = _spread(location, tree, level, seen, count, prior)
    terms = EffectVariances(
        patch=spread * prior.patch, square=spread * prior.square, grid=spread * prior.grid,
        session=prior.mean_variance,
    )  # fmt: skip
    weight_sd = prior.prediction_feature_sd * np.sqrt(spread)
    prediction = _solve(tree, seen, level - prior.mean, within / count[seen], terms, known, weight_sd)
    precision, shift = evidence[:, 0], evidence[:, 1]
    told = np.flatnonzero(precision > 0)
    effect = _solve(
        tree, told, shift[told] / precision[told], 1.0 / precision[told], effects, known, prior.feature_sd
    )
    patches = np.bincount(tree.square_of_patch, minlength=tree.n_squares)[square_looked]
    holes = count[patch_looked]
    return UnseenPlaces(
        prediction.mean() + prior.mean,
        prediction.variance(),
        terms.patch,
        effect.mean(),
        effect.variance(),
        effects.patch,
        within,
        _mean_number(holes, float(len(holes)), prior.holes_per_patch, prior.counts_weigh),
        _mean_number(patches, float(room_seen.sum()), prior.patches_per_square, prior.counts_weigh),
        holes,
        patches,
        prior,
        room,
        room_seen,
        effect,
    )


def _mean_number(seen: NDArray[np.int64], places: float, prior: float, weigh: float) -> float:
    """Of a place: what was seen in so many (a square of half the room is half a one), and a prior."""
    return float((weigh * prior + seen.sum()) / (weigh + places))


def _spread(
    location: NDArray[np.float64],
    tree: HoleTree,
    level: NDArray[np.float64],
    seen: NDArray[np.int64],
    count: NDArray[np.int64],
    prior: UnseenPrior,
) -> tuple[float, float]:
    """How far predictions of patches spread against the prior (a factor), and the variance within a patch."""
    if len(seen) == 0:
        return 1.0, prior.within
    of_patch = np.zeros(tree.n_patches)
    of_patch[seen] = level
    apart = float(((location - of_patch[tree.patch_of_hole]) ** 2).sum())
    holes = int(count[seen].sum())
    if holes > 1 and float(np.ptp(location)) < 1e-9:
        return 0.0, 0.0  # a prediction that says the same of every hole says it of unseen ones too
    # One patch holds about twenty holes that are not independent: it weighs as one.
    free = max(holes - len(seen), 0) / max(holes, 1) * len(seen)
    weigh = prior.spread_weighs
    within = (weigh * prior.within + apart / max(holes, 1) * len(seen)) / (weigh + free)
    between = prior.grid + prior.square + prior.patch + within / max(float(count[seen].mean()), 1.0)
    of_levels = float(((level - level.mean()) ** 2).sum()) / max(between, 1e-9)
    return (weigh + of_levels) / (weigh + max(len(seen) - 1, 0)), within


def _solve(
    tree: HoleTree,
    patches: NDArray[np.int64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    variances: EffectVariances,
    features: NDArray[np.float64],
    weight_sd: float,
) -> SharedTerms:
    """The posterior of what the unseen patches of every square share.

    values, noise : (m,) observed at these patches, and the variance of each beside its patch term
    """
    n_squares, n_grids = tree.n_squares, tree.n_grids
    sd = np.concatenate(
        [
            [np.sqrt(variances.session)],
            np.full(features.shape[1], weight_sd),
            np.full(n_grids, np.sqrt(variances.grid)),
            np.full(n_squares, np.sqrt(variances.square)),
        ]
    )
    design = np.zeros((n_squares, len(sd)))
    design[:, 0] = 1.0
    design[:, 1 : 1 + features.shape[1]] = features
    first = 1 + features.shape[1]
    rows = np.arange(n_squares)
    design[rows, first + tree.grid_of_square] = 1.0
    design[rows, first + n_grids + rows] = 1.0
    design *= sd  # of standard normal terms
    square = tree.square_of_patch[patches]
    weight = 1.0 / np.maximum(variances.patch + noise, 1e-9)
    of_square = np.bincount(square, weights=weight, minlength=n_squares)
    pull = np.bincount(square, weights=weight * values, minlength=n_squares)
    precision = np.eye(len(sd)) + design.T @ (of_square[:, None] * design)
    factor, _ = cho_factor(precision, check_finite=False)
    terms = cho_solve((factor, False), design.T @ pull, check_finite=False)
    return SharedTerms(design, terms, factor)
