"""The night of a stored session: what happened when, where the time went, what was followed, what others find."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from cryoscout.advice.night import KINDS, collected, minutes_spent, night_of
from cryoscout.advice.setting import AdviceRequest, setting_of
from cryoscout.report.night_section import night_section, other_orders
from cryoscout.report.session_report import ReportRequest, session_page
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.replay import only_measured
from cryoscout.session.model import SessionInfo, session_from_holes
from cryoscout.session.store import SessionStore
from cryoscout.session.tables import empty_table

BEGAN = datetime(2026, 1, 30, 20, 0)
MINUTES = [0, 2, 4, 6, 8, 20, 22, 24, 40, 42, 44, 46]


@pytest.fixture(scope="module")
def place_once(tmp_path_factory):
    """24 holes in 2 squares of 3 patches; 12 imaged, one pause entered, one hole banned, an advice followed twice."""
    ids = [f"h{at:02d}" for at in range(24)]
    holes = pd.DataFrame(
        {
            "hole_id": ids,
            "patch_id": [f"p{at // 4}" for at in range(24)],
            "square_id": [f"s{at // 12}" for at in range(24)],
            "grid_id": "g",
            "x_px": np.nan,
            "y_px": np.nan,
        }
    )
    info = SessionInfo(format="generic", default_time_model="cryorl")
    session = session_from_holes("night", info, holes, empty_table("exposures"))
    folder = tmp_path_factory.mktemp("night") / "night.session"
    with SessionStore.create(folder) as store:
        store.save_import(session, source="tests")
        store.append("planned", {"by": "serve", "route": ["h00", "h01", "h05"], "holes": []})
        for at, minutes in enumerate(MINUTES):
            if at == 5:
                store.append(
                    "noted", {"author": "AB", "kind": "nitrogen", "minutes": 9, "text": "refill <b>"}
                )
                store.append("overridden", {"author": "AB", "kind": "ban", "hole_id": "h20"})
            exposure = store.record_imaged(ids[at], BEGAN + timedelta(minutes=minutes))
            store.record_outcome(exposure, 3.0 if at % 3 else 9.0)
    return folder


@pytest.fixture
def place(place_once, tmp_path):
    """A copy, so that a test may record more."""
    return shutil.copytree(place_once, tmp_path / "night.session")


def test_the_night_says_what_happened_when_and_what_was_followed(place):
    with SessionStore.open(place) as store:
        session, night = store.load(), night_of(store.events())
    assert [(each.what, each.author, each.microscope_at) for each in night.said] == [
        ("nitrogen: refill <b>", "AB", BEGAN + timedelta(minutes=8)),
        ("ban hole_id h20", "AB", BEGAN + timedelta(minutes=8)),
    ]
    assert (night.followed, night.advised) == (3, 6)  # of the plan that stood until it was used up
    problem = setting_of(session, AdviceRequest(480.0, as_new=True)).problem
    spent = minutes_spent(session, problem, session.holes["hole_id"].tolist(), night.notes)["minutes"]
    assert sum(spent.values()) == pytest.approx(46.0)
    assert spent["pause"] == 9.0
    later = [{**each, "microscope_at": BEGAN + timedelta(minutes=24)} for each in night.notes]
    spent = minutes_spent(session, problem, session.holes["hole_id"].tolist(), later)
    gaps = [(each["from"][11:16], each["pause"]) for each in spent["intervals"] if each["pause"]]
    assert [at for at, _ in gaps] == ["20:24"]  # not the gap before it was entered
    times, good = collected(session, 6.0)
    assert (len(times), good[-1]) == (12, 8.0)
    section = night_section(session, night, problem, 6.0, None)
    assert "3 of the 6 exposures" in section.paragraphs[1]
    assert "4 exposures that were not good" in section.paragraphs[0]
    assert len(section.table.rows) == 2
    assert "<script" not in section.svg


def test_other_orders_are_of_imaged_holes_and_below_the_bound(place):
    with SessionStore.open(place) as store:
        session = store.load()
    truth = truth_from_session(session)
    setting = setting_of(session, AdviceRequest(480.0, as_new=True, policy="greedy"))
    problem = only_measured(setting.problem, truth)
    others = other_orders(problem, truth, session.recorded_order(), {"greedy": setting.policy}, 0)
    assert others.found["as recorded"][-1] == truth.good.sum()
    for at, minutes in enumerate(others.minutes):
        most = truth.good[0] + good_holes_bound(problem.with_budget(minutes), truth, 0)
        assert others.found["exact bound"][at] == most
        assert max(others.found["as recorded"][at], others.found["greedy"][at]) <= most


def test_a_session_without_times_has_no_such_section(place):
    with SessionStore.open(place) as store:
        session, night = store.load(), night_of(store.events())
    without = replace(session, exposures=session.exposures.assign(started_at=pd.NaT))
    problem = setting_of(session, AdviceRequest(480.0, as_new=True)).problem
    assert night_section(without, night, problem, 6.0, None) is None


def test_times_that_were_filled_in_later_are_those_of_exposures_that_were_counted_before(place):
    with SessionStore.open(place) as store:
        session, before = store.load(), night_of(store.events())
    times = session.exposures.assign(stage_x_um=1.0, stage_y_um=2.0)
    folder = place.with_name("filled.session")
    without = replace(
        session, exposures=session.exposures.assign(started_at=pd.NaT), provenance=empty_table("provenance")
    )
    with SessionStore.create(folder) as store:
        store.append("planned", {"by": "serve", "route": ["h00", "h01", "h05"], "holes": []})
        store.save_import(without, source="tests")
        store.save_update(lambda stored: replace(stored, exposures=times), source="more")
        store.append("noted", {"author": "AB", "kind": "nitrogen", "minutes": 9})
        night = night_of(store.events())
    assert night.said[0].microscope_at == BEGAN + timedelta(minutes=MINUTES[-1])
    assert (night.followed, night.advised) == (before.followed, before.advised)


def test_bad_exposures_cost_the_minutes_that_were_spent_on_them(place):
    """Of a session of which few exposures have a time, only these can have cost any of its minutes."""
    with SessionStore.open(place) as store:
        for at in range(12, 24):
            store.record_outcome(store.record_imaged(f"h{at:02d}", None), 9.0)
        session, night = store.load(), night_of(store.events())
    problem = setting_of(session, AdviceRequest(480.0, as_new=True)).problem
    spent = minutes_spent(session, problem, session.holes["hole_id"].tolist(), night.notes)
    timed_bad = [each["imaging"] for at, each in enumerate(spent["intervals"]) if at % 3 == 0]
    words = night_section(session, night, problem, 6.0, None).paragraphs[0]
    assert f"{sum(timed_bad):.0f} min to 4 exposures that were not good" in words
    assert words.startswith("Of 46 min")


def test_a_long_night_is_drawn_in_few_pieces(place):
    """20,000 exposures are a picture of a few collections, not of 20,000 pieces."""
    with SessionStore.open(place) as store:
        session, night = store.load(), night_of(store.events())
    problem = setting_of(session, AdviceRequest(480.0, as_new=True)).problem
    svg = str(night_section(session, night, problem, 6.0, None).svg)
    assert 0 < svg.count("PolyCollection") + svg.count("FillBetweenPolyCollection") <= len(KINDS)


def test_the_night_of_a_report_shows_what_is_done(place):
    with SessionStore.open(place) as store:
        session, night = store.load(), night_of(store.events())
    shown = []

    @contextmanager
    def progress(what, steps):
        shown.append((what, steps))
        yield lambda: shown.append("step")

    session_page(session, ReportRequest(60.0, ("random",), 1, 0), None, progress=progress, night=night)
    at = shown.index(("drawing the night", 2))
    assert shown[at + 1] == "step"


@pytest.mark.parametrize(
    ("kind", "payload", "passed_over"),
    [
        ("noted", {"kind": "focus", "minutes": "ten"}, 0),
        pytest.param("noted", {"kind": "focus", "minutes": True}, 0, marks=pytest.mark.slow),
        pytest.param("noted", {"kind": "focus", "minutes": -5}, 0, marks=pytest.mark.slow),
        ("noted", {"kind": "focus", "minutes": [1]}, 0),
        ("planned", {"by": "serve", "holes": [1]}, 1),
        pytest.param("planned", {"by": "serve", "route": 5}, 1, marks=pytest.mark.slow),
    ],
)
def test_what_a_program_wrote_that_nobody_understands_ends_no_report(place, kind, payload, passed_over):
    with SessionStore.open(place) as store:
        store.append(kind, payload)
        session, night = store.load(), night_of(store.events())
    assert night.passed_over == passed_over
    problem = setting_of(session, AdviceRequest(480.0, as_new=True)).problem
    section = night_section(session, night, problem, 6.0, None)
    assert any("9 min to pauses" in each and "focus" not in each for each in section.paragraphs)
    assert any("not understood, and are left out: 1." in each for each in section.paragraphs) == passed_over
