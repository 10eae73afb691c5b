"""A stored session followed while it runs: loaded once, then brought up to date event by event, in memory.

After each event it is what loading the store again would give, at the cost of what the event changes. What needs the
whole session (`session`) is made when it is asked for; the arrays that a planner needs after each result are kept up.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.session.growing_table import GrowingTable
from cryoscout.session.hole_counts import HoleCounts
from cryoscout.session.live_exposures import shot_of_live_id
from cryoscout.session.model import Session
from cryoscout.session.overrides import Overrides, override_of
from cryoscout.session.store import SessionStore
from cryoscout.session.store_contents import Event, EventMark

_PLACES = ("grids", "squares", "patches", "holes")
_KEPT_AS_THEY_CAME = ("predictions", "provenance", "vendor_fields")
_PREDICTION_KEY = ("hole_id", "model_id", "threshold_angstrom")

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class CaughtUp:
    """What came since the last time."""

    events: tuple[Event, ...]
    is_replaced: bool = False
    """Whether another store stands at the place now; it was loaded anew, and `events` is empty."""


class FollowedSession:
    """The session of a store that others write to; `catch_up` brings it up to date. Not for several threads at once."""

    last_event: EventMark
    """The last event that is in it."""
    _is_torn: bool = False
    """Whether the tables in memory hold a part of an event, because it could not be folded."""
    _session: Session | None
    _base: (
        Session | None
    )  # The last session that was made; its places are those of the tables while it is not None.

    def __init__(self, store: SessionStore) -> None:
        """store : open; it is closed with this. Raises StoreError as `SessionStore.load` does."""
        self.store = store
        self._load()

    @classmethod
    def open(cls, location: Path | str) -> Self:
        """Follow the store at a folder or database URL. Raises StoreError as `SessionStore.open` and `load` do."""
        store = SessionStore.open(location)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def catch_up(self) -> CaughtUp:
        """Take in the events that came since. Raises StoreError when the store cannot be read; nothing is lost then."""
        before = self.last_event
        events = list(self.store.events(after=before.id - 1))
        if not events or events[0].mark != before:
            self._load()
            self._is_torn = False
            return CaughtUp((), is_replaced=True)
        new = events[1:]
        if not self._is_torn:
            try:
                for event in new:
                    self._fold(event)
            except Exception:  # noqa: BLE001  whatever it is: half of an event may be in the tables
                self._is_torn = True
        if self._is_torn:
            # What is stored is what the store itself made of the events: it is read, and every event is still told.
            self._load()
            self._is_torn = False
            newest = new[-1].id if new else before.id
            new += [event for event in self.store.events(after=newest) if event.id <= self.last_event.id]
        elif new:
            self.last_event = new[-1].mark
        return CaughtUp(tuple(new))

    @property
    def overrides(self) -> Overrides:
        """What operators said against the plan, as it holds now."""
        return self._overrides

    @property
    def session(self) -> Session:
        """The session as it is now, as `SessionStore.load` gives it; the same one until something changes."""
        if self._session is None:
            self._session = self._as_session()
        return self._session

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self._place_of_hole())

    def hole_index(self, hole_id: str) -> int:
        """Index of the hole in the order of `session`. Raises InputError with the nearest id."""
        place = self._place_of_hole().get(hole_id)
        return self.session.hole_index(hole_id) if place is None else place

    def good_by_hole(self, threshold_angstrom: float) -> NDArray[np.float64]:
        """(n,) good micrographs of each hole; NaN where none has a result."""
        counts = self._hole_counts()
        if not counts.knows(threshold_angstrom):
            hole, exposures = self._hole_of_exposure(), self._tables["exposures"]
            counts.count_good(threshold_angstrom, hole, exposures.column("ctf_max_res_angstrom"))
        return counts.good(threshold_angstrom)

    def results_by_hole(self) -> NDArray[np.float64]:
        """(n,) exposures of each hole that have a result."""
        return self._hole_counts().results()

    def imaged_by_hole(self) -> NDArray[np.bool_]:
        """(n,) whether an exposure of the hole was taken."""
        return self._hole_counts().is_imaged()

    def taken_by_hole(self) -> NDArray[np.int64]:
        """(n,) exposures of each hole that were taken, with or without a result."""
        return self._hole_counts().taken()

    def last_started_at(self) -> np.datetime64 | None:
        """When the last imaged exposure started, by the microscope's clock; None where none has a time."""
        exposures = self._tables["exposures"]
        started_at = exposures.column("started_at")
        known = started_at[~np.isnat(started_at) & (exposures.column("outcome") != "none")]
        return known.max() if len(known) else None

    def started_at_of_last_row(self) -> np.datetime64 | None:
        """When the timed exposure that came to the store last started, whatever the others say; None for none."""
        exposures = self._tables["exposures"]
        started_at = exposures.column("started_at")
        known = started_at[~np.isnat(started_at) & (exposures.column("outcome") != "none")]
        return known[-1] if len(known) else None

    def exposure_holes(self) -> list[int]:
        """Holes of the exposures that were taken, in the order they came to the store."""
        taken = self._tables["exposures"].column("outcome") != "none"
        return [int(hole) for hole in self._hole_of_exposure()[taken]]

    def hole_of_exposure(self, exposure_id: str) -> str | None:
        """The hole of an exposure, None for one that is not known."""
        exposures = self._tables["exposures"]
        row = exposures.row_of(exposure_id)
        return None if row is None else str(exposures.value(row, "hole_id"))

    def last_imaged_hole(self) -> int | None:
        """Index of the hole whose exposure started last; None where no imaged exposure has a time."""
        exposures = self._tables["exposures"]
        started_at = exposures.column("started_at")
        rows = np.flatnonzero(~np.isnat(started_at))
        rows = rows[exposures.column("outcome")[rows] != "none"]
        if not len(rows):
            return None
        latest = rows[started_at[rows] == started_at[rows].max()].tolist()
        places = self._place_of_hole()
        return min(places[exposures.value(row, "hole_id")] for row in latest)

    def _load(self) -> None:
        self.store.keep_open()
        stored = self.store.load_tables()
        session = stored.session()
        self.last_event = stored.last_event
        self._name, self._info, self._overrides = stored.name, stored.info, stored.overrides
        self._tables = {table: GrowingTable(table, frame) for table, frame in stored.tables.items()}
        exposures = self._tables["exposures"]
        shots = zip(exposures.column("hole_id"), exposures.column("shot").tolist(), strict=True)
        self._row_of_shot = dict(zip(shots, range(len(exposures)), strict=True))
        self._runs_of: dict[str, list[int]] = {}
        for row, exposure_id in enumerate(self._tables["ctf_runs"].column("exposure_id")):
            self._runs_of.setdefault(exposure_id, []).append(row)
        self._prediction_rows: dict[tuple[str, str, float | None], int] | None = None
        self._session = session
        self._base = session
        self._places: dict[str, int] | None = None
        self._counts: HoleCounts | None = None

    def _place_of_hole(self) -> dict[str, int]:
        if self._places is None:
            holes = (self._base or self.session).holes["hole_id"].tolist()
            self._places = dict(zip(holes, range(len(holes)), strict=True))
        return self._places

    def _hole_of_exposure(self) -> NDArray[np.int64]:
        places = self._place_of_hole()
        ids = self._tables["exposures"].column("hole_id").tolist()
        return np.fromiter((places[hole_id] for hole_id in ids), dtype=np.int64, count=len(ids))

    def _hole_counts(self) -> HoleCounts:
        if self._counts is None:
            exposures = self._tables["exposures"]
            columns = (exposures.column(name) for name in ("outcome", "ctf_max_res_angstrom"))
            self._counts = HoleCounts(self.n_holes, self._hole_of_exposure(), *columns)
        return self._counts

    def _as_session(self) -> Session:
        frames = {table: each.frame() for table, each in self._tables.items()}
        if self._base is None:
            made = Session(self._name, self._info, **frames, overrides=self._overrides)
        else:
            made = self._on_the_same_places(self._base, frames)
        self._base = made
        return made

    def _on_the_same_places(self, base: Session, frames: Mapping[str, pd.DataFrame]) -> Session:
        """The session with other rows at the same places: their order is known, and the events were checked."""
        made = copy.copy(base)
        hole = self._hole_of_exposure()
        order = np.lexsort((self._tables["exposures"].column("shot"), hole))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        changed = {table: frames[table] for table in _KEPT_AS_THEY_CAME}
        changed["exposures"] = _in_order(frames["exposures"], order)
        runs = self._tables["ctf_runs"]
        exposures = self._tables["exposures"]
        of_run = [place[exposures.known_row(each)] for each in runs.column("exposure_id").tolist()]
        changed["ctf_runs"] = _in_order(
            frames["ctf_runs"], np.lexsort((runs.column("run"), np.array(of_run, dtype=np.int64)))
        )
        for name, value in {**changed, "info": self._info, "overrides": self._overrides}.items():
            # A frozen dataclass; this one is not given out yet.
            object.__setattr__(made, name, value)
        return made

    def _fold(self, event: Event) -> None:
        """See `store_events`, which does the same in the database."""
        payload = event.payload
        if event.kind == "imported":
            self._fold_imported(payload)
        elif event.kind == "predicted":
            self._upsert_predictions(payload["columns"])
        elif event.kind == "imaged":
            self._fold_imaged(payload)
        elif event.kind == "measured":
            self._fold_measured(payload)
        elif event.kind == "overridden":
            self._overrides = self._overrides.of(override_of(payload), event.at)
        else:
            return
        self._session = None

    def _fold_imported(self, payload: Mapping[str, Any]) -> None:
        part, columns = payload["part"], payload.get("columns", {})
        if part == "rows":
            self._append_rows(payload["table"], columns)
        elif part == "info":
            self._info = type(self._info).model_validate({**self._info.model_dump(), **payload["changes"]})
        elif part == "emptied":
            self._tables["patches"].remove(payload["patch_ids"])
            self._forget_places()
        elif part in ("patches", "chosen"):
            self._change_rows("holes", columns)
        elif part in ("outcomes", "better"):
            for exposure_id, outcome, ctf in zip(*columns.values(), strict=True):
                row = self._tables["exposures"].known_row(exposure_id)
                self._change_exposure(row, {"outcome": outcome, "ctf_max_res_angstrom": ctf})
        elif part == "taken":
            for exposure_id, taken in zip(columns["exposure_id"], columns["run"], strict=True):
                for row in self._runs_of.get(exposure_id, ()):
                    is_taken = self._tables["ctf_runs"].value(row, "run") == taken
                    self._tables["ctf_runs"].change(row, {"taken": bool(is_taken)})
        elif part == "renamed":
            for exposure_id, new_id in zip(columns["exposure_id"], columns["new_id"], strict=True):
                self._rename(exposure_id, new_id)
        elif part == "filled":
            self._change_rows(payload["table"], columns)

    def _append_rows(self, table: str, columns: Columns) -> None:
        if table == "predictions":
            self._upsert_predictions(columns)
            return
        rows = self._tables[table].append(columns)
        if table in _PLACES:
            self._forget_places()
        elif table == "exposures":
            shots = zip(columns["hole_id"], columns["shot"], strict=True)
            self._row_of_shot.update(zip(shots, rows, strict=True))
            for row in rows:
                self._count(row, 1)
        elif table == "ctf_runs":
            for row, exposure_id in zip(rows, columns["exposure_id"], strict=True):
                self._runs_of.setdefault(exposure_id, []).append(row)

    def _change_rows(self, table: str, columns: Columns) -> None:
        names = list(columns)
        for record_id, *values in zip(*columns.values(), strict=True):
            row = self._tables[table].known_row(record_id)
            self._tables[table].change(row, dict(zip(names[1:], values, strict=True)))
        if table in _PLACES:
            self._forget_places()

    def _forget_places(self) -> None:
        self._base = self._session = self._places = self._counts = None

    def _fold_imaged(self, payload: Mapping[str, Any]) -> None:
        exposures = self._tables["exposures"]
        shot = (payload["hole_id"], payload["shot"])
        row = self._row_of_shot.get(shot)
        if row is None:
            columns = {name: [payload[name]] for name in ("exposure_id", "hole_id", "shot", "started_at")}
            self._append_rows("exposures", {**columns, "outcome": ["pending"]})
            return
        if exposures.value(row, "exposure_id") != payload["exposure_id"]:
            self._rename(exposures.value(row, "exposure_id"), payload["exposure_id"])
        if exposures.value(row, "outcome") == "none":
            self._change_exposure(row, {"outcome": "pending", "started_at": payload["started_at"]})
        elif np.isnat(exposures.value(row, "started_at")):
            exposures.change(row, {"started_at": payload["started_at"]})

    def _fold_measured(self, payload: Mapping[str, Any]) -> None:
        exposures = self._tables["exposures"]
        row = exposures.row_of(payload["exposure_id"])
        if row is None:
            row = self._row_of_shot[shot_of_live_id(payload["exposure_id"]) or ("", 0)]
        self._change_exposure(row, {name: payload[name] for name in ("outcome", "ctf_max_res_angstrom")})
        for run in self._runs_of.get(exposures.value(row, "exposure_id"), ()):
            if self._tables["ctf_runs"].value(run, "taken"):
                self._tables["ctf_runs"].change(run, {"taken": False})

    def _change_exposure(self, row: int, values: Mapping[str, Any]) -> None:
        self._count(row, -1)
        self._tables["exposures"].change(row, values)
        self._count(row, 1)

    def _count(self, row: int, by: int) -> None:
        if self._counts is not None:
            exposures = self._tables["exposures"]
            place = self._place_of_hole()[exposures.value(row, "hole_id")]
            outcome = exposures.value(row, "outcome")
            self._counts.change(place, outcome, exposures.value(row, "ctf_max_res_angstrom"), by)

    def _rename(self, exposure_id: str, new_id: str) -> None:
        exposures = self._tables["exposures"]
        exposures.change(exposures.known_row(exposure_id), {"exposure_id": new_id})
        runs = self._runs_of.pop(exposure_id, [])
        for run in runs:
            self._tables["ctf_runs"].change(run, {"exposure_id": new_id})
        if runs:
            self._runs_of[new_id] = runs

    def _upsert_predictions(self, columns: Columns) -> None:
        """Of a hole, a model and a threshold the newest stays, of equally old ones the last."""
        table, row_of = self._tables["predictions"], self._rows_of_predictions()
        filled = {name: columns.get(name) or [None] * len(columns["hole_id"]) for name in table.names}
        keys = list(zip(*(filled[name] for name in _PREDICTION_KEY), strict=True))
        first = {key: number for number, key in reversed(list(enumerate(keys))) if key not in row_of}
        added = sorted(first.values())
        rows = table.append({name: [values[number] for number in added] for name, values in filled.items()})
        row_of.update(zip((keys[number] for number in added), rows, strict=True))
        for number, key in enumerate(keys):
            if first.get(key) != number:
                _replace_older(table, row_of[key], {name: values[number] for name, values in filled.items()})

    def _rows_of_predictions(self) -> dict[tuple[str, str, float | None], int]:
        if self._prediction_rows is None:
            table = self._tables["predictions"]
            *names, thresholds = (table.column(name).tolist() for name in _PREDICTION_KEY)
            said = (None if np.isnan(value) else value for value in thresholds)
            self._prediction_rows = dict(zip(zip(*names, said, strict=True), range(len(table)), strict=True))
        return self._prediction_rows


def _replace_older(table: GrowingTable, row: int, said: Mapping[str, Any]) -> None:
    before = table.value(row, "predicted_at")
    is_newer = np.isnat(before) or (
        said["predicted_at"] is not None and np.datetime64(said["predicted_at"], "ns") >= before
    )
    if is_newer:
        table.change(row, {name: value for name, value in said.items() if name not in _PREDICTION_KEY})


def _in_order(frame: pd.DataFrame, order: NDArray[np.int64]) -> pd.DataFrame:
    is_sorted = bool((np.diff(order) == 1).all())
    return frame if is_sorted else frame.iloc[order].reset_index(drop=True)
