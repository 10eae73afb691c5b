"""Patch, square and grid effects on the logit scale: their prior, and their posterior given outcomes.

The model: an exposure of hole h is good with probability sigmoid(m_h + e_p), where e_p = session + grid + square +
patch effect of the hole's patch, each effect an independent zero-mean Gaussian. Given outcomes, the posterior is
approximated by a Gaussian with expectation propagation (Minka 2001): every hole's outcome becomes a Gaussian site on
its patch's e_p. Sites of one patch add up, so the approximate posterior is a Gaussian on the tree and is solved exactly
by one pass up and one pass down, in time linear in the number of patches. Sites are refined until nothing moves, so the
posterior is a function of the outcomes, not of their order.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.tree_gaussian import (
    draw_patch_effects,
    ep_log_likelihood,
    ep_log_likelihood_gradient,
    patch_marginals,
    settle_sites,
    third_moments,
)
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.settings import Settings

Variance = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class EffectVariances(Settings):
    """Prior variances (logit squared) of the additive effects shared by the holes of a patch, square, grid.

    `session` is the variance of an effect shared by all holes: how far a new session may lie from the predictions.
    """

    patch: Variance
    square: Variance
    grid: Variance
    session: Variance = 0.0

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(patch, square, grid, session)."""
        return (self.patch, self.square, self.grid, self.session)

    @property
    def total(self) -> float:
        """Prior variance of e_p."""
        return sum(self.as_tuple())


Y1_EFFECTS = EffectVariances(patch=1.17195, square=0.086222, grid=0.095362)
"""The prior for scores of a classifier on new patches: twice the variances fitted on the Y1 training split.

Twice, because that classifier has seen the training holes, so its scores leave less unexplained there than they
do on new patches. Twice found most in replays on the training split, which hardly tell the factors 1, 2 and 4 apart
(docs/results/adaptive-selection.md).
"""

Y1_FLAT_EFFECTS = EffectVariances(patch=1.183942, square=1.16624, grid=1.230388)
"""The prior where there are no scores: fitted on the outcomes of the Y1 training split alone."""

_LOGISTIC_PROBIT = np.pi / 8.0


def marginal_probability(location: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """E[sigmoid(location + e)], e ~ N(0, variance), by MacKay's approximation.

    Absolute error below 0.006 up to variance 1.2 (Y1_EFFECTS), below 0.01 up to 3.59 (Y1_FLAT_EFFECTS), below
    0.02 for any variance (tests).
    """
    return sigmoid(location / np.sqrt(1.0 + _LOGISTIC_PROBIT * variance))


def location_of(p_good: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """The location m with marginal_probability(m, variance) = p_good; p is clipped to 1e-4..1 - 1e-4."""
    p = np.clip(p_good, 1e-4, 1.0 - 1e-4)
    return np.asarray(np.log(p / (1.0 - p)) * np.sqrt(1.0 + _LOGISTIC_PROBIT * variance))


def p_good_given_effects(
    location: NDArray[np.float64],
    group: NDArray[np.integer[Any]],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    third: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(n,) probability that one exposure of each hole is good, its effect integrated out.

    location : (n,) logit of each hole without effects     group : (n,) index of its patch, or of another group
    mean, variance, third : (P,) moments of each group's effect, the third central
    """
    # As `marginal_probability`, with the root taken once per group.
    narrowed = np.sqrt(1.0 + _LOGISTIC_PROBIT * variance)
    logit = (location + mean[group]) / narrowed[group]
    # An effect that is skewed adds its third moment / 6 times the third derivative of the logistic function, here
    # as a change of the logit. Up to 1.7 a higher location still has a higher p_good.
    skewness = np.clip(third / (6.0 * narrowed**3), -1.0, 1.0)
    skewed = np.flatnonzero(skewness[group])
    p = sigmoid(logit[skewed])
    logit[skewed] += skewness[group[skewed]] * (1.0 - 6.0 * p * (1.0 - p))
    return sigmoid(logit)


class EffectBelief:
    """The posterior of the patch effects e_p, updated outcome by outcome.

    location : (n,) m_h, the logit of a hole without effects     patch_of_hole : (n,) int
    After `observe`, `mean` and `variance`, (P,), are the posterior of e_p: a function of the outcomes so far, whatever
    the order in which they came, one by one or at once (to 1e-6 in probabilities; tests).
    """

    mean: NDArray[np.float64]  # (P,)
    variance: NDArray[np.float64]  # (P,)

    def __init__(
        self,
        location: NDArray[np.float64],
        patch_of_hole: NDArray[np.int32],
        tree: HoleTree,
        variances: EffectVariances,
    ) -> None:
        self.location = location
        self.patch_of_hole = patch_of_hole
        self._tree = tree
        self._variances = variances.as_tuple()
        n_patches = len(tree.square_of_patch)
        self._known = np.empty(0, dtype=np.int64)  # holes with a result, by patch and within it by hole
        self._good = np.zeros(len(location))
        self._shots = np.zeros(len(location))  # with a result
        self._evidence = np.zeros((n_patches, 2))  # per patch: precision, precision times mean
        self._sites = np.zeros((0, 2))  # of each known hole; see `settle_sites`
        self._seen = np.zeros((0, 2))
        self._log_mass = np.zeros(0)
        self._refresh()

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.location)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """(P, 2) what the outcomes so far say of each patch's effect: precision, precision times mean. A copy."""
        return self._evidence.copy()

    def observe(self, hole: int, good: float, shots: int = 1) -> None:
        """Take in one hole's outcome. good : good micrographs, 0..shots. A second outcome replaces the first."""
        self.observe_many(np.array([hole]), np.array([good], dtype=np.float64), shots)

    def observe_many(
        self, holes: NDArray[np.int64], good: NDArray[np.float64], shots: int | NDArray[np.float64] = 1
    ) -> None:
        """Take in many outcomes at once; each replaces an earlier one of its hole.

        holes : (m,) distinct     good : (m,) 0..shots     shots : with a result, one number or (m,); 0 for none
        """
        self._good[holes], self._shots[holes] = good, shots
        known = np.union1d(self._known, holes)
        known = known[self._shots[known] > 0]
        known = known[np.argsort(self.patch_of_hole[known], kind="stable")]
        sites, seen = np.zeros((len(known), 2)), np.full((len(known), 2), np.nan)
        log_mass = np.zeros(len(known))
        kept = np.isin(known, self._known) & ~np.isin(known, holes)
        by_hole = np.argsort(self._known)
        rows = by_hole[np.searchsorted(self._known, known[kept], sorter=by_hole)]
        sites[kept], seen[kept], log_mass[kept] = self._sites[rows], self._seen[rows], self._log_mass[rows]
        self._known, self._sites, self._seen, self._log_mass = known, sites, seen, log_mass
        self._refresh()

    def p_good(self) -> NDArray[np.float64]:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        return p_good_given_effects(self.location, self.patch_of_hole, self.mean, self.variance, self._third)

    def effect_variance(self) -> NDArray[np.float64]:
        """(n,) variance of each hole's effect, given the outcomes so far."""
        return np.asarray(self.variance[self.patch_of_hole])

    def draw_logits(
        self,
        draws: int,
        rng: np.random.Generator,
        holes: NDArray[np.int64],
        loadings: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Joint draws of the logits of these holes, (m,), from the posterior, (draws, m).

        loadings : (n, k) how the location of each hole moves with k independent standard normal errors of the fit
            behind it; None takes it as exact. Outcomes do not narrow these errors.
        """
        logits = self.location[holes] + self.draw_effects(draws, rng)[:, self.patch_of_hole[holes]]
        if loadings is not None:
            logits += rng.standard_normal((draws, loadings.shape[1])) @ loadings[holes].T
        return np.asarray(logits)

    def draw_effects(self, draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Joint draws of the patch effects from the posterior, (draws, P)."""
        tree = self._tree
        columns = 1 + tree.n_grids + len(tree.grid_of_square) + len(tree.square_of_patch)
        normals = rng.standard_normal((draws, columns))
        return np.asarray(
            draw_patch_effects(
                self._evidence, tree.square_of_patch, tree.grid_of_square, self._variances, normals
            )
        )

    def log_likelihood(self) -> float:
        """Approximate log marginal likelihood of the outcomes so far (nats), the effects integrated out."""
        tree = self._tree
        return float(
            ep_log_likelihood(
                self._sites, self._seen, self._log_mass, self._evidence,
                tree.square_of_patch, tree.grid_of_square, self._variances,
            )
        )  # fmt: skip

    def log_likelihood_gradient(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Derivatives of `log_likelihood`: by the location of each hole with an outcome, (m,), in the order of patches
        and within them of holes, and by the prior variances of patch, square and grid, (3,).

        Needs a patch variance above 0.
        """
        tree = self._tree
        by_location, by_variance = ep_log_likelihood_gradient(
            self._sites, self._seen, self._evidence,
            tree.square_of_patch, tree.grid_of_square, self._variances,
        )  # fmt: skip
        return by_location, by_variance

    def _refresh(self) -> None:
        """Let sites and posterior follow the outcomes."""
        tree, known = self._tree, self._known
        good = self._good[known]
        results = self.patch_of_hole[known], self.location[known], good, self._shots[known] - good
        settle_sites(
            results, self._sites, self._seen, self._log_mass, self._evidence,
            tree.square_of_patch, tree.grid_of_square, self._variances,
        )  # fmt: skip
        where = self._evidence, tree.square_of_patch, tree.grid_of_square, self._variances
        self.mean, self.variance = patch_marginals(*where)
        self._third = third_moments(results, *where)


def log_marginal_likelihood(
    location: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: HoleTree,
    variances: EffectVariances,
) -> float:
    """Approximate log probability of outcomes (nats), the effects integrated out; good (n,) 0 or 1."""
    belief = EffectBelief(location, patch_of_hole, tree, variances)
    belief.observe_many(np.arange(len(location)), good)
    return belief.log_likelihood()


def log_marginal_likelihood_and_gradient(
    location: NDArray[np.float64],
    patch_of_hole: NDArray[np.int32],
    good: NDArray[np.float64],
    tree: HoleTree,
    variances: EffectVariances,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """`log_marginal_likelihood`, and its derivatives by location, (n,), and by the variances of patch, square, grid."""
    belief = EffectBelief(location, patch_of_hole, tree, variances)
    belief.observe_many(np.arange(len(location)), good)
    by_row, by_variance = belief.log_likelihood_gradient()
    by_location = np.empty(len(location))
    by_location[np.argsort(patch_of_hole, kind="stable")] = by_row
    return belief.log_likelihood(), by_location, by_variance
