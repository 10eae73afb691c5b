"""A PostgreSQL server for tests: the one of CRYOSCOUT_TEST_POSTGRES_URL, else a private one, else none and why.

The private one lies in a folder of its own, listens on a free loopback port alone, and is gone with the tests.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_URL = "CRYOSCOUT_TEST_POSTGRES_URL"
PASSWORD = "s3cret-of-the-tests"  # noqa: S105
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/bin",
)


class NoServerError(Exception):
    """There is no server to test with; the text says why."""


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of a database whose user may make schemas. Raises NoServerError."""
    given = os.environ.get(SERVER_URL)
    if given:
        yield given
        return
    programs = _programs()
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None and not _is_user(user):
        raise NoServerError("initdb refuses root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        folder.chmod(0o755)
        data = folder / "data"
        if user is not None:
            shutil.chown(folder, user)
        (folder / "password").write_text(PASSWORD)
        _run(user, programs / "initdb", "-D", data, "-U", "scout", "-A", "scram-sha-256", "--no-sync",
             "-E", "UTF8", "--locale=C", f"--pwfile={folder / 'password'}")  # fmt: skip
        port = _free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        _run(
            user,
            programs / "pg_ctl",
            "-D",
            data,
            "-l",
            folder / "log",
            "-o",
            options,
            "-w",
            "-t",
            "120",
            "start",
        )
        try:
            yield f"postgresql://scout:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            _run(user, programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def empty_schema(url: str) -> Iterator[str]:
    """The URL of a schema of its own, as good as a database of its own."""
    import psycopg

    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    sign = "&" if "?" in url else "?"
    try:
        yield f"{url}{sign}options=-csearch_path%3D{name}"
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def _programs() -> Path:
    found = [path.parent for place in _PLACES for path in sorted(Path("/").glob(f"{place[1:]}/pg_ctl"))]
    on_path = shutil.which("pg_ctl")
    found += [Path(on_path).parent] if on_path else []
    whole = [place for place in found if (place / "initdb").exists()]
    if not whole:
        raise NoServerError(f"neither {SERVER_URL} nor initdb and pg_ctl of PostgreSQL are there")
    return whole[0]


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _run(user: str | None, *command: object) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        user=user,
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server that pg_ctl starts would keep a pipe open
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise NoServerError(f"{Path(str(command[0])).name} of {Path(str(command[0])).parent} failed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
