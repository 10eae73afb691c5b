"""Predictions in a report: the same holes for every model, without those that a classifier has learned."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.perception.from_session import SessionCrops, SetAside
from cryoscout.report.prediction_section import CROPS_PER_KIND, FEWEST_HOLES, MOST_NAMED, prediction_sections
from cryoscout.simulate.session import to_session
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables


@pytest.fixture(scope="module")
def session():
    tables = simulate_tables(SimulationSettings(holes=300, holes_per_patch=10, classifier_accuracy=0.8), 0)
    session = to_session(tables, "seen")
    right = np.where(tables.good > 0, 0.9, 0.1)
    return session.with_p_good("sure", 6.0, right, pd.Timestamp("2020-01-01"))


def test_every_model_is_judged_on_the_holes_with_a_result(session):
    scores, reliability = prediction_sections(session, 6.0)
    rows = {row[0]: row for row in scores.table.rows}
    assert set(rows) == {"simulated", "sure"}
    assert rows["sure"][1:5] == ["100.0 %", "100.0 %", "100.0 %", "1.000"]
    assert "300 holes with a result" in scores.paragraphs[0]
    assert "name it with --classifier" in scores.paragraphs[0]
    assert all(len(row) == len(scores.table.header) for row in scores.table.rows)
    assert "<svg" in reliability.svg


def test_holes_that_a_classifier_learned_are_left_out_for_all(session):
    scores = prediction_sections(session, 6.0, fitted_to=np.arange(300) < 120)[0]
    assert "180 holes with a result" in scores.paragraphs[0]
    assert "120 holes that a classifier was fitted to are left out" in scores.paragraphs[0]


def test_with_few_results_or_another_threshold_nothing_is_said(session):
    learned = np.arange(300) < 300 - FEWEST_HOLES + 1
    assert prediction_sections(session, 6.0, fitted_to=learned) == []
    assert prediction_sections(session, 4.0) == []


def crops_of(session, holes, set_aside=()):
    images = np.full((len(holes), 8, 8), 90, dtype=np.uint8)
    return SessionCrops(
        session, np.array(holes, dtype=np.int64), images, np.zeros(len(holes), bool), set_aside, 0
    )


def test_crops_stand_by_result_and_prediction_and_holes_without_image_are_passed_over(session):
    sections = prediction_sections(session, 6.0, crops_of(session, range(0, 300, 2)))
    assert [section.heading for section in sections][-1] == "What the holes look like"
    assert sections[-1].svg.count("<image ") == 2 * CROPS_PER_KIND  # `sure` is never wrong
    few = prediction_sections(session, 6.0, crops_of(session, [0, 1, 2]))
    assert few[-1].svg.count("<image ") == 3
    assert len(prediction_sections(session, 6.0, crops_of(session, []))) == 2


def test_images_set_aside_are_listed_with_the_reason_also_where_nothing_is_judged(session):
    aside = tuple(SetAside(f"h{n}", "p1", "black") for n in range(MOST_NAMED + 5))
    listed = prediction_sections(session, 4.0, crops_of(session, [0], aside))
    assert [section.heading for section in listed] == ["Images set aside"]
    assert f"{MOST_NAMED + 5} holes" in listed[0].paragraphs[0]
    assert listed[0].table.rows[0] == ["h0", "p1", "black"]
    assert len(listed[0].table.rows) == MOST_NAMED


def test_a_session_without_predictions_has_no_such_sections():
    tables = simulate_tables(SimulationSettings(holes=60, holes_per_patch=10), 0)
    session = to_session(tables, "bare")
    assert prediction_sections(replace(session, predictions=session.predictions.iloc[:0]), 6.0) == []
