"""The database tables behind a session: one per table of the model, and those for files, events and the version."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from cryoscout.core.errors import InputError
from cryoscout.session.tables import TABLES, ColumnKind, may_be_missing

EVENT_KINDS: tuple[str, ...] = (
    "imported",
    "predicted",
    "planned",
    "sent",
    "accepted",
    "looked",
    "imaged",
    "measured",
    "overridden",
    "noted",
    "error",
)

METADATA = sa.MetaData()

_SQL_TYPES: dict[ColumnKind, type[sa.types.TypeEngine[Any]]] = {
    "id": sa.Text,
    "text": sa.Text,
    "float": sa.Double,
    "int": sa.BigInteger,
    "bool": sa.Boolean,
    "nullable_int": sa.BigInteger,
    "nullable_bool": sa.Boolean,
    "time": sa.Text,
}
"""Times are ISO 8601 text with nanoseconds, naive microscope time, so that people can read the database."""

_KEYS = {
    "grids": "grid_id",
    "squares": "square_id",
    "patches": "patch_id",
    "holes": "hole_id",
    "exposures": "exposure_id",
}


def _row_number() -> sa.Column[int]:
    """SQLite counts up only an INTEGER key, other databases a big one."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("row_number", number, primary_key=True, autoincrement=True)


def _session_table(table: str) -> sa.Table:
    key = _KEYS.get(table)
    columns = [
        sa.Column(column, _SQL_TYPES[kind], nullable=may_be_missing(kind), unique=column == key)
        for column, kind in TABLES[table].items()
    ]
    return sa.Table(table, METADATA, _row_number(), *columns)


SESSION_TABLES: dict[str, sa.Table] = {table: _session_table(table) for table in TABLES}
sa.Index("shot_of_hole", *(SESSION_TABLES["exposures"].c[name] for name in ("hole_id", "shot")), unique=True)
sa.Index("ctf_runs_of_exposure", SESSION_TABLES["ctf_runs"].c.exposure_id)
PREDICTION_KEY = ("hole_id", "model_id", "coalesce(threshold_angstrom, 0)")
"""A row of predictions is the newest of its hole, model and threshold; the events hold the earlier ones."""
sa.Index(
    "newest_prediction",
    SESSION_TABLES["predictions"].c.hole_id,
    SESSION_TABLES["predictions"].c.model_id,
    sa.text(PREDICTION_KEY[2]),
    unique=True,
)

SESSION_ROW = sa.Table(
    "session",
    METADATA,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("info", sa.Text, nullable=False),  # SessionInfo as JSON
)
FILES = sa.Table(
    "files",
    METADATA,
    sa.Column("source", sa.Text, nullable=False),  # the path that was imported, absolute
    sa.Column("file", sa.Text, nullable=False),  # below the source, with /
    sa.Column("size", sa.BigInteger, nullable=False),  # bytes
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("source", "file"),
)
"""What every imported file was when it was read, so that the next import reads only what has changed."""
SCHEMA = sa.Table(
    "schema_version",
    METADATA,
    sa.Column("version", sa.Integer, nullable=False),
    # The last event from before the store got this version; NULL in a store that began with it.
    sa.Column("after_event", sa.BigInteger),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True
    ),
    sa.Column("kind", sa.Text, nullable=False, index=True),
    sa.Column("at", sa.Text, nullable=False),  # UTC, ISO 8601
    sa.Column("payload", sa.LargeBinary, nullable=False),  # JSON object, UTF-8, zlib
    sa.Column("crc", sa.BigInteger),  # of the three before
)
ROW_SUMS = sa.Table(
    "row_sums",
    METADATA,
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("block", sa.BigInteger, nullable=False),
    sa.Column("crc", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("table_name", "block"),
)
TOUCHED = sa.Table(
    "touched_blocks",
    METADATA,
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("block", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("table_name", "block"),
)
IMAGE_SUMS = sa.Table(
    "image_sums",
    METADATA,
    sa.Column("file", sa.Text, nullable=False, unique=True),
    sa.Column("crc", sa.BigInteger, nullable=False),
)
"""Checksums, see `store_checks`."""


def event_sum(kind: str, at: str, payload: bytes) -> int:
    """The checksum of an event."""
    return zlib.crc32(payload, zlib.crc32(f"{kind}\0{at}".encode()))


def pack_payload(payload: Mapping[str, object]) -> bytes:
    """JSON under zlib; raises InputError for what JSON cannot hold (NaN, infinity, objects)."""
    try:
        plain = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"The payload of an event must be plain JSON. Got {error} instead.") from None
    return zlib.compress(plain.encode("utf-8"), level=1)


def unpack_payload(packed: bytes) -> dict[str, Any]:
    """The JSON object of `pack_payload`."""
    payload: dict[str, Any] = json.loads(zlib.decompress(packed))
    return payload


def insert_event(
    connection: sa.Connection,
    kind: str,
    payload: Mapping[str, object],
    at: datetime | None = None,
    number: int | None = None,
) -> int:
    """Append one event and return its id.     at : aware time, now when None     number : the id, of a copy"""
    moment = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
    packed = pack_payload(payload)
    values: dict[str, Any] = {
        "kind": kind,
        "at": moment,
        "payload": packed,
        "crc": event_sum(kind, moment, packed),
    }
    if number is not None:
        values["id"] = number
    given: int = connection.execute(sa.insert(EVENTS).returning(EVENTS.c.id), values).scalar_one()
    return given
