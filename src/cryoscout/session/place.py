"""What stands at the place of a session, so that a command replaces nothing but what it has seen when it began."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.session import store_database
from cryoscout.session.store_database import engine_of, is_url, location_in_words, reading
from cryoscout.session.store_schema import last_event_id, schema_version

DATABASE = "session.db"
LOCK = "write.lock"
_COPIES = 5


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

    if not folder.is_dir():  # The lock would make it again, where another command has just put it aside.
        raise StoreError(
            f"A store must stay at its place while it is used. Got {folder}, which another command has replaced or "
            "removed meanwhile, instead; nothing was written. Remedy: run this command again."
        )
    lock = FileLock(folder / LOCK, timeout=store_database.WAIT_FOR_OTHERS_S)
    try:
        with lock:
            yield
    except Timeout:
        raise StoreError(
            f"A store must be free for writing. Got {folder}, which another program has held for "
            f"{store_database.WAIT_FOR_OTHERS_S:g} s, instead; nothing was written. Remedy: end it, or wait for it."
        ) from None


def may_be_written(folder: Path) -> bool:
    """Whether a store may be written: its folder (for SQLite's log) and its database."""
    return os.access(folder, os.W_OK) and os.access(folder / DATABASE, os.W_OK)


@dataclass(frozen=True)
class Snapshot:
    """A copy of the database of a store that is only read."""

    folder: Path
    """Of the copy; temporary"""
    as_of: datetime
    """When the store was last written to"""


def snapshot_of(folder: Path) -> Snapshot:
    """Copy the database of a store, its log included, to a temporary folder of this computer.

    Raises StoreError where it changes while it is copied, OSError where there is no room.
    """
    files = [folder / DATABASE, folder / f"{DATABASE}-wal"]
    copy = Path(tempfile.mkdtemp(prefix="cryoscout-"))
    try:
        for _ in range(_COPIES):
            before = _stamps(files)
            for file in files:
                (copy / file.name).unlink(missing_ok=True)
                if file.exists():
                    shutil.copyfile(file, copy / file.name)
            if _stamps(files) == before:
                return Snapshot(copy, datetime.fromtimestamp(max(before) / 1e9))
            time.sleep(0.2)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    shutil.rmtree(copy, ignore_errors=True)
    raise StoreError(
        f"A session that may only be read must rest while it is copied. Got {folder}, which changed {_COPIES} times, "
        "instead. Remedy: try again in a moment."
    )


def _stamps(files: list[Path]) -> tuple[int, ...]:
    """Time of the last change of each file in ns, 0 for one that is not there."""
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)
