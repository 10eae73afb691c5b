"""Practice: a person's picks beside the planners and the bound, on both axes, by the same outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.advice.practice import PUBLISHED, RIVALS, PracticeRound, compared, practice_round, table_rows
from cryoscout.core.errors import DataError, InputError
from cryoscout.routing.bound import good_holes_bound
from cryoscout.session.named import load_session
from cryoscout.study.engine.published import TABLE2


@pytest.fixture(scope="module")
def played() -> PracticeRound:
    made = practice_round(load_session("y1", "val"), 12, "AB")
    for hole in np.random.default_rng(3).permutation(made.problem.n_holes)[:12].tolist():
        made.pick(hole)
    return made


def test_a_pick_says_what_the_microscope_would_and_counts():
    session = load_session("y1", "val")
    made = practice_round(session, 2)
    first = made.pick(5)
    row = session.exposures[session.exposures["hole_id"] == session.holes["hole_id"].iloc[5]].iloc[0]
    assert first["ctf_max_res_angstrom"] == pytest.approx(row["ctf_max_res_angstrom"], abs=0.005)
    assert first["good"] == float(row["ctf_max_res_angstrom"] <= 6.0)
    assert (first["picks"], first["left"]) == (1, 1)
    with pytest.raises(InputError, match="not picked yet"):
        made.pick(5)
    with pytest.raises(InputError, match="below 1074"):
        made.pick(1074)
    made.pick(6)
    assert made.is_over
    with pytest.raises(InputError, match="end after its 2 picks"):
        made.pick(7)


def test_the_curves_begin_at_the_first_hole_and_never_pass_the_bound(played):
    result = compared(played)
    own = played.truth.good[played.picks]
    assert result["good"] == own.sum()
    assert result["picks"]["you"] == np.cumsum(own).tolist()
    for axis in (result["picks"], result["minutes"]):
        for name in ("you", *RIVALS):
            assert axis[name][0] == own[0]
            assert np.all(np.diff(axis[name]) >= 0)
            assert np.all(np.array(axis[name]) <= np.array(axis["bound"]) + 1e-9)


def test_moving_is_free_on_the_axis_of_picks_and_charged_on_that_of_minutes(played):
    result = compared(played)
    free = min(12, 1 + int(played.truth.good.sum()))
    assert result["picks"]["bound"][-1] == own_first(played) + free - 1
    tiers = played.problem.time_model.tiers_min()
    by_hand = tiers[0] + sum(
        tiers[played.problem.tier_between(a, b)] for a, b in zip(played.picks, played.picks[1:], strict=False)
    )
    assert result["minutes_taken"] == pytest.approx(by_hand)
    problem = played.problem.with_budget(by_hand - float(tiers[0]))
    bound = good_holes_bound(problem, played.truth, played.picks[0])
    assert result["minutes"]["bound"][-1] == pytest.approx(own_first(played) + bound)


def own_first(played: PracticeRound) -> float:
    return float(played.truth.good[played.picks[0]])


def test_a_round_that_is_not_over_is_not_compared():
    made = practice_round(load_session("y1", "val"), 3)
    with pytest.raises(InputError, match="3 picks left"):
        compared(made)


def test_too_few_measured_holes_and_no_picks_are_refused():
    session = load_session("y1", "val")
    with pytest.raises(DataError, match="1074 in session y1 for 1074 picks"):
        practice_round(session, 1074)
    with pytest.raises(InputError, match="1 or more"):
        practice_round(session, 0)


def test_the_table_counts_people_and_stands_beside_the_published_figures(played):
    result = compared(played)
    other = {**result, "player": "CD", "good": result["good"] + 2}
    (row,) = table_rows([result, other])
    assert (row["rounds"], row["people"]) == (2, 2)
    assert row["good_mean"] == result["good"] + 1
    assert row["published_mean"] is None
    (row,) = table_rows([{**result, "n_picks": 50}])
    assert (row["published_mean"], row["published_std"]) == (31.9, 10.6)


def test_the_published_figures_are_those_of_the_paper():
    people = TABLE2["people"]
    assert (people.good_mean[0], people.good_std[0]) == PUBLISHED[50]
    assert (people.good_mean[1], people.good_std[1]) == PUBLISHED[100]
