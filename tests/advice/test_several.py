"""Two sessions in one microscope: when to change, what it gains, and how probable a target is then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.outlook import Outlook
from cryoscout.advice.several import best_change, probability_with
from cryoscout.belief.counts import CountForecast

END_MIN = 240.0


def outlook_of(rates, good_so_far=0.0, seed=0, end_min=END_MIN):
    """Good micrographs at so many per minute, by tenths of the time."""
    minutes = np.linspace(0.0, end_min, 25)
    per_min = np.interp(minutes, np.linspace(0.0, end_min, len(rates)), rates)
    steps = 0.5 * (per_min[1:] + per_min[:-1]) * np.diff(minutes)
    found = np.concatenate([[0.0], np.cumsum(steps)])
    drawn = np.random.default_rng(seed).poisson(steps, (400, len(steps)))
    chances = good_so_far + np.concatenate([np.zeros((400, 1)), np.cumsum(drawn, axis=1)], axis=1)
    band = np.stack([found, found], axis=1)
    final = CountForecast(float(found[-1]), (0.0, 1.0), (0.0, 1.0))
    counts = chances[:, -1].astype(np.int64)
    return Outlook(good_so_far, final, minutes, good_so_far + found, band, band, counts, chances)


def test_a_better_grid_is_changed_to_at_once_and_a_worse_one_never():
    poor, rich = outlook_of([0.2, 0.2]), outlook_of([0.6, 0.6])
    change = best_change(poor, rich, 10.0)
    assert change.after_min == 0.0
    assert change.now_good == pytest.approx(0.6 * 230.0)
    assert change.gain == pytest.approx(0.6 * 230.0 - 0.2 * 240.0)
    assert change.sentence("session B").startswith("Change now to session B: about 90.0 good more")
    stays = best_change(rich, poor, 10.0)
    assert (stays.after_min, stays.gain) == (END_MIN, 0.0)
    assert "gains nothing" in stays.sentence("session B")


def test_a_grid_that_runs_dry_is_left_when_it_gives_less_than_the_other_after_the_change():
    dry, fresh = outlook_of([0.8, 0.4, 0.0]), outlook_of([0.5, 0.5])
    change = best_change(dry, fresh, 10.0)
    # The own rate falls to that of the other one, 0.5, after 3/8 of the time.
    assert change.after_min == pytest.approx(90.0, abs=10.0)
    every = [
        np.interp(at, dry.minutes, dry.expected)
        + np.interp(max(230.0 - at, 0.0), fresh.minutes, fresh.expected)
        for at in dry.minutes
    ]
    assert change.good == pytest.approx(max(every))
    assert change.gain == pytest.approx(max(every) - dry.expected[-1])


def test_a_change_that_takes_all_the_time_gains_nothing():
    change = best_change(outlook_of([0.1, 0.1]), outlook_of([9.0, 9.0]), 500.0)
    assert change.gain == 0.0
    assert change.now_good == 0.0


def test_pending_results_of_the_other_session_come_anyway_and_are_no_reason_to_change():
    here = outlook_of([0.2, 0.2])
    there = outlook_of([0.0, 0.0])
    pending = replace(there, expected=there.expected + 30.0)
    assert best_change(here, pending, 10.0).gain == 0.0


def test_a_target_is_more_probable_with_a_change_that_gains():
    here, there = outlook_of([0.2, 0.2], good_so_far=20.0), outlook_of([0.6, 0.6], seed=1)
    change = best_change(here, there, 10.0)
    assert here.probability_of(100) < 0.05
    assert probability_with(here, there, change, 100) > 0.95
    stays = replace(change, after_min=END_MIN)
    assert probability_with(here, there, stays, 69) == here.probability_of(69)


def test_a_session_in_which_nothing_is_left_takes_no_draw_from_the_other_one():
    here, there = outlook_of([0.2, 0.2]), outlook_of([0.0, 0.0])
    done = replace(there, chances=there.chances[:1])
    stays = best_change(here, done, 10.0)
    assert 0.2 < here.probability_of(49) < 0.8
    assert probability_with(here, done, stays, 49) == here.probability_of(49)
    # Nothing is left here: what the other one gives is all.
    fresh = outlook_of([0.2, 0.2], seed=1)
    empty = replace(there, chances=there.chances[:1])
    change = replace(stays, after_min=0.0, change_min=0.0)
    assert probability_with(empty, fresh, change, 49) == fresh.probability_of(49)
