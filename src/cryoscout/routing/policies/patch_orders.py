"""The papers' two general optimisers as baselines: they search an order of patches, scanned like greedy."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cryoscout.core.settings import Settings
from cryoscout.routing.policies.fixed_order import FixedOrder, good_to_visit, holes_patch_by_patch
from cryoscout.routing.policies.patch_order_search import PatchOrders
from cryoscout.routing.problem import RoutingProblem

Evaluations = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class GeneticSettings(Settings):
    """Settings of the genetic algorithm."""

    evaluations: Evaluations = 20_000
    """Orders judged in all; more is better and slower (1-2 microseconds each)."""
    population: Annotated[int, Field(ge=2)] = 100
    """Orders kept; more explores wider and converges later."""
    mutation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    """Probability that a child is changed by one swap or move."""


class AnnealingSettings(Settings):
    """Settings of simulated annealing."""

    evaluations: Evaluations = 20_000
    """Orders judged in all; more is better and slower (well below 1 microsecond each)."""
    temperature_start: Temperature = 4.0
    """First temperature, in good holes: losses of about this much are accepted at the start."""
    temperature_end: Temperature = 0.05
    """Last temperature, in good holes; reached geometrically."""

    @model_validator(mode="after")
    def _cools(self) -> AnnealingSettings:
        if self.temperature_end > self.temperature_start:
            raise ValueError("temperature_end must be at most temperature_start")
        return self


class _PatchOrderPolicy(FixedOrder):
    """Searches an order of the patches with predicted-good holes; visits these, patch after patch.

    The objective is equation 1 of CryoRL on predicted labels: the sum of rho - c(t) over the route in the
    budget. As in greedy the visit that crosses the budget is dropped.
    """

    drops_crossing: ClassVar[bool] = True

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route."""
        orders = PatchOrders.of(problem, start_hole)
        if len(orders.count) == 0:
            return []
        patches = orders.patch[self._search(orders, rng)]
        return holes_patch_by_patch(good_to_visit(problem, start_hole), problem, patches)

    @abstractmethod
    def _search(self, orders: PatchOrders, rng: np.random.Generator) -> NDArray[np.int64]: ...


class Genetic(_PatchOrderPolicy):
    """Orders of patches by a genetic algorithm: tournament selection, order crossover, the best one is kept.

    Published (CryoRL, Table 2): 28.3 / 72.3 / 115.7 / 150.4 good in 120 / 240 / 360 / 480 min on Y1
    validation, with unstated settings. With the defaults this one finds 41.4 / 83.7 / 121.1 / 165.6 there
    from every tenth start: it judges many orders, a stronger baseline on purpose.
    """

    name: ClassVar[str] = "genetic"
    settings_type: ClassVar[type[Settings]] = GeneticSettings

    def __init__(self, settings: GeneticSettings | None = None) -> None:
        self.settings = GeneticSettings() if settings is None else settings

    def _search(self, orders: PatchOrders, rng: np.random.Generator) -> NDArray[np.int64]:
        chosen = self.settings
        return orders.genetic(rng, chosen.evaluations, chosen.population, chosen.mutation)


class Annealing(_PatchOrderPolicy):
    """Orders of patches by simulated annealing: swaps and moves, geometric cooling, the best one is kept.

    Published (CryoRL, Table 2): 39.4 / 73.3 / 104.7 / 147.9 good in 120 / 240 / 360 / 480 min on Y1
    validation, with unstated settings. With the defaults this one finds 41.1 / 81.8 / 121.8 / 167.6 there
    from every tenth start: it judges many orders, a stronger baseline on purpose.
    """

    name: ClassVar[str] = "annealing"
    settings_type: ClassVar[type[Settings]] = AnnealingSettings

    def __init__(self, settings: AnnealingSettings | None = None) -> None:
        self.settings = AnnealingSettings() if settings is None else settings

    def _search(self, orders: PatchOrders, rng: np.random.Generator) -> NDArray[np.int64]:
        chosen = self.settings
        return orders.annealed(rng, chosen.evaluations, chosen.temperature_start, chosen.temperature_end)
