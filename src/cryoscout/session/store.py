"""What is kept of a session: the events, the tables that are their fold, and the images.

A session on disk is a folder NAME.session with a database and an image array per patch. Events are only ever added; the
tables are their fold (see `store_events`), so what was known when can be read later and the tables can be rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from cryoscout.core.errors import StoreError, UnknownNameError
from cryoscout.core.new_files import write_whole
from cryoscout.core.telling import Progress, no_progress
from cryoscout.session import store_contents, store_records
from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.opened_store import OpenedStore
from cryoscout.session.place import DATABASE
from cryoscout.session.replacing import COMPLETE
from cryoscout.session.store_checks import (
    is_image_changed,
    note_image,
    refuse_changed_table,
    renew_sums,
    stored_sums,
)
from cryoscout.session.store_contents import (
    Event,
    StoredTables,
    append_update,
    events_after,
    read_before_places,
    read_tables,
    still_empty,
    stored_files,
)
from cryoscout.session.store_database import engine_of, keep_write_ahead_log, readable, reading, write
from cryoscout.session.store_events import (
    ROWS_PER_EVENT,
    apply_event,
    clear_tables,
    columns_of_frame,
    events_of_files,
    events_of_rows,
    row_chunks,
)
from cryoscout.session.store_layout import (
    EVENT_KINDS,
    EVENTS,
    FILES,
    SESSION_ROW,
    SESSION_TABLES,
    insert_event,
)
from cryoscout.session.store_schema import create_schema, last_event_id
from cryoscout.session.store_update import changes_between, counts_of_changes
from cryoscout.session.stored_images import array_of, image_file, save_images
from cryoscout.session.stored_rows import StoredRows
from cryoscout.session.tables import typed_table

_READS_BEFORE_LOCKING = 3


class SessionStore(OpenedStore):
    """One stored session; open it with `create` or `open`, and close it, or use it in a `with` block."""

    def save_import(
        self,
        session: Session,
        source: str,
        images: Mapping[str, NDArray[np.uint8]] | Iterable[tuple[str, NDArray[np.uint8]]] | None = None,
        at: datetime | None = None,
        files: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Write a session into a new store and put the store in its place.

        source : what was imported, for people     images : patch id -> (m, h, w) uint8, rows as
        `holes.image_row`; pairs of both are taken one by one, so that they need not all be in memory
        at : when, now if None     files : source -> file -> (size in bytes, mtime in ns) of the files read
        Raises StoreError when the store holds a session, InputError for wrong images.
        """
        tables = {table: columns_of_frame(table, getattr(session, table)) for table in SESSION_TABLES}
        if self._folder is None and images:
            raise StoreError(f"Images must go into a store in a folder. Got {self._in_words} instead.")

        def save(connection: sa.Connection) -> None:
            self._make_behind_url(connection)
            if connection.execute(sa.select(SESSION_ROW.c.name)).first() is not None:
                raise StoreError(
                    f"A store must be imported into once. Got {self._in_words}, which holds a session, "
                    f"instead. "
                    "Remedy: import into a new store."
                )
            info = session.info.model_dump_json()
            rows = events_of_rows(session.name, info, source, tables)
            pieces = sum(-(-len(next(iter(each.values()), [])) // ROWS_PER_EVENT) for each in tables.values())
            with progress("storing", 1 + pieces) as step:
                for payload in (*rows, *events_of_files(files or {})):
                    store_records.append_event(connection, "imported", payload, at)
                    step()

        self._write(save)
        self._is_to_be_made = False
        if images and self._folder is not None:
            pairs = images.items() if isinstance(images, Mapping) else images
            save_images(self._folder, session, pairs, self._note_image)
        if self._target is not None:
            self._put_in_place(self._target)

    def _note_image(self, file: Path) -> None:
        self._write(partial(note_image, name=file.name, file=file))

    def save_update(
        self,
        extend: Callable[[Session], Session],
        source: str,
        at: datetime | None = None,
        files: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
        progress: Progress = no_progress,
    ) -> dict[str, int]:
        """Write what an import adds: new rows, results of pending exposures, files read.

        extend : the stored session -> the session with what is new; it is called again where something was recorded
        meanwhile, so that nothing is lost     source, at, files : as in `save_import`
        Returns how many of each were written: squares, patches, holes, exposures, outcomes, predictions. Nothing
        at all is written where there is nothing new. Raises StoreError when the session changes or lacks anything
        that the store holds, which is left as it is.
        """
        read_files = {name: stamps for name, stamps in (files or {}).items() if stamps}
        for _ in range(_READS_BEFORE_LOCKING):
            stored = self.load_tables(progress)
            session = stored.session()
            changes = changes_between(session, extend(session))

            def save(
                connection: sa.Connection, seen: int = stored.last_event.id, changes: Any = changes
            ) -> bool:
                is_current = last_event_id(connection) == seen
                if is_current:
                    append_update(connection, changes, read_files, source, at, progress)
                return is_current

            if self._write(save):
                return counts_of_changes(changes)

        def save_holding_the_lock(connection: sa.Connection) -> dict[str, int]:
            session = read_tables(connection, self._location).session()
            changes = changes_between(session, extend(session))
            append_update(connection, changes, read_files, source, at)
            return counts_of_changes(changes)

        return self._write(save_holding_the_lock)

    def save_changes(
        self, changes: Callable[[StoredRows], list[dict[str, Any]]], source: str, at: datetime | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Write a few changes without loading the session, in the transaction in which they are found out.

        changes : given the stored rows, the payloads of `imported` events (see `store_events`) that change them; it
            may look at rows and must not judge by what it saw before     source, at : as in `save_import`
        Returns the payloads and the id of the newest event. Nothing is written where there are none, or where
        `changes` raises. The caller answers for what the payloads say, as `changes_between` does for `save_update`.
        """

        def save(connection: sa.Connection) -> tuple[list[dict[str, Any]], int]:
            rows = StoredRows(connection)
            payloads = changes(rows)
            for payload in [{"part": "again", "source": source}, *payloads] if payloads else []:
                store_records.append_event(connection, "imported", payload, at)
            return payloads, rows.last_event()

        return self._write(save)

    def files(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Source -> file -> (size in bytes, mtime in ns) of every file that was imported, as it was then.

        Raises StoreError where that is damaged.
        """
        with reading(self._engine, self._location) as connection:
            refuse_changed_table(connection, stored_sums(connection), FILES.name, self._location)
            return stored_files(connection)

    def read_before_places(self) -> set[str]:
        """Sources of `files` that were read last before the newest squares, holes or exposures came."""
        with reading(self._engine, self._location) as connection:
            return read_before_places(connection)

    def images(self, patch_id: str) -> NDArray[np.uint8] | None:
        """The image array of a patch, (m, h, w) uint8, row = `holes.image_row`; None where there is none.

        Raises ValueError or OSError for a file that is not a whole array.
        """
        if self._folder is None:
            return None
        file = image_file(self._folder, patch_id)
        if not file.is_file():
            return None
        with reading(self._engine, self._location) as connection:
            is_changed = is_image_changed(connection, file.name, file)
        if is_changed:
            raise ValueError(f"{file} differs from its checksum: it is damaged")
        return array_of(file)

    def load(self, progress: Progress = no_progress) -> Session:
        """The session as it is known now. Raises StoreError when nothing was imported yet or it cannot be read."""
        return self.load_tables(progress).session()

    def info(self) -> SessionInfo:
        """What is said about the session as a whole. Raises StoreError as `load`."""
        if self._is_to_be_made:
            raise still_empty(self._location)
        with reading(self._engine, self._location) as connection:
            try:
                return StoredRows(connection).info()
            except sa.exc.NoResultFound:
                raise still_empty(self._location) from None

    def load_tables(self, progress: Progress = no_progress) -> StoredTables:
        """What `load` makes the session of, and the last event in it. Raises StoreError as `load` does."""
        if self._is_to_be_made:
            raise still_empty(self._location)
        with reading(self._engine, self._location) as connection:
            return read_tables(connection, self._location, progress)

    def append(self, kind: str, payload: Mapping[str, object], at: datetime | None = None) -> int:
        """Append one event, fold it into the tables and return its id.

        kind : planned, sent, accepted, looked, noted or error (any JSON object); overridden (see `overrides`); imaged
        and measured as in `store_events`
        Raises UnknownNameError for another kind, InputError when the payload does not fit. Imports and
        predictions have their own methods, which check the rows.
        """
        allowed = [known for known in EVENT_KINDS if known not in ("imported", "predicted")]
        if kind not in allowed:
            raise UnknownNameError("The kind of an appended event", kind, allowed)

        def save(connection: sa.Connection) -> int:
            checked = store_records.checked_override(connection, payload) if kind == "overridden" else payload
            return store_records.append_event(connection, kind, checked, at)

        return self._write(save)

    def append_many(self, events: Iterable[tuple[str, Mapping[str, object]]]) -> int:
        """Append several events of the kinds of `append` in one transaction, all or none; the id of the last.

        Overrides are checked one after the other. Raises as `append` does.
        """

        def save(connection: sa.Connection) -> int:
            number = 0
            for kind, payload in events:
                if kind in ("imported", "predicted") or kind not in EVENT_KINDS:
                    allowed = [known for known in EVENT_KINDS if known not in ("imported", "predicted")]
                    raise UnknownNameError("The kind of an appended event", kind, allowed)
                checked = (
                    store_records.checked_override(connection, payload) if kind == "overridden" else payload
                )
                number = store_records.append_event(connection, kind, checked)
            return number

        return self._write(save)

    def record_imaged(
        self,
        hole_id: str,
        started_at: pd.Timestamp | datetime | None = None,
        shot: int = 1,
        exposure_id: str | None = None,
        author: str | None = None,
    ) -> str:
        """Record that a shot of a hole was taken; its result is pending. Returns the exposure's id.

        started_at : naive microscope time     exposure_id : the vendor's; None: the one the shot has, else HOLE#SHOT,
        which becomes the vendor's when that is known
        A shot that is recorded already is left as it is, but for an id and a time that were missing.
        Raises InputError when the hole or shot does not exist, was imaged under another id of the vendor, or the id is
        another shot's.
        """
        return self._write(
            lambda connection: store_records.record_imaged(
                connection, self._location, hole_id, started_at, shot, exposure_id, author
            ),
        )

    def record_outcome(self, exposure_id: str, ctf_max_res_angstrom: float, author: str | None = None) -> str:
        """Record the result of an exposure that was taken; a later result of the same exposure replaces it.

        exposure_id : the vendor's, or HOLE#SHOT     ctf_max_res_angstrom : > 0; infinity and >= 100 mean that the fit
        failed
        Returns the exposure's id. The result that it has already is not written again. Raises InputError for another
        value or an exposure that was not taken.
        """
        return self._write(
            lambda connection: store_records.record_outcome(
                connection, exposure_id, ctf_max_res_angstrom, author
            ),
        )

    def add_predictions(self, predictions: pd.DataFrame, at: datetime | None = None) -> None:
        """Add rows of predictions; the events keep them all, of each hole, model and threshold the newest is read.

        predictions : hole_id, model_id, and p_good or ctf_predicted_angstrom; threshold_angstrom is the session's and
        predicted_at unknown where they are left out. Plans use only models that have a row for every hole.
        Raises DataError as Session does, naming the row.

            store.add_predictions(pd.DataFrame({"hole_id": ids, "model_id": "mine", "p_good": probabilities}))
        """
        if "threshold_angstrom" not in predictions and "p_good" in predictions:
            threshold_angstrom = self.load().info.threshold_angstrom
            predictions = predictions.assign(threshold_angstrom=threshold_angstrom)
        elif "threshold_angstrom" not in predictions:
            predictions = predictions.assign(threshold_angstrom=np.nan)
        rows = typed_table("predictions", predictions)
        self.load().with_predictions(rows)

        def save(connection: sa.Connection) -> None:
            for chunk in row_chunks(columns_of_frame("predictions", rows)):
                store_records.append_event(connection, "predicted", {"columns": chunk}, at)

        self._write(save)

    def number_of_events(self) -> int:
        """How many events there are now."""
        with reading(self._engine, self._location) as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar_one())

    def events(self, after: int = 0, kind: str | None = None) -> Iterator[Event]:
        """The events in the order they came, a few at a time: what is added meanwhile comes too.

        after : id of an event; only later ones     kind : only these
        Raises UnknownNameError for an unknown kind.
        """
        if kind is not None and kind not in EVENT_KINDS:
            raise UnknownNameError("The kind of an event", kind, EVENT_KINDS)
        return self._read_events(after, kind)

    def newest_event(self) -> int:
        """Id of the newest event, 0 where there is none."""
        with reading(self._engine, self._location) as connection:
            return last_event_id(connection)

    def _read_events(self, after: int, kind: str | None) -> Iterator[Event]:
        while True:
            with reading(self._engine, self._location) as connection:
                piece = events_after(connection, self._location, after, kind)
            yield from piece
            if len(piece) < store_contents.EVENTS_PER_PIECE:
                return
            after = piece[-1].id

    def copy_as_of(self, folder: Path, event: int) -> None:
        """A store of its own, without images, of the events up to one: the session as it was then.

        folder : a NAME.session that is not there yet     event : id of the last event
        Raises StoreError as `open` does, and where the events do not begin with a whole import.
        """
        folder.mkdir()
        engine = engine_of(folder / DATABASE)
        keep_write_ahead_log(engine)

        def fill(connection: sa.Connection) -> None:
            create_schema(connection)
            for each in self.events():
                if each.id > event:
                    break
                insert_event(connection, each.kind, each.payload, datetime.fromisoformat(each.at), each.id)
                apply_event(connection, each.kind, each.payload)
            renew_sums(connection)

        try:
            write(engine, str(folder), fill)
        finally:
            engine.dispose()
        write_whole(folder / COMPLETE, "The first import into this session store is complete.\n")

    def rebuild(self) -> None:
        """Empty the tables and fold all events again, in one transaction."""

        def fold(connection: sa.Connection) -> None:
            clear_tables(connection)
            after = 0
            while piece := events_after(connection, self._location, after, None):
                for event in piece:
                    apply_event(connection, event.kind, event.payload)
                after = piece[-1].id

        with readable(self._location):
            self._write(fold)
