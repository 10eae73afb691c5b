"""Search over orders of patches: the objective of equation 1, a genetic algorithm, simulated annealing.

All holes of a patch cost the same, so an order is judged by counts of predicted-good holes alone, and only
as far as the budget reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.routing.policies.fixed_order import count_by_patch, good_to_visit
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.reward import reward_named
from cryoscout.routing.time_model import ROUNDING_MIN

TOURNAMENT = 3
"""Members that compete to become a parent."""

_FRACTIONS = 2.0**30
"""Values and minutes are whole multiples of 1 / 2**30 inside: their sums are exact, so equal orders tie exactly."""


@dataclass(frozen=True)
class PatchOrders:
    """What the objective needs of a problem; patches are those with a hole to visit, in order of id."""

    patch: NDArray[np.int64]  # (m,) index of the patch in the problem
    place: NDArray[
        np.int64
    ]  # (m + 1, 3) patch, square, grid; the last row is the start, -1 where nothing is open
    count: NDArray[np.int64]  # (m,) predicted-good holes to visit
    tiers_min: NDArray[np.float64]  # (4,)
    tier_value: NDArray[np.float64]  # (4,) 1 - c(t) of a predicted-good hole
    minutes: float  # the budget less the set-up, with the slack of a rounding

    @classmethod
    def of(cls, problem: RoutingProblem, start_hole: int) -> PatchOrders:
        """The patch orders of a problem from that start (hole index or NOWHERE)."""
        count = count_by_patch(problem, good_to_visit(problem, start_hole))
        patch = np.flatnonzero(count)
        listed = np.column_stack([patch, problem.square_of_patch[patch], problem.grid_of_patch[patch]])
        place = np.vstack([listed, problem.place_of(start_hole)]).astype(np.int64)
        tiers_min = problem.time_model.tiers_min(problem.shots)
        reward = reward_named("ssl2rl", tiers_min)
        return cls(
            patch=patch,
            place=place,
            count=count[patch].astype(np.int64),
            tiers_min=_exact_in_sums(tiers_min),
            tier_value=_exact_in_sums(reward.tier_value - reward.tier_cost),
            minutes=problem.budget_min - problem.time_model.setup_min + ROUNDING_MIN,
        )

    def objective(self, order: NDArray[np.int64]) -> float:
        """Equation 1 on predicted labels: the sum of rho - c(t) over the route within the budget.

        order : (m,) a permutation of 0..m-1
        """
        total, _ = _objective(order, self.place, self.count, self.tiers_min, self.tier_value, self.minutes)
        return float(total)

    def genetic(
        self, rng: np.random.Generator, evaluations: int, population: int, mutation: float
    ) -> NDArray[np.int64]:
        """The best order a genetic algorithm finds, (m,): tournaments, order crossover, swaps and moves."""
        best: NDArray[np.int64] = _genetic(
            rng,
            evaluations,
            population,
            mutation,
            self.place,
            self.count,
            self.tiers_min,
            self.tier_value,
            self.minutes,
        )
        return best

    def annealed(
        self, rng: np.random.Generator, evaluations: int, temperature_start: float, temperature_end: float
    ) -> NDArray[np.int64]:
        """The best order simulated annealing finds, (m,): swaps and moves, geometric cooling."""
        best: NDArray[np.int64] = _annealed(
            rng,
            evaluations,
            temperature_start,
            temperature_end,
            self.place,
            self.count,
            self.tiers_min,
            self.tier_value,
            self.minutes,
        )
        return best


def _exact_in_sums(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.rint(numbers * _FRACTIONS) / _FRACTIONS


@njit(cache=True)
def _objective(order, place, count, tiers_min, tier_value, minutes):  # type: ignore[no-untyped-def]
    """Equation 1, and how many patches of the order the budget reaches."""
    total = 0.0
    left = minutes
    here = len(count)
    for reached, patch in enumerate(order):
        if place[here, 0] == place[patch, 0]:
            tier = 0
        elif place[here, 1] == place[patch, 1]:
            tier = 1
        elif place[here, 2] == place[patch, 2]:
            tier = 2
        else:
            tier = 3
        if tiers_min[tier] > left:
            return total, reached
        left -= tiers_min[tier]
        total += tier_value[tier]
        more = min(count[patch] - 1, int(left / tiers_min[0] + 1e-9))
        left -= more * tiers_min[0]
        total += more * tier_value[0]
        here = patch
    return total, len(order)


@njit(cache=True)
def _copy(order, target):  # type: ignore[no-untyped-def]
    """In place. Assigned as a whole, an array brings numba's error texts with it, which take seconds to compile."""
    for k in range(len(order)):
        target[k] = order[k]


@njit(cache=True)
def _shuffle(order, rng):  # type: ignore[no-untyped-def]
    for i in range(len(order) - 1, 0, -1):
        j = rng.integers(0, i + 1)
        order[i], order[j] = order[j], order[i]


@njit(cache=True)
def _change(order, reached, rng):  # type: ignore[no-untyped-def]
    """Swap two patches, or move one to another place; in place.

    One of the two places is among those the budget reaches, or the next one: later, nothing would change.
    """
    i, j = rng.integers(0, min(reached + 1, len(order))), rng.integers(0, len(order))
    if rng.random() < 0.5:
        i, j = j, i
    if rng.random() < 0.5:
        order[i], order[j] = order[j], order[i]
        return
    moved = order[i]
    if i < j:
        for k in range(i, j):
            order[k] = order[k + 1]
    else:
        for k in range(i, j, -1):
            order[k] = order[k - 1]
    order[j] = moved


@njit(cache=True)
def _fittest_of(fitness, rng):  # type: ignore[no-untyped-def]
    best = rng.integers(0, len(fitness))
    for _ in range(TOURNAMENT - 1):
        other = rng.integers(0, len(fitness))
        if fitness[other] > fitness[best]:
            best = other
    return best


@njit(cache=True)
def _cross(mother, father, child, taken, reached, rng):  # type: ignore[no-untyped-def]
    """Order crossover: the child keeps a stretch of the mother and fills the rest in the father's order.

    The stretch lies among the patches that the budget reaches.
    """
    within = min(reached + 1, len(mother))
    i, j = rng.integers(0, within), rng.integers(0, within)
    low, high = min(i, j), max(i, j)
    taken[:] = False
    for k in range(low, high + 1):
        child[k] = mother[k]
        taken[mother[k]] = True
    k = 0
    for patch in father:
        if taken[patch]:
            continue
        if k == low:
            k = high + 1
        child[k] = patch
        k += 1


@njit(cache=True)
def _genetic(  # type: ignore[no-untyped-def]
    rng, evaluations, population, mutation, place, count, tiers_min, tier_value, minutes
):
    m = len(count)
    size = min(population, evaluations)
    orders = np.empty((size, m), dtype=np.int64)
    fitness = np.empty(size)
    reached = np.empty(size, dtype=np.int64)
    for member in range(size):
        for k in range(m):
            orders[member, k] = k
        _shuffle(orders[member], rng)
        fitness[member], reached[member] = _objective(
            orders[member], place, count, tiers_min, tier_value, minutes
        )
    children = np.empty_like(orders)
    child_fitness, child_reached = np.empty(size), np.empty(size, dtype=np.int64)
    taken = np.zeros(m, dtype=np.bool_)
    used = size
    while used < evaluations:
        elite = np.argmax(fitness)
        _copy(orders[elite], children[0])
        child_fitness[0], child_reached[0] = fitness[elite], reached[elite]
        born = 1
        while born < size and used < evaluations:
            mother, father = _fittest_of(fitness, rng), _fittest_of(fitness, rng)
            _cross(orders[mother], orders[father], children[born], taken, reached[mother], rng)
            if rng.random() < mutation:
                _change(children[born], reached[mother], rng)
            child_fitness[born], child_reached[born] = _objective(
                children[born], place, count, tiers_min, tier_value, minutes
            )
            used += 1
            born += 1
        if born == 1:  # a population of one has no children
            break
        for member in range(born):
            _copy(children[member], orders[member])
            fitness[member], reached[member] = child_fitness[member], child_reached[member]
    return orders[np.argmax(fitness)].copy()


@njit(cache=True)
def _annealed(  # type: ignore[no-untyped-def]
    rng,
    evaluations,
    temperature_start,
    temperature_end,
    place,
    count,
    tiers_min,
    tier_value,
    minutes,
):
    m = len(count)
    order = np.arange(m)
    _shuffle(order, rng)
    value, reached = _objective(order, place, count, tiers_min, tier_value, minutes)
    best, best_value = order.copy(), value
    trial = order.copy()
    cooling = (temperature_end / temperature_start) ** (1.0 / max(evaluations - 2, 1))
    temperature = temperature_start
    for _ in range(evaluations - 1):
        _copy(order, trial)
        _change(trial, reached, rng)
        trial_value, trial_reached = _objective(trial, place, count, tiers_min, tier_value, minutes)
        if trial_value >= value or rng.random() < np.exp((trial_value - value) / temperature):
            _copy(trial, order)
            value, reached = trial_value, trial_reached
            if value > best_value:
                _copy(order, best)
                best_value = value
        temperature *= cooling
    return best
