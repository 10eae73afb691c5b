"""The planner that looks as it goes: a look is valued by what it may reveal, at the time price of the whole plan.

At a price per minute every seen patch is worth the holes that give more than they cost, and an unseen one what is to be
expected of that after its look (Weitzman, Econometrica 47, 641, 1979: the box is opened if it pays to, and taken only
where its content does). The price is the one at which the plan fills the minutes that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.effects import EffectBelief
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.belief.unseen import UnseenPlaces, draw_looks
from cryoscout.core.hole_tree import NOWHERE
from cryoscout.core.settings import Settings
from cryoscout.core.ties import beats, first_of_the_best, order_best_first
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN
from cryoscout.routing.unseen import unseen_of

_LOGISTIC_PROBIT = np.pi / 8.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_BISECTIONS = 24
DRAWS = 200
"""Of every place that is listed, for its intervals."""
MOST_LISTED = 40
"""Squares that are listed with a value; more than anybody opens before the plan is made anew."""


class ExploreSettings(Settings):
    """How `explore` values what it does not know. Chosen on training patches and simulated sessions."""

    stay: Annotated[float, Field(ge=0.0, le=3.0)] = 1.0
    """A hole of the open patch is imaged where it gives more than this many times its price."""
    optimism: Annotated[float, Field(ge=0.0, le=3.0)] = 0.0
    """As that of `adaptive`; 0 plans on the expectation."""


@dataclass(frozen=True)
class PlaceValue:
    """What a look at a place is worth at the present price."""

    look: Look
    good: float  # expected good micrographs there, of the holes that are worth their minutes
    good_80: tuple[float, float]  # interval of these
    minutes: float  # expected, with the looks and these holes
    rate_80: tuple[float, float]  # interval of good micrographs per minute
    in_plan: bool

    @property
    def rate(self) -> float:
        """Expected good micrographs per minute."""
        return self.good / self.minutes if self.minutes > 0 else 0.0


class Explore(Adaptive):
    """`adaptive` once everything is seen; before that, images or looks at whatever the plan at the time price wants.

    In the open patch it goes on while a hole gives more than its minutes cost; then it goes to the patch, or looks at
    the place, with the best rate of all that the plan holds.
    """

    name: ClassVar[str] = "explore"
    settings_type: ClassVar[type[ExploreSettings] | None] = ExploreSettings  # type: ignore[assignment]

    def __init__(self, settings: ExploreSettings | None = None) -> None:
        super().__init__()
        self.explore_settings = settings or ExploreSettings()

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route on what is seen."""
        super().reset(problem, start_hole, rng)
        self._unseen: UnseenPlaces | None = None

    def next_hole(self, observation: Observation) -> int:
        """The next hole; also STOP where a look comes first."""
        step = self.next_step(observation)
        return step if not isinstance(step, Look) else STOP

    def next_step(self, observation: Observation) -> Step:
        """The next hole, the next look, or STOP."""
        if not self._problem.has_unseen:
            return super().next_hole(observation)
        valued = self._valued(observation)
        return valued.step()

    def places(
        self, observation: Observation, rng: np.random.Generator, most: int = MOST_LISTED
    ) -> list[PlaceValue]:
        """The `most` best squares with something unseen: what is opened next as far as is known now."""
        if not self._problem.has_unseen:
            return []
        valued = self._valued(observation)
        assert self._unseen is not None  # noqa: S101  # made with the values
        return valued.place_values(self._unseen, rng, most)

    def take_in(self, observation: Observation) -> None:
        """Let the belief follow the results of the observation, and with it what is believed of unseen places."""
        if observation.news != self._news_seen:
            self._unseen = None
        super().take_in(observation)

    def _valued(self, observation: Observation) -> _Valued:
        self.take_in(observation)
        belief = self.belief
        assert not isinstance(belief, MixtureBelief)  # noqa: S101  # `explore` never makes one
        if self._unseen is None:
            self._unseen = unseen_of(self._problem, belief)
        return _Valued.of(
            self._problem, belief, self._unseen, self._allowed, observation, self.explore_settings
        )


@dataclass(frozen=True)
class _Valued:
    """All places at the price of the plan, from where the stage is."""

    problem: RoutingProblem
    free: NDArray[np.bool_]  # (n,)
    order: NDArray[np.int64]  # (n,) holes patch by patch, the surest first
    start: NDArray[np.int64]  # (P+1,) of each patch in it
    base: NDArray[np.float64]  # (n,) expected good of each hole
    price: float
    left_min: float
    patch_rate: NDArray[np.float64]  # (P,) of a seen patch from here; -inf where nothing is worth it or fits
    patch_any: NDArray[np.float64]  # (P,) the same whatever the price
    gain: NDArray[np.float64]  # (S,) of one unseen patch of each square, expected
    minutes: NDArray[np.float64]  # (S,) of its holes
    group_gain: NDArray[np.float64]  # (S,) of all unseen patches of the square
    group_min: NDArray[np.float64]  # (S,) with their looks
    unseen_patches: NDArray[np.int64]  # (S,) patches known and not looked at
    group_rate: NDArray[np.float64]  # (S,) from here with the looks; -inf where nothing is unseen or fits
    group_in_plan: NDArray[np.bool_]  # (S,)
    stay_hole: int  # the hole of the open patch that is worth its minutes, or NOWHERE

    @classmethod
    def of(
        cls,
        problem: RoutingProblem,
        belief: EffectBelief | StageBelief,
        unseen: UnseenPlaces,
        allowed: NDArray[np.bool_],
        observation: Observation,
        settings: ExploreSettings,
    ) -> _Valued:
        """Find the price, then value everything at it."""
        tree, places, shots = problem.tree, problem.places, problem.shots
        assert places is not None  # noqa: S101  # only asked where something is unseen
        model = problem.time_model
        tiers = model.tiers_min(shots)
        patch_look = model.patch_look_by_tier_min(shots)
        square_look = model.square_look_by_tier_min(shots)
        free = allowed & ~observation.visited
        left = problem.budget_min - observation.minutes_used + ROUNDING_MIN
        at = tree.place_of(observation.where)
        base = shots * belief.p_good()
        start = np.searchsorted(problem.patch_of_hole, np.arange(tree.n_patches + 1)).astype(np.int64)
        order = np.lexsort((np.arange(tree.n_holes), -np.round(base, 9), problem.patch_of_hole)).astype(
            np.int64
        )
        table = shots * _unseen_nodes(unseen)
        n_unseen = np.bincount(tree.square_of_patch[~places.patch_looked], minlength=tree.n_squares)
        expected = np.where(places.square_looked, n_unseen, max(unseen.patches_per_square, 1e-3))
        closed = ~places.square_looked
        place = tuple(at)
        worked = _find_price(
            base[order], free[order], start, table, expected, closed, tree.square_of_patch,
            tree.grid_of_square, place, tiers, patch_look, square_look, left,
        )  # fmt: skip
        price, gain, minutes, group_gain, group_min, group_rate, patch_rate, patch_any, in_plan = worked
        stay = NOWHERE
        if at.patch != NOWHERE and left >= tiers[0]:
            rows = order[start[at.patch] : start[at.patch + 1]]
            rows = rows[free[rows]]
            if len(rows) and beats(float(base[rows[0]]), settings.stay * price * float(tiers[0])):
                stay = int(rows[0])
        return cls(
            problem, free, order, start, base, price, left, patch_rate, patch_any, gain, minutes, group_gain,
            group_min, n_unseen, group_rate, in_plan, stay,
        )  # fmt: skip

    def step(self) -> Step:
        """What to do now."""
        if self.stay_hole != NOWHERE:
            return self.stay_hole
        tree = self.problem.tree
        rates = np.concatenate([self.patch_rate, np.where(self.group_in_plan, self.group_rate, -np.inf)])
        if len(rates) == 0 or not np.isfinite(rates.max()):
            rates = np.concatenate([self.patch_any, self.group_rate])  # nothing is worth it: whatever fits is
        if len(rates) == 0 or not rates.max() > 0.0:
            return STOP
        best = first_of_the_best(rates)
        if best < tree.n_patches:
            rows = self.order[self.start[best] : self.start[best + 1]]
            return int(rows[self.free[rows]][0])
        return self.look_into(best - tree.n_patches)

    def look_into(self, square: int) -> Look:
        """The look that comes next in a square with something unseen."""
        places, tree = self.problem.places, self.problem.tree
        assert places is not None  # noqa: S101
        if not places.square_looked[square]:
            return Look("square", square)
        patches = np.flatnonzero((tree.square_of_patch == square) & ~places.patch_looked)
        return Look("patch", int(patches[0]))

    def place_values(
        self, unseen: UnseenPlaces, rng: np.random.Generator, most: int = MOST_LISTED
    ) -> list[PlaceValue]:
        """Of the squares with something unseen that fits, the best rate first, `most` at most."""
        problem, places = self.problem, self.problem.places
        assert places is not None  # noqa: S101
        tiers_min = problem.time_model.tiers_min(problem.shots)
        hole_min, patch_min = float(tiers_min[0]), float(problem.time_model.patch_look_by_tier_min()[1])
        square_min = problem.time_model.square_look_by_tier_min()[2]
        values = []
        worth = int((self.group_rate > 0.0).sum())
        for square in order_best_first(self.group_rate).tolist()[: min(worth, most)]:
            is_open = bool(places.square_looked[square])
            n_patches = int(self.unseen_patches[square]) if is_open else None
            good, holes, patches = draw_looks(
                unseen, square, n_patches, self.price * hole_min / problem.shots, DRAWS, rng, problem.shots
            )
            minutes = patches * patch_min + holes * hole_min + (0.0 if is_open else float(square_min))
            rate = good / np.maximum(minutes, 1e-9)
            values.append(
                PlaceValue(
                    self.look_into(square),
                    float(self.group_gain[square]),
                    tuple(np.quantile(good, (0.1, 0.9)).tolist()),
                    float(self.group_gain[square] / self.group_rate[square]),
                    tuple(np.quantile(rate, (0.1, 0.9)).tolist()),
                    bool(self.group_in_plan[square]),
                )
            )
        return values


def _unseen_nodes(unseen: UnseenPlaces) -> NDArray[np.float64]:
    """(S, 5, 5, k) p_good of the holes of an unseen patch, the best first: nodes of what its square shares, its own.

    As they will look after the look: its own effect, which results alone show, is averaged over.
    """
    n = max(round(unseen.holes_per_patch), 1)
    within = np.sqrt(unseen.within) * -ndtri((np.arange(n) + 0.5) / n)
    shared = np.sqrt(unseen.prediction_shared + unseen.effect_shared)
    own = np.sqrt(unseen.prediction_own)
    rest = np.sqrt(1.0 + _LOGISTIC_PROBIT * unseen.effect_own)
    level = (unseen.prediction + unseen.effect)[:, None, None, None]
    logit = (
        level
        + shared[:, None, None, None] * _NODES[None, :, None, None]
        + own * _NODES[None, None, :, None]
        + within[None, None, None, :]
    )
    return sigmoid(logit / rest)


@njit(cache=True)
def _unseen_at(table, price, t0, gain, minutes, by_shared):  # type: ignore[no-untyped-def]
    """Of one unseen patch of every square at a price: expected gain and minutes of its holes, and by what is shared.

    by_shared : (S, 5, 2)
    """
    for square in range(table.shape[0]):
        gain[square], minutes[square] = 0.0, 0.0
        for i in range(table.shape[1]):
            total, holes = 0.0, 0.0
            for j in range(table.shape[2]):
                for k in range(table.shape[3]):
                    p = table[square, i, j, k]
                    if p <= price * t0:
                        break
                    total += _WEIGHTS[j] * p
                    holes += _WEIGHTS[j]
            by_shared[square, i, 0], by_shared[square, i, 1] = total, holes * t0
            gain[square] += _WEIGHTS[i] * total
            minutes[square] += _WEIGHTS[i] * holes * t0


@njit(cache=True)
def _seen_at(values, free, start, price, t0, most, gain, minutes):  # type: ignore[no-untyped-def]
    """Of every seen patch at a price: gain and minutes of its holes. most : (P,) minutes for them"""
    for patch in range(len(start) - 1):
        total, holes = 0.0, 0
        for row in range(start[patch], start[patch + 1]):
            if not free[row]:
                continue
            if values[row] <= price * t0 or (holes + 1) * t0 > most[patch]:
                break
            total += values[row]
            holes += 1
        gain[patch] = total
        minutes[patch] = holes * t0


@njit(cache=True)
def _groups_at(table, expected, price, t0, look_min, gain, minutes, by_shared, group_gain, group_min):  # type: ignore[no-untyped-def]
    """Of all unseen patches of every square at a price, their looks included.

    The first is looked at on what is known now, the others once that has shown what they share.
    """
    _unseen_at(table, price, t0, gain, minutes, by_shared)
    for square in range(len(gain)):
        n = expected[square]
        first = min(n, 1.0)
        group_gain[square] = first * gain[square]
        group_min[square] = first * (minutes[square] + look_min)
        if n > 1.0:
            for i in range(by_shared.shape[1]):
                net = by_shared[square, i, 0] - price * (by_shared[square, i, 1] + look_min)
                if net > 0.0:
                    group_gain[square] += (n - 1.0) * _WEIGHTS[i] * by_shared[square, i, 0]
                    group_min[square] += (n - 1.0) * _WEIGHTS[i] * (by_shared[square, i, 1] + look_min)


@njit(cache=True)
def _find_price(  # type: ignore[no-untyped-def]
    values,
    free,
    start,
    table,
    expected,
    closed,
    square_of_patch,
    grid_of_square,
    place,
    tiers,
    patch_look,
    square_look,
    left_min,
):
    """The price whose plan fills the minutes left, and everything valued at it; see `_Valued`."""
    n_patches, n_squares = len(start) - 1, len(grid_of_square)
    n_grids = grid_of_square[-1] + 1 if n_squares else 0
    t0 = tiers[0]
    patch_gain, patch_min = np.zeros(n_patches), np.zeros(n_patches)
    gain, minutes, by_shared = (
        np.zeros(n_squares),
        np.zeros(n_squares),
        np.zeros((n_squares, table.shape[1], 2)),
    )
    group_gain, group_min = np.zeros(n_squares), np.zeros(n_squares)
    endless = np.full(n_patches, np.inf)
    here_patch, here_square, here_grid = place
    # What a square costs beside its patches, and a grid beside its squares, when it is entered from elsewhere.
    square_entry = np.zeros(n_squares)
    for square in range(n_squares):
        if closed[square]:
            square_entry[square] = square_look[1] if square == here_square else square_look[2]
        elif square != here_square:
            square_entry[square] = tiers[2] - tiers[1]
    low, high = 0.0, values.max() / t0 if len(values) else 0.0
    if table.size and expected.sum() > 0:
        high = max(high, table.max() / t0)
    price = low
    for step in range(_BISECTIONS + 1):
        price = 0.5 * (low + high) if step < _BISECTIONS else low
        _seen_at(values, free, start, price, t0, endless, patch_gain, patch_min)
        _groups_at(table, expected, price, t0, patch_look[1], gain, minutes, by_shared, group_gain, group_min)
        net_square, min_square = np.zeros(n_squares), np.zeros(n_squares)
        for patch in range(n_patches):
            entry = 0.0 if patch == here_patch else tiers[1] - t0
            net = patch_gain[patch] - price * (patch_min[patch] + entry)
            if net > 0.0:
                net_square[square_of_patch[patch]] += net
                min_square[square_of_patch[patch]] += patch_min[patch] + entry
        net_grid, min_grid = np.zeros(n_grids), np.zeros(n_grids)
        for square in range(n_squares):
            net = group_gain[square] - price * group_min[square]
            if net > 0.0:
                net_square[square] += net
                min_square[square] += group_min[square]
            net = net_square[square] - price * square_entry[square]
            if net > 0.0:
                net_grid[grid_of_square[square]] += net
                min_grid[grid_of_square[square]] += min_square[square] + square_entry[square]
        total = 0.0
        for grid in range(n_grids):
            entry = 0.0 if grid == here_grid else tiers[3] - tiers[2]
            if net_grid[grid] - price * entry > 0.0:
                total += min_grid[grid] + entry
        if step < _BISECTIONS:
            if total > left_min:
                low = price
            else:
                high = price
    # Rates from here.
    most, entry_of_patch = np.zeros(n_patches), np.zeros(n_patches)
    for patch in range(n_patches):
        square = square_of_patch[patch]
        tier = 3
        if patch == here_patch:
            tier = 0
        elif square == here_square:
            tier = 1
        elif grid_of_square[square] == here_grid:
            tier = 2
        entry_of_patch[patch] = tiers[tier] - t0
        most[patch] = left_min - entry_of_patch[patch]
    fit_gain, fit_min = np.zeros(n_patches), np.zeros(n_patches)
    _seen_at(values, free, start, price, t0, most, fit_gain, fit_min)
    patch_rate, patch_any = np.full(n_patches, -np.inf), np.full(n_patches, -np.inf)
    for patch in range(n_patches):
        if (
            fit_gain[patch]
            - price * (fit_min[patch] + tiers[1] - t0 if patch != here_patch else fit_min[patch])
            > 0.0
        ):
            patch_rate[patch] = fit_gain[patch] / (fit_min[patch] + entry_of_patch[patch])
    _seen_at(values, free, start, 0.0, t0, most, fit_gain, fit_min)
    for patch in range(n_patches):
        if fit_min[patch] > 0.0:
            patch_any[patch] = fit_gain[patch] / (fit_min[patch] + entry_of_patch[patch])
    group_rate, in_plan = np.full(n_squares, -np.inf), np.zeros(n_squares, dtype=np.bool_)
    for square in range(n_squares):
        if expected[square] <= 0.0:
            continue
        tier = 3
        if square == here_square:
            tier = 1
        elif grid_of_square[square] == here_grid:
            tier = 2
        if closed[square]:
            entry, first_look = square_look[tier], patch_look[1]
        else:
            entry, first_look = patch_look[tier] - patch_look[1], patch_look[1]
        if entry + first_look + t0 > left_min:
            continue
        whole = group_min[square] + entry
        rate = group_gain[square] / whole if whole > 0.0 else 0.0
        one = min(expected[square], 1.0)
        alone = one * gain[square] / (one * (minutes[square] + first_look) + entry)
        group_rate[square] = max(rate, alone)
        in_plan[square] = group_gain[square] - price * (group_min[square] + square_entry[square]) > 0.0
    return price, gain, minutes, group_gain, group_min, group_rate, patch_rate, patch_any, in_plan
