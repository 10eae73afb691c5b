"""Checksums of what a store holds: a flipped bit of the disk is told, not planned with.

SQLite has none of its own. The rows of every table have one for each BLOCK rows; triggers note which blocks a
transaction touches, and the transaction itself renews theirs before it ends, so that whoever reads sees both as they
belong together. Events have one each, images one for each file. PostgreSQL checks its own pages.
"""

from __future__ import annotations

import marshal
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from cryoscout.core.errors import StoreError
from cryoscout.session.store_database import location_in_words
from cryoscout.session.store_layout import FILES, IMAGE_SUMS, ROW_SUMS, SESSION_ROW, SESSION_TABLES, TOUCHED

BLOCK = 1024
"""Rows whose numbers agree in all but the last ten bits."""

_ROWID: sa.Label[int] = sa.literal_column("rowid", sa.BigInteger).label("row_number")
_CHECKED: dict[str, sa.Table] = {**SESSION_TABLES, SESSION_ROW.name: SESSION_ROW, FILES.name: FILES}

Values = Mapping[str, Sequence[Any]]


def watch_tables(connection: sa.Connection) -> None:
    """Have the database note which blocks of rows are touched. SQLite alone; the tables are there."""
    if connection.dialect.name != "sqlite":
        return
    for table in _CHECKED:
        for verb, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            block = f"{row}.rowid / {BLOCK}"
            # Not INSERT OR IGNORE: in a trigger, what the outer statement does about conflicts would count.
            note = (
                f"INSERT INTO {TOUCHED.name} SELECT '{table}', {block} WHERE NOT EXISTS (SELECT 1 FROM "  # noqa: S608
                f"{TOUCHED.name} WHERE table_name = '{table}' AND block = {block})"
            )
            name = f"{table}_touched_by_{verb.lower()}"
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {verb} ON {table} BEGIN {note}; END"
            )


def renew_sums(connection: sa.Connection) -> None:
    """Renew the checksums of the blocks that this transaction has touched."""
    if connection.dialect.name != "sqlite":
        return
    touched = connection.execute(sa.select(TOUCHED)).all()
    for table, block in touched:
        key = (ROW_SUMS.c.table_name == table) & (ROW_SUMS.c.block == block)
        connection.execute(sa.delete(ROW_SUMS).where(key))
        values = _values_of_block(connection, table, block)
        if len(values["row_number"]):
            connection.execute(
                sa.insert(ROW_SUMS), {"table_name": table, "block": block, "crc": _sum_of(values)}
            )
    if touched:
        connection.execute(sa.delete(TOUCHED))


def sum_all_rows(connection: sa.Connection) -> None:
    """Checksums of every row of a store that has none yet."""
    if connection.dialect.name != "sqlite":
        return
    for table in _CHECKED:
        connection.exec_driver_sql(
            f"INSERT OR IGNORE INTO {TOUCHED.name} SELECT DISTINCT '{table}', rowid / {BLOCK} FROM {table}"  # noqa: S608
        )
    renew_sums(connection)


@dataclass(frozen=True)
class RowSums:
    """The checksums of a store's rows as they were written."""

    of_blocks: Mapping[tuple[str, int], int]  # table, block -> checksum
    unsettled: frozenset[tuple[str, int]]  # touched since


def stored_sums(connection: sa.Connection) -> RowSums | None:
    """The checksums of all tables; None where the database checks its own pages."""
    if connection.dialect.name != "sqlite":
        return None
    said = connection.execute(sa.select(ROW_SUMS.c.table_name, ROW_SUMS.c.block, ROW_SUMS.c.crc)).all()
    touched = connection.execute(sa.select(TOUCHED.c.table_name, TOUCHED.c.block)).all()
    return RowSums(
        {(table, block): crc for table, block, crc in said},
        frozenset((table, block) for table, block in touched),
    )


def refuse_changed_rows(sums: RowSums | None, table: str, values: Values, location: str) -> None:
    """Raise StoreError where the rows of a table are not those that were written.

    values : column -> value of every row, in the order of `row_number`, which is among them; columns without any value
        may be left out
    """
    if sums is None:
        return
    numbers = np.asarray(values["row_number"], dtype=np.int64)
    blocks, first = np.unique(numbers // BLOCK, return_index=True)
    last = [*first[1:].tolist(), len(numbers)][: len(first)]
    found = {
        (table, block): _sum_of({name: column[begin:end] for name, column in values.items()})
        for block, begin, end in zip(blocks.tolist(), first.tolist(), last, strict=True)
        if (table, block) not in sums.unsettled
    }
    said = {
        place: crc
        for place, crc in sums.of_blocks.items()
        if place[0] == table and place not in sums.unsettled
    }
    if found != said:
        raise damaged(location, f"rows of its table {table}")


def refuse_changed_table(connection: sa.Connection, sums: RowSums | None, table: str, location: str) -> None:
    """`refuse_changed_rows` of a small table, which is read for it."""
    if sums is not None:
        refuse_changed_rows(sums, table, _values(connection, table, None), location)


def damaged(location: str, what: str) -> StoreError:
    """The error of a store that is not as it was written."""
    return StoreError(
        f"{location_in_words(location)} must be as it was written. Got {what} that differ from their checksum instead: "
        "it is damaged. Remedy: restore it from a copy, or import it anew to another place with -o."
    )


def note_image(connection: sa.Connection, name: str, file: Path) -> None:
    """Keep the checksum of an image file that was written."""
    connection.execute(sa.insert(IMAGE_SUMS), {"file": name, "crc": zlib.crc32(file.read_bytes())})


def is_image_changed(connection: sa.Connection, name: str, file: Path) -> bool:
    """Whether an image file is another than was written; False for one without a checksum."""
    said = connection.execute(sa.select(IMAGE_SUMS.c.crc).where(IMAGE_SUMS.c.file == name)).scalar()
    return said is not None and int(said) != zlib.crc32(file.read_bytes())


def _values_of_block(connection: sa.Connection, table: str, block: int) -> Values:
    return _values(connection, table, (block * BLOCK, (block + 1) * BLOCK))


def _values(connection: sa.Connection, table: str, between: tuple[int, int] | None) -> Values:
    columns = [column for column in _CHECKED[table].c if column.name != "row_number"]
    query = sa.select(_ROWID, *columns).order_by(sa.literal_column("rowid"))
    if between is not None:
        query = query.where(sa.literal_column("rowid") >= between[0], sa.literal_column("rowid") < between[1])
    rows = connection.execute(query).all()
    names = ["row_number", *(column.name for column in columns)]
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _sum_of(values: Values) -> int:
    """Of the columns that hold anything, by name; the values as Python's marshal writes them, which nobody reads."""
    total = 0
    for name in sorted(values):
        column = values[name]
        if column.count(None) < len(column):
            total = zlib.crc32(marshal.dumps(tuple(column), 2), zlib.crc32(name.encode(), total))
    return total
