"""A belief that also learns how far to trust the predictions: a mixture of effect beliefs, weighed by the outcomes.

A classifier that has seen its training holes promises too much on new ones; one of another session may be off by a
constant. Each component assumes another slope and offset spread of the logits and other variances of the effects;
their weights follow the likelihood of the outcomes so far (Bayesian model averaging). Beliefs and weights are functions
of the set of outcomes, so their order does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import EffectBelief, EffectVariances, location_of
from cryoscout.core.hole_tree import HoleTree


class Assumption(NamedTuple):
    """How far one component trusts the predictions."""

    slope: float  # factor of a hole's logit
    spread: float  # factor of the variances of patch, square and grid
    session: float  # variance of an effect that all holes share


ASSUMPTIONS: tuple[Assumption, ...] = tuple(
    Assumption(slope, spread, session)
    for slope in (1.0, 0.75, 0.5)
    for spread in (1.0, 2.5)
    for session in (0.0, 0.5)
)
"""Equally likely before the first outcome."""


class MixtureBelief:
    """EffectBelief's interface over several components."""

    def __init__(
        self,
        p_good: NDArray[np.float64],
        patch_of_hole: NDArray[np.int32],
        tree: HoleTree,
        variances: EffectVariances,
        assumptions: tuple[Assumption, ...] = ASSUMPTIONS,
    ) -> None:
        """p_good : (n,) predictions, taken at face value by a component of slope and spread 1."""
        self.assumptions = assumptions
        self._components: list[EffectBelief] = []
        for slope, spread, session in assumptions:
            assumed = EffectVariances(
                patch=variances.patch * spread,
                square=variances.square * spread,
                grid=variances.grid * spread,
                session=variances.session + session,
            )
            location = slope * location_of(p_good, assumed.total)
            self._components.append(EffectBelief(location, patch_of_hole, tree, assumed))
        self._reweigh()

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return self._components[0].n_holes

    def observe(self, hole: int, good: float, shots: int = 1) -> None:
        """Take in one hole's outcome. good : good micrographs, 0..shots. A second outcome replaces the first."""
        self.observe_many(np.array([hole]), np.array([good], dtype=np.float64), shots)

    def observe_many(
        self, holes: NDArray[np.int64], good: NDArray[np.float64], shots: int | NDArray[np.float64] = 1
    ) -> None:
        """Take in many outcomes at once; each replaces an earlier one of its hole.

        holes : (m,) distinct     good : (m,) 0..shots     shots : with a result, one number or (m,); 0 for none
        """
        for component in self._components:
            component.observe_many(holes, good, shots)
        self._reweigh()

    def p_good(self) -> NDArray[np.float64]:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        p_good = np.zeros(self.n_holes)
        for weight, component in zip(self.weights, self._components, strict=True):
            p_good += weight * component.p_good()
        return p_good

    def draw_logits(
        self,
        draws: int,
        rng: np.random.Generator,
        holes: NDArray[np.int64],
        loadings: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Joint draws of the logits of these holes, (m,), from the posterior, (draws, m); see `EffectBelief`.

        Each draw is of one component, taken with its weight; the errors of the fit are stretched by its slope.
        """
        logits = np.empty((draws, len(holes)))
        of_component = rng.choice(len(self._components), size=draws, p=self.weights)
        for number, component in enumerate(self._components):
            rows = np.flatnonzero(of_component == number)
            if len(rows):
                stretched = None if loadings is None else self.assumptions[number].slope * loadings
                logits[rows] = component.draw_logits(len(rows), rng, holes, stretched)
        return logits

    def _reweigh(self) -> None:
        """Weights (c,) by the likelihood of all outcomes so far."""
        log_likelihood = np.array([component.log_likelihood() for component in self._components])
        weights = np.exp(log_likelihood - log_likelihood.max())
        self.weights = weights / weights.sum()
