"""What a session gives to learn from: the training split, only holes with an outcome, and a digest of it all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.core.errors import DataError, InputError
from cryoscout.learning.from_session import data_digest, load_to_learn_from, training_session
from cryoscout.routing.from_session import truth_from_session
from cryoscout.session.builtin import load_builtin
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables


@pytest.fixture(scope="module")
def small():
    settings = simulation_named("small").model_copy(update={"holes": 120})
    return to_session(simulate_tables(settings, seed=3), "small")


def without_outcomes(session):
    exposures = session.exposures.assign(outcome="pending", ctf_max_res_angstrom=np.nan)
    return replace(session, exposures=exposures)


def test_a_built_in_session_is_learned_from_by_its_training_split():
    (session,) = load_to_learn_from(["y1"])
    assert (session.info.split, session.n_holes) == ("train", 2464)
    (named,) = load_to_learn_from(["y1"], "val")
    assert named.n_holes == 1074


def test_the_two_splits_of_one_session_are_never_learned_from_together():
    with pytest.raises(InputError, match="each holds validation holes of the other"):
        load_to_learn_from(["y1", "y1-2022"])


def test_holes_without_an_outcome_are_left_out_and_counted():
    session = load_builtin("y1", split="all")
    data, prediction, notes = training_session(session, budget_min=240.0, prediction="flat")
    assert prediction == "flat"
    assert data.problem.available().tolist() == truth_from_session(session).measured.tolist()
    assert any("471 holes of session y1 without an outcome are left out." in note for note in notes)


def test_the_published_prediction_is_the_default_and_the_crossing_visit_counts():
    data, prediction, notes = training_session(load_builtin("y1", split="train"), budget_min=240.0)
    assert (prediction, notes) == ("res50", ())
    assert (data.problem.crossing, data.problem.budget_min, data.draws) == ("count", 240.0, False)
    assert data.problem.imaged is None


def test_another_default_prediction_is_taken_where_none_is_named():
    session = load_builtin("y1", split="train")
    assert training_session(session, budget_min=240.0, default_prediction="res18")[1:] == ("res18", ())
    named = training_session(session, budget_min=240.0, prediction="res50", default_prediction="res18")
    assert named[1] == "res50"


def test_a_session_without_predictions_gets_one_p_good_and_says_so(small):
    blind = replace(small, predictions=small.predictions.iloc[:0])
    data, prediction, notes = training_session(blind, budget_min=60.0)
    assert prediction == "flat"
    assert len(set(data.problem.prior_p_good.tolist())) == 1
    assert any("has no predictions" in note for note in notes)


def test_a_session_without_outcomes_needs_draws(small):
    unknown = without_outcomes(small)
    with pytest.raises(DataError, match=r"must have holes with an outcome.* Got none of 120 .*--draws"):
        training_session(unknown, budget_min=60.0)
    data, _, notes = training_session(unknown, budget_min=60.0, draws=True)
    assert data.draws
    assert data.problem.available().all()
    assert not any("left out" in note for note in notes)


@pytest.mark.parametrize(("budget_min", "fits"), [(1.9, False), (2.0, True)])
def test_a_budget_that_holds_no_visit_is_refused(small, budget_min, fits):
    if fits:
        assert training_session(small, budget_min=budget_min)
        return
    with pytest.raises(InputError, match=r"must hold a visit: 2 minutes or more. Got 1.9 instead"):
        training_session(small, budget_min=budget_min)


def test_the_digest_tells_other_data_apart_and_nothing_else(small):
    data, _, _ = training_session(small, budget_min=60.0)
    again, _, _ = training_session(small, budget_min=60.0)
    assert data_digest([data]) == data_digest([again])
    assert data_digest([data]) == data_digest([replace(data, problem=data.problem.with_budget(90.0))])
    flat, _, _ = training_session(small, budget_min=60.0, prediction="flat")
    drawn, _, _ = training_session(small, budget_min=60.0, draws=True)
    slower, _, _ = training_session(small, budget_min=60.0, time_model="cryorl-code")
    turned = replace(data, outcomes=replace(data.truth, good=1.0 - data.truth.good))
    others = [[flat], [drawn], [slower], [turned], [data, data]]
    assert len({data_digest(other) for other in [[data], *others]}) == 1 + len(others)
