"""The belief of planners where stage positions are known: effects alone, or with smooth fields of several lengths.

A mixture, weighed by the likelihood of the outcomes (Bayesian model averaging): how smooth a session is follows from
its results. Effects alone weigh one half before the first result, so that over all results the log loss with the field
is at most log 2 above the one without, by as much as the approximate likelihoods are exact. Beliefs and weights are
functions of the set of outcomes, so their order does not matter.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import EffectBelief, EffectVariances, location_of
from cryoscout.belief.field_belief import FieldBelief, FieldVariances, StagePlaces
from cryoscout.belief.stage_pieces import StagePieces
from cryoscout.core.hole_tree import HoleTree

Numbers = NDArray[np.float64]


class Smoothness(NamedTuple):
    """What one component takes from the independent effects for its fields; the whole variance stays."""

    of_patch: float  # share of the variance of patches
    of_square: float  # share of the variance of squares, for the field over the grid
    within_square_um: float  # length
    over_grid_um: float  # length


SMOOTHNESS: tuple[Smoothness, ...] = (
    Smoothness(0.5, 0.5, 20.0, 300.0),
    Smoothness(0.8, 0.5, 30.0, 300.0),
    Smoothness(0.9, 0.5, 100.0, 300.0),
)
"""Equally likely before the first outcome: from a film that changes within a few holes to one that changes slowly.
Chosen on simulated sessions of other seeds than those that the study `prediction` shows."""


class StageBelief:
    """EffectBelief's interface over effects alone and effects with fields."""

    def __init__(
        self,
        p_good: Numbers,
        patch_of_hole: NDArray[np.int32],
        tree: HoleTree,
        variances: EffectVariances,
        stage_um: Numbers,
        smoothness: tuple[Smoothness, ...] = SMOOTHNESS,
    ) -> None:
        """p_good : (n,) by the predictions     stage_um : (n, 2) position within the grid, NaN where unknown."""
        self._location = location_of(p_good, variances.total)
        self._alone = EffectBelief(self._location, patch_of_hole, tree, variances)
        self._stage = patch_of_hole, tree, stage_um
        self._variances, self._smoothness = variances, smoothness
        self.weights = np.array([0.5, *[0.5 / len(smoothness)] * len(smoothness)])
        self._prior = self.weights

    @cached_property
    def _with_fields(self) -> list[FieldBelief]:
        """Made when first needed: before the first result all components say the same of single holes."""
        places = StagePlaces(StagePieces.of(*self._stage))
        return [
            FieldBelief(self._location, places, field_variances(self._variances, each))
            for each in self._smoothness
        ]

    @property
    def _components(self) -> list[EffectBelief | FieldBelief]:
        return [self._alone, *self._with_fields]

    @property
    def evidence(self) -> Numbers:
        """(P, 2) what the outcomes so far say of each patch's effect, as `EffectBelief.evidence`: without fields."""
        return self._alone.evidence

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return self._alone.n_holes

    @property
    def effects_alone(self) -> EffectBelief:
        """The component without fields, which has seen the same outcomes."""
        return self._alone

    def observe(self, hole: int, good: float, shots: int = 1) -> None:
        """Take in one hole's outcome. good : good micrographs, 0..shots. A second outcome replaces the first."""
        self.observe_many(np.array([hole]), np.array([good], dtype=np.float64), shots)

    def observe_many(self, holes: NDArray[np.int64], good: Numbers, shots: int | Numbers = 1) -> None:
        """Take in many outcomes at once; each replaces an earlier one of its hole.

        holes : (m,) distinct     good : (m,) 0..shots     shots : with a result, one number or (m,); 0 for none
        """
        if len(holes):
            for component in self._components:
                component.observe_many(holes, good, shots)
            self._reweigh()

    def p_good(self) -> Numbers:
        """(n,) probability that one exposure of each hole is good, given the outcomes so far."""
        if "_with_fields" not in self.__dict__:
            return self._alone.p_good()
        return self._weighed([component.p_good() for component in self._components])

    def effect_variance(self) -> Numbers:
        """(n,) variance of each hole's effect, on average over the components."""
        return self._weighed([component.effect_variance() for component in self._components])

    def draw_logits(
        self,
        draws: int,
        rng: np.random.Generator,
        holes: NDArray[np.int64],
        loadings: Numbers | None = None,
    ) -> Numbers:
        """Joint draws of the logits of these holes, (m,), from the posterior, (draws, m); see `EffectBelief`.

        Each draw is of one component, taken with its weight.
        """
        logits = np.empty((draws, len(holes)))
        of_component = rng.choice(len(self._components), size=draws, p=self.weights)
        for number, component in enumerate(self._components):
            rows = np.flatnonzero(of_component == number)
            if len(rows):
                logits[rows] = component.draw_logits(len(rows), rng, holes, loadings)
        return logits

    def _weighed(self, of_components: list[Numbers]) -> Numbers:
        total = np.zeros(self.n_holes)
        for weight, each in zip(self.weights, of_components, strict=True):
            total += weight * each
        return total

    def _reweigh(self) -> None:
        """Weights (c,) by prior and likelihood of all outcomes so far."""
        log_likelihood = np.array([component.log_likelihood() for component in self._components])
        weights = self._prior * np.exp(log_likelihood - log_likelihood.max())
        self.weights = weights / weights.sum()


def field_variances(variances: EffectVariances, smoothness: Smoothness) -> FieldVariances:
    """Variances of one component, of the same sum: what is known of a hole before the first result stays."""
    from_patch, from_square = smoothness.of_patch * variances.patch, smoothness.of_square * variances.square
    return FieldVariances(
        effects=variances.model_copy(
            update={"patch": variances.patch - from_patch, "square": variances.square - from_square}
        ),
        within_square=from_patch,
        length_within_square_um=smoothness.within_square_um,
        over_grid=from_square,
        length_over_grid_um=smoothness.over_grid_um,
    )
