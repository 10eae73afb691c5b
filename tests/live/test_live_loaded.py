"""Which grid is in the microscope and what an exposure takes, as the operator of a server says."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import NOWHERE
from cryoscout.live.running import LiveSession
from cryoscout.live.serving import ServeRequest, check
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables


@contextmanager
def live_session(stored, **settings):
    with FollowedSession.open(stored) as followed:
        yield LiveSession(followed, LiveSettings(clock_scale=0.0, **settings), "test")


@pytest.fixture(scope="module")
def simulated():
    """Of several grids; `stored` is of it."""
    update = {"holes": 60, "patches_per_square": 2.0, "squares_per_grid": 2.0}
    return to_session(simulate_tables(simulation_named("small").model_copy(update=update), seed=3), "run")


def image(stored, hole):
    with SessionStore.open(stored) as store:
        store.record_outcome(store.record_imaged(hole), 3.0)


def test_the_grid_that_is_in_is_the_named_one_until_an_exposure_says_another(stored, simulated):
    grids = simulated.grids["grid_id"].tolist()
    first, second = simulated.holes["hole_id"][simulated.tree().grid_of_hole == 0].iloc[:2]
    image(stored, first)
    with live_session(stored) as live:
        assert live.now(0.0).here == simulated.hole_index(first)
    with live_session(stored, loaded=grids[-1]) as live:
        assert live.now(0.0).here == NOWHERE
        moment = live.advise()
        assert moment.advice.problem.tree.loaded_grid == len(grids) - 1
        assert moment.advice.walk.tiers[0] == 2  # a square of the loaded grid costs no grid switch
        image(stored, second)
        live.catch_up()
        assert live.now(0.0).here == simulated.hole_index(second)


def test_a_grid_that_the_session_does_not_have_is_refused(stored):
    with pytest.raises(UnknownNameError, match="The loaded grid"), live_session(stored, loaded="g99"):
        pass


def test_a_loaded_grid_goes_with_one_session_alone():
    with pytest.raises(InputError, match=r"--loaded must go with one session\. Got 2 instead"):
        check(ServeRequest(sessions=("a.session", "b.session"), loaded="g1"))


def test_minutes_of_an_exposure_are_those_that_were_said(stored):
    settings = ServeRequest(
        sessions=(str(stored),), time_model="1,2,4,8", minutes_per_exposure=3.0
    ).settings()
    with live_session(stored, **settings.model_dump(include={"time_model", "minutes_per_exposure"})) as live:
        tiers = live.advise().advice.problem.time_model.tiers_min()
    with live_session(stored, time_model="1,2,4,8") as live:
        before = live.advise().advice.problem.time_model.tiers_min()
    assert tiers[0] == 3.0
    assert (tiers - before).tolist() == pytest.approx([2.0] * 4)
