"""What a store holds, read and checked: its tables, its events, the files that were imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.core.telling import Progress, no_progress
from cryoscout.session import store_records
from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.overrides import Overrides
from cryoscout.session.store_checks import damaged, refuse_changed_rows, refuse_changed_table, stored_sums
from cryoscout.session.store_database import location_in_words, readable
from cryoscout.session.store_events import (
    brings_places,
    events_of_files,
    frame_of_columns,
    pieces_of,
    read_rows,
    rows_and_names,
)
from cryoscout.session.store_layout import (
    EVENTS,
    FILES,
    SESSION_ROW,
    SESSION_TABLES,
    event_sum,
    unpack_payload,
)

EVENTS_PER_PIECE = 200
"""`events_after` gives at most so many."""


class EventMark(NamedTuple):
    """Which event is meant: the id alone would be that of another one where the store was replaced."""

    id: int
    kind: str
    at: str


@dataclass(frozen=True)
class Event:
    """One thing that happened to the session."""

    id: int
    kind: str
    at: str  # UTC, ISO 8601
    payload: dict[str, Any]

    @property
    def mark(self) -> EventMark:
        """Which event it is."""
        return EventMark(self.id, self.kind, self.at)


@dataclass(frozen=True)
class StoredTables:
    """What a store holds after one of its events: the tables in the order the rows came, not yet checked."""

    name: str
    info: SessionInfo
    tables: dict[str, pd.DataFrame]
    overrides: Overrides
    last_event: EventMark

    def session(self) -> Session:
        """The session of these tables. Raises DataError as Session does."""
        return Session(self.name, self.info, **self.tables, overrides=self.overrides)


def append_update(
    connection: sa.Connection,
    changes: list[dict[str, Any]],
    files: Mapping[str, Mapping[str, tuple[int, int]]],
    source: str,
    at: datetime | None,
    progress: Progress = no_progress,
) -> None:
    """Append the events of a later import.

    Nothing where nothing is new: another update may have read the same files meanwhile. Files that are as they were
    are written again where exposures came since, so that it is known that they were read with these.
    """
    known = stored_files(connection)
    earlier = known.keys() if any(map(brings_places, changes)) else read_before_places(connection)
    new = {
        name: stamps
        for name, stamps in files.items()
        if name in earlier or not stamps.items() <= known.get(name, {}).items()
    }
    payloads = [*changes, *events_of_files(new)]
    if payloads:
        payloads.insert(0, {"part": "again", "source": source})
    with progress("storing", len(payloads)) as step:
        for payload in payloads:
            store_records.append_event(connection, "imported", payload, at)
            step()


def stored_files(connection: sa.Connection) -> dict[str, dict[str, tuple[int, int]]]:
    """Source -> file -> (size in bytes, mtime in ns) of every file that was imported."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in connection.execute(sa.select(FILES)).all():
        found.setdefault(row.source, {})[row.file] = (row.size, row.mtime_ns)
    return found


def read_before_places(connection: sa.Connection) -> set[str]:
    """The imported sources that were read last before the newest squares, holes or exposures came: what joined none
    of those that were there may join these."""
    sources = set(connection.execute(sa.select(FILES.c.source).distinct()).scalars())
    query = sa.select(EVENTS.c.kind, EVENTS.c.payload).where(EVENTS.c.kind.in_(("imported", "imaged")))
    events = connection.execute(
        query.order_by(EVENTS.c.id.desc()).execution_options(yield_per=EVENTS_PER_PIECE)
    )
    for kind, packed in events:
        payload = unpack_payload(packed)
        if kind == "imaged" or brings_places(payload):
            break
        if payload["part"] == "files":
            sources.discard(payload["source"])
    else:
        sources = set()
    events.close()
    return sources


def read_tables(connection: sa.Connection, location: str, progress: Progress = no_progress) -> StoredTables:
    """The tables of a store, each compared with its checksums. Raises StoreError for a damaged or empty one."""
    row = connection.execute(sa.select(SESSION_ROW)).mappings().first()
    if row is None:
        raise still_empty(location)
    with readable(location):
        sums = stored_sums(connection)
        refuse_changed_table(connection, sums, SESSION_ROW.name, location)
        found = {table: rows_and_names(connection, table) for table in SESSION_TABLES}
        with progress("reading the session", sum(pieces_of(rows) for rows, _ in found.values())) as step:
            tables = {}
            for table, (_, names) in found.items():
                columns = read_rows(connection, table, ["row_number", *names], step)
                refuse_changed_rows(sums, table, columns, location)
                tables[table] = frame_of_columns(table, {name: columns[name] for name in names})
        info = SessionInfo.model_validate_json(row["info"])
        overrides = store_records.stored_overrides(connection)
        last = connection.execute(
            sa.select(EVENTS.c.id, EVENTS.c.kind, EVENTS.c.at).order_by(EVENTS.c.id.desc()).limit(1)
        ).first()
        if last is None:
            raise ValueError("a session without events")
    return StoredTables(row["name"], info, tables, overrides, EventMark(*last))


def events_after(connection: sa.Connection, location: str, after: int, kind: str | None) -> list[Event]:
    """The next few events behind an id; kind : only these. Raises StoreError for a damaged one."""
    query = sa.select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id).limit(EVENTS_PER_PIECE)
    if kind is not None:
        query = query.where(EVENTS.c.kind == kind)
    rows = connection.execute(query).all()
    for row in rows:
        if row.crc is not None and row.crc != event_sum(row.kind, row.at, row.payload):
            raise damaged(location, f"the content of event {row.id}")
    return [Event(row.id, row.kind, row.at, unpack_payload(row.payload)) for row in rows]


def still_empty(location: str) -> StoreError:
    """The error where a store has no session yet."""
    return StoreError(
        f"A store must hold a session. Got {location_in_words(location)}, still empty, instead."
    )
