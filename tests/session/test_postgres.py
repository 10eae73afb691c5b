"""A session in a real PostgreSQL database: the same as in a folder, for every way of writing and for every command."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from store_examples import NAN, assert_same, full_session, small_session
from test_store_writers import assert_all_was_written, write_at_once

from cryoscout.cli.main import main
from cryoscout.core.errors import InputError, StoreError
from cryoscout.session import store_database
from cryoscout.session.following import FollowedSession
from cryoscout.session.overrides import Overrides
from cryoscout.session.replacing import database_is_filled
from cryoscout.session.store import SessionStore
from cryoscout.session.store_layout import pack_payload
from postgres_server import PASSWORD, NoServerError, empty_schema, server_url


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg")
    running = server_url()
    try:
        url = running.__enter__()
    except NoServerError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    yield url
    running.__exit__(None, None, None)


@pytest.fixture
def url(server):
    with empty_schema(server) as url:
        yield url


@pytest.fixture
def store(url):
    with SessionStore.create(url) as store:
        store.save_import(full_session(), "by hand", files={"/data/run": {"a.xml": (1, 2**62)}})
        yield store


def execute(url, *statements):
    with store_database.engine_of(url).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def p_good_rows(p_good, at):
    rows = {"model_id": "m", "threshold_angstrom": 6.0, "p_good": p_good, "predicted_at": pd.Timestamp(at)}
    return pd.DataFrame({"hole_id": ["h1", "h2", "h3"], "ctf_predicted_angstrom": NAN, **rows})


def test_a_session_comes_back_as_it_was_saved(store, url):
    for _ in range(2):
        assert_same(store.load(), full_session())
        assert store.files() == {"/data/run": {"a.xml": (1, 2**62)}}
        store.rebuild()
    with SessionStore.open(url) as again:
        assert_same(again.load(), full_session())
    assert store.images("p/1") is None


def test_everything_that_is_recorded_is_followed_and_rebuilt(store, url):
    def later(stored):
        new = {
            "hole_id": "h4",
            "patch_id": "p/1",
            "x_px": NAN,
            "y_px": NAN,
            "image_row": pd.NA,
            "chosen": True,
        }
        holes = pd.concat(
            [stored.holes, pd.DataFrame([new]).astype({"chosen": "boolean"})], ignore_index=True
        )
        ids = stored.exposures["exposure_id"].replace({"h3#2": "v3"})
        return replace(stored, holes=holes, exposures=stored.exposures.assign(exposure_id=ids.astype("str")))

    with FollowedSession.open(url) as followed:
        for step in (
            lambda: store.record_imaged("h3", pd.Timestamp("2024-01-01 11:00:00.000000007"), shot=2),
            lambda: store.record_outcome("h3#2", 4.5),
            lambda: store.record_outcome("e1", float("inf")),
            lambda: store.add_predictions(p_good_rows([0.1, 0.2, 0.3], "2024-01-02")),
            lambda: store.add_predictions(p_good_rows([0.4, 0.5, 0.6], "2024-01-01")),
            lambda: store.append("overridden", {"kind": "ban", "hole_id": "h2"}),
            lambda: store.save_update(
                later, "later", files={"/data/run": {"a.xml": (3, 4), "b.xml": (5, 6)}}
            ),
            lambda: store.record_outcome("h3#2", 4.5),
        ):
            step()
            followed.catch_up()
            assert_same(followed.session, store.load())
            assert followed.overrides == store.load().overrides
        assert followed.overrides.holes == {"h2": "ban"}
    session = store.load()
    assert session.predictions["p_good"].tolist() == [0.1, 0.2, 0.3]
    assert len(list(store.events(kind="measured"))) == 2
    assert session.exposures["exposure_id"].tolist() == ["e1", "e2", "v3"]
    assert session.ctf_runs["taken"].tolist() == [False, False, False]
    store.rebuild()
    assert_same(store.load(), session)
    assert store.files() == {"/data/run": {"a.xml": (3, 4), "b.xml": (5, 6)}}


def test_events_can_be_added_but_never_changed(store, url):
    store.append("error", {"message": "lost beam ü"})
    for statement in ("UPDATE events SET kind = 'error'", "DELETE FROM events"):
        with pytest.raises(sa.exc.DatabaseError, match="append-only"):
            execute(url, statement)
    (event,) = store.events(kind="error")
    assert event.payload == {"message": "lost beam ü"}


def test_a_store_of_schema_3_is_migrated(store, url):
    store.add_predictions(p_good_rows([0.4, 0.5, 0.6], "2024-01-02"))
    store.append("error", {"message": "so that an id is there"})
    expected = store.load()
    free = pack_payload({"hole": "h2"}).hex()
    execute(
        url,
        "DROP INDEX newest_prediction",
        "DROP INDEX shot_of_hole",
        "CREATE INDEX exposures_of_hole ON exposures (hole_id)",
        "ALTER TABLE schema_version DROP COLUMN after_event",
        "UPDATE schema_version SET version = 3",
        "INSERT INTO predictions (hole_id, model_id, threshold_angstrom, p_good) SELECT hole_id, model_id, 6, 0.9 "
        "FROM predictions",
        "INSERT INTO events (kind, at, payload) VALUES ('overridden', '2024', decode('" + free + "', 'hex'))",  # noqa: S608
    )
    with SessionStore.open(url) as migrated:
        assert_same(migrated.load(), expected)
        assert migrated.load().overrides == Overrides()
        migrated.append("overridden", {"kind": "pin", "hole_id": "h3"})
        assert migrated.load().overrides.holes == {"h3": "pin"}


def test_two_processes_write_at_once_and_both_succeed(url):
    with SessionStore.create(url) as store:
        store.save_import(small_session(), "by hand")
        write_at_once(url, n_events=8)
        assert_all_was_written(store, n_events=8)


def test_a_writer_tries_again_while_another_holds_the_lock(store, url, monkeypatch):
    monkeypatch.setattr(store_database, "_LOCK_WAIT_S", 0.02)
    tries = []

    def work(connection):
        tries.append(True)
        return connection.exec_driver_sql("SELECT 7").scalar_one()

    holder = store_database.engine_of(url).connect()
    store_database._wait_for_writers(holder)
    monkeypatch.setattr(store_database.time, "sleep", lambda _seconds: holder.close() if not tries else None)
    assert store_database.write(store._engine, url, work) == 7
    assert tries == [True]


def test_a_reader_sees_one_state_while_another_program_writes(store, url):
    with store_database.reading(store._engine, url) as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
        with SessionStore.open(url) as other:
            other.append("error", {"message": "lost beam"})
        assert connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one() == before


def test_a_failed_import_leaves_the_database_empty_and_a_replacement_is_whole(url):
    with SessionStore.create(url) as store:
        with pytest.raises(StoreError, match="still empty"):
            store.load()
        with pytest.raises(InputError, match="must be plain JSON"):
            store.save_import(small_session(), "by hand", files={"/x": {"a": (NAN, 1)}})
        assert not database_is_filled(url)
        store.save_import(small_session(), "by hand")
    with pytest.raises(StoreError, match=r"must start in an empty database.*--update"):
        SessionStore.create(url)
    with SessionStore.create(url, force=True) as other:
        other.save_import(full_session(), "anew")
        assert_same(other.load(), full_session())
    with SessionStore.open(url) as again:
        assert {event.payload.get("source") for event in again.events() if event.id == 1} == {"anew"}
        again.append("error", {})
        with pytest.raises(sa.exc.DatabaseError, match="append-only"):
            execute(url, "DELETE FROM events")


def test_tables_of_something_else_are_never_dropped(url):
    execute(url, "CREATE TABLE thesis (page int)")
    with pytest.raises(StoreError, match=r"Only a session store may be replaced.*tables of something else"):
        SessionStore.create(url, force=True)
    with pytest.raises(StoreError, match=r"must hold a schema version"):
        SessionStore.open(url)
    execute(url, "SELECT page FROM thesis")


def test_a_server_that_does_not_answer_or_refuses_is_said_without_the_password(server):
    port = server.rsplit(":", 1)[1].split("/")[0]
    for wrong in (server.replace(f":{port}/", ":1/"), server.replace("scout:", "nobody:")):
        with pytest.raises(
            StoreError, match=r"must answer\. Got .*Remedy: check that the server runs"
        ) as refusal:
            SessionStore.open(wrong)
        assert PASSWORD not in str(refusal.value)


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys):
    """The command line in this process; whatever it says, it says no password."""

    def run(*arguments):
        code = main(arguments)
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err
        return Answer(code, said.out, said.err)

    return run


def test_commands_take_a_database(run, url, tmp_path):
    made = run("simulate", "--preset", "small", "--holes", "100", "--database-url", url, "--json")
    assert made.returncode == 0, made.stderr
    again = run("simulate", "--preset", "small", "--database-url", url)
    assert again.returncode == 2
    assert "must start in an empty database" in again.stderr
    planned = run("plan", "--database-url", url, "--budget-min", "30", "--as-new", "--json")
    assert planned.returncode == 0, planned.stderr
    with SessionStore.open(url) as store:
        (event,) = store.events(kind="planned")
        assert event.payload["holes"] == json.loads(planned.stdout)["holes"]
    by_place = run("plan", url, "--budget-min", "30", "--as-new", "--json")
    assert json.loads(by_place.stdout) == json.loads(planned.stdout)
    exported = run(
        "plan", "--database-url", url, "--budget-min", "30", "--as-new", "--export", "csv",
        "-o", str(tmp_path / "list.csv"),
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "list.csv").stat().st_size > 0
    replayed = run("replay", "--database-url", url, "--budget-min", "30", "--starts", "1", "--json")
    assert replayed.returncode == 0, replayed.stderr
    page = tmp_path / "report.html"
    reported = run(
        "report", "--database-url", url, "-o", str(page), "--budget-min", "30", "--starts", "1",
        "--policies", "random",
    )  # fmt: skip
    assert reported.returncode == 0, reported.stderr
    assert PASSWORD not in page.read_text()
    refused = run("predict", url, str(tmp_path))
    assert refused.returncode == 2
    assert "a database holds none" in refused.stderr
    neither = run("plan", "--budget-min", "30")
    assert (
        neither.stderr == "The session must be named by SESSION or by --database-url. Got neither instead.\n"
    )


def test_files_are_imported_into_a_database_and_added_to_it(run, url, tmp_path):
    table = tmp_path / "mine.csv"
    rows = pd.DataFrame({"hole": ["a", "b"], "square": ["s", "s"], "x_um": [1.0, 2.0], "y_um": [0.0, 0.0]})
    rows.to_csv(table, index=False)
    first = run("import", str(table), "--database-url", url, "--json")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["folder"] == store_database.location_in_words(url)
    again = run("import", str(table), "--database-url", url)
    assert again.returncode == 2
    assert "with --update" in again.stderr
    pd.concat([rows, rows.assign(hole=["c", "d"], x_um=[3.0, 4.0])]).to_csv(table, index=False)
    added = run("import", str(table), "--database-url", url, "--update", "--json")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["added"]["holes"] == 2
    with SessionStore.open(url) as store:
        assert sorted(store.load().holes["hole_id"]) == ["a", "b", "c", "d"]
        np.testing.assert_array_equal(np.sort(store.load().holes["x_um"]), [1.0, 2.0, 3.0, 4.0])
    both = run("import", str(table), "--database-url", url, "-o", "x.session")
    assert both.returncode == 2
    assert "A session must go to one place" in both.stderr
