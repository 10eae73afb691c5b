"""What is said of the recorded order, of budgets longer than the session, and which policies are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.advice.recorded import (
    AS_RECORDED,
    LongBudget,
    default_policies,
    headline,
    long_budget,
    mean_minutes_recorded,
    minutes_of_all_holes,
    minutes_recorded,
    notes_on_order,
    reference_among,
    words_on_as_recorded,
)
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies.as_recorded import AsRecorded
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import ReplayResult
from cryoscout.session.model import Session
from cryoscout.session.recorded_order import RecordedOrder
from cryoscout.session.tables import empty_table
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.testing import exhaustive_best, random_problem


@pytest.fixture(scope="module")
def simulated() -> Session:
    return to_session(
        simulate_tables(simulation_named("small").model_copy(update={"holes": 60}), seed=3), "sim"
    )


def without_predictions(session: Session) -> Session:
    return replace(session, predictions=empty_table("predictions"))


def without_times(session: Session) -> Session:
    return replace(session, exposures=session.exposures.assign(started_at=np.datetime64("NaT", "ns")))


def test_the_name_is_that_of_the_policy():
    assert AsRecorded.name == AS_RECORDED


# --- which policies are compared ------------------------------------------------------------------


def test_what_can_say_nothing_without_predictions_is_left_out_with_a_note(simulated):
    usual = ("greedy", "offline", "index", "adaptive")
    assert default_policies(simulated, usual) == (usual, ())
    kept, notes = default_policies(without_predictions(simulated), usual)
    assert kept == ("index", "adaptive")
    assert [note.split(":")[0] for note in notes] == ["greedy is left out", "offline is left out"]
    assert "--policies greedy replays it all the same" in notes[0]


def test_without_an_order_random_is_what_to_compare_with(simulated):
    assert default_policies(without_times(simulated), ("greedy",))[0] == ("random", "greedy")
    assert default_policies(without_times(simulated), ("greedy", "random"))[0] == ("greedy", "random")


# --- minutes --------------------------------------------------------------------------------------


def three_patches() -> RoutingProblem:
    """Holes 0, 1 in patch 0 and hole 2 in patch 1, of one square; hole 3 in another grid. Tiers 2, 5, 10, 20."""
    return RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 1, 2], dtype=np.int32),
            np.array([0, 0, 1], dtype=np.int32),
            np.array([0, 1], dtype=np.int32),
        ),
        prior_p_good=np.full(4, 0.5),
        budget_min=60.0,
    )


def result(start: int, *route: int) -> ReplayResult:
    visits = np.array(route, dtype=np.int64)
    return ReplayResult(start, visits, np.arange(len(visits)) + 1.0, np.ones(len(visits)), 0.0)


def test_the_real_minutes_are_those_between_first_and_last_and_the_way_round_is_the_models():
    order = RecordedOrder(np.array([2, 0, 1, 3]), "times", np.array([9.5, 11.0, 0.0, 40.0]))
    problem = three_patches()
    assert minutes_recorded(order, problem, result(2, 0, 1)) == pytest.approx(11.0)
    assert minutes_recorded(order, problem, result(1, 3, 2, 0)) == pytest.approx(29.0 + 20.0 + 9.5)
    assert minutes_recorded(order, problem, result(0)) == 0.0
    assert minutes_recorded(order, problem, result(NOWHERE, 2, 0)) == pytest.approx(20.0 + 9.5)
    assert mean_minutes_recorded(order, problem, [result(2, 0, 1), result(2, 0)]) == pytest.approx(10.25)
    other = RecordedOrder(np.array([3, 0, 1, 2]), "times", np.array([5.0, 10.0, 15.0, 0.0]))
    assert minutes_recorded(other, problem, result(NOWHERE, 0)) == pytest.approx(20.0)


def test_steps_to_and_from_a_hole_without_a_time_take_the_models_minutes():
    order = RecordedOrder(np.array([0, 3, 2, 1]), "times", np.array([0.0, np.nan, 8.0, 6.0]))
    assert minutes_recorded(order, three_patches(), result(3, 2, 1, 0)) == pytest.approx(2.0 + 5.0 + 2.0)


def test_names_have_no_minutes():
    order = RecordedOrder(np.arange(4), "names", np.full(4, np.nan))
    assert minutes_recorded(order, three_patches(), result(0, 1, 2)) is None
    assert mean_minutes_recorded(order, three_patches(), [result(0, 1, 2)]) is None
    assert "own times" not in words_on_as_recorded([None, None])
    assert "by the session's own times 12, 30 min" in words_on_as_recorded([12.2, 29.9])


@given(seed=st.integers(0, 2**32 - 1))
def test_all_holes_are_visited_in_the_fewest_minutes(seed: int):
    """Within them exhaustive search visits every hole from any start, and within a moment less it does not."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, int(rng.integers(2, 7)), share_allowed=0.8)
    free = np.flatnonzero(problem.available())
    if len(free) < 2:
        return
    start = int(rng.choice(free))
    minutes = minutes_of_all_holes(problem)
    ones = np.ones(problem.n_holes)
    assert exhaustive_best(problem.with_budget(minutes), ones, start) == len(free) - 1
    assert exhaustive_best(problem.with_budget(minutes - 0.5), ones, start) < len(free) - 1


# --- sentences ------------------------------------------------------------------------------------


def test_the_headline_compares_with_the_recorded_order():
    found = {"as recorded": 41.52, "random@res50": 5.0, "adaptive@combined": 92.0}
    assert headline(found, 102.4, 240.0, None) == (
        "adaptive@combined finds 92.0 good micrographs where the recorded order found 41.5 in the same 240 minutes "
        "(bound 102.4)."
    )


def test_without_it_with_random_and_says_what_random_pays_for():
    found = {"greedy": 9.0, "random@res50": 5.0, "adaptive": 12.0}
    assert headline(found, 20.0, 60.0, None) == (
        "adaptive finds 12.0 good micrographs where random@res50 finds 5.0 in the same 60 minutes (bound 20.0); "
        "random pays for constant switching."
    )


def test_without_either_with_the_first_one_and_alone_with_nothing():
    assert headline({"greedy": 9.0, "adaptive": 12.0}, 20.0, 60.0, None) == (
        "adaptive finds 12.0 good micrographs where greedy finds 9.0 in the same 60 minutes (bound 20.0)."
    )
    assert headline({"random": 9.0}, 20.0, 60.0, None) == (
        "random finds 9.0 good micrographs in 60 minutes (bound 20.0)."
    )
    assert reference_among(["greedy"]) is None


def test_a_budget_that_holds_the_session_is_said_in_words():
    problem = replace(three_patches(), allowed=np.array([True, True, True, False]))
    assert long_budget(problem.with_budget(6.9), {"greedy": 2.0}) is None
    everyone = long_budget(problem, {"as recorded": 2.0, "adaptive": 2.0})
    assert everyone == LongBudget(3, 7.0, 60.0, ("as recorded", "adaptive"), True)
    assert headline({"as recorded": 1.5, "adaptive": 1.5}, 1.5, 60.0, everyone) == (
        "The session has only 3 measured holes, 7 minutes by this time model; every policy images them all. "
        "In 60 minutes each of them finds 1.5 good micrographs."
    )
    some = long_budget(problem, {"as recorded": 2.0, "greedy": 1.9, "adaptive": 2.0})
    assert some.words == (
        "The session has only 3 measured holes, 7 minutes by this time model; as recorded and adaptive image them all."
    )
    assert headline({"as recorded": 1.5, "greedy": 1.0, "adaptive": 1.5}, 1.5, 60.0, some).startswith(
        some.words
    )
    assert headline({"as recorded": 1.5, "adaptive": 1.5, "greedy": 1.0}, 1.5, 60.0, some) == (
        f"greedy finds 1.0 good micrographs where the recorded order found 1.5 in the same 60 minutes (bound 1.5). "
        f"{some.words}"
    )
    nobody = long_budget(problem, {"greedy": 1.0})
    assert nobody.words.endswith(
        "7 minutes by this time model: within 60 minutes a route can image them all."
    )


def test_notes_say_what_the_order_rests_on(simulated):
    assert notes_on_order(simulated, simulated.recorded_order()) == ()
    (unknown,) = notes_on_order(without_times(simulated), None)
    assert "does not say in which order its holes were imaged" in unknown
    by_names = RecordedOrder(np.arange(4), "names", np.full(4, np.nan))
    assert "the order is that of the numbers in its names" in notes_on_order(simulated, by_names)[0]
    gap = RecordedOrder(np.arange(4), "times", np.array([0.0, 1.0, 2.0, np.nan]))
    assert "1 of 4 measured holes have no time and come last" in notes_on_order(simulated, gap)[0]
