"""A stored session as it stood at a past moment: the events up to then, folded into a store of their own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cryoscout.core.errors import InputError
from cryoscout.session.store import SessionStore


def last_event_before(store: SessionStore, moment: datetime) -> int:
    """Id of the last event up to a time (aware). Raises InputError where there is none."""
    last = 0
    for event in store.events():
        if datetime.fromisoformat(event.at) > moment:
            break
        last = event.id
    if not last:
        raise InputError(
            f"The time must not be before the session's first event. Got {moment.isoformat()} instead. "
            "Remedy: a later time; times without a zone are local."
        )
    return last


def state_as_of(store: SessionStore, moment: datetime) -> dict[str, Any]:
    """What was imaged and known at a time (aware), what was advised last, and what operators had said.

    Raises InputError for a time before the session, StoreError as `SessionStore.load`.
    """
    event = last_event_before(store, moment)
    advised = None
    for each in store.events(kind="planned"):
        if each.id > event:
            break
        advised = " ".join(
            str(part)
            for part in (
                (each.payload.get("verdict") or {}).get("sentence"),
                (each.payload.get("why") or {}).get("sentence"),
            )
            if part
        )
    with TemporaryDirectory(prefix="cryoscout-") as folder:
        place = Path(folder) / "past.session"
        store.copy_as_of(place, event)
        with SessionStore.open(place) as past:
            session = past.load()
    said = session.overrides
    threshold = said.threshold_angstrom or session.info.threshold_angstrom
    return {
        "session": session.name,
        "at": moment.isoformat(timespec="seconds"),
        "event": event,
        "holes": session.n_holes,
        "holes_imaged": int(session.imaged_by_hole().sum()),
        "exposures": int((session.exposures["outcome"] != "none").sum()),
        "results": int(session.results_by_hole().sum()),
        "good": float(np.nansum(session.good_by_hole(threshold))),
        "threshold_angstrom": threshold,
        "advised": advised,
        "overrides": {
            "holes": dict(said.holes),
            "squares": dict(said.squares),
            "hole order": list(said.hole_order),
            "square order": list(said.square_order),
            "paused": said.is_paused,
            "budget": None if said.budget is None else said.budget.payload(),
            "target": None if said.target is None else said.target.payload(),
        },
    }
