"""How fast the advisor is: from a result to the advice on the socket, opening, idle polling, commits, memory.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/live.py [--json] [--results 100]

A server listens on a free loopback port in a process of its own; results are posted at 5 a second to a session that
is all seen (simulated `y1-like` with 2,400 holes and `daily` with 100,000), planner `adaptive` for 480 minutes. p95 is
over the results after the first ten. Of `advice_p95_fallen_2400_ms` the first 60 results are good and all others are
not: a drift is looked for after every tenth. Of `others_result_p95_ms` each result is written into the store by this
process, and the server is not told. Idle polling is of the poller for network file systems, over 100,000
files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from cryoscout.live.running import LiveSession
from cryoscout.live.settings import LiveSettings
from cryoscout.live.watch import POLL_S, Poller
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.engine.runner import machine_in_words

RESULTS_PER_S = 5.0
WARM_UP = 10
GOOD_FIRST = 60
"""Results before all that follow are not good."""
EVENTS = 20_000
FILES, FOLDERS = 100_000, 400
TARGETS = {
    "advice_p95_2400_ms": 100.0,
    "advice_p95_fallen_2400_ms": 100.0,
    "advice_p95_100k_ms": 1000.0,
    "others_result_p95_ms": 1000.0,
    "open_100k_s": 2.0,
    "idle_poll_100k_cpu": 0.03,
    "event_commit_p95_ms": 20.0,
    "peak_mb": 1000.0,
}
"""What each figure should stay below."""


def stored(folder: Path, preset: str, holes: int) -> Path:
    """A stored simulated session of which nothing is imaged yet."""
    settings = simulation_named(preset).model_copy(update={"holes": holes})
    session = to_session(simulate_tables(settings, seed=0), "benchmark")
    place = folder / f"{preset}-{holes}.session"
    with SessionStore.create(place) as store:
        store.save_import(replace(session, exposures=session.exposures.iloc[:0]), source="benchmark")
    return place


def written(place: Path, hole_id: str, ctf_max_res_angstrom: float) -> int:
    """A result as another program writes it: into the store, behind the server's back. The number of its event."""
    with SessionStore.open(place) as store:
        store.record_outcome(store.record_imaged(hole_id), ctf_max_res_angstrom)
        return store.newest_event()


def advice_ms(
    place: Path, results: int, falls: bool = False, by_others: bool = False
) -> tuple[list[float], float]:
    """Milliseconds from each result to the first advice that includes it; peak memory of the server, MB.

    falls : the results after GOOD_FIRST are not good, and only these are timed
    by_others : results are not posted but written into the store
    """
    from websockets.sync.client import connect

    process = subprocess.Popen(
        [sys.executable, "-c", "from cryoscout.cli.main import run; run()", "serve", str(place), "--port", "0",
         "--committed", "0", "--hysteresis", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = process.stderr
    if said is None:
        raise RuntimeError("The server must say its address.")
    found = None
    for line in said:
        found = re.search(r"operator +(http://\S+)/\?token=(\S+)", line)
        if found:
            break
    if found is None:
        raise RuntimeError("The server must start. It ended instead.")
    base, headers = found[1], {"Authorization": f"Bearer {found[2]}"}
    rng = np.random.default_rng(0)
    milliseconds = []
    try:
        address = base.replace("http", "ws") + "/api/v1/socket"
        with (
            httpx.Client(headers=headers, trust_env=False, timeout=60) as client,
            connect(address, additional_headers=headers, proxy=None, max_size=None) as socket,
        ):
            message = json.loads(socket.recv(60))
            for number in range(results + (GOOD_FIRST if falls else 0)):
                hole = message["advice"]["next"]["hole"]
                ctf = (3.5 if number < GOOD_FIRST else 9.0) if falls else float(rng.choice([3.5, 9.0]))
                body = {"author": "bench", "hole_id": hole, "ctf_max_res_angstrom": ctf}
                began = time.perf_counter()
                if by_others:
                    revision = written(place, hole, ctf)
                else:
                    revision = client.post(f"{base}/api/v1/outcome", json=body).json()["revision"]
                while True:
                    got = json.loads(socket.recv(60))
                    if got["type"] == "advice":
                        message = got
                        if got["revision"] >= revision:
                            break
                took_s = time.perf_counter() - began
                milliseconds.append(1000.0 * took_s)
                time.sleep(max(0.0, 1.0 / RESULTS_PER_S - took_s))
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak_mb = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    finally:
        process.terminate()
        process.wait(60)
        said.close()
    return milliseconds[GOOD_FIRST if falls else WARM_UP :], peak_mb


def p95(values: list[float]) -> float:
    """95th percentile."""
    return float(np.percentile(values, 95))


def event_commit_ms(place: Path, events: int = 300) -> list[float]:
    """Milliseconds of one event each."""
    taken = []
    with SessionStore.open(place) as store:
        store.keep_open()
        holes = store.load().holes["hole_id"].tolist()
        for hole in holes[-events:]:
            began = time.perf_counter()
            store.record_imaged(hole)
            taken.append(1000.0 * (time.perf_counter() - began))
    return taken


def open_s(place: Path) -> float:
    """Seconds from the store on disk, with EVENTS events, to all that an advice needs; median of three."""
    with SessionStore.open(place) as store:
        store.keep_open()
        holes = store.load().holes["hole_id"].tolist()

        def imaged(number: int) -> dict[str, object]:
            hole = holes[number]
            return {"exposure_id": f"{hole}#1", "hole_id": hole, "shot": 1, "started_at": None}

        events = [("imaged", imaged(number)) for number in range(EVENTS // 2)]
        events += [
            (
                "measured",
                {"exposure_id": f"{holes[number]}#1", "outcome": "measured", "ctf_max_res_angstrom": 3.5},
            )
            for number in range(EVENTS // 2)
        ]
        store.append_many(events)
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        live = LiveSession(FollowedSession.open(place), LiveSettings(), "bench")
        taken.append(time.perf_counter() - began)
        live.followed.store.close()
    return statistics.median(taken[1:])


def idle_poll_cpu(folder: Path) -> float:
    """Share of a core of the poller over FILES files when nothing changes, whole scans left out of the count but
    spread: one in ten minutes is added."""
    for number in range(FOLDERS):
        (folder / f"d{number}").mkdir()
    for number in range(FILES):
        (folder / f"d{number % FOLDERS}" / f"{number}.xml").touch()
    poller = Poller((folder,))
    began = time.process_time()
    poller.take()
    scan_s = time.process_time() - began
    began, polls = time.process_time(), 20
    for _ in range(polls):
        poller.take()
    poll_s = (time.process_time() - began) / polls
    return poll_s / POLL_S + scan_s / 600.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--results", type=int, default=100)
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = stored(folder, "y1-like", 2_400)
        figures["event_commit_p95_ms"] = p95(event_commit_ms(stored(folder, "y1-like", 2_399)))
        took, _ = advice_ms(small, asked.results)
        figures["advice_p95_2400_ms"] = p95(took)
        took, _ = advice_ms(stored(folder, "y1-like", 2_398), asked.results, falls=True)
        figures["advice_p95_fallen_2400_ms"] = p95(took)
        took, _ = advice_ms(stored(folder, "y1-like", 2_397), asked.results, by_others=True)
        figures["others_result_p95_ms"] = p95(took)
        large = stored(folder, "daily", 100_000)
        took, peak_mb = advice_ms(large, asked.results)
        figures["advice_p95_100k_ms"], figures["peak_mb"] = p95(took), peak_mb
        figures["open_100k_s"] = open_s(large)
        (folder / "files").mkdir()
        figures["idle_poll_100k_cpu"] = idle_poll_cpu(folder / "files")
    if asked.json:
        load = os.getloadavg()[0]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            json.dumps({**figures, "load_before": load, "own_peak_mb": peak, "machine": machine_in_words()})
        )
        return
    for key, value in figures.items():
        print(f"{key:24} {value:10.3f}   (below {TARGETS[key]:g})")


if __name__ == "__main__":
    main()
