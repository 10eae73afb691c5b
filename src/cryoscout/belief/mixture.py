"""A belief that also learns how far to trust the predictions: a mixture of effect beliefs, weighed by the outcomes.

A classifier that has seen its training holes promises too much on new ones; one of another session may be off by a
constant. Each component assumes another slope and offset spread of the logits and other variances of the effects;
their weights follow the likelihood of the outcomes so far (Bayesian model averaging).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import EffectBelief, EffectTree, EffectVariances, location_of


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

REWEIGH_EVERY = 3
"""Outcomes between two looks at the likelihoods after the first ten: a look costs as much as an outcome."""


class MixtureBelief:
    """EffectBelief's interface over several components."""

    def __init__(
        self,
        p_good: NDArray[np.float64],
        patch_of_hole: NDArray[np.int32],
        tree: EffectTree,
        variances: EffectVariances,
        assumptions: tuple[Assumption, ...] = ASSUMPTIONS,
    ) -> None:
        """p_good : (n,) predictions, taken at face value by a component of slope and spread 1."""
        self.assumptions = assumptions
        self._n_outcomes = 0
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
        self.weights = np.full(len(assumptions), 1.0 / len(assumptions))

    def observe(self, hole: int, good: float, shots: int = 1) -> None:
        """Take in one hole's outcome. good : good micrographs, 0..shots."""
        for component in self._components:
            component.observe(hole, good, shots)
        self._n_outcomes += 1
        if self._n_outcomes <= 10 or self._n_outcomes % REWEIGH_EVERY == 0:
            self._reweigh()

    def observe_many(
        self, holes: NDArray[np.int64], good: NDArray[np.float64], shots: int | NDArray[np.float64] = 1
    ) -> None:
        """Take in many outcomes at once. holes : (m,) distinct     good : (m,) 0..shots."""
        for component in self._components:
            component.observe_many(holes, good, shots)
        self._n_outcomes += len(holes)
        if len(holes):
            self._reweigh()

    def p_good(self) -> NDArray[np.float64]:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        return np.asarray(
            sum(
                weight * component.p_good()
                for weight, component in zip(self.weights, self._components, strict=True)
            )
        )

    def _reweigh(self) -> None:
        log_likelihood = np.array([component.log_likelihood() for component in self._components])
        weights = np.exp(log_likelihood - log_likelihood.max())
        self.weights = weights / weights.sum()
