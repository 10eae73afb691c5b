"""How many good micrographs there will be, and by when: draws over what is pending and what is planned.

The draws are of a mixture of beliefs that differ in how far they trust the prediction (belief/mixture.py), told all
results so far; only patches with a result, a pending hole or a planned one are in it, because no other has a part in
the number. So a session whose predictions promise too much says so as soon as its results do. Where stage positions are
known it is the mixture with smooth fields over the stage that the planners have.

A route that plans again with each result finds more than the plan that stands: it leaves patches that turn out bad.
How much that can be at most is in the draws (`saved_by_leaving`), and a share of it is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.walk import Walk
from cryoscout.belief.counts import CountForecast, nearest_interval
from cryoscout.belief.effects import EffectBelief, location_of
from cryoscout.belief.mixture import Assumption, MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import RoutingProblem

DRAWS = 1000
"""At least as many as behind a forecast with unseen places."""
POINTS = 24
"""Moments of the fan."""
ASSUMPTIONS = tuple(
    Assumption(slope, spread, session)
    for slope in (1.0, 0.75, 0.5, 0.35)
    for spread in (1.0, 3.0)
    for session in (0.0, 1.0)
)
"""How far the prediction may be trusted: further than a planner's mixture, because a number is promised on it."""
GAIN_SHARE = 0.8
"""Of what leaving bad patches would save, times the share of the results that are still to come: what planning again
finds more than its plan, by least squares over simulated sessions of other seeds than the study's
(`scripts/select_advice.py gain`)."""
MOST_RESULTS_MIXED = 2000
"""With more results than this one belief is drawn from: how far to trust the prediction is then in its effects."""


@dataclass(frozen=True)
class Outlook:
    """Good micrographs from now to the end of the plan, those found so far included."""

    good_so_far: float
    final: CountForecast
    minutes: NDArray[np.float64]  # (t,) from now, ascending, 0 first
    expected: NDArray[np.float64]  # (t,)
    interval_50: NDArray[np.float64]  # (t, 2)
    interval_80: NDArray[np.float64]  # (t, 2); both end in those of `final`
    counts: NDArray[np.int64]  # (draws,) of the end
    chances: NDArray[np.float64]  # (draws, t)

    def probability_of(self, good: float, within_min: float | None = None) -> float:
        """Probability of at least so many good micrographs, by a moment from now; None: by the end of the plan."""
        if within_min is None or within_min >= self.minutes[-1]:
            counts: NDArray[np.float64] = self.counts.astype(np.float64)
        else:
            place = max(0, int(np.searchsorted(self.minutes, within_min, side="right")) - 1)
            counts = self.chances[:, place]
        return float((counts >= good).mean())


def moments_of(minutes_left: float) -> NDArray[np.float64]:
    """(t,) the moments of an outlook, minutes from now; the last is the end."""
    return np.linspace(0.0, max(minutes_left, 0.0), POINTS)


def outlook(
    problem: RoutingProblem,
    outcome: NDArray[np.float64],
    results: NDArray[np.float64],
    awaited: NDArray[np.float64],
    walk: Walk,
    minutes_left: float,
    seed: int,
    *,
    plans_again: bool,
    explored: NDArray[np.int64] | None = None,
) -> Outlook:
    """Draw the outcomes of pending and planned shots.

    outcome, results : (n,) good micrographs and shots with a result, NaN and 0 where none is known
    awaited : (n,) shots taken without a result     walk : the plan from now on
    plans_again : whether the route plans again with each result, so that it finds more than this plan
    explored : (draws, t) good micrographs from now to each moment, pending ones not counted, where places are unseen:
        then the plan is more than the walk, which ends where a look comes first; None: what the walk gives
    """
    known = np.flatnonzero(results > 0)
    good_so_far = float(np.nansum(outcome))
    pending = np.flatnonzero(awaited > 0)
    moments = moments_of(minutes_left)
    holes = pending if explored is not None else np.concatenate([pending, walk.holes])
    comes_at = np.zeros(len(holes))
    shots = np.full(len(holes), problem.shots, dtype=np.int64)
    shots[: len(pending)] = np.rint(awaited[pending]).astype(np.int64)
    if explored is None:
        comes_at[len(pending) :] = walk.minutes
    if len(holes) == 0 and explored is None:
        zeros = np.full(POINTS, good_so_far)
        band = np.stack([zeros, zeros], axis=1)
        nothing = (good_so_far, good_so_far)
        counts = np.full(1, int(good_so_far))
        final = CountForecast(good_so_far, nothing, nothing)
        return Outlook(good_so_far, final, moments, zeros, band, band, counts, np.tile(zeros, (1, 1)))
    course = np.zeros((DRAWS if explored is None else len(explored), POINTS))
    expected = np.zeros(POINTS)
    if len(holes):
        chances, expected_p = _chances(problem, known, outcome, results, holes, seed)
        rng = np.random.default_rng([seed, 2, len(known)])
        drawn = (
            rng.binomial(shots, chances)
            if shots.max() > 1
            else (rng.random(chances.shape) < chances).astype(int)
        )
        gain = np.zeros(len(holes) + 1)  # by each visit
        is_planned = np.arange(len(holes)) >= len(pending)
        if plans_again and is_planned.any():
            planned = problem.shots * chances[:, is_planned]
            to_come = len(walk) / (len(walk) + len(known))
            saved = saved_by_leaving(planned, problem.patch_of_hole[walk.holes], walk.minutes)
            gain[1:] = GAIN_SHARE * to_come * saved * np.cumsum(is_planned) / len(walk)
        by_hole = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn, axis=1)], axis=1) + gain
        upto = np.searchsorted(comes_at, moments + 1e-6, side="right")
        upto[-1] = len(holes)
        course += by_hole[: len(course), upto]
        expected += (np.concatenate([[0.0], np.cumsum(expected_p * shots)]) + gain)[upto]
    if explored is not None:
        course += explored
        expected += explored.mean(axis=0)
    total = np.rint(course[:, -1]).astype(np.int64)
    interval_50 = nearest_interval(total, 0.5)
    interval_80 = nearest_interval(total, 0.8, around=interval_50)
    course += good_so_far
    final = CountForecast(
        good_so_far + float(expected[-1]), _moved(interval_50, good_so_far), _moved(interval_80, good_so_far)
    )
    by_moment_50 = np.quantile(course, [0.25, 0.75], axis=0).T
    by_moment_80 = np.quantile(course, [0.1, 0.9], axis=0).T
    # Quantiles lie between numbers of micrographs; the curve ends in the numbers that are said.
    by_moment_50[-1], by_moment_80[-1] = final.interval_50, final.interval_80
    return Outlook(
        good_so_far,
        final,
        moments,
        good_so_far + expected,
        by_moment_50,
        by_moment_80,
        total + int(good_so_far),
        course,
    )


def saved_by_leaving(
    planned: NDArray[np.float64], patch: NDArray[np.int32], minutes: NDArray[np.float64]
) -> float:
    """Good micrographs that leaving patches saves where they give less per minute than the plan, if it was known.

    planned : (draws, m) good micrographs of the planned holes in order, drawn     patch : (m,) of each
    minutes : (m,) from now to the end of each visit
    Mean over the draws of what the minutes in such stays give at the rate that the whole plan is expected to have,
    less what the stays give.
    """
    first = np.flatnonzero(np.diff(patch, prepend=-1))
    good = np.add.reduceat(planned, first, axis=1)
    stay_min = np.add.reduceat(np.diff(minutes, prepend=0.0), first)
    rate = good.mean(axis=0).sum() / stay_min.sum()
    return float(np.maximum(rate * stay_min - good, 0.0).sum(axis=1).mean())


def _moved(interval: tuple[float, float], by: float) -> tuple[float, float]:
    return interval[0] + by, interval[1] + by


def _chances(
    problem: RoutingProblem,
    known: NDArray[np.int64],
    outcome: NDArray[np.float64],
    results: NDArray[np.float64],
    holes: NDArray[np.int64],
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Drawn probabilities of the holes, (draws, m), and their means, (m,)."""
    from cryoscout.belief.counts import draw_probabilities

    places = np.union1d(known, holes)
    tree = _sub_tree(problem, places)
    prior = problem.prior_p_good[places]
    belief: EffectBelief | MixtureBelief | StageBelief
    if problem.stage_um is not None:
        belief = StageBelief(prior, tree.patch_of_hole, tree, problem.effects, problem.stage_um[places])
    elif len(known) <= MOST_RESULTS_MIXED:
        belief = MixtureBelief(prior, tree.patch_of_hole, tree, problem.effects, ASSUMPTIONS)
    else:
        belief = EffectBelief(
            location_of(prior, problem.effects.total), tree.patch_of_hole, tree, problem.effects
        )
    rows = np.searchsorted(places, known)
    if len(known):
        belief.observe_many(rows, outcome[known], results[known])
    loadings = None if problem.fit_loadings is None else problem.fit_loadings[places]
    rng = np.random.default_rng([seed, 1, len(known)])
    which = np.searchsorted(places, holes)
    drawn = draw_probabilities(belief, DRAWS, rng, which, loadings)
    return drawn, drawn.mean(axis=0)


def _sub_tree(problem: RoutingProblem, holes: NDArray[np.int64]) -> HoleTree:
    """The tree of some holes, (m,) ascending, alone."""
    patches, patch_of_hole = np.unique(problem.patch_of_hole[holes], return_inverse=True)
    squares, square_of_patch = np.unique(problem.square_of_patch[patches], return_inverse=True)
    _, grid_of_square = np.unique(problem.grid_of_square[squares], return_inverse=True)
    return HoleTree(
        patch_of_hole.astype(np.int32), square_of_patch.astype(np.int32), grid_of_square.astype(np.int32)
    )
