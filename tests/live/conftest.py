"""A small running session in a store, a server of it without a network, and a client that is no browser."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="the extra live is not installed")

from browser import chromium
from live_client import Client
from live_tokens import TOKENS

from cryoscout.live.server import ServedSessions, advisor_of
from cryoscout.live.serving import ServeRequest, guarded
from cryoscout.live.settings import LiveSettings
from cryoscout.session.store import SessionStore
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables

HOLES = 120


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="Playwright is not installed")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def simulated():
    settings = simulation_named("small").model_copy(update={"holes": HOLES})
    return to_session(simulate_tables(settings, seed=3), "run")


@pytest.fixture(scope="module")
def stored_once(tmp_path_factory, simulated):
    """A session of which nothing is imaged yet, to be copied."""
    folder = tmp_path_factory.mktemp("stored") / "run.session"
    with SessionStore.create(folder) as store:
        store.save_import(replace(simulated, exposures=simulated.exposures.iloc[:0]), source="tests")
    return folder


@pytest.fixture
def stored(tmp_path, stored_once):
    """A session of which nothing is imaged yet."""
    return shutil.copytree(stored_once, tmp_path / "run.session")


@pytest.fixture
def served(stored):
    sessions = ServedSessions({"run": advisor_of(stored, "run", LiveSettings(clock_scale=0.0), "test-run")})
    sessions.start()
    yield sessions
    sessions.close()


@pytest.fixture
def request_of_tests(stored):
    return ServeRequest(sessions=(str(stored),), port=8321)


@pytest.fixture
def client(served, request_of_tests):
    return Client(guarded(request_of_tests, served, TOKENS), TOKENS.operator)


@pytest.fixture
def viewer(client):
    return Client(client.app, TOKENS.viewer)
