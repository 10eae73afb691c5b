"""How fast a stored session is loaded, and how fast a reader that follows it takes in one new result.

python benchmarks/advice_store.py [--json] [--holes 100000]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from cryoscout.session.following import FollowedSession
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.settings import SimulationSettings
from cryoscout.simulate.tables import simulate_tables

HOLES = 100_000
REPEATS = 20


def daily_session(holes: int = HOLES) -> Session:
    """The preset `daily` at this many holes, every second one imaged, so that there is something to record."""
    settings = SimulationSettings.model_validate({**simulation_named("daily").model_dump(), "holes": holes})
    session = to_session(simulate_tables(settings, 0), "daily")
    return replace(session, exposures=session.exposures.iloc[::2])


def fold_event_ms(holes: int = HOLES) -> float:
    """Median milliseconds to append one result to a stored session and to take it in, after one warm-up."""
    milliseconds = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "daily.session"
        with SessionStore.create(place) as store:
            store.save_import(daily_session(holes), source="benchmark")
        with SessionStore.open(place) as writer, FollowedSession.open(place) as followed:
            threshold_angstrom = followed.session.info.threshold_angstrom
            open_holes = followed.session.holes["hole_id"][~followed.imaged_by_hole()]
            followed.good_by_hole(threshold_angstrom)
            for hole_id in open_holes.iloc[: REPEATS + 1]:
                exposure_id = writer.record_imaged(hole_id)
                followed.catch_up()
                began = time.perf_counter()
                writer.record_outcome(exposure_id, 4.0)
                followed.catch_up()
                followed.good_by_hole(threshold_angstrom)
                followed.results_by_hole()
                followed.imaged_by_hole()
                milliseconds.append(1000 * (time.perf_counter() - began))
    return statistics.median(milliseconds[1:])


def fold_event_100k_ms() -> float:
    """`fold_event_ms` at 100,000 holes."""
    return fold_event_ms(HOLES)


def load_s(holes: int = HOLES) -> float:
    """Median seconds of three to open and load a stored session."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "daily.session"
        with SessionStore.create(place) as store:
            store.save_import(daily_session(holes), source="benchmark")
        for _ in range(3):
            began = time.perf_counter()
            with SessionStore.open(place) as store:
                store.load()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--holes", type=int, default=HOLES)
    arguments = parser.parse_args()
    figures = {
        "holes": arguments.holes,
        "fold_event_ms": fold_event_ms(arguments.holes),
        "load_s": load_s(arguments.holes),
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name}: {value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
