"""The study of what a running session is told: what its page says of rivals, and of drifts that are not told."""

from __future__ import annotations

import numpy as np
import pytest

from cryoscout.study.engine.catalogue import study_named
from cryoscout.study.engine.runner import TrialRow
from cryoscout.study.engine.tables import MISSING
from cryoscout.study.engine.versions import RESULT_VERSIONS, result_version
from cryoscout.study.routes import advice
from cryoscout.study.routes.advice import DRIFT_AT, DROPS, LIMITS, RESULTS, page, trials


def drift_row(ours, rival, without=None, rival_without=None):
    """One session: results after the drift at which each warns, None for never; without one the index."""
    row = {"results": RESULTS, "0": {"ours": without, "level": None, "rival": [rival_without] * len(LIMITS)}}
    for drop in DROPS:
        row[f"{drop:g}"] = {
            "ours": None if ours is None else DRIFT_AT + ours,
            "level": None if ours is None else "all at once",
            "rival": [None if rival is None else DRIFT_AT + rival] * len(LIMITS),
        }
    row["grid"] = {"results": 40, "told_after": 10, "levels": ["this square", "this grid"]}
    return row


def page_of_drift(rows):
    made = []
    for trial in trials("paper"):
        is_it = trial.name == "drift 1-10"
        made.append(TrialRow(trial, 1.0, {"rows": rows} if is_it else None, None))
    return page(made, "paper")


def line_of(shown, first):
    return next(line for line in shown.markdown.splitlines() if line.startswith(f"| {first} "))


def test_a_rival_that_warns_more_often_at_every_limit_is_no_rival():
    shown = page_of_drift([drift_row(30, 20, rival_without=50), drift_row(50, 20)])
    assert "50.0 % warn" not in line_of(shown, "none")
    assert MISSING in line_of(shown, "none")
    assert MISSING in line_of(shown, "20 points")
    first = next(row for row in shown.rows if row["part"] == "drift")
    assert (first["warned"], first["warned_rival"]) == (0.0, None)


def test_a_median_says_how_many_sessions_are_behind_it_and_how_many_are_not_told():
    rows = [drift_row(30, 20), drift_row(50, 20), drift_row(None, None), drift_row(10, 5, without=100)]
    rows[3]["20"] = rows[3]["0.2"]
    for drop in DROPS:
        rows[3][f"{drop:g}"]["ours"], rows[3][f"{drop:g}"]["level"] = 100, None
    line = line_of(page_of_drift(rows), "20 points")
    assert "after 50 results (3 sessions, 1 not told)" in line
    assert "after 20 results (4 sessions, 1 not told)" in line
    assert "2 of 2" in line
    text = page_of_drift([drift_row(None, 20)])
    assert "not told (1 sessions, 1 not told)" in line_of(text, "40 points")
    assert f"never told counts as {RESULTS - DRIFT_AT}" in text.markdown


def test_a_grid_that_gives_nothing_is_counted_by_what_is_named():
    shown = page_of_drift([drift_row(30, 20), drift_row(50, 20)])
    (row,) = (row for row in shown.rows if row["part"] == "bad grid")
    assert (row["sessions"], row["told"], row["after_median"]) == (2, 2, 10.0)
    assert (row["first"]["this square"], row["last"]["this grid"]) == (2, 2)


def test_the_results_of_the_advice_are_behind_the_study(monkeypatch):
    study = study_named("advice")
    before = result_version(study.packages, study.result_version)
    monkeypatch.setitem(RESULT_VERSIONS, "advice", RESULT_VERSIONS["advice"] + 1)
    assert result_version(study.packages, study.result_version) != before


@pytest.mark.slow
def test_a_total_loss_is_told_within_twenty_results_and_no_drift_is_told_before_it_began():
    for number in range(2):
        row = advice.drift_delays(number)
        assert row["results"] == RESULTS
        assert row["0"]["ours"] is None
        assert DRIFT_AT <= row["1"]["ours"] < DRIFT_AT + 20
        assert all(row[f"{drop:g}"]["ours"] is None or row[f"{drop:g}"]["ours"] >= DRIFT_AT for drop in DROPS)


@pytest.mark.slow
def test_the_interval_of_the_final_count_holds_as_often_as_it_says_and_its_middle_is_not_too_low(monkeypatch):
    monkeypatch.setattr(advice, "FIRST_SESSION_SEED", 6_000_000)
    found = [advice.stop_or_go(number) for number in range(120)]
    table = np.array([row["rows"] for row in found])
    low, high, final = table[:, :, 3], table[:, :, 4], table[:, :, 5]
    assert 0.75 <= ((low <= final) & (final <= high)).mean() <= 0.85
    # Of the plan alone a fifth of the counts lie above at a quarter of the time: an interval has a tenth there.
    assert (final > high)[:, 0].mean() <= 0.15
    ours, rival = ((table[:, :, column] - table[:, :, 2]) ** 2 for column in (0, 1))
    assert ours.mean() < rival.mean()
