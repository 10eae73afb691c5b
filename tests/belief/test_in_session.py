"""Labels of a session predict its other holes: each kind is the model it names, and effects and field pay."""

from __future__ import annotations

import numpy as np
import pytest
from stage_references import make_session

from cryoscout.belief.calibration import fit_calibration
from cryoscout.belief.in_session import predict_given_labels, unlearned_scores
from cryoscout.belief.scores import score_probabilities
from cryoscout.belief.stage_process import TERMS, fit_stage_process
from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables
from examples import slow_but

KINDS = ("temperature", "platt", "effects", "stage", "effects+stage")


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_calibrations_are_those_of_the_labelled_scores(kind):
    session = make_session(0, holes_per_patch=10)
    known = ~np.isnan(session.labels)
    found = predict_given_labels(*session.arguments, kind)
    assert found.kind == kind
    assert found.model == fit_calibration(session.score_p[known], session.labels[known], kind)
    np.testing.assert_array_equal(found.p_good, found.model.apply(session.score_p))


@pytest.mark.parametrize(
    ("kind", "terms"), [("effects", TERMS[:3]), ("stage", TERMS[3:]), ("effects+stage", TERMS)]
)
def test_the_other_kinds_are_terms_of_one_model(kind, terms):
    session = make_session(1, holes_per_patch=6)
    found = predict_given_labels(*session.arguments, kind)
    assert found.model == fit_stage_process(*session.arguments, terms=terms)
    np.testing.assert_array_equal(found.p_good, found.model.p_good(*session.arguments))


def simulated(seed, patch_step=0, **how):
    """A simulated session and what predicts it: 400 labels at random, or all holes of each patch_step-th patch."""
    tables = simulate_tables(SimulationSettings(holes=1500, classifier_accuracy=0.7, **how), seed)
    tree = HoleTree(tables.patch_of_hole, tables.square_of_patch, tables.grid_of_square)
    labels = np.full(tables.n_holes, np.nan)
    chosen = np.random.default_rng(seed).choice(tables.n_holes, 400, replace=False)
    if patch_step:
        chosen = np.flatnonzero(tables.patch_of_hole % patch_step == 0)
    labels[chosen] = tables.good[chosen]
    return tables, (tables.score, labels, tables.patch_of_hole, tree, tables.x_um, tables.y_um)


def held_out_log_loss(kind, tables, arguments):
    held_out = np.isnan(arguments[1])
    p = predict_given_labels(*arguments, kind).p_good
    return score_probabilities(p[held_out], tables.good[held_out], np.random.default_rng(0)).log_loss


def test_effects_and_field_beat_the_scores_alone_where_they_are_strong():
    loss = {kind: held_out_log_loss(kind, *simulated(0)) for kind in KINDS}
    assert loss["effects+stage"] < loss["temperature"] - 0.1
    assert loss["effects"] < loss["platt"] - 0.05
    assert loss["stage"] < loss["platt"] - 0.05


@pytest.mark.slow
def test_the_field_pays_in_patches_without_a_label_where_neighbours_resemble():
    none = dict.fromkeys(("patch_effect_sd", "square_effect_sd", "grid_effect_sd"), 0.0)
    sessions = [
        simulated(seed, patch_step=3, field_sd=2.5, squares_per_grid=20.0, **none) for seed in range(3)
    ]
    loss = {
        kind: np.array([held_out_log_loss(kind, *session) for session in sessions])
        for kind in ("effects", "stage", "effects+stage")
    }
    assert np.all(loss["effects+stage"] < loss["effects"])
    assert np.all(loss["stage"] < loss["effects"])
    assert loss["stage"].mean() < loss["effects"].mean() - 0.01


def test_nothing_is_lost_where_scores_are_all_there_is():
    none = dict.fromkeys(
        ("field_sd", "patch_effect_sd", "square_effect_sd", "grid_effect_sd", "hole_effect_sd"), 0.0
    )
    loss = {kind: held_out_log_loss(kind, *simulated(2, **none)) for kind in ("platt", "effects+stage")}
    assert loss["effects+stage"] < loss["platt"] + 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_one_class_are_refused(kind):
    session = make_session(0, holes_per_patch=10)
    one_class = session.changed(labels=np.where(np.isnan(session.labels), np.nan, 1.0))
    with pytest.raises(InputError, match=r"both classes"):
        predict_given_labels(*one_class.arguments, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_unequal_length_are_refused(kind):
    session = make_session(0)
    with pytest.raises(InputError, match=r"one entry per hole\. Got 20, 20, 20, 20, 19 instead"):
        predict_given_labels(*session.changed(y_um=session.y_um[1:]).arguments, kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UnknownNameError, match=r"Got 'effect' instead\. Did you mean 'effects'"):
        predict_given_labels(*make_session(0).arguments, "effect")


def test_scores_of_learned_holes_are_what_the_holes_around_them_say():
    tree = HoleTree(
        np.empty(0, dtype=np.int32),
        np.array([0, 0, 1, 2], dtype=np.int32),
        np.array([0, 0, 1], dtype=np.int32),
    )
    patch = np.array([0, 0, 1, 2, 3], dtype=np.int32)
    score = np.array([0.99, 0.7, 0.01, 0.4, 0.999])
    learned = np.array([True, False, True, True, True])
    # The only score left stands for its patch, its square, its grid and the session.
    np.testing.assert_allclose(unlearned_scores(score, learned, patch, tree), np.full(5, 0.7))
    np.testing.assert_array_equal(unlearned_scores(score, np.zeros(5, dtype=bool), patch, tree), score)
    np.testing.assert_array_equal(
        unlearned_scores(score, np.ones(5, dtype=bool), patch, tree), np.full(5, 0.5)
    )


def test_the_patch_comes_before_the_square_and_the_square_before_the_grid():
    tree = HoleTree(
        np.empty(0, dtype=np.int32),
        np.array([0, 0, 1, 2], dtype=np.int32),
        np.array([0, 0, 1], dtype=np.int32),
    )
    patch = np.array([0, 0, 1, 2, 2, 3], dtype=np.int32)
    score = np.array([0.9, 0.5, 0.2, 0.3, 0.3, 0.6])
    learned = np.array([False, True, True, True, False, False])
    found = unlearned_scores(score, learned, patch, tree)
    np.testing.assert_allclose(found, [0.9, 0.9, 0.9, 0.3, 0.3, 0.6])


@pytest.mark.parametrize(
    "kinds", slow_but([("effects",)], [("effects",), ("effects", "stage", "effects+stage")]), ids="-".join
)
def test_labels_that_the_scores_repeat_do_not_teach_that_scores_are_right(kinds):
    tables, arguments = simulated(0)
    score, labels = arguments[0].copy(), arguments[1]
    learned = ~np.isnan(labels) & (np.random.default_rng(0).random(len(labels)) < 0.8)
    score[learned] = np.where(labels[learned] == 1, 0.999, 0.001)
    held_out = np.isnan(labels)
    loss = {}
    dropped = np.where(learned, np.nan, labels)
    for name, told, given in (
        ("told", learned, labels),
        ("not told", None, labels),
        ("dropped", None, dropped),
    ):
        for kind in kinds:
            p = predict_given_labels(score, given, *arguments[2:], kind, told).p_good
            scores = score_probabilities(p[held_out], tables.good[held_out], np.random.default_rng(0))
            loss[kind, name] = scores.log_loss
    for kind in kinds:
        assert loss[kind, "told"] < loss[kind, "not told"] - 0.02, kind
        assert loss[kind, "told"] < loss[kind, "dropped"] - 0.005, kind
    others = ~np.isnan(labels) & ~learned
    platt = predict_given_labels(score, *arguments[1:], "platt", learned)
    assert platt.model == fit_calibration(score[others], labels[others], "platt")
