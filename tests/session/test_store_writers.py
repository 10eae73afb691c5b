"""Several programs write to one store at once: each waits for the others, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from store_examples import small_session

from cryoscout.core.errors import StoreError
from cryoscout.session import store_database
from cryoscout.session.store import SessionStore

WRITER = """
import sys
from cryoscout.session.store import SessionStore
with SessionStore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(sys.argv[3])):
        store.append("error", {"writer": sys.argv[2], "number": number})
        store.record_imaged("h3", shot=1 + number % 2)
        store.record_outcome(f"h3#{1 + number % 2}", 3.0)
"""


def write_at_once(location, n_writers=2, n_events=15):
    """Let that many processes write to a store at the same time."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(location), str(writer), str(n_events)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for writer in range(n_writers)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0


def assert_all_was_written(store, n_writers=2, n_events=15):
    events = list(store.events())
    said = [(event.payload["writer"], event.payload["number"]) for event in events if event.kind == "error"]
    assert sorted(said) == sorted((str(w), n) for w in range(n_writers) for n in range(n_events))
    for writer in range(n_writers):  # in the order in which each wrote
        assert [number for who, number in said if who == str(writer)] == list(range(n_events))
    recorded = [event.kind for event in events if event.kind in ("imaged", "measured")]
    assert sorted(recorded) == ["imaged"] * 2 + ["measured"] * 2
    assert store.load().good_by_hole(6.0)[2] == 2


@pytest.fixture
def store(tmp_path):
    with SessionStore.create(tmp_path / "small.session") as store:
        store.save_import(small_session(), "by hand")
        yield store


def test_two_processes_write_at_once_and_both_succeed(store, tmp_path, monkeypatch):
    write_at_once(tmp_path / "small.session")
    assert_all_was_written(store)


def test_a_writer_goes_on_when_the_other_ends(store, monkeypatch):
    # The database's own wait is shorter than the other takes: only a new try can succeed.
    monkeypatch.setattr(store_database, "_LOCK_WAIT_S", 0.01)
    holding, ended = threading.Event(), []

    def hold():
        with store._engine.execution_options(writes=True).begin():
            holding.set()
            time.sleep(0.3)
            ended.append(True)

    other = threading.Thread(target=hold)
    other.start()
    holding.wait()
    store.append("error", {"message": "lost beam"})
    assert ended
    other.join()
    assert len(list(store.events(kind="error"))) == 1


class RefusedError(Exception):
    """What the driver of PostgreSQL raises, as far as the store looks at it."""

    def __init__(self, sqlstate):
        super().__init__(f"refused with {sqlstate}")
        self.sqlstate = sqlstate


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_a_refusal_that_passes_is_tried_again_and_any_other_is_not(store, sqlstate):
    refusals = [sa.exc.OperationalError("", {}, RefusedError(sqlstate)) for _ in range(3)]

    def work(connection):
        if refusals:
            raise refusals.pop()
        return connection.execute(sa.text("SELECT 7")).scalar_one()

    assert store_database.write(store._engine, "x.session", work) == 7
    refusals.append(sa.exc.OperationalError("", {}, RefusedError("53100")))
    with pytest.raises(StoreError, match="refused with 53100 instead; nothing was written"):
        store_database.write(store._engine, "x.session", work)


def test_the_wait_for_others_has_an_end(store, monkeypatch):
    monkeypatch.setattr(store_database, "WAIT_FOR_OTHERS_S", 0.1)
    tries = []

    def work(_connection):
        tries.append(True)
        raise sa.exc.OperationalError("", {}, RefusedError("40P01"))

    with pytest.raises(StoreError, match=r"must be free for writing\. Got refused with 40P01"):
        store_database.write(store._engine, "x.session", work)
    assert 1 < len(tries) < 20
