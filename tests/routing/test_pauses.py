"""Pauses have a rate of their own: a plan's minutes with it are those that sessions really take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.advice.advise import advise
from cryoscout.advice.setting import AdviceRequest
from cryoscout.core.errors import DataError
from cryoscout.routing.time_fit import LEAST_VISITS_S, LONGEST_PAUSE_S, fit_time_model
from cryoscout.routing.time_model import TimeModel
from cryoscout.routing.times import fitted_times
from cryoscout.session.builtin import load_builtin
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

LEVELS = ("patch_id", "square_id", "grid_id", "hole_id")


def timed_exposures(session):
    rows = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id")
    rows = rows.merge(session.patches, on="patch_id").merge(session.squares, on="square_id")
    return rows[rows["started_at"].notna()].sort_values("started_at", kind="stable")


def tiers_of(levels):
    """Tier of each step by the slow obvious way."""
    patch, square, grid = (levels[column] for column in LEVELS[:3])
    return np.array(
        [
            3
            if grid[i] != grid[i - 1]
            else 2
            if square[i] != square[i - 1]
            else 1
            if patch[i] != patch[i - 1]
            else 0
            for i in range(1, len(patch))
        ]
    )


def modelled_and_real_s(started_s, levels, half):
    """Fitted to the steps up to `half`: seconds of the later steps by the model with its pauses, and as recorded."""
    fit = fit_time_model(started_s[: half + 1], *(levels[column][: half + 1] for column in LEVELS))
    steps_s, tier = np.diff(started_s)[half:], tiers_of(levels)[half:]
    short = steps_s <= LONGEST_PAUSE_S
    modelled_s = fit.seconds[tier[short]].sum() * (1 + fit.time_model.pauses_per_min)
    return modelled_s, steps_s[short].sum(), fit


def test_the_first_half_of_the_recorded_steps_of_y1_predicts_the_minutes_of_the_second():
    rows = timed_exposures(load_builtin("y1", split="all"))
    started_s = (rows["started_at"] - rows["started_at"].min()).dt.total_seconds().to_numpy()
    levels = {column: rows[column].to_numpy() for column in LEVELS}
    modelled_s, real_s, fit = modelled_and_real_s(started_s, levels, (len(rows) - 1) // 2)
    assert modelled_s == pytest.approx(real_s, rel=0.01)  # asked for: 0.1
    assert fit.time_model.pauses_per_min == pytest.approx(0.053, abs=0.001)
    without = modelled_s / (1 + fit.time_model.pauses_per_min)
    assert without < 0.95 * real_s


def test_gaps_of_y1_over_three_hours_are_named_and_in_no_rate():
    fit = fitted_times(load_builtin("y1"))
    assert [round(length_s / 3600, 1) for _, length_s in fit.gaps_s] == [4.4, 9.9, 3.1]
    (said,) = [warning for warning in fit.warnings if "gaps" in warning]
    assert said.startswith(
        "3 gaps of more than 3 h are no pauses of the session and are left out: 4.4 h from 20"
    )


@pytest.mark.parametrize("rate", [0.0, 0.08, 0.2])
def test_known_pauses_of_simulated_sessions_are_in_the_modelled_minutes(rate):
    modelled, real = [], []
    for seed in range(50):
        rng = np.random.default_rng([seed, 14])
        n = 900
        patch = np.cumsum(rng.random(n) < 0.07)
        square = np.cumsum(np.diff(patch, prepend=0) * (rng.random(n) < 0.2))
        grid = np.zeros(n, dtype=int)
        levels = {"patch_id": patch, "square_id": square, "grid_id": grid, "hole_id": np.arange(n)}
        steps_s = np.array([60.0, 150.0, 400.0])[tiers_of(levels)] * rng.lognormal(0, 0.05, n - 1)
        # Refills of half an hour and alignments of ten minutes, as often as the rate says.
        mean_s = 0.5 * 1800 + 0.5 * 600
        paused = rng.random(n - 1) < rate * steps_s / mean_s
        steps_s += np.where(paused, np.where(rng.random(n - 1) < 0.5, 1800.0, 600.0), 0.0)
        started_s = np.concatenate([[0.0], np.cumsum(steps_s)])
        m, r, _ = modelled_and_real_s(started_s, levels, n // 2)
        modelled.append(m)
        real.append(r)
    assert sum(modelled) == pytest.approx(sum(real), rel=0.05)


def test_one_refill_in_a_short_session_is_no_rate():
    steps_s = np.full(30, 60.0)
    steps_s[10] = 3660.0
    one = np.zeros(31, dtype=int)
    fit = fit_time_model(np.concatenate([[0], np.cumsum(steps_s)]), one, one, one)
    assert (fit.pauses_min, fit.visits_min) == (60.0, 30.0)
    assert fit.time_model.pauses_per_min == pytest.approx(3600.0 / LEAST_VISITS_S)


def test_a_session_of_nights_alone_has_no_times():
    one = np.zeros(3, dtype=int)
    with pytest.raises(DataError, match=r"of 3 hours at most\. Got 2 longer ones instead"):
        fit_time_model(np.array([0.0, 20_000, 50_000]), one, one, one)


@pytest.fixture(scope="module")
def paused():
    """Half imaged, with a refill of an hour after every 40th exposure."""
    settings = simulation_named("small").model_copy(update={"holes": 400})
    session = to_session(simulate_tables(settings, seed=5), "paused")
    exposures = session.exposures.sort_values("started_at", kind="stable").reset_index(drop=True)
    refills = pd.to_timedelta(np.arange(len(exposures)) // 40, unit="h")
    exposures["started_at"] = exposures["started_at"] + refills
    later = exposures.index >= 200
    exposures.loc[later, ["outcome"]] = "none"
    exposures.loc[later, "started_at"] = np.datetime64("NaT")
    exposures.loc[later, "ctf_max_res_angstrom"] = np.nan
    info = session.info.model_copy(update={"default_time_model": "fitted"})
    return replace(session, info=info, exposures=exposures)


def test_a_plan_sets_the_pauses_of_its_visits_aside_and_says_so(paused):
    share = fitted_times(paused).time_model.pauses_per_min
    assert share > 0.2
    work_list = advise(paused, AdviceRequest(300.0, "index")).work_list
    assert work_list.budget_min == 300.0
    assert work_list.set_aside_min == pytest.approx(300 * share / (1 + share))
    assert work_list.minutes_used + work_list.set_aside_min <= 300 + 1e-6
    assert work_list.minutes_used > 0.9 * (300 - work_list.set_aside_min)
    assert work_list.to_json()["set_aside_min"] == work_list.set_aside_min
    assert "min set aside for pauses" in work_list.to_html()
    published = advise(paused, AdviceRequest(300.0, "index", time_model="cryorl")).work_list
    assert published.set_aside_min == 0.0


def test_an_empty_plan_says_what_the_pauses_take(paused):
    first_min = fitted_times(paused).time_model.tiers_min()[0]
    work_list = advise(paused, AdviceRequest(1.05 * first_min, "index")).work_list
    assert not work_list.visits
    assert "that pauses leave" in work_list.notes[0]


def test_a_time_model_sets_nothing_aside_unless_it_is_fitted():
    model = TimeModel(name="x", same_patch_min=1, new_patch_min=1, new_square_min=1, new_grid_min=1)
    assert model.visits_min(480.0) == 480.0
    assert model.model_copy(update={"pauses_per_min": 0.25}).visits_min(480.0) == 384.0
