"""The forecast of a route that plans again: the plan, and a share of what leaving bad patches would save."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.outlook import outlook, saved_by_leaving
from cryoscout.advice.walk import walked
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import simulate_tables


def forecast(*, plans_again, p_good=None, known=()):
    """Of every second hole of a small session, in an hour, with the results of some holes."""
    tables = simulate_tables(simulation_named("small").model_copy(update={"holes": 200}), 3)
    problem = tables.problem(60.0)
    if p_good is not None:
        problem = replace(problem, prior_p_good=np.full(problem.n_holes, p_good))
    results = np.isin(np.arange(problem.n_holes), known).astype(float)
    outcome = np.where(results > 0, tables.good, np.nan)
    walk = walked(problem, 0, range(1, problem.n_holes, 2), 60.0)
    nothing = np.zeros(problem.n_holes)
    return outlook(problem, outcome, results, nothing, walk, 60.0, 0, plans_again=plans_again)


def test_what_leaving_saves_is_what_its_minutes_give_elsewhere_less_what_the_stay_gives():
    planned = np.array([[1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0, 1.0]])
    patch, minutes = np.array([4, 4, 7, 7, 4], np.int32), np.array([2.0, 3.0, 6.0, 7.0, 9.0])
    rate, saved = planned.sum() / 3 / 9.0, 0.0
    for draw in planned:
        for stay, stay_min in (((0, 1), 3.0), ((2, 3), 4.0), ((4,), 2.0)):
            saved += max(rate * stay_min - sum(draw[hole] for hole in stay), 0.0) / 3
    assert saved_by_leaving(planned, patch, minutes) == pytest.approx(saved)
    assert saved_by_leaving(np.ones((3, 5)), np.zeros(5, np.int32), minutes) == 0.0


def test_a_route_that_plans_again_finds_more_and_the_more_the_later():
    fixed, again = forecast(plans_again=False), forecast(plans_again=True)
    more = again.expected - fixed.expected
    assert more[0] == 0.0
    assert (np.diff(more) >= -1e-9).all()
    assert 0.3 < more[-1] < 0.5 * fixed.final.expected
    assert again.final.expected == pytest.approx(again.expected[-1])
    assert again.counts.mean() - fixed.counts.mean() == pytest.approx(more[-1], abs=0.5)
    assert again.probability_of(fixed.final.expected) >= fixed.probability_of(fixed.final.expected)


def test_with_more_results_known_there_is_less_to_gain_for_the_same_plan():
    gains = []
    for known in ((), tuple(range(0, 160, 2))):
        fixed, again = (forecast(plans_again=each, known=known, p_good=0.5) for each in (False, True))
        gains.append(again.final.expected - fixed.final.expected)
    assert 0.0 < gains[1] < gains[0]
