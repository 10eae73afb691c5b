"""The planner that looks as it goes: a look is valued by what it may reveal, at the time price of the whole plan.

At a price per minute every seen patch is worth the holes that give more than they cost, and an unseen one what is to be
expected of that after its look (Weitzman, Econometrica 47, 641, 1979: the box is opened if it pays to, and taken only
where its content does). The price is the one at which the plan fills the minutes that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri

from cryoscout.belief.calibration import sigmoid
from cryoscout.belief.counts import Belief, CountForecast, draw_truths, forecast_count, nearest_interval
from cryoscout.belief.effects import EffectBelief
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.belief.unseen import UnseenPlaces, draw_looks
from cryoscout.core.hole_tree import NOWHERE
from cryoscout.core.settings import Settings
from cryoscout.core.ties import beats, first_of_the_best, order_best_first
from cryoscout.routing.course import route_hole_by_hole
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import STOP, Observation, Policy
from cryoscout.routing.policies.look_course import PlannedPlace, by_moments
from cryoscout.routing.policies.look_prices import NODES, find_price
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN
from cryoscout.routing.unseen import unseen_of

_LOGISTIC_PROBIT = np.pi / 8.0
DRAWS = 200
"""Of every place that is listed, for its intervals."""
FORECAST_DRAWS = 500
"""Whole truths behind a forecast of the final count."""
MOST_LISTED = 40
"""Squares that are listed with a value where the minutes do not reach further; more than anybody looks through."""


class ExploreSettings(Settings):
    """How `explore` values what it does not know. Chosen on training patches and simulated sessions."""

    stay: Annotated[float, Field(ge=0.0, le=3.0)] = 1.0
    """A hole of the open patch is imaged where it gives more than this many times its price."""
    spread: Annotated[float, Field(ge=0.0, le=3.0)] = 1.0
    """How far apart, in standard deviations of the minutes that it will take, the two plans are whose prices are
    averaged: what a minute is worth at the end depends on what is found. 0: the plan as expected."""
    optimism: Annotated[float, Field(ge=0.0, le=3.0)] = 0.0
    """As that of `adaptive`; 0 plans on the expectation."""


@dataclass(frozen=True)
class PlaceValue:
    """What a look at a place is worth at the present price."""

    look: Look
    good: float  # expected good micrographs there, of the holes that are worth their minutes
    good_80: tuple[float, float]  # interval of these, around the expected ones
    minutes: float  # expected, with the looks and these holes
    rate_80: tuple[float, float]  # interval of good micrographs per minute, around the expected ones
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
        self._valued_of: tuple[Observation, _Valued] | None = None

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
        self,
        observation: Observation,
        rng: np.random.Generator,
        most: int = MOST_LISTED,
        first: Sequence[int] = (),
        *,
        whole_plan: bool = False,
    ) -> list[PlaceValue]:
        """The `most` best squares with something unseen: what is opened next as far as is known now.

        first : squares that are listed before all others, where a look at them fits
        whole_plan : more than `most` where the plan reaches further: all that it opens
        """
        if not self._problem.has_unseen:
            return []
        valued = self._valued(observation)
        assert self._unseen is not None  # noqa: S101  # made with the values
        return valued.place_values(self._unseen, rng, most, first, whole_plan=whole_plan)

    def final_count(
        self, observation: Observation, rng: np.random.Generator, draws: int = FORECAST_DRAWS
    ) -> CountForecast:
        """How many good micrographs there will be from now to the end of the budget, unseen places included."""
        if not self._problem.has_unseen:
            route = np.array(
                route_hole_by_hole(cast("Policy", self), self._problem, observation), dtype=np.int64
            )
            return forecast_count(
                self.belief, route, self._problem.shots, rng, draws, self._problem.fit_loadings
            )
        end = np.array([self._problem.budget_min - observation.minutes_used])
        counts = self.counts_by(observation, end, rng, draws)[:, -1]
        interval_50 = nearest_interval(counts, 0.5)
        interval_80 = nearest_interval(counts, 0.8, around=interval_50)
        return CountForecast(float(counts.mean()), interval_50, interval_80)

    def counts_by(
        self,
        observation: Observation,
        minutes: NDArray[np.float64],
        rng: np.random.Generator,
        draws: int = FORECAST_DRAWS,
    ) -> NDArray[np.int64]:
        """(draws, t) good micrographs from now until each moment, of the plan of a problem with unseen places.

        minutes : (t,) from now, ascending, the last is the end of the budget
        """
        valued = self._valued(observation)
        assert self._unseen is not None  # noqa: S101  # made with the values
        return valued.draw_counts(self.belief, self._unseen, draws, rng, minutes)

    def take_in(self, observation: Observation) -> None:
        """Let the belief follow the results of the observation, and with it what is believed of unseen places."""
        if observation.news != self._news_seen:
            self._unseen = None
        super().take_in(observation)

    def _valued(self, observation: Observation) -> _Valued:
        self.take_in(observation)
        if self._valued_of is not None and self._valued_of[0] is observation:
            return self._valued_of[1]
        belief = self.belief
        assert not isinstance(belief, MixtureBelief)  # noqa: S101  # `explore` never makes one
        if self._unseen is None:
            self._unseen = unseen_of(self._problem, belief)
        valued = _Valued.of(
            self._problem, belief, self._unseen, self._allowed, observation, self.explore_settings
        )
        self._valued_of = observation, valued
        return valued


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
    group_gain: NDArray[np.float64]  # (S,) expected of the unseen patches of each square
    group_min: NDArray[np.float64]  # (S,) with their looks
    whole_min: NDArray[np.float64]  # (S,) with the way there and the square's look too, from here
    goes_on: NDArray[np.float64]  # (S,) probability that the plan looks at more than the first patch
    any_gain: NDArray[np.float64]  # (S,) as group_gain, whatever the price
    any_min: NDArray[np.float64]  # (S,) as whole_min, whatever the price
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
        expected = np.where(places.square_looked, n_unseen, np.maximum(unseen.patches_of_square(), 1e-3))
        if places.square_out is not None:
            expected = np.where(places.square_out, 0.0, expected)
        closed = ~places.square_looked
        place = tuple(at)
        worked = find_price(
            base[order], free[order], start, table, expected, closed, tree.square_of_patch,
            tree.grid_of_square, place, tiers, patch_look, square_look, left,
            settings.spread,
        )  # fmt: skip
        stay = NOWHERE
        if at.patch != NOWHERE and left >= tiers[0]:
            rows = order[start[at.patch] : start[at.patch + 1]]
            rows = rows[free[rows]]
            if len(rows) and beats(float(base[rows[0]]), settings.stay * worked.price * float(tiers[0])):
                stay = int(rows[0])
        return cls(
            problem, free, order, start, base, worked.price, left, worked.patch_rate, worked.patch_any,
            worked.group_gain, worked.group_min, worked.whole_min, worked.goes_on, worked.any_gain, worked.any_min,
            n_unseen, worked.group_rate, worked.in_plan, stay,
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

    def draw_counts(
        self,
        belief: Belief,
        unseen: UnseenPlaces,
        draws: int,
        rng: np.random.Generator,
        until_min: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """(draws, t) good micrographs by each moment: whole truths of what the plan holds, seen and unseen.

        until_min : (t,) from now, ascending, the last is the end
        A truth in which that takes less time than there is, or more, gains or loses the minutes at the plan's price.
        Until the end the places give theirs one after the other, the best rate first, each evenly over its minutes.
        """
        problem, places = self.problem, self.problem.places
        assert places is not None  # noqa: S101
        model, shots = problem.time_model, problem.shots
        tiers = model.tiers_min(shots)
        hole_min, patch_look = float(tiers[0]), float(model.patch_look_by_tier_min(shots)[1])
        square_look = float(model.square_look_by_tier_min(shots)[2])
        worth = (
            self.free
            & (self.base > self.price * hole_min)
            & np.isfinite(self.patch_rate)[problem.patch_of_hole]
        )
        holes = np.flatnonzero(worth)
        good = np.zeros(draws)
        minutes = np.full(draws, hole_min * len(holes))
        parts: list[PlannedPlace] = []
        if len(holes):
            truths = draw_truths(belief, draws, shots, rng, holes, problem.fit_loadings)
            good += truths.sum(axis=1)
            patches, first = np.unique(problem.patch_of_hole[holes], return_index=True)
            minutes += float(tiers[1] - tiers[0]) * len(patches)
            taken = np.diff(first, append=len(holes)) * hole_min + float(tiers[1] - tiers[0])
            by_patch = np.add.reduceat(truths, first, axis=1)
            here = NOWHERE if self.stay_hole == NOWHERE else int(problem.patch_of_hole[self.stay_hole])
            rate_of_patch = np.where(patches == here, np.inf, self.patch_rate[patches])
            parts += map(PlannedPlace, rate_of_patch.tolist(), taken.tolist(), by_patch.T.astype(np.float64))
        # Many squares may be worth a look at this price, and only some fit; who comes last gives what the price says.
        rates = np.where(self.group_in_plan, self.group_rate, -np.inf)
        planned = float(minutes[0]) if draws else 0.0
        effects = unseen.draw_effects(draws, rng)  # a bad grid is bad in all of its squares
        for square in order_best_first(rates).tolist()[: int(np.isfinite(rates).sum())]:
            is_open = bool(places.square_looked[square])
            n_patches = int(self.unseen_patches[square]) if is_open else None
            entry = 0.0 if is_open else square_look
            whole = float(self.group_min[square]) + entry
            part = min(1.0, max(self.left_min - planned, 0.0) / whole)
            planned += whole
            if part <= 0.0:
                break
            found, imaged, looked = draw_looks(
                unseen, square, n_patches, self.price * hole_min / shots, float(self.goes_on[square]), draws, rng,
                shots, effects[:, square],
            )  # fmt: skip
            took = imaged * hole_min + looked * patch_look
            # Of a square that fits in part some patches are looked at: its spread goes with the root of the part.
            theirs = part * float(self.group_gain[square]) + np.sqrt(part) * (found - found.mean())
            good += theirs
            longer = np.sqrt(part) * (took - took.mean())
            minutes += part * whole + longer
            # Where a place takes less than expected the next comes earlier: what that gives is had when it is done.
            rate = float(self.group_rate[square])
            parts.append(PlannedPlace(rate, part * whole, theirs - self.price * longer))
        most = shots * np.floor(self.left_min / hole_min)
        counts = np.clip(good + self.price * (self.left_min - minutes), 0.0, most)
        return np.rint(by_moments(parts, counts, until_min)).astype(np.int64)

    def place_values(
        self,
        unseen: UnseenPlaces,
        rng: np.random.Generator,
        most: int,
        first: Sequence[int],
        *,
        whole_plan: bool = False,
    ) -> list[PlaceValue]:
        """Of the squares with something unseen that fits, `first` first, then the best rate, `most` at most.

        whole_plan : beyond `most` too, as long as the minutes that are left reach
        Where no hole would be worth its minutes at the price, all of them count.
        """
        problem, places = self.problem, self.problem.places
        assert places is not None  # noqa: S101
        model, shots = problem.time_model, problem.shots
        hole_min, patch_min = float(model.tiers_min(shots)[0]), float(model.patch_look_by_tier_min(shots)[1])
        worth = self.group_gain > 0.0
        gain = np.where(worth, self.group_gain, self.any_gain)
        whole_min = np.where(worth, self.whole_min, self.any_min)
        goes_on = np.where(worth, self.goes_on, 1.0)
        least_p = np.where(worth, self.price * hole_min / shots, 0.0)
        rates = np.where(
            np.isfinite(self.group_rate) & (gain > 0.0), gain / np.maximum(whole_min, 1e-9), -np.inf
        )
        entry_min = self.whole_min - self.group_min
        values = []
        seed = int(rng.integers(2**63))  # one for all: what is alike has the same interval
        listed = [square for square in first if np.isfinite(rates[square])]
        best = order_best_first(rates).tolist()[: int(np.isfinite(rates).sum())]
        reached_min = 0.0
        for number, square in enumerate(dict.fromkeys([*listed, *best])):
            opens = bool(self.group_in_plan[square]) and reached_min < self.left_min
            if number >= most and not (whole_plan and opens):
                break
            reached_min += float(whole_min[square]) if opens else 0.0
            n_patches = int(self.unseen_patches[square]) if places.square_looked[square] else None
            good, holes, patches = draw_looks(
                unseen, square, n_patches, float(least_p[square]), float(goes_on[square]), DRAWS,
                np.random.default_rng(seed), shots,
            )  # fmt: skip
            entry = float(entry_min[square])
            minutes = patches * patch_min + holes * hole_min
            fits = np.minimum((self.left_min - entry) / np.maximum(minutes, 1e-9), 1.0)
            good, minutes = good * fits, minutes * fits + entry
            expected = float(gain[square]), float(whole_min[square])
            values.append(
                PlaceValue(
                    self.look_into(square),
                    expected[0],
                    _interval_80(good, expected[0]),
                    expected[1],
                    _interval_80(good / np.maximum(minutes, 1e-9), expected[0] / expected[1]),
                    bool(self.group_in_plan[square]),
                )
            )
        return values


def _interval_80(drawn: NDArray[np.float64], expected: float) -> tuple[float, float]:
    """The middle 80 % of draws, and the expectation: of a place where nearly all draws are 0 it lies above them."""
    low, high = np.quantile(drawn, (0.1, 0.9)).tolist()
    return min(low, expected), max(high, expected)


def _unseen_nodes(unseen: UnseenPlaces) -> NDArray[np.float64]:
    """(S, 5, 5, k) p_good of the holes of an unseen patch, the best first: nodes of what its square shares, its own.

    As they will look after the look: it shows predictions alone. Effects, which only results show, are averaged over;
    to count on them would be to look on and on where predictions say nothing.
    """
    n = max(round(unseen.holes_per_patch), 1)
    within = np.sqrt(unseen.within) * -ndtri((np.arange(n) + 0.5) / n)
    shared = np.sqrt(unseen.prediction_shared)
    own = np.sqrt(unseen.prediction_own)
    rest = np.sqrt(1.0 + _LOGISTIC_PROBIT * (unseen.effect_own + unseen.effect_shared))
    level = (unseen.prediction + unseen.effect)[:, None, None, None]
    logit = (
        level
        + shared[:, None, None, None] * NODES[None, :, None, None]
        + own * NODES[None, None, :, None]
        + within[None, None, None, :]
    )
    return sigmoid(logit / rest[:, None, None, None])
