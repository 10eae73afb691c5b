"""The database behind a session store: connections, transactions that wait for others, and its errors in our words.

A store writes through `write` alone: the whole transaction is done again while others hold the database, for a bounded
time. Writers come one after the other, so that the ids of events are in the order of their commits and a reader that
asks for what came after an id misses nothing.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from cryoscout.core.errors import StoreError, StoreHeldError

WAIT_FOR_OTHERS_S = 30.0
"""How long a write is tried again while others hold the database."""
LONGEST_PAUSE_S = 0.5
_FIRST_PAUSE_S = 0.01
_LOCK_WAIT_S = 5.0
_WRITES = "writes"
_STATEMENTS = 500  # as many as an engine keeps by itself
_WRITER_LOCK = 0x63727973  # "crys": of writers of one schema of a PostgreSQL database

_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_HELD = _BUSY | {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""SQLite's codes for a database that is whole, but held by another program or by the disk."""
_PASSING_STATES = frozenset(("40001", "40P01", "55P03"))
"""PostgreSQL's: serialization failure, deadlock, a lock that was not free in time."""
_NOT_ALLOWED = "42501"

_PASSWORD = re.compile(r"(?<=://)(?P<user>[^:@/?#]*):.*(?=@)")
_PASSWORD_OPTION = re.compile(r"(?<=password=)[^&\s]*", re.IGNORECASE)
_MASK = "***"

Result = TypeVar("Result")


def is_url(location: Path | str) -> bool:
    """Whether a store's location is a database URL and not a folder."""
    return isinstance(location, str) and "://" in location


def location_in_words(location: Path | str) -> str:
    """The location as people may read it: a URL without its password."""
    text = str(location)
    return (
        _PASSWORD_OPTION.sub(_MASK, _PASSWORD.sub(rf"\g<user>:{_MASK}", text)) if is_url(location) else text
    )


def name_of_location(location: Path | str) -> str:
    """The name a session may be called after: its folder's, or its database's."""
    return (
        re.split(r"[?#]", str(location))[0].rstrip("/").rsplit("/", 1)[-1]
        if is_url(location)
        else str(location)
    )


def engine_of(database: Path | str) -> sa.Engine:
    """The engine of a database file or URL; postgresql:// is spoken by psycopg.

    Raises StoreError for a URL that cannot be read, an unknown kind of database or a driver that is not installed.
    """
    try:
        url = (
            sa.make_url(database)
            if isinstance(database, str)
            else sa.URL.create("sqlite", database=str(database))
        )
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        # A connection is used by one thread at a time, but not always closed by the one that opened it.
        arguments = {"check_same_thread": False} if url.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(url, poolclass=NullPool, connect_args=arguments)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"The driver of a database must be installed. Got {location_in_words(str(database))} without {error.name} "
            'instead. Remedy: pip install "cryoscout[postgres]".'
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        # The error's own text may repeat the URL, and with it the password.
        raise StoreError(
            f"A store must be a folder or a database URL. Got {location_in_words(str(database))} instead. "
            "Remedy: for example postgresql://USER@HOST/DATABASE."
        ) from None
    if engine.dialect.name == "sqlite":
        shared, statements = _sqlite()
        engine = sa.Engine(engine.pool, shared, url, execution_options={"compiled_cache": statements})
        _prepare_sqlite(engine)
    elif engine.dialect.name != "postgresql":
        raise StoreError(
            f"The database of a store must be SQLite or PostgreSQL. Got {engine.dialect.name} instead. "
            "Remedy: for example postgresql://USER@HOST/DATABASE."
        )
    return engine


def keep_write_ahead_log(engine: sa.Engine) -> None:
    """SQLite gets a write-ahead log, so that a page can read while the watcher writes."""

    def on_connect(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")

    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", on_connect)


@contextmanager
def reading(engine: sa.Engine, location: str) -> Iterator[sa.Connection]:
    """A connection that sees one state of the database; what cannot be read is told as a StoreError."""
    with readable(location):
        is_postgresql = engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ"} if is_postgresql else {}
        with engine.connect().execution_options(**options) as connection:
            yield connection


@contextmanager
def readable(location: str) -> Iterator[None]:
    """A damaged file, a table or column missing, rows of no sense: each is a StoreError."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        raise _refusal(error, location) from None
    except (zlib.error, ValueError, TypeError) as error:
        # What JSON, the text encoding and SessionInfo raise are ValueErrors.
        what = "; ".join(line.strip() for line in str(error).splitlines())
        raise _cannot_be_read(location, what) from None


def write(engine: sa.Engine, location: str, work: Callable[[sa.Connection], Result]) -> Result:
    """The result of `work` in one transaction that holds the write lock from its start; an error undoes it.

    work : may be called again, with a new connection, while others hold the database
    Raises StoreError after WAIT_FOR_OTHERS_S, for rows that do not fit together, or for what cannot be read.
    """
    ends = time.monotonic() + WAIT_FOR_OTHERS_S
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            with engine.execution_options(**{_WRITES: True}).begin() as connection:
                _wait_for_writers(connection)
                return work(connection)
        except sa.exc.IntegrityError as error:
            raise StoreError(
                f"The rows of a store must fit together. Got {error.orig} instead; nothing was written."
            ) from None
        except sa.exc.DatabaseError as error:
            if not _passes(error) or time.monotonic() + pause_s > ends:
                raise _refusal(error, location) from None
        except (zlib.error, json.JSONDecodeError) as error:
            raise _cannot_be_read(location, str(error)) from None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _wait_for_writers(connection: sa.Connection) -> None:
    """PostgreSQL would let writers run side by side; SQLite's BEGIN IMMEDIATE has waited already."""
    if connection.dialect.name == "postgresql":
        wait_ms = int(1000 * min(_LOCK_WAIT_S, WAIT_FOR_OTHERS_S))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait_ms}")
        connection.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock({_WRITER_LOCK}, hashtext(current_schema()))"
        )


def _passes(error: sa.exc.DatabaseError) -> bool:
    """Whether the same transaction may well go through a little later."""
    if isinstance(error.orig, sqlite3.Error):
        return _primary_code(error.orig) in _BUSY
    return getattr(error.orig, "sqlstate", None) in _PASSING_STATES


def _primary_code(error: sqlite3.Error) -> int:
    """Extended codes hold the primary one in their low byte; errors of the driver itself have none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _refusal(error: sa.exc.DatabaseError, location: str) -> StoreError:
    """Someone else holds the database, or the disk does not take it: try again. Anything else: it is damaged."""
    if isinstance(error.orig, sqlite3.Error):
        if _primary_code(error.orig) not in _HELD:
            return _cannot_be_read(location, str(error.orig))
    else:
        state, what = getattr(error.orig, "sqlstate", None), "; ".join(str(error.orig).split("\n"))
        if state == _NOT_ALLOWED:
            return StoreError(
                f"The user of a database must be allowed to use it. Got {what} at {location_in_words(location)} "
                "instead. Remedy: let its owner grant the rights, or name another user in the URL."
            )
        if state is None and isinstance(error, sa.exc.OperationalError):
            return StoreError(
                f"The database of a store must answer. Got {what} at {location_in_words(location)} instead. "
                "Remedy: check that the server runs, and host, port, user and password."
            )
        if not isinstance(error, sa.exc.OperationalError):
            return _cannot_be_read(location, what)
    return StoreHeldError(
        f"A store must be free for writing. Got {error.orig} instead; nothing was written. "
        "Remedy: end other programs that write to it, and see that the disk has room."
    )


def _cannot_be_read(location: str, what: str) -> StoreError:
    return StoreError(
        f"{location_in_words(location)} must be a session store. Got a damaged database, which cannot be read, "
        f"instead ({what}). "
        "Remedy: restore it from a copy, or import its files anew to another place with -o."
    )


@cache
def _sqlite() -> tuple[sa.Dialect, Any]:
    """What all SQLite files share: to put a statement into words takes longer than to read a small table with it."""
    engine = sa.create_engine("sqlite://", poolclass=NullPool)
    engine.connect().close()
    return engine.dialect, sa.util.LRUCache(_STATEMENTS)


def _prepare_sqlite(engine: sa.Engine) -> None:
    def on_connect(connection: Any, _record: object) -> None:
        wait_ms = int(1000 * min(_LOCK_WAIT_S, WAIT_FOR_OTHERS_S))
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        connection.execute("PRAGMA synchronous = NORMAL")

    def on_begin(connection: sa.Connection) -> None:
        # The driver alone would begin only at the first row written, after a change of the schema.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
