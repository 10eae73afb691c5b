"""What is recorded while a session runs, checked against what the store holds: shots, results, overrides.

Recording the same thing twice writes one event, so that a watcher that starts again, or two that see the same file, do
no harm. Every function works in the caller's write transaction.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cryoscout.core.errors import InputError, StoreError
from cryoscout.session.live_exposures import live_exposure_id
from cryoscout.session.model import SessionInfo, outcome_of_ctf
from cryoscout.session.overrides import Order, Overrides, Undo, override_of
from cryoscout.session.store_database import readable
from cryoscout.session.store_events import apply_event, exposure_at, exposure_called
from cryoscout.session.store_layout import EVENTS, SESSION_ROW, SESSION_TABLES, insert_event, unpack_payload
from cryoscout.session.store_schema import last_free_override

_IDS_PER_STATEMENT = 500
_NAMES_COMPARED = 5000


def append_event(
    connection: sa.Connection, kind: str, payload: Mapping[str, object], at: datetime | None = None
) -> int:
    """Append one event, fold it into the tables and return its id."""
    number = insert_event(connection, kind, payload, at)
    apply_event(connection, kind, payload)
    return number


def record_imaged(
    connection: sa.Connection,
    location: str,
    hole_id: str,
    started_at: pd.Timestamp | datetime | None,
    shot: int,
    exposure_id: str | None,
    author: str | None = None,
) -> str:
    """See `SessionStore.record_imaged`."""
    there = exposure_at(connection, hole_id, shot)
    _check_shot(connection, location, hole_id, shot)
    started = None if started_at is None else pd.Timestamp(started_at).isoformat(timespec="nanoseconds")
    live_id = live_exposure_id(hole_id, shot)
    called = exposure_id or live_id
    if there is not None and called == live_id:
        called = there.exposure_id
    _check_free(connection, called, hole_id, shot)
    if (
        there is None
        or there.outcome == "none"
        or there.exposure_id != called
        or (there.started_at is None and started is not None)
    ):
        payload = {"exposure_id": called, "hole_id": hole_id, "shot": shot, "started_at": started}
        append_event(connection, "imaged", _by(author, payload))
    return called


def _by(author: str | None, payload: dict[str, Any]) -> dict[str, Any]:
    return payload if author is None else {**payload, "author": author}


def record_outcome(
    connection: sa.Connection, exposure_id: str, ctf_max_res_angstrom: float, author: str | None = None
) -> str:
    """See `SessionStore.record_outcome`."""
    outcome, kept = outcome_of_ctf(ctf_max_res_angstrom)
    if outcome == "pending" or ctf_max_res_angstrom <= 0:
        raise InputError(
            f"A CTF resolution must be above 0 angstrom. Got {ctf_max_res_angstrom} for {exposure_id!r} "
            f"instead."
        )
    value = kept if outcome == "measured" else None
    there = exposure_called(connection, exposure_id)
    if there is not None and (there.outcome, there.ctf_max_res_angstrom) == (outcome, value):
        return str(there.exposure_id)
    called = exposure_id if there is None else str(there.exposure_id)
    payload = {"exposure_id": called, "outcome": outcome, "ctf_max_res_angstrom": value}
    append_event(connection, "measured", _by(author, payload))
    return called


def checked_override(connection: sa.Connection, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of an override in its checked form.

    Raises InputError where it names a hole or square that the session does not have, or undoes what does not hold;
    the errors of `override_of`.
    """
    override = override_of(payload)
    if isinstance(override, Order):
        _check_places(connection, override.hole_ids, override.square_ids)
    elif isinstance(override, Undo):
        if not stored_overrides(connection).holds(override):
            raise InputError(
                f"An undo must be of an override that holds. Got {override.of} of "
                f"{override.hole_id or override.square_id or 'the session'!r}, which does not, instead."
            )
    else:
        hole_id, square_id = (getattr(override, name, None) for name in ("hole_id", "square_id"))
        _check_places(connection, [hole_id] if hole_id else [], [square_id] if square_id else [])
    return override.payload()


def stored_overrides(connection: sa.Connection) -> Overrides:
    """What holds of all overrides that were said, but those of a time when they had no form.

    Raises StoreError for an event that has another form.
    """
    state = Overrides()
    said = sa.select(EVENTS.c.id, EVENTS.c.at, EVENTS.c.payload).where(
        EVENTS.c.kind == "overridden", EVENTS.c.id > last_free_override(connection)
    )
    for number, at, packed in connection.execute(said.order_by(EVENTS.c.id)).all():
        try:
            override = override_of(unpack_payload(packed))
        except InputError as error:
            raise StoreError(
                f"Overrides of a store must be of this version of cryoscout. Got event {number} instead ({error}). "
                "Remedy: update cryoscout."
            ) from None
        state = state.of(override, at)
    return state


def _check_shot(connection: sa.Connection, location: str, hole_id: str, shot: int) -> None:
    holes = SESSION_TABLES["holes"]
    there = connection.execute(sa.select(holes.c.hole_id).where(holes.c.hole_id == hole_id)).first()
    info = connection.execute(sa.select(SESSION_ROW.c.info)).scalar_one()
    with readable(location):
        shots = SessionInfo.model_validate_json(info).shots
    if there is None or not 1 <= shot <= shots:
        raise InputError(
            f"An exposure must be a shot (1 to {shots}) of a hole of the session. "
            f"Got shot {shot} of {hole_id!r} instead."
        )


def _check_free(connection: sa.Connection, exposure_id: str, hole_id: str, shot: int) -> None:
    """An id is of one shot."""
    exposures = SESSION_TABLES["exposures"]
    there = connection.execute(
        sa.select(exposures.c.hole_id, exposures.c.shot).where(exposures.c.exposure_id == exposure_id)
    ).first()
    if there is not None and (there.hole_id, there.shot) != (hole_id, shot):
        raise InputError(
            f"An exposure id must be of one shot. Got {exposure_id!r} for shot {shot} of {hole_id!r}, which is shot "
            f"{there.shot} of {there.hole_id!r}, instead. Remedy: give the image's own id."
        )


def _check_places(connection: sa.Connection, hole_ids: Sequence[str], square_ids: Sequence[str]) -> None:
    for table, column, ids in (("holes", "hole_id", hole_ids), ("squares", "square_id", square_ids)):
        layout = SESSION_TABLES[table].c[column]
        known: set[str] = set()
        for first in range(0, len(ids), _IDS_PER_STATEMENT):
            some = ids[first : first + _IDS_PER_STATEMENT]
            known.update(connection.execute(sa.select(layout).where(layout.in_(some))).scalars())
        unknown = next((each for each in ids if each not in known), None)
        if unknown is not None:
            others = connection.execute(sa.select(layout).limit(_NAMES_COMPARED)).scalars()
            near = difflib.get_close_matches(unknown, list(others), n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"An override must name {table} of the session. Got {unknown!r} instead.{hint}")
