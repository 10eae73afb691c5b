"""What stands at the place of a session, so that a command replaces nothing but what it has seen when it began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.session import store_database
from cryoscout.session.store_database import engine_of, is_url, location_in_words, reading
from cryoscout.session.store_schema import last_event_id, schema_version

DATABASE = "session.db"
LOCK = "write.lock"


@dataclass(frozen=True)
class PlaceMark:
    """A folder as it was: which one, and the last thing that was stored in it. Nothing there: all None."""

    folder: tuple[int, int] | None = None
    """Device and inode"""
    last_event: int | None = None


def mark_of_place(location: Path | str) -> PlaceMark:
    """What stands at a place now, a folder or a database. A store that cannot be read has no last event."""
    folder = None
    if not is_url(location):
        target = Path(location)
        folder = identity_of(target)
        if folder is None or not (target / DATABASE).is_file():
            return PlaceMark(folder)
        location = target / DATABASE
    engine = engine_of(location)
    try:
        with reading(engine, str(location)) as connection:
            return PlaceMark(folder, mark_of_tables(connection).last_event)
    except StoreError:
        return PlaceMark(folder)
    finally:
        engine.dispose()


def mark_of_tables(connection: sa.Connection) -> PlaceMark:
    """The same of a database alone."""
    return PlaceMark(None, None if schema_version(connection) is None else last_event_id(connection))


def identity_of(path: Path) -> tuple[int, int] | None:
    """Device and inode of what a path names, None where nothing is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_changed_place(place: Path | str, was: PlaceMark, now: PlaceMark) -> None:
    """Raise StoreError when another command stored something at the place since this one began."""
    if now == was:
        return
    what = "a session" if was == PlaceMark() else "another session or new results"
    in_words = location_in_words(place)
    raise StoreError(
        f"The place of a new session must be as it was when the command began. Got {what} that was stored meanwhile "
        f"at {in_words} instead; nothing was replaced. Remedy: store this session at another place with -o."
    )


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Writers of a store, and who replaces it, one after the other; on whatever system, in whatever process.

    SQLite's own lock is no help where a folder is renamed. Raises StoreError where others hold it too long, or where
    the folder may not be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=store_database.WAIT_FOR_OTHERS_S)
    try:
        with lock:
            yield
    except Timeout:
        raise StoreError(
            f"A store must be free for writing. Got {folder}, which another program has held for "
            f"{store_database.WAIT_FOR_OTHERS_S:g} s, instead; nothing was written. Remedy: end it, or wait for it."
        ) from None
