"""Predictions in a report: the same holes for every model, without those that a classifier has learned."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cryoscout.simulate.session import to_session
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.prediction_section import CROPS_PER_KIND, FEWEST_HOLES, prediction_sections


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
    learned = session.holes["hole_id"].iloc[:120].tolist()
    scores = prediction_sections(session, 6.0, trained_holes={"mine": learned})[0]
    assert "180 holes with a result" in scores.paragraphs[0]
    assert "120 holes that a classifier was fitted to are left out" in scores.paragraphs[0]


def test_with_few_results_or_another_threshold_nothing_is_said(session):
    learned = session.holes["hole_id"].iloc[: 300 - FEWEST_HOLES + 1].tolist()
    assert prediction_sections(session, 6.0, trained_holes={"mine": learned}) == []
    assert prediction_sections(session, 4.0) == []


def test_crops_stand_by_result_and_prediction_and_holes_without_image_are_passed_over(session):
    asked = []

    def crops(hole):
        asked.append(hole)
        return None if hole % 2 else np.full((8, 8), 90, dtype=np.uint8)

    sections = prediction_sections(session, 6.0, crops)
    assert [section.heading for section in sections][-1] == "What the holes look like"
    assert len([hole for hole in asked if hole % 2 == 0]) == 2 * CROPS_PER_KIND  # `sure` is never wrong
    assert sections[-1].svg.count("<image ") == 2 * CROPS_PER_KIND
    assert len(prediction_sections(session, 6.0, lambda hole: None)) == 2


def test_a_session_without_predictions_has_no_such_sections():
    tables = simulate_tables(SimulationSettings(holes=60, holes_per_patch=10), 0)
    session = to_session(tables, "bare")
    assert prediction_sections(replace(session, predictions=session.predictions.iloc[:0]), 6.0) == []
