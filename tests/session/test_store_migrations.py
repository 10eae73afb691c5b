import sqlite3
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest
from store_examples import NAN, assert_same, dump, full_session, small_session

from cryoscout.session.overrides import Overrides
from cryoscout.session.place import DATABASE
from cryoscout.session.store import SessionStore
from cryoscout.session.store_layout import pack_payload, unpack_payload
from cryoscout.session.store_schema import NEW_COLUMNS, NEW_TABLES, SCHEMA_VERSION
from cryoscout.session.tables import TABLES

STAGE = [(table, column) for table, columns in NEW_COLUMNS[2].items() for column in columns]
GUARDS = {
    verb: f"CREATE TRIGGER events_no_{verb} BEFORE {verb.upper()} ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
    for verb in ("update", "delete")
}


def without_schema(path, version):
    """Take out of a store what a schema brought: its columns and tables, in the database and in the events."""
    with closing(sqlite3.connect(path / DATABASE)) as database:
        for verb in GUARDS:
            database.execute(f"DROP TRIGGER events_no_{verb}")
        for number, payload in database.execute("SELECT id, payload FROM events").fetchall():
            plain = unpack_payload(payload)
            if plain.get("table") in NEW_TABLES.get(version, ()):
                database.execute("DELETE FROM events WHERE id = ?", (number,))
                continue
            for column in NEW_COLUMNS[version].get(plain.get("table"), ()):
                plain["columns"].pop(column, None)
            database.execute("UPDATE events SET payload = ? WHERE id = ?", (pack_payload(plain), number))
        for guard in GUARDS.values():
            database.execute(guard)
        for table, columns in NEW_COLUMNS[version].items():
            for column in columns:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in (*NEW_TABLES.get(version, ()), *(["files"] if version == 2 else [])):
            database.execute(f"DROP TABLE {table}")
        database.execute("UPDATE schema_version SET version = ?", (version - 1,))
        database.commit()


def make_schema_5(store, path):
    """A store as schema 5 had it: without what is known of places before their holes."""
    session = store.load()
    store.close()
    without_schema(path, 6)
    return session


def make_schema_3(store, path):
    """A store as schema 3 had it: every row of predictions, any overrides, shots that were not unique."""
    session = make_schema_5(store, path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        database.execute("DROP INDEX newest_prediction")
        database.execute("DROP INDEX shot_of_hole")
        database.execute("CREATE INDEX exposures_of_hole ON exposures (hole_id)")
        database.execute("ALTER TABLE schema_version DROP COLUMN after_event")
        database.execute("UPDATE schema_version SET version = 3")
        database.commit()
    return session


def make_schema_2(store, path):
    """A store as schema 2 had it: neither what was chosen, nor CTF runs, nor vendor fields."""
    session = make_schema_3(store, path)
    without_schema(path, 3)
    return session


def make_schema_1(store, path):
    """A store as schema 1 had it: also no stage positions, in tables and events, and no files."""
    session = make_schema_2(store, path)
    without_schema(path, 2)
    return session


def make_schema_0(store, path):
    """A store as schema 0 had it: the tables of schema 1, no events, version 0."""
    make_schema_1(store, path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        database.execute("DROP TABLE events")
        database.execute("UPDATE schema_version SET version = 0")
        database.commit()


def of_schema_0(dumped):
    """The rows without columns and tables that came later: such columns stand at the end of each row."""
    later = {table for tables in NEW_TABLES.values() for table in tables}
    added = {table: sum(len(new.get(table, ())) for new in NEW_COLUMNS.values()) for table in TABLES}
    return {
        table: [row[1 : len(row) - added[table]] for row in rows]
        for table, rows in dumped.items()
        if table in TABLES and table not in later
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.session"


@pytest.fixture
def store(path):
    with SessionStore.create(path) as store:
        store.save_import(small_session(), "by hand")
        yield store


def test_a_store_of_schema_0_is_migrated_with_its_events(store, path):
    make_schema_0(store, path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        before = {
            table: [row[1:] for row in database.execute(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608
            for table in of_schema_0(dict.fromkeys(TABLES, ()))
        }
    with SessionStore.open(path) as migrated:
        assert_same(migrated.load(), small_session())
        assert {event.kind for event in migrated.events()} == {"imported"}
        assert next(migrated.events()).payload["source"] == "a store of schema 0"
        migrated.rebuild()
        assert_same(migrated.load(), small_session())
    assert of_schema_0(dump(path)) == before
    with SessionStore.open(path) as again:
        again.append("error", {"message": "the events are guarded again"})
    with closing(sqlite3.connect(path / DATABASE)) as database:
        assert database.execute("SELECT max(version) FROM schema_version").fetchone() == (SCHEMA_VERSION,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute("DELETE FROM events")


def test_a_store_of_schema_1_gets_positions_that_are_not_known(store, path):
    session = make_schema_1(store, path)
    with SessionStore.open(path) as migrated:
        assert_same(migrated.load(), session)
        migrated.rebuild()
        loaded = migrated.load()
        assert_same(loaded, session)
        assert migrated.files() == {}
        assert all(getattr(loaded, table)[column].isna().all() for table, column in STAGE)
        placed = replace(loaded, squares=pd.concat([loaded.squares, new_square("s2", 7.5)]))
        migrated.save_update(lambda _: placed, "later", files={"/data/run": {"a.xml": (10, 20)}})
    with SessionStore.open(path) as again:
        assert again.load().squares["x_um"].tolist()[-1] == 7.5
        assert again.files() == {"/data/run": {"a.xml": (10, 20)}}


def test_a_store_of_schema_2_keeps_its_results_and_what_it_never_knew_is_unknown(store, path):
    session = make_schema_2(store, path)
    with SessionStore.open(path) as migrated:
        for _ in range(2):
            loaded = migrated.load()
            assert_same(loaded, session)
            assert loaded.holes["chosen"].isna().all()
            assert len(loaded.ctf_runs) == len(loaded.vendor_fields) == 0
            migrated.rebuild()
        migrated.save_update(lambda _: full_session(), "later")
        assert_same(migrated.load(), full_session())
    with SessionStore.open(path) as again:
        again.rebuild()
        assert_same(again.load(), full_session())
    with closing(sqlite3.connect(path / DATABASE)) as database:
        assert database.execute("SELECT max(version) FROM schema_version").fetchone() == (SCHEMA_VERSION,)


FREE_OVERRIDES = (
    {"hole": "h2", "why": "dirt"},
    {"kind": "ban", "hole_id": "h9"},
    {"kind": 7},
    {"kind": "explode"},
)


def test_in_a_store_of_schema_5_nothing_says_what_was_looked_at(store, path):
    session = make_schema_5(store, path)
    with SessionStore.open(path) as migrated:
        assert_same(migrated.load(), session)
        loaded = migrated.load()
        columns = [(table, column) for table, added in NEW_COLUMNS[6].items() for column in added]
        assert all(getattr(loaded, table)[column].isna().all() for table, column in columns)
        known = replace(loaded, squares=pd.concat([loaded.squares, new_square("s9", 7.5)]))
        known.squares.loc[:, "looked"] = pd.array([True] * len(known.squares), dtype="boolean")
        migrated.save_update(lambda _: known, "later")
    with SessionStore.open(path) as again:
        assert_same(again.load(), known)
        again.rebuild()
        assert_same(again.load(), known)


def test_a_store_of_schema_3_opens_whatever_its_overrides_say(store, path):
    session = make_schema_3(store, path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        for payload in FREE_OVERRIDES:
            database.execute(
                "INSERT INTO events (kind, at, payload) VALUES ('overridden', '2024', ?)",
                (pack_payload(payload),),
            )
        database.commit()
    with SessionStore.open(path) as migrated:
        for _ in range(2):
            assert_same(migrated.load(), session)
            assert migrated.load().overrides == Overrides()
            assert [event.payload for event in migrated.events(kind="overridden")] == list(FREE_OVERRIDES)
            migrated.rebuild()
        migrated.append("overridden", {"kind": "ban", "hole_id": "h2"})
    with SessionStore.open(path) as again:
        assert again.load().overrides == Overrides(holes={"h2": "ban"})


def test_a_store_of_schema_3_reads_the_newest_of_its_predictions(store, path):
    runs = [[0.1, 0.2, 0.3], [0.7, 0.8, 0.9], [0.4, 0.5, 0.6]]
    for p_good, day in zip(runs, ("2024-01-01", "2024-01-03", "2024-01-02"), strict=True):
        rows = {
            "model_id": "m",
            "threshold_angstrom": 6.0,
            "p_good": p_good,
            "predicted_at": pd.Timestamp(day),
        }
        store.add_predictions(
            pd.DataFrame({"hole_id": ["h1", "h2", "h3"], "ctf_predicted_angstrom": NAN, **rows})
        )
    expected = dump(path)
    make_schema_3(store, path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        # Schema 3 kept the rows of all runs.
        database.execute(
            "INSERT INTO predictions (hole_id, model_id, threshold_angstrom, p_good, predicted_at) "
            "SELECT hole_id, model_id, threshold_angstrom, 0.1, '2024-01-01' FROM predictions"
        )
        database.commit()
    with SessionStore.open(path) as migrated:
        assert migrated.load().prediction("m", 6.0).tolist() == runs[1]
    assert [row[1:] for row in dump(path)["predictions"]] == [row[1:] for row in expected["predictions"]]


def test_migrated_and_new_stores_have_the_same_tables(store, path, tmp_path):
    def layout(folder):
        with closing(sqlite3.connect(folder / DATABASE)) as database:
            rows = database.execute("SELECT type, name FROM sqlite_master").fetchall()
            columns = {
                name: sorted(column[1:4] for column in database.execute(f"PRAGMA table_info({name})"))
                for kind, name in rows
                if kind == "table"
            }
            return sorted(rows), columns

    expected = layout(path)
    for number, make in enumerate((make_schema_3, make_schema_2, make_schema_1)):
        with SessionStore.create(tmp_path / f"{number}.session") as old:
            old.save_import(small_session(), "by hand")
            make(old, tmp_path / f"{number}.session")
        assert layout(tmp_path / f"{number}.session") != expected
        SessionStore.open(tmp_path / f"{number}.session").close()
        assert layout(tmp_path / f"{number}.session") == expected


def new_square(square_id, x_um):
    return pd.DataFrame({"square_id": [square_id], "grid_id": ["g"], "x_um": [x_um], "y_um": [0.0]})


def test_a_migration_that_fails_leaves_the_old_schema(store, path, monkeypatch):
    make_schema_0(store, path)

    def broken(*_arguments):
        raise RuntimeError("power cut")

    monkeypatch.setattr("cryoscout.session.store_schema.insert_event", broken)
    with pytest.raises(RuntimeError, match="power cut"):
        SessionStore.open(path)
    with closing(sqlite3.connect(path / DATABASE)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "events" not in tables
        assert database.execute("SELECT max(version) FROM schema_version").fetchone() == (0,)
