"""The tables of a session store, its schema version and the steps from one version to the next."""

from __future__ import annotations

import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.session.store_checks import sum_all_rows, watch_tables
from cryoscout.session.store_events import events_of_rows, read_rows, upsert_predictions
from cryoscout.session.store_layout import (
    EVENTS,
    FILES,
    IMAGE_SUMS,
    METADATA,
    ROW_SUMS,
    SCHEMA,
    SESSION_ROW,
    SESSION_TABLES,
    TOUCHED,
    event_sum,
    insert_event,
    unpack_payload,
)
from cryoscout.session.tables import TABLES

SCHEMA_VERSION = 6

NEW_COLUMNS: dict[int, dict[str, tuple[str, ...]]] = {
    2: {
        "squares": ("x_um", "y_um"),
        "holes": ("x_um", "y_um"),
        "exposures": ("stage_x_um", "stage_y_um"),
    },
    3: {"holes": ("chosen",)},
    6: {
        "squares": ("area_um2", "brightness", "looked", "looked_at"),
        "patches": ("looked", "looked_at"),
    },
}
"""Schema -> table -> columns that it added; all of them may be missing."""
OVERRIDES_ARE_CHECKED_SINCE = 4
"""The schema from which on the payload of an `overridden` event has a checked form; before it was any JSON object."""
NEW_TABLES: dict[int, tuple[str, ...]] = {3: ("ctf_runs", "vendor_fields")}
"""Schema -> tables of a session that it added."""

_GUARDS = {
    "sqlite": (
        "CREATE TRIGGER events_no_{verb} BEFORE {VERB} ON events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION events_append_only() RETURNS trigger AS "
        "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER events_no_{verb} BEFORE {VERB} ON events "
        "FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()",
    ),
}
"""Per database: statements that make the event table append-only, once for update and once for delete."""


def create_schema(connection: sa.Connection) -> None:
    """Create every table of the present schema, empty, with its guards and version."""
    METADATA.create_all(connection)
    _guard_events(connection)
    watch_tables(connection)
    connection.execute(sa.insert(SCHEMA).values(version=SCHEMA_VERSION))


def drop_schema(connection: sa.Connection) -> None:
    """Drop every table of a store, whatever it holds, with its guards."""
    METADATA.drop_all(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS events_append_only()")


def schema_version(connection: sa.Connection) -> int | None:
    """Version of the schema; None where there is no version table or row."""
    if not sa.inspect(connection).has_table(SCHEMA.name):
        return None
    version = connection.execute(sa.select(sa.func.max(SCHEMA.c.version))).scalar()
    return None if version is None else int(version)


def check_version(connection: sa.Connection, location: str) -> int:
    """Version of the schema; StoreError when there is none or it is newer than this version of cryoscout."""
    version = schema_version(connection)
    if version is None:
        raise StoreError(
            f"A session store must hold a schema version. Got none in {location} instead. "
            "Remedy: import the session again."
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The schema of a session store must be {SCHEMA_VERSION} or older. Got {version} in {location} "
            "instead. Remedy: update cryoscout; this version left the store as it is."
        )
    return version


def migrate(connection: sa.Connection, location: str) -> None:
    """Bring the store to the present schema, step by step, in the caller's transaction."""
    version = check_version(connection, location)
    for step in MIGRATIONS[version:]:
        step(connection)
        version += 1
        row: dict[str, object] = {"version": version}
        if version >= OVERRIDES_ARE_CHECKED_SINCE:
            row["after_event"] = last_event_id(connection)
        connection.execute(sa.insert(SCHEMA), row)


def last_event_id(connection: sa.Connection) -> int:
    """Id of the newest event; 0 where there is none."""
    return int(connection.execute(sa.select(sa.func.max(EVENTS.c.id))).scalar() or 0)


def last_free_override(connection: sa.Connection) -> int:
    """Id of the last event of a time when overrides were any JSON object; 0 in a store that began later."""
    boundary = sa.select(SCHEMA.c.after_event).where(SCHEMA.c.version == OVERRIDES_ARE_CHECKED_SINCE)
    return int(connection.execute(boundary).scalar() or 0)


def _from_0_to_1(connection: sa.Connection) -> None:
    """Schema 0 held the tables alone; from schema 1 on they are a fold over events."""
    # With its column of schema 5, which is filled there: events are inserted with it from here on.
    METADATA.create_all(connection, tables=[EVENTS])
    _guard_events(connection)
    session = connection.execute(sa.select(SESSION_ROW)).mappings().one()
    later = {table for tables in NEW_TABLES.values() for table in tables}
    rows = {
        table: read_rows(connection, table, _columns_of_schema_1(table))
        for table in SESSION_TABLES
        if table not in later
    }
    for event in events_of_rows(session["name"], session["info"], "a store of schema 0", rows):
        insert_event(connection, "imported", event)


def _columns_of_schema_1(table: str) -> list[str]:
    later = {column for added in NEW_COLUMNS.values() for column in added.get(table, ())}
    return [column for column in TABLES[table] if column not in later]


def _from_1_to_2(connection: sa.Connection) -> None:
    """Schema 1 had neither positions of the stage (they are unknown, NULL) nor the stamps of imported files."""
    _add_columns(connection, 2)
    METADATA.create_all(connection, tables=[FILES])


def _from_2_to_3(connection: sa.Connection) -> None:
    """Schema 2 kept the best CTF resolution alone, and neither what operators had chosen nor vendor fields.

    A result of then stays without a run: which program and file gave it is known of its table only.
    """
    _add_columns(connection, 3)
    METADATA.create_all(connection, tables=[SESSION_TABLES[table] for table in NEW_TABLES[3]])


def _from_3_to_4(connection: sa.Connection) -> None:
    """Schema 3 kept every row of predictions beside the events, and a shot had two ids when two were recorded."""
    if "after_event" not in {column["name"] for column in sa.inspect(connection).get_columns(SCHEMA.name)}:
        connection.exec_driver_sql(f"ALTER TABLE {SCHEMA.name} ADD COLUMN after_event BIGINT")
    connection.exec_driver_sql("DROP INDEX IF EXISTS exposures_of_hole")
    predictions = SESSION_TABLES["predictions"]
    connection.execute(sa.delete(predictions))
    for table in (SESSION_TABLES["exposures"], predictions):
        for index in table.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
    with_rows = sa.select(EVENTS.c.kind, EVENTS.c.payload).where(EVENTS.c.kind.in_(("imported", "predicted")))
    for kind, packed in connection.execute(with_rows.order_by(EVENTS.c.id)).all():
        payload = unpack_payload(packed)
        if kind == "predicted" or (payload.get("table") == "predictions" and payload["part"] == "rows"):
            upsert_predictions(connection, payload["columns"])


def _from_4_to_5(connection: sa.Connection) -> None:
    """Schema 4 had no checksums: a flipped bit of the disk gave other numbers without a word."""
    METADATA.create_all(connection, tables=[ROW_SUMS, TOUCHED, IMAGE_SUMS])
    if "crc" not in {column["name"] for column in sa.inspect(connection).get_columns(EVENTS.name)}:
        connection.exec_driver_sql(f"ALTER TABLE {EVENTS.name} ADD COLUMN crc BIGINT")
    _unguard_events(connection)
    for event in connection.execute(sa.select(EVENTS)).all():
        crc = event_sum(event.kind, event.at, event.payload)
        connection.execute(sa.update(EVENTS).where(EVENTS.c.id == event.id).values(crc=crc))
    _guard_events(connection)
    _add_columns(connection, 6)  # rows are summed over all columns of today
    watch_tables(connection)
    sum_all_rows(connection)


def _add_columns(connection: sa.Connection, version: int) -> None:
    for table, columns in NEW_COLUMNS[version].items():
        present = {column["name"] for column in sa.inspect(connection).get_columns(table)}
        for column in columns:
            if column in present:
                continue
            kind = SESSION_TABLES[table].c[column].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _from_5_to_6(connection: sa.Connection) -> None:
    """Schema 5 knew no place before its holes: which squares and patches were looked at, and what the atlas shows."""
    _add_columns(connection, 6)


MIGRATIONS = (_from_0_to_1, _from_1_to_2, _from_2_to_3, _from_3_to_4, _from_4_to_5, _from_5_to_6)
"""Step i brings schema i to schema i + 1."""


def _guard_events(connection: sa.Connection) -> None:
    for verb in ("update", "delete"):
        for statement in _GUARDS[connection.dialect.name]:
            connection.exec_driver_sql(statement.format(verb=verb, VERB=verb.upper()))


def _unguard_events(connection: sa.Connection) -> None:
    on = f" ON {EVENTS.name}" if connection.dialect.name == "postgresql" else ""
    for verb in ("update", "delete"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS events_no_{verb}{on}")
