"""A session on disk: a folder NAME.session with a database of events and tables, and an image array per
patch.

Events are only ever added; the tables are their fold (see `store_events`), so what was known when can be read
later and the tables can be rebuilt.
"""

from __future__ import annotations

import glob
import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.pool import NullPool

from cryoscout.core.errors import InputError, StoreError, UnknownNameError
from cryoscout.session.file_systems import refuse_network_file_system
from cryoscout.session.model import Session, SessionInfo, outcome_of_ctf
from cryoscout.session.store_events import (
    apply_event,
    clear_tables,
    columns_of_frame,
    events_of_files,
    events_of_rows,
    frame_of_columns,
    read_rows,
    row_chunks,
)
from cryoscout.session.store_layout import (
    EVENT_KINDS,
    EVENTS,
    FILES,
    SESSION_ROW,
    SESSION_TABLES,
    insert_event,
    unpack_payload,
)
from cryoscout.session.store_schema import SCHEMA_VERSION, check_version, create_schema, migrate
from cryoscout.session.store_update import changes_between, counts_of_changes
from cryoscout.session.stored_rows import StoredRows
from cryoscout.session.tables import typed_table

DATABASE = "session.db"
IMAGES = "images"
COMPLETE = "complete"
"""The file that says that the first import ended; it is written last, before the folder gets its name."""

_BUSY_TIMEOUT_S = 30
_WRITES = "writes"
_REPLACED = ".replaced"
_HELD = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    )
)
"""SQLite's codes for a database that is whole, but held by another program or by the disk."""


@dataclass(frozen=True)
class Event:
    """One thing that happened to the session."""

    id: int
    kind: str
    at: str  # UTC, ISO 8601
    payload: dict[str, Any]


class SessionStore:
    """One stored session; open it with `create` or `open`, and close it, or use it in a `with` block."""

    def __init__(self, engine: sa.Engine, location: str, folder: Path | None, target: Path | None) -> None:
        """Use `create` or `open`.

        folder : where the database lies now, None behind a URL
        target : where the folder goes when the first import is complete, None afterwards
        """
        self._engine = engine
        self._location = location
        self._folder = folder
        self._target = target

    @classmethod
    def create(cls, location: Path | str, force: bool = False) -> Self:
        """A new store, waiting for `save_import`; until that ends nothing stands at its place.

        location : folder NAME.session, or a database URL (postgresql://..., sqlite:///...), which holds no
        images
        force : replace the store that is there, once the new one is complete
        Raises StoreError when something is there already and may not be replaced, or on a network file
        system.
        """
        if _is_url(location):
            return cls._create_behind_url(str(location))
        target = Path(location)
        refuse_network_file_system(target.parent)
        _refuse_occupied(target, force)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        engine = _engine(folder / DATABASE)
        _keep_write_ahead_log(engine)
        with _writing(engine, str(target)) as connection:
            create_schema(connection)
        return cls(engine, str(target), folder, target)

    @classmethod
    def _create_behind_url(cls, url: str) -> Self:
        engine = _engine(url)
        with _writing(engine, url) as connection:
            if sa.inspect(connection).get_table_names():
                raise StoreError(f"A new store must start in an empty database. Got tables in {url} instead.")
            create_schema(connection)
        _keep_write_ahead_log(engine)
        return cls(engine, url, None, None)

    @classmethod
    def open(cls, location: Path | str) -> Self:
        """An existing store, brought to the present schema.

        Raises StoreError when there is none, its first import never ended, its schema is newer than this
        version of cryoscout, or it lies on a network file system. A refused store is left as it is.
        """
        if _is_url(location):
            engine, folder = _engine(str(location)), None
        else:
            folder = Path(location)
            _refuse_incomplete(folder)
            refuse_network_file_system(folder)
            engine = _engine(folder / DATABASE)
        try:
            with _reading(str(location)), engine.connect() as connection:
                current = check_version(connection, str(location)) == SCHEMA_VERSION
            if not current:
                with _writing(engine, str(location)) as connection:
                    migrate(connection, str(location))
        except StoreError:
            engine.dispose()
            raise
        # Only now: a database in another journal mode would be changed by it, and a refused one must not be.
        _keep_write_ahead_log(engine)
        return cls(engine, str(location), folder, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database; a store that was never filled leaves nothing behind."""
        self._engine.dispose()
        if self._target is not None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def save_import(
        self,
        session: Session,
        source: str,
        images: Mapping[str, NDArray[np.uint8]] | Iterable[tuple[str, NDArray[np.uint8]]] | None = None,
        at: datetime | None = None,
        files: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
    ) -> None:
        """Write a session into a new store and put the store in its place.

        source : what was imported, for people     images : patch id -> (m, h, w) uint8, rows as
        `holes.image_row`; pairs of both are taken one by one, so that they need not all be in memory
        at : when, now if None     files : source -> file -> (size in bytes, mtime in ns) of the files read
        Raises StoreError when the store holds a session, InputError for wrong images.
        """
        tables = {table: columns_of_frame(table, getattr(session, table)) for table in SESSION_TABLES}
        with _writing(self._engine, self._location) as connection:
            if connection.execute(sa.select(SESSION_ROW.c.name)).first() is not None:
                raise StoreError(
                    f"A store must be imported into once. Got {self._location}, which holds a session, "
                    f"instead. "
                    "Remedy: import into a new store, or with --force."
                )
            info = session.info.model_dump_json()
            rows = events_of_rows(session.name, info, source, tables)
            for payload in (*rows, *events_of_files(files or {})):
                insert_event(connection, "imported", payload, at)
                apply_event(connection, "imported", payload)
        if images:
            self._save_images(session, images.items() if isinstance(images, Mapping) else images)
        if self._target is not None:
            self._put_in_place(self._target)

    def save_update(
        self,
        session: Session,
        source: str,
        at: datetime | None = None,
        files: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
    ) -> dict[str, int]:
        """Write what a session has more than the store: new rows, results of pending exposures, files read.

        session : what the store holds, extended     source, at, files : as in `save_import`
        Returns how many of each were written: squares, patches, holes, exposures, outcomes, predictions. Nothing
        at all is written where there is nothing new. Raises StoreError when the session changes or lacks anything
        that the store holds, which is left as it is.
        """
        with _writing(self._engine, self._location) as connection:
            payloads = changes_between(_load(connection, self._location), session)
            counts = counts_of_changes(payloads)
            payloads += events_of_files({name: stamps for name, stamps in (files or {}).items() if stamps})
            if payloads:
                payloads.insert(0, {"part": "again", "source": source})
            for payload in payloads:
                insert_event(connection, "imported", payload, at)
                apply_event(connection, "imported", payload)
        return counts

    def save_changes(
        self, changes: Callable[[StoredRows], list[dict[str, Any]]], source: str, at: datetime | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Write a few changes without loading the session, in the transaction in which they are found out.

        changes : given the stored rows, the payloads of `imported` events (see `store_events`) that change them; it
            may look at rows and must not judge by what it saw before     source, at : as in `save_import`
        Returns the payloads and the id of the newest event. Nothing is written where there are none, or where
        `changes` raises. The caller answers for what the payloads say, as `changes_between` does for `save_update`.
        """
        with _writing(self._engine, self._location) as connection:
            rows = StoredRows(connection)
            payloads = changes(rows)
            for payload in [{"part": "again", "source": source}, *payloads] if payloads else []:
                insert_event(connection, "imported", payload, at)
                apply_event(connection, "imported", payload)
            return payloads, rows.last_event()

    def files(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Source -> file -> (size in bytes, mtime in ns) of every file that was imported, as it was then."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        with _reading(self._location), self._engine.connect() as connection:
            for row in connection.execute(sa.select(FILES)).all():
                found.setdefault(row.source, {})[row.file] = (row.size, row.mtime_ns)
        return found

    def _put_in_place(self, target: Path) -> None:
        if self._folder is None:
            raise StoreError(f"A store with a place must have a folder. Got none for {target} instead.")
        self._engine.dispose()
        (self._folder / COMPLETE).write_text("The first import into this session store is complete.\n")
        self._folder.chmod(0o755)
        old = None
        if target.exists():
            old = target.with_name(f"{self._folder.name}{_REPLACED}")
            target.rename(old)
        self._folder.rename(target)
        if old is not None:
            shutil.rmtree(old)
        self._folder, self._target = target, None
        self._engine = _engine(target / DATABASE)

    def _save_images(self, session: Session, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
        if self._folder is None:
            raise StoreError(f"Images must go into a store in a folder. Got {self._location} instead.")
        (self._folder / IMAGES).mkdir(exist_ok=True)
        rows_needed = session.holes.groupby("patch_id")["image_row"].max()
        for patch_id, array in images:
            if patch_id not in rows_needed.index:
                raise InputError(f"Images must belong to a patch of the session. Got {patch_id!r} instead.")
            needed = rows_needed[patch_id]
            if array.dtype != np.uint8 or array.ndim != 3 or (not pd.isna(needed) and len(array) <= needed):
                raise InputError(
                    f"The images of a patch must be an (m, height, width) uint8 array with a row for every "
                    f"image_row. Got {array.dtype} {array.shape} for {patch_id!r} instead."
                )
            np.save(self._folder / IMAGES / _image_file(patch_id), array, allow_pickle=False)

    def images(self, patch_id: str) -> NDArray[np.uint8] | None:
        """The image array of a patch, (m, h, w) uint8, row = `holes.image_row`; None where there is none.

        Raises ValueError or OSError for a file that is not a whole array.
        """
        if self._folder is None:
            return None
        path = self._folder / IMAGES / _image_file(patch_id)
        if not path.is_file():
            return None
        # Mapped, so that a header that promises more than the file holds is refused before memory is taken, and an
        # archive by another name is not opened.
        array: NDArray[np.uint8] = np.array(np.lib.format.open_memmap(path, mode="r"))
        return array

    def load(self) -> Session:
        """The session as it is known now. Raises StoreError when nothing was imported yet or it cannot be read."""
        with _reading(self._location), self._engine.connect() as connection:
            return _load(connection, self._location)

    def append(self, kind: str, payload: Mapping[str, object], at: datetime | None = None) -> None:
        """Append one event and fold it into the tables.

        kind : planned, overridden or error (any JSON object); imaged and measured as in `store_events`
        Raises UnknownNameError for another kind, InputError when the payload does not fit. Imports and
        predictions have their own methods, which check the rows.
        """
        allowed = [known for known in EVENT_KINDS if known not in ("imported", "predicted")]
        if kind not in allowed:
            raise UnknownNameError("The kind of an appended event", kind, allowed)
        with _writing(self._engine, self._location) as connection:
            insert_event(connection, kind, payload, at)
            apply_event(connection, kind, payload)

    def record_imaged(
        self,
        hole_id: str,
        started_at: pd.Timestamp | datetime | None = None,
        shot: int = 1,
        exposure_id: str | None = None,
    ) -> str:
        """Record that a shot of a hole was taken; its result is pending. Returns the exposure's id.

        started_at : naive microscope time     exposure_id : the vendor's, HOLE#SHOT when None
        Raises InputError when the hole or shot does not exist or was imaged already.
        """
        exposure_id = exposure_id or f"{hole_id}#{shot}"
        started = None if started_at is None else pd.Timestamp(started_at).isoformat(timespec="nanoseconds")
        payload = {"exposure_id": exposure_id, "hole_id": hole_id, "shot": shot, "started_at": started}
        holes = SESSION_TABLES["holes"]
        with _writing(self._engine, self._location) as connection:
            there = connection.execute(sa.select(holes.c.hole_id).where(holes.c.hole_id == hole_id)).first()
            info = connection.execute(sa.select(SESSION_ROW.c.info)).scalar_one()
            with _reading(self._location):
                shots = SessionInfo.model_validate_json(info).shots
            if there is None or not 1 <= shot <= shots:
                raise InputError(
                    f"An exposure must be a shot (1 to {shots}) of a hole of the session. "
                    f"Got shot {shot} of {hole_id!r} instead."
                )
            insert_event(connection, "imaged", payload)
            apply_event(connection, "imaged", payload)
        return exposure_id

    def record_outcome(self, exposure_id: str, ctf_max_res_angstrom: float) -> None:
        """Record the result of an exposure that was taken; a later result of the same exposure replaces it.

        ctf_max_res_angstrom : > 0; infinity and >= 100 mean that the fit failed
        Raises InputError for another value or an exposure that was not taken.
        """
        outcome, kept = outcome_of_ctf(ctf_max_res_angstrom)
        if outcome == "pending" or ctf_max_res_angstrom <= 0:
            raise InputError(
                f"A CTF resolution must be above 0 angstrom. Got {ctf_max_res_angstrom} for {exposure_id!r} "
                f"instead."
            )
        value = kept if outcome == "measured" else None
        payload = {"exposure_id": exposure_id, "outcome": outcome, "ctf_max_res_angstrom": value}
        self.append("measured", payload)

    def add_predictions(self, predictions: pd.DataFrame, at: datetime | None = None) -> None:
        """Add rows of predictions; none is ever overwritten, reading takes the newest.

        predictions : table as in Session     Raises DataError as Session does.
        """
        rows = typed_table("predictions", predictions)
        session = self.load()
        session.with_predictions(rows)
        with _writing(self._engine, self._location) as connection:
            for chunk in row_chunks(columns_of_frame("predictions", rows)):
                payload = {"columns": chunk}
                insert_event(connection, "predicted", payload, at)
                apply_event(connection, "predicted", payload)

    def events(self, kind: str | None = None) -> list[Event]:
        """The events in the order they came; of one kind when named."""
        if kind is not None and kind not in EVENT_KINDS:
            raise UnknownNameError("The kind of an event", kind, EVENT_KINDS)
        with _reading(self._location), self._engine.connect() as connection:
            return list(_read_events(connection, kind))

    def rebuild(self) -> None:
        """Empty the tables and fold all events again, in one transaction."""
        with _writing(self._engine, self._location) as connection:
            clear_tables(connection)
            with _reading(self._location):
                events = list(_read_events(connection, None))
            for event in events:
                apply_event(connection, event.kind, event.payload)


def _load(connection: sa.Connection, location: str) -> Session:
    row = connection.execute(sa.select(SESSION_ROW)).mappings().first()
    if row is None:
        raise StoreError(f"A store must hold a session. Got {location}, still empty, instead.")
    with _reading(location):
        tables = {table: frame_of_columns(table, read_rows(connection, table)) for table in SESSION_TABLES}
        info = SessionInfo.model_validate_json(row["info"])
    return Session(row["name"], info, **tables)


def _read_events(connection: sa.Connection, kind: str | None) -> Iterator[Event]:
    query = sa.select(EVENTS).order_by(EVENTS.c.id)
    if kind is not None:
        query = query.where(EVENTS.c.kind == kind)
    for row in connection.execute(query).all():
        yield Event(row.id, row.kind, row.at, unpack_payload(row.payload))


@contextmanager
def _reading(location: str) -> Iterator[None]:
    """What cannot be read is told as a StoreError: a damaged file, a table or column missing, rows of no sense."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        raise _refusal(error, location) from None
    except (zlib.error, ValueError, TypeError) as error:
        # What JSON, the text encoding and SessionInfo raise are ValueErrors.
        what = "; ".join(line.strip() for line in str(error).splitlines())
        raise _cannot_be_read(location, what) from None


@contextmanager
def _writing(engine: sa.Engine, location: str) -> Iterator[sa.Connection]:
    """One transaction that holds the write lock from its start; rows that do not fit together undo it."""
    try:
        with engine.execution_options(**{_WRITES: True}).begin() as connection:
            yield connection
    except sa.exc.IntegrityError as error:
        raise StoreError(
            f"The rows of a store must fit together. Got {error.orig} instead; nothing was written."
        ) from None
    except sa.exc.DatabaseError as error:
        raise _refusal(error, location) from None
    except (zlib.error, json.JSONDecodeError) as error:
        raise _cannot_be_read(location, str(error)) from None


def _refusal(error: sa.exc.DatabaseError, location: str) -> StoreError:
    """Someone else holds the database, or the disk does not take it: try again. Anything else: it is damaged."""
    if isinstance(error.orig, sqlite3.Error):
        # Extended codes hold the primary one in their low byte; errors of the driver itself have none.
        is_held = (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in _HELD
    else:
        is_held = isinstance(error, sa.exc.OperationalError)
    if not is_held:
        return _cannot_be_read(location, str(error.orig))
    return StoreError(
        f"A store must be free for writing. Got {error.orig} instead; nothing was written. "
        "Remedy: end other programs that write to it, and see that the disk has room."
    )


def _cannot_be_read(location: str, what: str) -> StoreError:
    return StoreError(
        f"{location} must be a session store. Got a database that cannot be read instead ({what}). "
        "Remedy: restore it from a copy, or import the session again with --force."
    )


def _is_url(location: Path | str) -> bool:
    return isinstance(location, str) and "://" in location


def _image_file(patch_id: str) -> str:
    """Ids may hold any character; the file name keeps the readable ones."""
    return quote(patch_id, safe="") + ".npy"


def _engine(database: Path | str) -> sa.Engine:
    url = database if isinstance(database, str) else sa.URL.create("sqlite", database=str(database))
    try:
        engine = sa.create_engine(url, poolclass=NullPool)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise StoreError(
            f"A store must be a folder or a database URL. Got {database} instead: {error}."
        ) from None
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: sa.Engine) -> None:
    def on_connect(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
        connection.execute("PRAGMA synchronous = NORMAL")

    def on_begin(connection: sa.Connection) -> None:
        # The driver alone would begin only at the first row written, after a change of the schema.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)


def _keep_write_ahead_log(engine: sa.Engine) -> None:
    """SQLite gets a write-ahead log, so that a page can read while the watcher writes."""

    def on_connect(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")

    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", on_connect)


def _refuse_occupied(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise StoreError(
            f"A new session must get a new place. Got {target}, which exists, instead. "
            "Remedy: choose another name with -o, or replace it with --force."
        )
    if not (target / DATABASE).is_file():
        raise StoreError(
            f"Only a session store may be replaced. Got {target}, which holds no {DATABASE}, instead. "
            "Remedy: choose another name with -o."
        )


def refuse_interrupted_replacement(folder: Path) -> None:
    """Raise StoreError where no store is, but the one that --force was replacing lies beside, set aside."""
    if folder.exists() or not folder.parent.is_dir():
        return
    pattern = f".{glob.escape(folder.name)}.partial-*{_REPLACED}"
    aside = [old for old in sorted(folder.parent.glob(pattern)) if (old / COMPLETE).is_file()]
    if aside:
        raise StoreError(
            f"A session store must be at its place. Got {folder}, which was set aside as {aside[0]} by an "
            f"import with --force that never ended, instead. Remedy: rename {aside[0]} back to {folder}, "
            "then import again."
        )


def _refuse_incomplete(folder: Path) -> None:
    refuse_interrupted_replacement(folder)
    if not folder.is_dir():
        raise StoreError(
            f"A session store must be a folder NAME.session. Got {folder} instead, which is not one. "
            "Remedy: make it with cryoscout import."
        )
    if not (folder / COMPLETE).is_file() or not (folder / DATABASE).is_file():
        raise StoreError(
            f"A session store must be complete. Got {folder}, whose import never ended, instead. "
            "Remedy: import again into a new place; this folder was left as it is."
        )
