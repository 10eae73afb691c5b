"""Field and effects given labels agree with one dense matrix and brute force, and are what they say at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from stage_references import covariance_of_logits, dense_laplace, exact_p_good, make_session

import cryoscout.belief.stage_process as stage_process
from cryoscout.belief.calibration import fit_calibration
from cryoscout.belief.context import fit_context
from cryoscout.belief.effects import EffectBelief, EffectVariances, marginal_probability
from cryoscout.belief.stage_field import inducing_positions
from cryoscout.belief.stage_process import (
    StagePriors,
    StageProcessModel,
    check_holes,
    fit_stage_process,
)
from cryoscout.core.errors import InputError, UnknownNameError
from examples import share

WEIGHTS = {"intercept": -0.3, "score": 0.8, "patch": 0.2, "square": -0.1, "grid": 0.1}
NO_EFFECTS = EffectVariances(patch=0.0, square=0.0, grid=0.0)


def make_model(effects=None, stage_variance=0.9, length_um=30.0, **new):
    effects = effects or EffectVariances(patch=0.7, square=0.4, grid=0.5)
    plain = {"log_evidence": 0.0, "holes": 0, "priors": StagePriors()}
    return StageProcessModel(
        **(WEIGHTS | plain | new), effects=effects, stage_variance=stage_variance, length_um=length_um
    )


models = st.builds(
    make_model,
    effects=st.builds(
        EffectVariances,
        patch=st.sampled_from([0.0, 0.7]),
        square=st.sampled_from([0.0, 0.4]),
        grid=st.sampled_from([0.0, 2.0]),
    ),
    stage_variance=st.sampled_from([0.0, 0.9, 4.0]),
    length_um=st.floats(5.0, 200.0),
)
sessions = st.builds(
    make_session,
    seed=st.integers(0, 10_000),
    holes_per_patch=st.integers(1, 5),
    unlabelled=st.sampled_from([0.0, 0.4, 0.9, 1.0]),
)


def without_some_positions(session, every=3):
    x_um = session.x_um.copy()
    x_um[::every] = np.nan
    return session.changed(x_um=x_um)


@given(sessions, models, st.booleans())
def test_predictions_are_those_of_one_dense_matrix(session, model, some_missing):
    session = without_some_positions(session) if some_missing else session
    location = model.location(session.score_p, session.patch_of_hole, session.tree)
    slow = dense_laplace(location, session.labels, covariance_of_logits(session, model))
    variance = slow.variance + model.stage_variance * np.isnan(session.x_um)
    np.testing.assert_allclose(
        model.p_good(*session.arguments), marginal_probability(location + slow.mean, variance), atol=1e-4
    )


@pytest.mark.parametrize("seed", range(4))
def test_predictions_are_close_to_brute_force_for_three_holes(seed):
    session = make_session(seed, patches_per_square=((1,),), holes_per_patch=3, unlabelled=0.0)
    session = session.changed(labels=np.array([1.0, 0.0, np.nan]))
    model = make_model()
    location = model.location(session.score_p, session.patch_of_hole, session.tree)
    exact, _ = exact_p_good(location, session.labels, covariance_of_logits(session, model))
    np.testing.assert_allclose(model.p_good(*session.arguments), exact, atol=0.04)


@pytest.fixture(scope="module")
def labelled():
    return make_session(3, patches_per_square=((2, 2), (2,), (1, 1)), holes_per_patch=12, unlabelled=0.3)


@pytest.fixture(scope="module")
def fitted(labelled):
    return fit_stage_process(*labelled.arguments)


def log_density(session, model):
    """The dense evidence and the log density of the priors in weights, log variances and log length."""
    location = model.location(session.score_p, session.patch_of_hole, session.tree)
    evidence = dense_laplace(location, session.labels, covariance_of_logits(session, model)).log_evidence
    p = model.priors
    log_prior = -0.5 * (model.intercept / p.intercept_sd) ** 2 - 0.5 * ((model.score - 1) / p.score_sd) ** 2
    log_prior -= 0.5 * (model.patch**2 + model.square**2 + model.grid**2) / p.context_sd**2
    for variance in (*model.effects.as_tuple()[:3], model.stage_variance):
        log_prior += 0.5 * np.log(variance) - 0.5 * variance / p.effect_sd**2
    log_prior -= 0.5 * (np.log(model.length_um / p.length_um) / p.length_log_sd) ** 2
    return evidence, evidence + log_prior


def test_the_evidence_is_that_of_one_dense_matrix(labelled, fitted):
    assert fitted.log_evidence == pytest.approx(log_density(labelled, fitted)[0], abs=1e-3)
    assert fitted.holes == np.count_nonzero(~np.isnan(labelled.labels))


def test_no_small_change_of_a_fitted_parameter_makes_labels_and_priors_likelier(labelled, fitted):
    best = log_density(labelled, fitted)[1]
    for change in (-0.1, 0.1):
        for name in WEIGHTS:
            moved = fitted.model_copy(update={name: getattr(fitted, name) + change})
            assert log_density(labelled, moved)[1] < best, name
        for name in ("patch", "square", "grid"):
            wider = getattr(fitted.effects, name) * np.exp(2 * change)
            moved = fitted.model_copy(update={"effects": fitted.effects.model_copy(update={name: wider})})
            assert log_density(labelled, moved)[1] < best, name
        for name in ("stage_variance", "length_um"):
            moved = fitted.model_copy(update={name: getattr(fitted, name) * np.exp(2 * change)})
            assert log_density(labelled, moved)[1] < best, name


def test_without_any_variance_the_fit_is_platt_scaling():
    session = make_session(5, holes_per_patch=150, unlabelled=0.2)
    flat = StagePriors(intercept_sd=1e4, score_sd=10.0, context_sd=1e-4)
    model = fit_stage_process(*session.arguments, terms=(), priors=flat)
    known = ~np.isnan(session.labels)
    platt = fit_calibration(session.score_p[known], session.labels[known], "platt")
    assert (model.score, model.intercept) == pytest.approx((platt.slope, platt.offset), abs=1e-3)
    np.testing.assert_allclose(model.p_good(*session.arguments), platt.apply(session.score_p), atol=1e-3)
    assert model.effects == NO_EFFECTS
    assert model.stage_variance == 0.0


@given(sessions)
def test_with_every_variance_zero_the_labels_change_nothing(session):
    model = make_model(NO_EFFECTS, 0.0)
    location = model.location(session.score_p, session.patch_of_hole, session.tree)
    np.testing.assert_allclose(model.p_good(*session.arguments), expit(location), atol=1e-12)


@settings(max_examples=share(12))
@given(st.integers(0, 1000), st.floats(-np.pi, np.pi), st.floats(-500.0, 500.0))
def test_order_origin_and_rotation_do_not_matter(seed, angle, shift_um):
    session = make_session(seed, holes_per_patch=6)
    order = np.random.default_rng(seed).permutation(len(session.labels))
    grid = session.tree.grid_of_square[session.tree.square_of_patch[session.patch_of_hole]]
    # Each grid has an origin of its own.
    x_um = np.cos(angle) * session.x_um - np.sin(angle) * session.y_um + shift_um * grid
    y_um = np.sin(angle) * session.x_um + np.cos(angle) * session.y_um - shift_um
    moved = session.changed(
        **{name: getattr(session, name)[order] for name in ("score_p", "labels", "patch_of_hole")},
        x_um=x_um[order],
        y_um=y_um[order],
    )
    model = fit_stage_process(*session.arguments)
    again = fit_stage_process(*moved.arguments)
    assert again.log_evidence == pytest.approx(model.log_evidence, abs=0.02)
    np.testing.assert_allclose(
        again.p_good(*moved.arguments), model.p_good(*session.arguments)[order], atol=0.005
    )
    np.testing.assert_allclose(
        model.p_good(*moved.arguments), model.p_good(*session.arguments)[order], atol=1e-5
    )


def test_a_good_hole_raises_its_neighbours_less_with_distance_and_never_those_of_other_grids():
    session = make_session(0, patches_per_square=((4,), (4,)), holes_per_patch=1)
    session = session.changed(
        score_p=np.full(8, 0.5),
        x_um=np.array([0.0, 5.0, 40.0, 400.0] * 2),
        y_um=np.zeros(8),
        labels=np.array([1.0] + [np.nan] * 7),
    )
    model = make_model(NO_EFFECTS, 2.0)
    p = model.p_good(*session.arguments)
    prior = model.p_good(*session.changed(labels=np.full(8, np.nan)).arguments)
    assert p[1] > p[2] > p[3] > prior[3] - 1e-12
    assert p[3] == pytest.approx(prior[3], abs=1e-4)
    np.testing.assert_allclose(p[4:], prior[4:], atol=1e-12)


def test_holes_at_equal_positions_are_one_place_of_the_field():
    session = make_session(2, holes_per_patch=8)
    stacked = session.changed(x_um=np.zeros_like(session.x_um), y_um=np.zeros_like(session.y_um))
    model = fit_stage_process(*stacked.arguments)
    p = model.p_good(*stacked.arguments)
    assert np.all((p > 0) & (p < 1))
    # Everything of a grid at one place: the field is a second effect of the grid.
    merged = make_model(EffectVariances(patch=0.7, square=0.4, grid=0.5 + 0.9), 0.0)
    np.testing.assert_allclose(
        make_model().p_good(*stacked.arguments), merged.p_good(*stacked.arguments), atol=1e-5
    )


def test_a_hole_without_a_position_has_the_prior_of_the_field_and_tells_nothing_of_it():
    session = make_session(4, holes_per_patch=6)
    missing = without_some_positions(session)
    model = make_model(NO_EFFECTS, 2.0)
    p, gone = model.p_good(*missing.arguments), np.isnan(missing.x_um)
    unlabelled = missing.changed(labels=np.full_like(missing.labels, np.nan))
    np.testing.assert_allclose(p[gone], model.p_good(*unlabelled.arguments)[gone], atol=1e-12)
    silent = missing.changed(labels=np.where(gone, np.nan, missing.labels))
    np.testing.assert_allclose(p, model.p_good(*silent.arguments), atol=1e-12)


def test_without_any_position_the_fit_is_that_of_the_effects():
    session = make_session(4, holes_per_patch=6)
    nowhere = session.changed(x_um=np.full_like(session.x_um, np.nan))
    assert fit_stage_process(*nowhere.arguments) == fit_stage_process(
        *session.arguments, terms=("patch", "square", "grid")
    )


@pytest.mark.parametrize("terms", [("stage",), ("patch", "square", "grid"), ("patch", "stage")])
def test_only_the_terms_asked_for_have_a_variance(terms):
    model = fit_stage_process(*make_session(6, holes_per_patch=6).arguments, terms=terms)
    found = dict(zip(("patch", "square", "grid"), model.effects.as_tuple()[:3], strict=True))
    found["stage"] = model.stage_variance
    assert {name for name, variance in found.items() if variance > 0} == set(terms)


def test_effects_alone_predict_nearly_what_expectation_propagation_does():
    session = make_session(
        8, patches_per_square=[[3, 3]] * 6, holes_per_patch=12, unlabelled=0.4, spread_um=200.0
    )
    model = fit_stage_process(*session.arguments, terms=("patch", "square", "grid"))
    where = (session.patch_of_hole, session.tree)
    context = fit_context(session.score_p, session.labels, *where, variances_off_zero=True)
    belief = EffectBelief(context.location(session.score_p, *where), *where, context.effects)
    known = np.flatnonzero(~np.isnan(session.labels))
    belief.observe_many(known, session.labels[known])
    off = model.p_good(*session.arguments) - belief.p_good()
    assert np.abs(off).mean() < 0.02
    assert np.abs(off).max() < 0.1


def test_a_smooth_field_is_found_and_its_length_about_right():
    rng = np.random.default_rng(0)
    session = make_session(0, patches_per_square=((10,),), holes_per_patch=40, unlabelled=0.0)
    n = len(session.labels)
    xy_um = rng.uniform(-150.0, 150.0, (n, 2))
    distance = np.linalg.norm(xy_um[:, None] - xy_um, axis=2)
    s = np.sqrt(3.0) * distance / 60.0
    field = np.linalg.cholesky(4.0 * (1.0 + s) * np.exp(-s) + 1e-8 * np.eye(n)) @ rng.normal(size=n)
    x = rng.normal(size=n)
    labels = (rng.random(n) < expit(x + field)).astype(float)
    session = session.changed(score_p=expit(x), labels=labels, x_um=xy_um[:, 0], y_um=xy_um[:, 1])
    model = fit_stage_process(*session.arguments)
    assert 1.0 < model.stage_variance < 6.0
    assert 30.0 < model.length_um < 120.0
    assert model.stage_variance > 3 * model.effects.patch


def test_fewer_inducing_positions_than_labels_predict_nearly_the_same(monkeypatch):
    session = make_session(9, patches_per_square=((6, 6),), holes_per_patch=12, spread_um=60.0)
    exact = fit_stage_process(*session.arguments)
    p = exact.p_good(*session.arguments)
    monkeypatch.setattr(stage_process, "MOST_INDUCING", 40)
    fewer = fit_stage_process(*session.arguments)
    assert np.abs(fewer.p_good(*session.arguments) - p).max() < 0.05


def test_the_length_stays_above_what_the_inducing_positions_resolve(monkeypatch):
    session = make_session(9, patches_per_square=((6, 6),), holes_per_patch=12, spread_um=60.0)
    short = StagePriors(length_um=6.0, length_log_sd=0.1)
    assert fit_stage_process(*session.arguments, priors=short).length_um < 8.0
    monkeypatch.setattr(stage_process, "MOST_INDUCING", 20)
    xy_um = np.stack([session.x_um, session.y_um], axis=1)[~np.isnan(session.labels)]
    nearest = np.linalg.norm(xy_um[:, None] - inducing_positions(xy_um, 20), axis=2).min(axis=1)
    fewer = fit_stage_process(*session.arguments, priors=short)
    assert fewer.length_um == pytest.approx(2.0 * nearest.max())
    assert fewer.length_um > 10.0


def test_holes_are_predicted_the_same_in_one_piece_and_in_many(monkeypatch, labelled, fitted):
    whole = fitted.p_good(*labelled.arguments)
    monkeypatch.setattr(stage_process, "HOLES_AT_ONCE", 7)
    np.testing.assert_allclose(fitted.p_good(*labelled.arguments), whole, atol=1e-12)


@settings(max_examples=share(30))
@given(st.integers(0, 1000), st.integers(2, 12), st.sampled_from(["separable", "by chance"]))
def test_a_handful_of_labels_is_enough_for_a_finite_prediction(seed, labels_given, kind):
    session = make_session(seed, holes_per_patch=6, unlabelled=0.0)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(session.labels), labels_given, replace=False)
    labels = np.full(len(session.labels), np.nan)
    labels[chosen] = session.score_p[chosen] > 0.5 if kind == "separable" else rng.random(labels_given) < 0.5
    labels[chosen[:2]] = (0.0, 1.0)
    session = session.changed(labels=labels)
    model = fit_stage_process(*session.arguments)
    p = model.p_good(*session.arguments)
    assert np.all((p > 0.0) & (p < 1.0))
    assert abs(model.score) < 4.0
    assert model.effects.total + model.stage_variance < 12.0


def test_the_same_labels_give_the_same_fit(labelled, fitted):
    assert fit_stage_process(*labelled.arguments) == fitted


def test_the_model_is_saved_and_read_without_loss(fitted, tmp_path):
    fitted.save(tmp_path / "stage.json")
    assert StageProcessModel.load(tmp_path / "stage.json") == fitted


@pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
def test_labels_of_one_class_are_refused(label):
    session = make_session(0)
    session = session.changed(labels=np.full_like(session.labels, label))
    with pytest.raises(
        InputError, match=r"labelled holes of both classes\. Got .* instead\. Remedy: label more"
    ):
        fit_stage_process(*session.arguments)


def test_an_unknown_term_is_refused():
    with pytest.raises(UnknownNameError, match=r"Got 'stages' instead\. Did you mean 'stage'"):
        fit_stage_process(*make_session(0).arguments, terms=("stages",))


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("labels", lambda s: s.labels[:-1], r"one entry per hole\. Got 20, 19, 20, 20, 20 instead"),
        ("labels", lambda s: s.labels + 0.5, r"must be 0, 1 or NaN\. Got [01]\.5 at hole \d+ instead"),
        ("x_um", lambda s: s.x_um + np.inf, r"must be finite, or NaN where missing\. Got \(inf, .* hole 0"),
        ("patch_of_hole", lambda s: s.patch_of_hole - 1, r"indices below 5\. Got -1 at hole 0 instead"),
        ("score_p", lambda s: s.score_p * np.nan, r"between 0 and 1\. Got nan instead"),
    ],
)
def test_wrong_input_is_refused(name, wrong, said):
    session = make_session(0)
    wrong_session = session.changed(**{name: wrong(session)})
    for use in (fit_stage_process, make_model().p_good):
        with pytest.raises(InputError, match=said):
            use(*wrong_session.arguments)
    check_holes(*session.arguments)
