"""A problem made from a session knows what it may know, and nothing of the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice.work_list import place_names
from cryoscout.belief.effects import Y1_EFFECTS, Y1_FLAT_EFFECTS
from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.routing.from_session import problem_from_session, start_of_plan, truth_from_session
from cryoscout.routing.predictions import (
    flat_p_good,
    named_p_good,
    prediction_names,
    prediction_of,
    resolve_prediction,
)
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.times import time_model_for
from cryoscout.session.model import Session
from cryoscout.session.named import load_session
from cryoscout.session.tables import empty_table
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables


@pytest.fixture(scope="module")
def y1() -> Session:
    return load_session("y1")


@pytest.fixture(scope="module")
def simulated() -> Session:
    settings = simulation_named("small").model_copy(update={"holes": 120})
    return to_session(simulate_tables(settings, seed=3), "sim")


@pytest.fixture(scope="module")
def half_imaged(simulated: Session) -> Session:
    """The first 60 holes imaged, the last of them still without a result; the others not imaged."""
    exposures = simulated.exposures.copy()
    later = exposures.index >= 60
    exposures.loc[later, "outcome"] = "none"
    exposures.loc[later, "started_at"] = np.datetime64("NaT")
    exposures.loc[exposures.index == 59, "outcome"] = "pending"
    exposures.loc[exposures.index >= 59, "ctf_max_res_angstrom"] = np.nan
    return replace(simulated, exposures=exposures)


def without_predictions(session: Session) -> Session:
    return replace(session, predictions=empty_table("predictions"))


def test_the_built_in_session_is_planned_as_new_at_the_published_times(y1):
    problem = problem_from_session(y1, prediction=prediction_of(y1, "res50"), budget_min=480)
    assert problem.n_holes == 1074
    assert (len(problem.square_of_patch), len(problem.grid_of_square)) == (52, 22)
    assert problem.time_model.name == "cryorl"
    assert problem.imaged is None
    assert problem.outcome is None
    assert start_of_plan(y1, None, as_new=False) == NOWHERE


def test_the_truth_of_y1_has_404_good_holes(y1):
    truth = truth_from_session(y1, 6.0)
    assert truth.good.sum() == 404
    assert truth.measured.all()


def test_holes_without_a_result_have_no_truth(half_imaged):
    truth = truth_from_session(half_imaged, 6.0)
    assert truth.measured.sum() == 59
    assert not truth.good[~truth.measured].any()


def test_the_problem_keeps_the_order_of_the_session(y1):
    problem = problem_from_session(y1, prediction=prediction_of(y1, "res18"), budget_min=60)
    names = place_names(y1)
    assert problem.hole_ids == names.holes == tuple(y1.holes["hole_id"])
    for hole in (0, 500, 1073):
        assert names.holes[hole].startswith(names.patches[problem.patch_of_hole[hole]])
        assert names.holes[hole].startswith(names.grids[problem.grid_of_hole[hole]])
    by_name = y1.predictions.query("model_id == 'res18'").set_index("hole_id")["p_good"]
    assert problem.prior_p_good[500] == by_name[names.holes[500]]


def test_imaged_holes_and_their_results_are_handed_over_unless_planned_as_new(half_imaged):
    problem = problem_from_session(
        half_imaged, prediction=prediction_of(half_imaged, "simulated"), budget_min=60
    )
    assert problem.imaged is not None
    assert problem.outcome is not None
    assert problem.imaged.sum() == 60
    assert np.isnan(problem.outcome[59:]).all()
    assert not np.isnan(problem.outcome[:59]).any()
    assert problem.available().sum() == 60
    as_new = problem_from_session(
        half_imaged, prediction=prediction_of(half_imaged, "simulated"), budget_min=60, as_new=True
    )
    assert as_new.imaged is None
    assert as_new.outcome is None
    assert as_new.available().all()


def test_a_plan_starts_at_the_last_hole_imaged_or_where_it_is_told(half_imaged):
    assert start_of_plan(half_imaged, None, as_new=False) == 59
    assert start_of_plan(half_imaged, None, as_new=True) == NOWHERE
    hole = half_imaged.holes["hole_id"].iloc[7]
    assert start_of_plan(half_imaged, hole, as_new=False) == 7
    with pytest.raises(InputError, match=r"The hole must be one of session sim\. Got 'h0o7' instead"):
        start_of_plan(half_imaged, "h0o7", as_new=False)


def test_predictions_are_named(y1):
    assert prediction_names(y1) == ["res18", "res50", "combined", "flat"]
    with pytest.raises(UnknownNameError, match=r"Got 'res5' instead\. Did you mean 'res50'\?"):
        named_p_good(y1, "res5")
    with pytest.raises(UnknownNameError, match="regress50-2022"):
        named_p_good(y1, "regress50-2022")


def test_combined_is_a_probability_and_tells_good_from_bad_better_than_its_parts(y1):
    combined, truth = named_p_good(y1, "combined"), truth_from_session(y1)
    assert combined.shape == (1074,)
    assert ((combined > 0) & (combined < 1)).all()

    def log_loss(p: np.ndarray) -> float:
        p = np.clip(p, 0.005, 0.995)
        return float(-np.mean(truth.good * np.log(p) + (1 - truth.good) * np.log(1 - p)))

    assert log_loss(combined) < min(log_loss(named_p_good(y1, "res18")), log_loss(named_p_good(y1, "res50")))


def test_a_problem_carries_the_effects_its_prediction_leaves_unexplained(y1):
    for prediction, effects in (("combined", Y1_EFFECTS), ("res50", Y1_EFFECTS), ("flat", Y1_FLAT_EFFECTS)):
        assert (
            problem_from_session(y1, prediction=prediction_of(y1, prediction), budget_min=60).effects
            == effects
        )


def test_combined_puts_the_only_classifier_of_another_session_into_context(simulated):
    combined = named_p_good(simulated, "combined")
    assert combined.shape == (120,)
    assert ((combined > 0) & (combined < 1)).all()
    assert not np.allclose(combined, named_p_good(simulated, "simulated"))


def test_flat_is_the_share_of_good_among_the_training_holes():
    assert flat_p_good(6.0) == pytest.approx(938 / 2464)
    assert flat_p_good(4.0) < flat_p_good(6.0)


def test_a_session_without_predictions_gets_flat_and_says_so(simulated):
    bare = without_predictions(simulated)
    name, notes = resolve_prediction(bare, None, "combined")
    assert name == "flat"
    assert "has no predictions: before results every hole gets the share" in notes[0]
    assert "import CTF results" not in notes[0], "they are there"
    waiting = replace(bare, exposures=bare.exposures.assign(outcome="pending", ctf_max_res_angstrom=np.nan))
    assert "import CTF results as they come, or" in resolve_prediction(waiting, None, "combined")[1][0]
    problem = problem_from_session(bare, prediction=prediction_of(bare, name), budget_min=60)
    assert np.unique(problem.prior_p_good).tolist() == [flat_p_good()]


def test_what_is_chosen_for_the_user_is_said_and_what_they_named_is_never_replaced(simulated, y1):
    assert resolve_prediction(y1, None, "res50") == ("res50", ())
    name, notes = resolve_prediction(simulated, None, "res50")
    assert name == "simulated"
    assert "has no prediction 'res50'; its model 'simulated' is used" in notes[0]
    with pytest.raises(UnknownNameError, match="'res50'"):
        resolve_prediction(simulated, "res50", "combined")


def test_models_that_do_not_cover_every_hole_are_passed_over_and_refused_by_name(simulated):
    gaps = replace(simulated, predictions=simulated.predictions.iloc[7:])
    name, notes = resolve_prediction(gaps, None, "combined")
    assert name == "flat"
    assert len(notes) == 1
    assert "of the 120 holes of session sim are not used ('simulated' lacks 7); 'flat' is used." in notes[0]
    for named in ("simulated", "combined"):
        with pytest.raises(DataError, match=r"Got none for 7 of 120 holes.*for example adaptive@flat\."):
            resolve_prediction(gaps, named, "combined")
    whole = gaps.with_p_good("other", 6.0, np.full(120, 0.5))
    name, notes = resolve_prediction(whole, None, "simulated")
    assert name == "other"
    assert "('simulated' lacks 7); its model 'other' is used." in notes[0]


def test_probabilities_made_for_one_threshold_are_refused_at_another(y1):
    with pytest.raises(DataError, match="must be 6 angstrom"):
        named_p_good(y1, "res18", 4.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 0.4, 100.5, 1e300, float("nan"), float("inf")])
def test_a_threshold_must_be_a_resolution_of_good_micrographs(simulated, threshold):
    with pytest.raises(InputError, match=r"must be a resolution from 0\.5 to 100 angstrom"):
        truth_from_session(simulated, threshold)


def test_the_later_split_gives_hard_labels_and_never_the_papers_predictions():
    later = load_session("y1-2022")
    assert prediction_names(later) == ["regress50-2022", "flat"]
    name, notes = resolve_prediction(later, None, "combined")
    assert name == "regress50-2022"
    assert len(notes) == 1
    assert set(np.unique(named_p_good(later, name))) == {0.0, 1.0}


def test_simulated_sessions_default_to_the_published_times_and_can_be_fitted(simulated):
    assert time_model_for(simulated, None)[0].name == "cryorl"
    fitted, _ = time_model_for(simulated, "fitted")
    assert fitted.name == "fitted"
    assert fitted.same_patch_min == pytest.approx(2.0, rel=0.05)


def test_a_built_in_split_is_fitted_on_the_whole_session(y1):
    fitted, warnings = time_model_for(y1, "fitted")
    seconds = fitted.tiers_min() * 60
    assert seconds == pytest.approx([91, 185, 186, 194], rel=0.05)
    assert any("6 timed steps" in warning for warning in warnings)


def test_real_sessions_are_fitted_and_fall_back_with_a_note_where_times_are_missing(simulated):
    real = replace(simulated, info=simulated.info.model_copy(update={"default_time_model": "fitted"}))
    assert time_model_for(real, None)[0].name == "fitted"
    untimed = replace(real, exposures=real.exposures.assign(started_at=np.datetime64("NaT", "ns")))
    model, notes = time_model_for(untimed, None)
    assert model.name == "cryorl"
    assert "not this microscope's but those of the published time model cryorl" in notes[0]
    assert notes[0].endswith("Remedy: your own minutes by tier, --time-model 0.5,1,2,8.")
    asked_for = {"default_time_model": "cryorl", "format": "generic"}
    own = replace(untimed, info=untimed.info.model_copy(update=asked_for))
    assert "cryorl: the session has no times. Remedy" in time_model_for(own, None)[1][0]
    part = replace(simulated, info=simulated.info.model_copy(update=asked_for))
    assert "only part of its timed exposures. --time-model fitted" in time_model_for(part, None)[1][0]
    assert time_model_for(simulated, None)[1] == (), "known truth: those are its times"
    with pytest.raises(DataError, match="2 timed exposures"):
        time_model_for(untimed, "fitted")


def test_an_unknown_time_model_offers_the_nearest(y1):
    with pytest.raises(UnknownNameError, match="Did you mean 'cryorl'"):
        problem_from_session(y1, prediction=prediction_of(y1, "res50"), budget_min=60, time_model="cryrl")


def test_an_unknown_session_offers_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run7.session").mkdir()
    with pytest.raises(UnknownNameError, match="Did you mean 'y1'"):
        load_session("y11")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'run7\.session'"):
        load_session("run7")


def test_splits_belong_to_built_in_sessions(tmp_path):
    assert load_session("y1", split="train").n_holes == 2464
    with pytest.raises(UnknownNameError, match="The split"):
        load_session("y1", split="test")
    with pytest.raises(InputError, match="leave --split out"):
        load_session(str(tmp_path), split="train")


def test_a_session_with_few_steps_in_every_tier_is_planned_with_the_published_times(simulated):
    info = simulated.info.model_copy(update={"default_time_model": "fitted"})
    first = simulated.subset(np.arange(simulated.n_holes) < 5, "first")
    model, notes = time_model_for(replace(first, info=info), None)
    assert model.name == "cryorl"
    assert "4 same patch, 0 new patch, 0 new square, 0 new grid steps without pauses" in notes[0]
    assert notes[0].endswith("every one fewer than 10. --time-model fitted uses them all the same.")
    assert time_model_for(replace(simulated, info=info), None)[0].name == "fitted"
