"""The report's curve of predictions against the results known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.belief.in_session import predict_given_labels
from cryoscout.report.results_curve import (
    DRAWS,
    ResultsCurve,
    number_of_fits,
    results_curve,
    results_section,
)
from cryoscout.session.model import Session
from cryoscout.simulate.session import to_session
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables
from hidden_outcomes import with_outcomes_hidden

LATER = pd.Timestamp("2030-01-01")


@pytest.fixture(scope="module")
def session() -> Session:
    settings = SimulationSettings(holes=600, holes_per_patch=10)
    return to_session(simulate_tables(settings, 3), "s")


@pytest.fixture(scope="module")
def drawn(session: Session) -> tuple[ResultsCurve, int]:
    """The curve of the session, and how often its making told of a step."""
    seen: list[int] = []
    curve = results_curve(session, 6.0, progress=lambda: seen.append(1))
    assert curve is not None
    return curve, len(seen)


def test_with_no_result_told_it_judges_the_prediction_itself(
    session: Session, drawn: tuple[ResultsCurve, int]
) -> None:
    curve, steps = drawn
    assert curve.results.tolist() == [0, 25, 100, 400]
    assert curve.accuracy.shape == curve.precision.shape == (DRAWS, 4)
    assert steps == number_of_fits(session, 6.0) == DRAWS * 3
    assert 100 < curve.holes < 200
    p, good = session.prediction(curve.model_id, 6.0), session.good_by_majority(6.0)
    assert curve.accuracy[:, 0].mean() == pytest.approx(np.mean((p >= 0.5) == (good > 0)), abs=0.06)


def test_results_of_other_patches_help_a_prediction_that_knows_nothing(session: Session) -> None:
    blind = session.with_p_good("blind", 6.0, np.full(session.n_holes, 0.55), LATER)
    curve = results_curve(blind, 6.0)
    assert curve is not None
    assert curve.model_id == "blind"
    gained = curve.accuracy[:, -1] - curve.accuracy[:, 0]
    assert gained.mean() > 0.1


def test_holes_that_a_classifier_was_fitted_to_are_neither_told_nor_judged(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = np.zeros(session.n_holes, dtype=bool)
    fitted[::2] = True
    told: list[np.ndarray] = []

    def predict(p, labels, *given):
        told.append(~np.isnan(labels))
        assert given[-1] is fitted
        return predict_given_labels(p, labels, *given)

    monkeypatch.setattr("cryoscout.report.results_curve.predict_given_labels", predict)
    curve = results_curve(session, 6.0, fitted)
    assert curve is not None
    assert [int(each.sum()) for each in told] == [25, 100] * DRAWS
    assert not any((each & fitted).any() for each in told)
    assert curve.holes < 0.3 * 300
    assert number_of_fits(session, 6.0, np.arange(session.n_holes) >= 99) == 0


def test_every_draw_tells_as_many_as_the_axis_says_however_uneven_the_patches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three patches have nearly all results: where one or two are judged, few are left to tell."""
    session = to_session(simulate_tables(SimulationSettings(holes=800, holes_per_patch=80), 3), "uneven")
    patch_of_hole = session.tree().patch_of_hole
    patches = patch_of_hole.max() + 1
    first = np.concatenate([np.flatnonzero(patch_of_hole == patch)[:2] for patch in range(3, patches)])
    kept = np.concatenate([np.flatnonzero(patch_of_hole < 3)[::2], first])
    exposures = session.exposures.copy()
    gone = ~exposures["hole_id"].isin(session.holes["hole_id"].iloc[kept])
    exposures.loc[gone, "outcome"] = "none"
    exposures.loc[gone, "ctf_max_res_angstrom"] = np.nan
    exposures.loc[gone, "started_at"] = pd.NaT
    told: list[int] = []

    def predict(p, labels, *given):
        told.append(int((~np.isnan(labels)).sum()))
        return predict_given_labels(p, labels, *given)

    monkeypatch.setattr("cryoscout.report.results_curve.predict_given_labels", predict)
    curve = results_curve(replace(session, exposures=exposures), 6.0)
    assert curve is not None
    assert told == curve.results[1:].tolist() * DRAWS
    assert curve.results[-1] < 100 < len(kept)


def test_numbers_of_results_that_are_all_of_a_kind_are_not_told(session: Session) -> None:
    """With one hole in fifty good, twenty-five results of some draw hold none."""
    ctf = np.full(session.n_holes, 9.0)
    ctf[::50] = 3.0
    rows = session.exposures["hole_id"].map(dict(zip(session.holes["hole_id"], ctf, strict=True)))
    rare = replace(session, exposures=session.exposures.assign(ctf_max_res_angstrom=rows, outcome="measured"))
    curve = results_curve(rare, 6.0)
    assert curve is not None
    assert 25 not in curve.results
    assert curve.results[-1] == 400


def test_there_is_no_curve_without_results_predictions_or_both_kinds(session: Session) -> None:
    for none, threshold in ((with_outcomes_hidden(session), 6.0), (session, 4.0)):
        assert results_curve(none, threshold) is None
        assert number_of_fits(none, threshold) == 0
    every = session.with_p_good("none", 0.5, np.full(session.n_holes, 0.5), LATER)
    assert (every.good_by_majority(0.5) == 0.0).all()
    assert number_of_fits(every, 0.5) == 0


def test_the_section_shows_the_curve(drawn: tuple[ResultsCurve, int]) -> None:
    curve, _ = drawn
    section = results_section(curve)
    assert section.heading == "What results add to the predictions"
    assert section.svg is not None
    assert "results known" in section.svg
    assert f"Judged on {curve.holes:.0f} holes" in section.paragraphs[0]
