"""kill -9 at random moments: nothing that was acknowledged is lost, nothing doubled, the advice goes on as it was.

CRYOSCOUT_KILLS=200 pytest -m slow tests/live/test_killed_server.py -s
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cryoscout.core.errors import StoreError
from cryoscout.live.lock import only_server
from cryoscout.live.running import LiveSession
from cryoscout.live.serving import ServeRequest, serving
from cryoscout.live.settings import LiveSettings
from cryoscout.session.following import FollowedSession
from cryoscout.session.store import SessionStore
from postgres_server import NoServerError, empty_schema, server_url

KILLS = int(os.environ.get("CRYOSCOUT_KILLS", "200"))
FEW_KILLS = 2
CHILD = Path(__file__).with_name("killed_child.py")


@pytest.fixture(scope="module")
def postgres():
    pytest.importorskip("psycopg")
    running = server_url()
    try:
        url = running.__enter__()
    except NoServerError as error:
        pytest.skip(f"no PostgreSQL is installed: {error}")
    yield url
    running.__exit__(None, None, None)


def life(place, holes, rng, longest_s):
    """Serve until it is killed; the results that were acknowledged."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    acknowledged = []
    assert child.stdout.readline().startswith("ready")
    timer = threading.Timer(rng.uniform(0.0, longest_s), child.send_signal, [signal.SIGKILL])
    timer.start()
    try:
        for hole in holes:
            angstrom = rng.choice([3.2, 4.4, 9.0])
            try:
                child.stdin.write(f"{hole} {angstrom}\n")
                child.stdin.flush()
            except BrokenPipeError:
                break
            if not child.stdout.readline().startswith("ok"):
                break
            acknowledged.append((hole, angstrom))
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    return acknowledged


def advice_of(place):
    """The advice of a server that starts now, and that of one that starts after it: they are the same."""
    found = []
    for _ in range(2):
        live = LiveSession(FollowedSession.open(place), LiveSettings(clock_scale=0.0), "again")
        found.append({**live.advise().content, "revision": 0})
        live.followed.store.close()
    assert found[0] == found[1]
    return found[0]


def killed_again_and_again(place, names, kills, longest_s=1.0):
    rng = random.Random(17)
    done = {}
    left = list(names)
    for number in range(kills):
        assert len(left) >= 5, f"{number} of {kills} kills: the session has too few holes"
        for hole, angstrom in life(place, left, rng, longest_s):
            done[hole] = angstrom
        with SessionStore.open(place) as store:
            session = store.load()
            events = list(store.events())
        stored = dict(
            zip(session.exposures["hole_id"], session.exposures["ctf_max_res_angstrom"], strict=True)
        )
        for hole, angstrom in done.items():
            assert stored[hole] == angstrom, f"kill {number}: an acknowledged result was lost"
        for kind in ("imaged", "measured"):
            times = Counter(event.payload["exposure_id"] for event in events if event.kind == kind)
            assert not [each for each, count in times.items() if count > 1], "an event was doubled"
        advice_of(place)
        left = [hole for hole in left if hole not in stored]
    return done


def test_a_few_kills_lose_nothing(stored, simulated):
    names = simulated.holes["hole_id"].tolist()
    assert killed_again_and_again(stored, names, FEW_KILLS)


def killed_many_times(place):
    """A session with holes enough for KILLS lives."""
    from cryoscout.simulate.presets import simulation_named
    from cryoscout.simulate.session import to_session
    from cryoscout.simulate.tables import simulate_tables

    settings = simulation_named("y1-like").model_copy(update={"holes": 30 * KILLS + 100})
    many = to_session(simulate_tables(settings, seed=1), "many")
    with SessionStore.create(place) as store:
        store.save_import(replace(many, exposures=many.exposures.iloc[:0]), source="tests")
    began = time.monotonic()
    done = killed_again_and_again(place, many.holes["hole_id"].tolist(), KILLS, 0.6)
    print(f"{KILLS} kills, {len(done)} acknowledged results, {time.monotonic() - began:.0f} s")  # noqa: T201


@pytest.mark.slow
def test_many_kills_lose_nothing(tmp_path):
    killed_many_times(tmp_path / "many.session")


@pytest.mark.slow
def test_many_kills_with_postgresql_lose_nothing(postgres):
    with empty_schema(postgres) as url:
        killed_many_times(url)


def test_with_postgresql_nothing_is_lost_either_and_one_server_holds_it(postgres, simulated):
    with empty_schema(postgres) as url:
        with SessionStore.create(url) as store:
            store.save_import(replace(simulated, exposures=simulated.exposures.iloc[:0]), source="tests")
        assert killed_again_and_again(url, simulated.holes["hole_id"].tolist(), 2)
        with (
            only_server(url, "http://127.0.0.1:1"),
            pytest.raises(StoreError, match=f"process {os.getpid()} on"),
            only_server(url, "http://127.0.0.1:2"),
        ):
            pass


HEAD = "grid,square,patch,hole,exposure,time,x um,y um\n"


def test_a_session_in_a_database_is_made_of_a_folder_and_follows_its_files(postgres, tmp_path):
    """What a facility does: the store is in its database, the files come from the microscope."""
    table = tmp_path / "holes.csv"
    table.write_text(HEAD + "".join(f"g,s,p,h{at},,,{at}.0,0.0\n" for at in range(6)))
    with empty_schema(postgres) as url:
        request = ServeRequest((), watch=(table,), database_url=url)
        with serving(request, lambda text: None) as served:
            [advisor] = served.advisors.values()
            assert advisor.moment.content["next"] is not None
            taken = "g,s,p,h0,e0,2026-01-30 20:00:00,0.0,0.0\n"
            rest = "".join(f"g,s,p,h{at},,,{at}.0,0.0\n" for at in range(1, 6))
            table.write_text(HEAD + taken + rest)
            deadline = time.monotonic() + 30.0
            while not advisor.moment.content["holes_imaged"] and time.monotonic() < deadline:
                time.sleep(0.05)
            assert advisor.moment.content["holes_imaged"] == 1
        # The next server finds the session there, and goes on.
        with serving(request, lambda text: None) as served:
            [advisor] = served.advisors.values()
            assert advisor.moment.content["holes_imaged"] == 1
