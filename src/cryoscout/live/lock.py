"""One server for each session: whoever comes second is told who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.core.new_files import write_whole
from cryoscout.session.store_database import engine_of, is_url, location_in_words

LOCK_FILE = "serve.lock"
HOLDER_FILE = "serve.json"
_SERVER_LOCK = 0x63727976  # "cryv": of the one server of a PostgreSQL database


@contextmanager
def only_server(location: Path | str, address: str) -> Iterator[None]:
    """Hold a session while it is served. Raises StoreError where another server does, saying who."""
    if is_url(location):
        with _in_database(str(location)):
            yield
        return
    from filelock import FileLock, Timeout

    folder = Path(location)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _held(str(folder), _holder(folder)) from None
    try:
        holder = {"process": os.getpid(), "computer": socket.gethostname(), "address": address}
        write_whole(folder / HOLDER_FILE, json.dumps(holder) + "\n")
        yield
    finally:
        (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        said = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['computer']}, at {said['address']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another server"


def _held(place: str, holder: str) -> StoreError:
    return StoreError(
        f"A session must be served by one server. Got {place}, which {holder} serves, instead. "
        "Remedy: open that address, or end that server."
    )


@contextmanager
def _in_database(url: str) -> Iterator[None]:
    """An advisory lock lasts as long as its connection; the holder's is named after this computer."""
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            schema_lock = sa.text("SELECT pg_try_advisory_lock(:server, hashtext(current_schema()))")
            name = f"cryoscout serve, process {os.getpid()} on {socket.gethostname()}"[:63]
            connection.execute(sa.text("SELECT set_config('application_name', :name, false)"), {"name": name})
            if not connection.execute(schema_lock, {"server": _SERVER_LOCK & 0x7FFFFFFF}).scalar_one():
                holder = connection.execute(
                    sa.text(
                        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
                        "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :server LIMIT 1"
                    ),
                    {"server": _SERVER_LOCK & 0x7FFFFFFF},
                ).scalar()
                raise _held(location_in_words(url), str(holder or "another server"))
            connection.commit()
            yield
    finally:
        engine.dispose()
