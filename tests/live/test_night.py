"""A night of twelve simulated hours: memory grows by less than a tenth while results come, and everything is asked.

pytest -m slow tests/live/test_night.py -s
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from live_client import Client
from live_tokens import TOKENS

from cryoscout.live.server import ServedSessions, advisor_of
from cryoscout.live.serving import ServeRequest, guarded
from cryoscout.live.settings import LiveSettings
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

HOURS = 12
RESULTS = int(os.environ.get("CRYOSCOUT_NIGHT_RESULTS", "2160"))
"""One each 20 s of the night."""
WARM_UP = 0.1
ASKED = (
    "advice",
    "squares",
    "forecast",
    "time",
    "trust",
    "message",
    "health",
    "holes/columns",
    "actions",
    "session",
)
BEGAN = datetime(2026, 1, 30, 20, 0)


def resident_mb() -> float:
    """Memory of this process that is in use, MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_a_night_of_twelve_hours_takes_no_more_memory_at_its_end(tmp_path):
    settings = simulation_named("y1-like").model_copy(update={"holes": 2400})
    session = to_session(simulate_tables(settings, seed=1), "night")
    place = tmp_path / "night.session"
    with SessionStore.create(place) as store:
        store.save_import(replace(session, exposures=session.exposures.iloc[:0]), source="tests")
        store.append("overridden", {"kind": "budget", "budget_min": 60.0 * HOURS, "author": "AB"})
    served = ServedSessions({"night": advisor_of(place, "night", LiveSettings(clock_scale=0.0), "run")})
    served.start()
    client = Client(guarded(ServeRequest((str(place),), port=8321), served, TOKENS), TOKENS.operator)
    advisor, rng = served.advisor(None), np.random.default_rng(0)
    first_mb, used_mb, began = 0.0, [], time.monotonic()
    try:
        for number in range(RESULTS):
            hole = advisor.moment.content["next"]
            if hole is None:
                break
            at = BEGAN + timedelta(hours=HOURS) * (number / RESULTS)

            def record(store, name=hole["hole"], at=at):
                exposure = store.record_imaged(name, at)
                store.record_outcome(exposure, float(rng.choice([3.2, 4.4, 9.0])))
                return store.newest_event()

            advisor.wait_for(advisor.writing(record), 60.0)
            if number % 40 == 0:
                for what in ASKED:
                    client.get(what)
            if number % max(RESULTS // 20, 1) == 0:
                used_mb.append(resident_mb())
            if number == int(WARM_UP * RESULTS):
                first_mb = resident_mb()
        last_mb = resident_mb()
        per_s = RESULTS / (time.monotonic() - began)
        said = f"{RESULTS} results, {per_s:.1f} a second: {first_mb:.0f} MB, then {last_mb:.0f} MB; {used_mb}"
        print(f"\n{said}")  # noqa: T201  its figures
        assert advisor.moment.advice.now.results.sum() > 0.9 * RESULTS
        assert advisor.troubles == {}
        assert last_mb <= 1000.0
        assert last_mb < 1.1 * first_mb
    finally:
        served.close()
