"""From tables to events and back: the tables of a store are this fold over its events, and nothing else.

Payloads (JSON objects):
    imported    {"part": "session", "name", "info", "source"} first, then in chunks
                {"part": "rows", "table", "columns"}     new rows
                {"part": "files", "source", "columns"}   files that were read (file, size, mtime_ns)
                and of a later import
                {"part": "again", "source"}              what was imported, for people
                {"part": "info", "changes"}              more shots per hole, a time model that can be fitted now
                {"part": "patches", "columns"}           patches of holes imaged since (hole_id, patch_id)
                {"part": "emptied", "patch_ids"}         patches that no hole is in any more
                {"part": "outcomes", "columns"}          results of exposures that were pending
                {"part": "better", "columns"}            results of exposures that had a worse one
                {"part": "taken", "columns"}             the CTF run that counts now (exposure_id, run)
                {"part": "chosen", "columns"}            holes that are chosen now, or no more (hole_id, chosen)
                {"part": "renamed", "columns"}           vendor's ids of shots recorded before (exposure_id, new_id)
                {"part": "filled", "table", "columns"}   values that were missing, looks (id, then all of GAPS)
    predicted   {"columns"}: rows of predictions, in chunks; the newest of a hole, model and threshold is in the table
    imaged      {"exposure_id", "hole_id", "shot", "started_at"}
    measured    {"exposure_id", "outcome": "measured" | "failed", "ctf_max_res_angstrom": number or null}
    overridden  a model of `overrides`: what holds is folded from these events alone
    planned     what was advised, by whom and why: the first holes, the belief's parameters, no probabilities of all
    sent, accepted    holes handed to the microscope's software, and what it said of them
    looked, noted, error    what was screened, what somebody wrote, what went wrong
                These change no table. Every event that somebody caused may have an "author".
`columns` maps each column to its list of values, null where there is none; of new rows, a column without any value
may be left out: most sessions have many such columns, and a million nulls are not free.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from cryoscout.core.errors import InputError
from cryoscout.session.live_exposures import live_exposure_id, shot_of_live_id
from cryoscout.session.store_layout import FILES, PREDICTION_KEY, SESSION_ROW, SESSION_TABLES
from cryoscout.session.tables import (
    TABLES,
    array_of,
    empty_table,
    may_be_missing,
    missing_values,
    typed_table,
)

ROWS_PER_EVENT = 5000
_IDS_PER_STATEMENT = 500
_ROWS_PER_PIECE = 500

Columns = dict[str, list[Any]]

_EXPOSURE = sa.select(
    *(
        SESSION_TABLES["exposures"].c[name]
        for name in ("exposure_id", "hole_id", "shot", "outcome", "ctf_max_res_angstrom", "started_at")
    )
)
_NEEDED = {
    "imaged": ("exposure_id", "hole_id", "shot", "started_at"),
    "measured": ("exposure_id", "outcome", "ctf_max_res_angstrom"),
}

_PLACES = frozenset(("grids", "squares", "patches", "holes", "exposures"))


def columns_of_frame(table: str, frame: pd.DataFrame, names: Sequence[str] | None = None) -> Columns:
    """A typed table as plain lists, None where a value is missing, times as ISO text.

    names : the columns to give; when None, all but those without any value
    """
    columns: Columns = {}
    for column in TABLES[table] if names is None else names:
        kind, values = TABLES[table][column], frame[column]
        is_missing = values.isna().to_numpy()
        if names is None and may_be_missing(kind) and is_missing.all():
            continue
        plain: list[Any]
        if kind == "time":
            plain = np.datetime_as_string(values.to_numpy(dtype="datetime64[ns]"), unit="ns").tolist()
        elif kind in ("nullable_int", "nullable_bool"):
            plain = values.astype(object).tolist()
        else:
            plain = values.tolist()
        for row in np.flatnonzero(is_missing):
            plain[row] = None
        columns[column] = plain
    return columns


def frame_of_columns(table: str, columns: Columns) -> pd.DataFrame:
    """The typed table of `columns_of_frame`."""
    n_rows = len(columns[next(iter(TABLES[table]))])
    if not n_rows:
        return empty_table(table)
    # Arrays, not Series: of Series pandas compares every index first, which takes longer than a small table.
    frame: dict[str, Any] = {}
    for column, kind in TABLES[table].items():
        if column not in columns and may_be_missing(kind):
            frame[column] = missing_values(kind, n_rows)
            continue
        values = columns[column]
        if kind == "time":
            times = ["NaT" if value is None else value for value in values]
            frame[column] = np.array(times, dtype="datetime64[ns]")
        elif kind in ("int", "bool"):
            frame[column] = np.asarray(values)
        else:
            frame[column] = array_of(kind, values)
    return typed_table(table, pd.DataFrame(frame))


def row_chunks(columns: Columns) -> Iterator[Columns]:
    """The rows in pieces of at most ROWS_PER_EVENT; nothing for an empty table."""
    n_rows = len(next(iter(columns.values())))
    for first in range(0, n_rows, ROWS_PER_EVENT):
        yield {column: values[first : first + ROWS_PER_EVENT] for column, values in columns.items()}


def events_of_rows(
    name: str, info_json: str, source: str, tables: Mapping[str, Columns]
) -> Iterator[dict[str, object]]:
    """Payloads of the `imported` events that hold a whole session.

    info_json : SessionInfo as JSON     source : what was imported, for people
    """
    yield {"part": "session", "name": name, "info": info_json, "source": source}
    for table, columns in tables.items():
        for chunk in row_chunks(columns):
            yield {"part": "rows", "table": table, "columns": chunk}


def brings_places(payload: Mapping[str, Any]) -> bool:
    """Whether an `imported` event adds squares, holes or exposures, or gives exposures the vendor's ids."""
    part = payload["part"]
    return part == "renamed" or (part == "rows" and payload["table"] in _PLACES)


def events_of_files(files: Mapping[str, Mapping[str, tuple[int, int]]]) -> Iterator[dict[str, object]]:
    """Payloads of the `imported` events that say which files were read.

    files : source -> file -> (size in bytes, mtime in ns)
    """
    for source, stamps in files.items():
        columns: Columns = {
            "file": list(stamps),
            "size": [size for size, _ in stamps.values()],
            "mtime_ns": [mtime_ns for _, mtime_ns in stamps.values()],
        }
        for chunk in row_chunks(columns):
            yield {"part": "files", "source": source, "columns": chunk}


def read_rows(
    connection: sa.Connection,
    table: str,
    names: Sequence[str] | None = None,
    step: Callable[[], None] = lambda: None,
) -> Columns:
    """All rows of a table in the order they came.

    names : the columns to read, `row_number` among them where it is wanted; when None, all but those without any value
    step : called after each of `pieces_of` the table
    """
    layout = SESSION_TABLES[table]
    names = rows_and_names(connection, table)[1] if names is None else names
    columns: Columns = {name: [] for name in names}
    rows = connection.execute(sa.select(*(layout.c[name] for name in names)).order_by(layout.c.row_number))
    # Rows in small pieces are gone before the garbage collector counts them: half the time of all at once.
    for piece in rows.partitions(_ROWS_PER_PIECE):
        for name, values in zip(names, zip(*piece, strict=True), strict=True):
            columns[name].extend(values)
        step()
    return columns


def pieces_of(rows: int) -> int:
    """In how many pieces so many rows of a table are read."""
    return -(-rows // _ROWS_PER_PIECE)


def rows_and_names(connection: sa.Connection, table: str) -> tuple[int, list[str]]:
    """How many rows a table has, and which of its columns hold anything."""
    layout = SESSION_TABLES[table]
    nullable = [column for column, kind in TABLES[table].items() if may_be_missing(kind)]
    counted = (sa.func.count(), *(sa.func.count(layout.c[name]) for name in nullable))
    rows, *counts = connection.execute(sa.select(*counted).select_from(layout)).one()
    empty = {name for name, count in zip(nullable, counts, strict=True) if not count}
    return int(rows), [column for column in TABLES[table] if column not in empty]


def clear_tables(connection: sa.Connection) -> None:
    """Empty every table that is a fold over the events."""
    for table in (*SESSION_TABLES.values(), SESSION_ROW, FILES):
        connection.execute(sa.delete(table))


def apply_event(connection: sa.Connection, kind: str, payload: Mapping[str, Any]) -> None:
    """Fold one event into the tables. Raises InputError when its payload does not fit its kind or them."""
    for key in _NEEDED.get(kind, ()):
        if key not in payload:
            raise InputError(
                f"The payload of an event of kind {kind} must have {key!r}. Got {sorted(payload)} instead."
            )
    if kind == "imported":
        _fold_imported(connection, payload)
    elif kind == "predicted":
        upsert_predictions(connection, payload["columns"])
    elif kind == "imaged":
        _fold_imaged(connection, payload)
    elif kind == "measured":
        _fold_measured(connection, payload)


def _fold_imported(connection: sa.Connection, payload: Mapping[str, Any]) -> None:
    part = payload["part"]
    if part == "session":
        connection.execute(sa.insert(SESSION_ROW).values(name=payload["name"], info=payload["info"]))
    elif part == "rows":
        if payload["table"] == "predictions":
            upsert_predictions(connection, payload["columns"])
        else:
            _insert_rows(connection, payload["table"], payload["columns"])
    elif part == "files":
        _fold_files(connection, payload["source"], payload["columns"])
    elif part == "info":
        info = json.loads(connection.execute(sa.select(SESSION_ROW.c.info)).scalar_one())
        changed = json.dumps({**info, **payload["changes"]})
        connection.execute(sa.update(SESSION_ROW).values(info=changed))
    elif part == "patches":
        _update_rows(connection, "holes", payload["columns"])
    elif part == "emptied":
        patches = SESSION_TABLES["patches"]
        for first in range(0, len(payload["patch_ids"]), _IDS_PER_STATEMENT):
            emptied = payload["patch_ids"][first : first + _IDS_PER_STATEMENT]
            connection.execute(sa.delete(patches).where(patches.c.patch_id.in_(emptied)))
    elif part in ("outcomes", "better"):
        _update_rows(connection, "exposures", payload["columns"])
    elif part == "taken":
        _fold_taken(connection, payload["columns"])
    elif part == "chosen":
        _update_rows(connection, "holes", payload["columns"])
    elif part == "renamed":
        for table in ("exposures", "ctf_runs"):
            _update_rows(connection, table, payload["columns"], {"new_id": "exposure_id"})
    elif part == "filled":
        _update_rows(connection, payload["table"], payload["columns"])


def _update_rows(
    connection: sa.Connection, table: str, columns: Columns, named: Mapping[str, str] | None = None
) -> None:
    """Set columns of existing rows; the first column is the id that finds them.

    named : column of the payload -> column of the table, where it is another one
    """
    names = list(columns)
    layout = SESSION_TABLES[table]
    update = (
        sa.update(layout)
        .where(layout.c[names[0]] == sa.bindparam("row_id"))
        .values({(named or {}).get(name, name): sa.bindparam(f"new_{name}") for name in names[1:]})
    )
    keys = ["row_id", *(f"new_{name}" for name in names[1:])]
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if rows:
        connection.execute(update, rows)


def _fold_taken(connection: sa.Connection, columns: Columns) -> None:
    """Of the runs of each exposure the one of that number counts, and no other."""
    runs = SESSION_TABLES["ctf_runs"]
    pairs = zip(columns["exposure_id"], columns["run"], strict=True)
    rows = [{"of_exposure": exposure_id, "taken_run": run} for exposure_id, run in pairs]
    if rows:
        counts_now = sa.update(runs).where(runs.c.exposure_id == sa.bindparam("of_exposure"))
        connection.execute(counts_now.values(taken=runs.c.run == sa.bindparam("taken_run")), rows)


def _fold_files(connection: sa.Connection, source: str, columns: Columns) -> None:
    """A file that was read again replaces what was known of it."""
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    known = sa.delete(FILES).where(FILES.c.source == source, FILES.c.file == sa.bindparam("read_file"))
    connection.execute(known, [{"read_file": row["file"]} for row in rows])
    connection.execute(sa.insert(FILES), [{"source": source, **row} for row in rows])


def _insert_rows(connection: sa.Connection, table: str, columns: Columns) -> None:
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if rows:
        connection.execute(sa.insert(SESSION_TABLES[table]), rows)


def upsert_predictions(connection: sa.Connection, columns: Columns) -> None:
    """Add predictions; of each hole, model and threshold the newest stays, of equally old ones the last."""
    table = SESSION_TABLES["predictions"]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table)
    key = {"hole_id", "model_id", "threshold_angstrom"}
    is_newer = table.c.predicted_at.is_(None) | (insert.excluded.predicted_at >= table.c.predicted_at)
    upsert = insert.on_conflict_do_update(
        index_elements=[sa.text(part) for part in PREDICTION_KEY],
        set_={name: insert.excluded[name] for name in TABLES["predictions"] if name not in key},
        where=is_newer,
    )
    names = list(columns)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if rows:
        connection.execute(upsert, rows)


def exposure_at(connection: sa.Connection, hole_id: str, shot: int) -> sa.Row[Any] | None:
    """The stored exposure (exposure_id, outcome, ctf_max_res_angstrom, started_at) of a shot; None without one."""
    exposures = SESSION_TABLES["exposures"]
    return connection.execute(
        _EXPOSURE.where(exposures.c.hole_id == hole_id, exposures.c.shot == shot)
    ).first()


def exposure_called(connection: sa.Connection, exposure_id: str) -> sa.Row[Any] | None:
    """The stored exposure of that id, or of the shot that the id HOLE#SHOT names; None without one."""
    found = connection.execute(
        _EXPOSURE.where(SESSION_TABLES["exposures"].c.exposure_id == exposure_id)
    ).first()
    shot = shot_of_live_id(exposure_id)
    return exposure_at(connection, *shot) if found is None and shot is not None else found


def _fold_imaged(connection: sa.Connection, payload: Mapping[str, Any]) -> None:
    exposures = SESSION_TABLES["exposures"]
    there = exposure_at(connection, payload["hole_id"], payload["shot"])
    values = {**{key: payload[key] for key in _NEEDED["imaged"]}, "outcome": "pending"}
    if there is None:
        connection.execute(sa.insert(exposures).values(ctf_max_res_angstrom=None, **values))
    elif there.outcome == "none":
        connection.execute(
            sa.update(exposures).where(exposures.c.exposure_id == there.exposure_id).values(**values)
        )
    elif there.exposure_id in (payload["exposure_id"], live_exposure_id(payload["hole_id"], payload["shot"])):
        if there.exposure_id != payload["exposure_id"]:
            ids = {"exposure_id": [there.exposure_id], "new_id": [payload["exposure_id"]]}
            _fold_imported(connection, {"part": "renamed", "columns": ids})
        if there.started_at is None:
            mine = exposures.c.exposure_id == payload["exposure_id"]
            connection.execute(sa.update(exposures).where(mine).values(started_at=payload["started_at"]))
    else:
        raise InputError(
            f"A shot must be imaged once. Got shot {payload['shot']} of hole {payload['hole_id']!r} again "
            f"instead "
            f"(exposure {there.exposure_id!r}, {there.outcome})."
        )


def _fold_measured(connection: sa.Connection, payload: Mapping[str, Any]) -> None:
    exposures = SESSION_TABLES["exposures"]
    there = exposure_called(connection, payload["exposure_id"])
    if there is None or there.outcome == "none":
        raise InputError(
            f"A result must belong to an exposure that was taken. Got {payload['exposure_id']!r} instead. "
            "Remedy: record that it was imaged first."
        )
    values = {name: payload[name] for name in ("outcome", "ctf_max_res_angstrom")}
    connection.execute(
        sa.update(exposures).where(exposures.c.exposure_id == there.exposure_id).values(**values)
    )
    # The result that was recorded counts now, and is none of the runs.
    runs = SESSION_TABLES["ctf_runs"]
    mine = (runs.c.exposure_id == there.exposure_id) & runs.c.taken
    connection.execute(sa.update(runs).where(mine).values(taken=sa.false()))
