"""Single rows of a stored session, looked up inside a transaction: what an addition of a few rows must know of it.

Loading a session of twenty thousand exposures takes a second; one hole with its exposures takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cryoscout.session.model import SessionInfo
from cryoscout.session.store_events import frame_of_columns
from cryoscout.session.store_layout import EVENTS, SESSION_ROW, SESSION_TABLES
from cryoscout.session.tables import TABLES

_VALUES_PER_STATEMENT = 500

Row = Mapping[str, Any]
"""One row of a table as the database has it: None for a missing value, times as ISO text."""


class StoredRows:
    """The tables of one store as they are in the transaction of a connection."""

    def __init__(self, connection: sa.Connection) -> None:
        """connection : inside a transaction; the rows are of no use after it."""
        self._connection = connection

    def where(self, table: str, column: str, values: Collection[str]) -> list[Row]:
        """The rows whose column has one of the values, in the order they came."""
        layout = SESSION_TABLES[table]
        wanted = list(dict.fromkeys(values))
        rows: list[tuple[int, Row]] = []
        for first in range(0, len(wanted), _VALUES_PER_STATEMENT):
            some = wanted[first : first + _VALUES_PER_STATEMENT]
            found = self._connection.execute(sa.select(layout).where(layout.c[column].in_(some))).mappings()
            rows += [(row["row_number"], {name: row[name] for name in TABLES[table]}) for row in found.all()]
        return [row for _, row in sorted(rows, key=lambda pair: pair[0])]

    def frame(self, table: str, column: str, values: Collection[str]) -> pd.DataFrame:
        """The same as a typed table."""
        rows = self.where(table, column, values)
        return frame_of_columns(table, {name: [row[name] for row in rows] for name in TABLES[table]})

    def provenance(self) -> set[tuple[str, ...]]:
        """Every row of the table, columns in its order."""
        layout = SESSION_TABLES["provenance"]
        columns = [layout.c[name] for name in TABLES["provenance"]]
        return {tuple(row) for row in self._connection.execute(sa.select(*columns)).all()}

    def info(self) -> SessionInfo:
        """What is said about the session as a whole."""
        text = self._connection.execute(sa.select(SESSION_ROW.c.info)).scalar_one()
        return SessionInfo.model_validate_json(text)

    def timed_exposures(self) -> int:
        """How many exposures have a time."""
        column = SESSION_TABLES["exposures"].c.started_at
        return int(self._connection.execute(sa.select(sa.func.count(column))).scalar_one())

    def last_event(self, kind: str | None = None) -> int:
        """Id of the newest event, of one kind when named; 0 where there is none."""
        query = sa.select(sa.func.max(EVENTS.c.id))
        if kind is not None:
            query = query.where(EVENTS.c.kind == kind)
        return int(self._connection.execute(query).scalar() or 0)
