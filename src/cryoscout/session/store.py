"""A session on disk: a folder NAME.session with a database of events and tables, and an image array per
patch.

Events are only ever added; the tables are their fold (see `store_events`), so what was known when can be read
later and the tables can be rebuilt.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from cryoscout.core.errors import InputError, StoreError, StoreHeldError, UnknownNameError
from cryoscout.core.new_files import REPLACED, is_abandoned, prefix_of_partial, remove_leftovers, write_whole
from cryoscout.core.telling import Progress, no_progress
from cryoscout.session import store_records
from cryoscout.session.file_systems import is_on_network, refuse_network_file_system
from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.overrides import Overrides
from cryoscout.session.place import (
    DATABASE,
    LOCK,
    PlaceMark,
    Snapshot,
    identity_of,
    mark_of_place,
    mark_of_tables,
    may_be_written,
    refuse_changed_place,
    snapshot_of,
    write_lock,
)
from cryoscout.session.store_checks import (
    damaged,
    is_image_changed,
    note_image,
    refuse_changed_rows,
    refuse_changed_table,
    renew_sums,
)
from cryoscout.session.store_database import (
    Result,
    engine_of,
    is_url,
    keep_write_ahead_log,
    location_in_words,
    readable,
    reading,
    write,
)
from cryoscout.session.store_events import (
    ROWS_PER_EVENT,
    apply_event,
    clear_tables,
    columns_of_frame,
    events_of_files,
    events_of_rows,
    frame_of_columns,
    names_with_values,
    pieces_of,
    read_rows,
    row_chunks,
)
from cryoscout.session.store_layout import (
    EVENT_KINDS,
    EVENTS,
    FILES,
    SESSION_ROW,
    SESSION_TABLES,
    event_sum,
    insert_event,
    unpack_payload,
)
from cryoscout.session.store_schema import (
    SCHEMA_VERSION,
    check_version,
    create_schema,
    drop_schema,
    last_event_id,
    migrate,
    schema_version,
)
from cryoscout.session.store_update import changes_between, counts_of_changes
from cryoscout.session.stored_rows import StoredRows
from cryoscout.session.tables import typed_table

IMAGES = "images"
COMPLETE = "complete"
"""The file that says that the first import ended; it is written last, before the folder gets its name."""

_TOOK_THE_PLACE_OF = "It took the place of "
"""How its line begins that names what was set aside for this store, and may go once this one is there."""

_EVENTS_PER_PIECE = 200
_READS_BEFORE_LOCKING = 3
_RENAMES = 10
_EXCHANGE_S = 1.0
"""How long a store that is just being replaced is waited for."""


class EventMark(NamedTuple):
    """Which event is meant: the id alone would be that of another one where the store was replaced."""

    id: int
    kind: str
    at: str


@dataclass(frozen=True)
class Event:
    """One thing that happened to the session."""

    id: int
    kind: str
    at: str  # UTC, ISO 8601
    payload: dict[str, Any]

    @property
    def mark(self) -> EventMark:
        """Which event it is."""
        return EventMark(self.id, self.kind, self.at)


@dataclass(frozen=True)
class StoredTables:
    """What a store holds after one of its events: the tables in the order the rows came, not yet checked."""

    name: str
    info: SessionInfo
    tables: dict[str, pd.DataFrame]
    overrides: Overrides
    last_event: EventMark

    def session(self) -> Session:
        """The session of these tables. Raises DataError as Session does."""
        return Session(self.name, self.info, **self.tables, overrides=self.overrides)


class SessionStore:
    """One stored session; open it with `create` or `open`, and close it, or use it in a `with` block."""

    def __init__(
        self,
        engine: sa.Engine,
        location: str,
        folder: Path | None,
        target: Path | None,
        is_to_be_made: bool = False,
        force: bool = False,
        was: PlaceMark | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Use `create` or `open`.

        folder : where the database lies now, None behind a URL
        target : where the folder goes when the first import is complete, None afterwards
        is_to_be_made : behind a URL, whether the first import makes the tables     force : and drops those there are
        was : what stood at the place of a new store     snapshot : the copy that is read in place of the database
        """
        self._engine = engine
        self._location = location
        self._folder = folder
        self._target = target
        self._is_to_be_made = is_to_be_made
        self._force = force
        self._was = was or PlaceMark()
        self._snapshot = snapshot
        self._at = None if folder is None or target is not None else identity_of(folder / DATABASE)
        self._kept_open: sa.Connection | None = None
        self._is_swept = False

    @classmethod
    def create(cls, location: Path | str, force: bool = False, was: PlaceMark | None = None) -> Self:
        """A new store, waiting for `save_import`; until that ends nothing stands at its place.

        location : folder NAME.session, or a database URL (postgresql://..., sqlite:///...), which holds no
        images
        force : replace the store that is there, once the new one is complete
        was : what stood at the place when the command began (`mark_of_place`), None: what stands there now; where
        another command has stored something there since, `save_import` is refused and replaces nothing
        Raises StoreError when something is there already and may not be replaced, or on a network file
        system.
        """
        if is_url(location):
            engine = engine_of(str(location))
            seen = mark_of_place(location) if was is None else was
            with reading(engine, str(location)) as connection:
                _refuse_tables(connection, str(location), force)
            keep_write_ahead_log(engine)
            return cls(engine, str(location), None, None, is_to_be_made=True, force=force, was=seen)
        target = Path(location)
        refuse_network_file_system(target.parent)
        target = target.resolve() if target.is_symlink() else target
        seen = mark_of_place(target) if was is None else was
        refuse_interrupted_replacement(target)
        _refuse_occupied(target, force)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        folder = Path(tempfile.mkdtemp(prefix=prefix_of_partial(target), dir=target.parent))
        try:
            engine = engine_of(folder / DATABASE)
            keep_write_ahead_log(engine)
            write(engine, str(target), create_schema)
            return cls(engine, str(target), folder, target, was=seen)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def open(cls, location: Path | str) -> Self:
        """An existing store, brought to the present schema.

        Raises StoreError when there is none, its first import never ended, its schema is newer than this
        version of cryoscout, or it lies on a network file system. A refused store is left as it is.
        """
        if is_url(location):
            engine, folder = engine_of(str(location)), None
        else:
            folder = Path(location)
            _refuse_incomplete(folder)
            refuse_network_file_system(folder)
            if not may_be_written(folder):
                raise _not_writable(str(folder))
            engine = engine_of(folder / DATABASE)
        try:
            with reading(engine, str(location)) as connection:
                current = check_version(connection, location_in_words(location)) == SCHEMA_VERSION
            if not current:
                write(
                    engine, str(location), lambda connection: migrate(connection, location_in_words(location))
                )
        except StoreError:
            engine.dispose()
            raise
        # Only now: a database in another journal mode would be changed by it, and a refused one must not be.
        keep_write_ahead_log(engine)
        return cls(engine, str(location), folder, None)

    @classmethod
    def open_for_reading(cls, location: Path | str) -> Self:
        """An existing store that need not be writable: as `open`, or a copy of its database as it stands.

        The copy is taken where the folder may not be written, lies on a network file system or on a full disk; `as_of`
        then says when the store was last written to, and writing is refused. Images are read in place.
        Raises StoreError as `open` does.
        """
        if is_url(location):
            return cls.open(location)
        folder = Path(location)
        _refuse_incomplete(folder)
        if may_be_written(folder) and not is_on_network(folder):
            try:
                return cls.open(folder)
            except StoreHeldError:
                pass
        snapshot = snapshot_of(folder)
        try:
            engine = engine_of(snapshot.folder / DATABASE)
            with reading(engine, str(folder)) as connection:
                current = check_version(connection, str(folder)) == SCHEMA_VERSION
            if not current:
                write(engine, str(folder), lambda connection: migrate(connection, str(folder)))
        except BaseException:
            shutil.rmtree(snapshot.folder, ignore_errors=True)
            raise
        return cls(engine, str(folder), folder, None, snapshot=snapshot)

    @property
    def as_of(self) -> datetime | None:
        """When the store was last written to, where a copy of it is read; None where it is read in place."""
        return None if self._snapshot is None else self._snapshot.as_of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database; a store that was never filled leaves nothing behind."""
        if self._kept_open is not None:
            self._kept_open.close()
        self._engine.dispose()
        if self._snapshot is not None:
            shutil.rmtree(self._snapshot.folder, ignore_errors=True)
        if self._target is not None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def keep_open(self) -> None:
        """Hold a connection to the database that is at the place now, until `close`.

        Whenever nobody else has it open, SQLite moves its log into the database and waits for the disk: that would
        cost more than all else of one new event. On Windows a store that is held cannot be replaced.
        """
        if self._kept_open is not None:
            self._kept_open.close()
        with readable(self._location):
            self._kept_open = self._engine.connect()

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
        if images:
            self._save_images(session, images.items() if isinstance(images, Mapping) else images)
        if self._target is not None:
            self._put_in_place(self._target)

    @property
    def _in_words(self) -> str:
        return location_in_words(self._location)

    def _make_behind_url(self, connection: sa.Connection) -> None:
        """The tables come with the first import, in one transaction: a failed one leaves the database as it was."""
        if self._is_to_be_made:
            _refuse_tables(connection, self._location, self._force)
            refuse_changed_place(self._location, self._was, mark_of_tables(connection))
            if schema_version(connection) is not None:
                drop_schema(connection)
            create_schema(connection)

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
                    _append_update(connection, changes, read_files, source, at, progress)
                return is_current

            if self._write(save):
                return counts_of_changes(changes)

        def save_holding_the_lock(connection: sa.Connection) -> dict[str, int]:
            session = _load_tables(connection, self._location).session()
            changes = changes_between(session, extend(session))
            _append_update(connection, changes, read_files, source, at)
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
        """Source -> file -> (size in bytes, mtime in ns) of every file that was imported, as it was then."""
        with reading(self._engine, self._location) as connection:
            return _stored_files(connection)

    def _write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """The result of `work` in a transaction; refused where the store is no longer the one that was opened."""
        if self._snapshot is not None:
            raise _not_writable(self._location)

        def with_sums(connection: sa.Connection) -> Result:
            result = work(connection)
            renew_sums(connection)
            return result

        if self._at is None or self._folder is None:
            return write(self._engine, self._location, with_sums)
        folder = self._folder
        with write_lock(folder):
            if identity_of(folder / DATABASE) != self._at:
                raise StoreError(
                    f"A store must stay at its place while it is used. Got {folder}, which another command has "
                    "replaced or removed meanwhile, instead; nothing was written. Remedy: run this command again, on "
                    "the session that is there now."
                )
            if not self._is_swept:
                _remove_leftovers(folder)
                self._is_swept = True
            return write(self._engine, self._location, with_sums)

    def _put_in_place(self, target: Path) -> None:
        if self._folder is None:
            raise StoreError(f"A store with a place must have a folder. Got none for {target} instead.")
        self._engine.dispose()
        old = target.with_name(f"{self._folder.name}{REPLACED}")
        (self._folder / COMPLETE).write_text(
            "The first import into this session store is complete.\n"
            + ("" if self._was.folder is None else f"{_TOOK_THE_PLACE_OF}{old.name}\n")
        )
        self._folder.chmod(0o755)
        if self._was.folder is None:
            try:
                # A folder does not take the place of one that is filled, whoever fills it first.
                self._folder.rename(target)
            except OSError:
                refuse_changed_place(target, self._was, mark_of_place(target))
                raise
        else:
            with write_lock(target):
                refuse_changed_place(target, self._was, mark_of_place(target))
                target.rename(old)
                _rename_to(self._folder, target)
            shutil.rmtree(old, ignore_errors=True)
        self._folder, self._target = target, None
        self._at = identity_of(target / DATABASE)
        self._engine = engine_of(target / DATABASE)
        keep_write_ahead_log(self._engine)

    def _save_images(self, session: Session, images: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
        if self._folder is None:
            raise StoreError(f"Images must go into a store in a folder. Got {self._in_words} instead.")
        (self._folder / IMAGES).mkdir(exist_ok=True)
        rows_needed = session.holes.groupby("patch_id")["image_row"].max()
        for patch_id, array in images:
            if patch_id not in rows_needed.index:
                raise InputError(f"Images must belong to a patch of the session. Got {patch_id!r} instead.")
            needed = rows_needed[patch_id]
            if array.dtype != np.uint8 or array.ndim != 3 or (not pd.isna(needed) and len(array) <= needed):
                raise InputError(
                    f"The images of a patch must be an (m, height, width) uint8 array with a row for every "
                    f"image_row. Got {array.dtype} {array.shape} for {patch_id!r} instead."
                )
            file = self._folder / IMAGES / _image_file(patch_id)
            np.save(file, array, allow_pickle=False)
            self._write(partial(note_image, name=file.name, file=file))

    def images(self, patch_id: str) -> NDArray[np.uint8] | None:
        """The image array of a patch, (m, h, w) uint8, row = `holes.image_row`; None where there is none.

        Raises ValueError or OSError for a file that is not a whole array.
        """
        if self._folder is None:
            return None
        path = self._folder / IMAGES / _image_file(patch_id)
        if not path.is_file():
            return None
        with reading(self._engine, self._location) as connection:
            is_changed = is_image_changed(connection, path.name, path)
        if is_changed:
            raise ValueError(f"{path} differs from its checksum: it is damaged")
        # Mapped, so that a header that promises more than the file holds is refused before memory is taken, and an
        # archive by another name is not opened.
        array: NDArray[np.uint8] = np.array(np.lib.format.open_memmap(path, mode="r"))
        return array

    def load(self, progress: Progress = no_progress) -> Session:
        """The session as it is known now. Raises StoreError when nothing was imported yet or it cannot be read."""
        return self.load_tables(progress).session()

    def load_tables(self, progress: Progress = no_progress) -> StoredTables:
        """What `load` makes the session of, and the last event in it. Raises StoreError as `load` does."""
        if self._is_to_be_made:
            raise _still_empty(self._location)
        with reading(self._engine, self._location) as connection:
            return _load_tables(connection, self._location, progress)

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
                piece = _events_after(connection, self._location, after, kind)
            yield from piece
            if len(piece) < _EVENTS_PER_PIECE:
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
            while piece := _events_after(connection, self._location, after, None):
                for event in piece:
                    apply_event(connection, event.kind, event.payload)
                after = piece[-1].id

        with readable(self._location):
            self._write(fold)


def _append_update(
    connection: sa.Connection,
    changes: list[dict[str, Any]],
    files: Mapping[str, Mapping[str, tuple[int, int]]],
    source: str,
    at: datetime | None,
    progress: Progress = no_progress,
) -> None:
    """Nothing where nothing is new: another update may have read the same files meanwhile."""
    known = _stored_files(connection)
    new = {
        name: stamps for name, stamps in files.items() if not stamps.items() <= known.get(name, {}).items()
    }
    payloads = [*changes, *events_of_files(new)]
    if payloads:
        payloads.insert(0, {"part": "again", "source": source})
    with progress("storing", len(payloads)) as step:
        for payload in payloads:
            store_records.append_event(connection, "imported", payload, at)
            step()


def _stored_files(connection: sa.Connection) -> dict[str, dict[str, tuple[int, int]]]:
    """Source -> file -> (size in bytes, mtime in ns)."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in connection.execute(sa.select(FILES)).all():
        found.setdefault(row.source, {})[row.file] = (row.size, row.mtime_ns)
    return found


def _load_tables(connection: sa.Connection, location: str, progress: Progress = no_progress) -> StoredTables:
    row = connection.execute(sa.select(SESSION_ROW)).mappings().first()
    if row is None:
        raise _still_empty(location)
    with readable(location):
        refuse_changed_table(connection, SESSION_ROW.name, location)
        pieces = sum(pieces_of(connection, table) for table in SESSION_TABLES)
        with progress("reading the session", pieces) as step:
            tables = {table: _checked_table(connection, table, location, step) for table in SESSION_TABLES}
        info = SessionInfo.model_validate_json(row["info"])
        overrides = store_records.stored_overrides(connection)
        last = connection.execute(
            sa.select(EVENTS.c.id, EVENTS.c.kind, EVENTS.c.at).order_by(EVENTS.c.id.desc()).limit(1)
        ).first()
        if last is None:
            raise ValueError("a session without events")
    return StoredTables(row["name"], info, tables, overrides, EventMark(*last))


def _checked_table(
    connection: sa.Connection, table: str, location: str, step: Callable[[], None]
) -> pd.DataFrame:
    columns = read_rows(connection, table, ["row_number", *names_with_values(connection, table)], step)
    refuse_changed_rows(connection, table, columns, location)
    return frame_of_columns(table, {name: values for name, values in columns.items() if name != "row_number"})


def _events_after(connection: sa.Connection, location: str, after: int, kind: str | None) -> list[Event]:
    """The next few events behind an id."""
    query = sa.select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id).limit(_EVENTS_PER_PIECE)
    if kind is not None:
        query = query.where(EVENTS.c.kind == kind)
    rows = connection.execute(query).all()
    for row in rows:
        if row.crc is not None and row.crc != event_sum(row.kind, row.at, row.payload):
            raise damaged(location, f"the content of event {row.id}")
    return [Event(row.id, row.kind, row.at, unpack_payload(row.payload)) for row in rows]


def _still_empty(location: str) -> StoreError:
    return StoreError(
        f"A store must hold a session. Got {location_in_words(location)}, still empty, instead."
    )


def _image_file(patch_id: str) -> str:
    """Ids may hold any character; the file name keeps the readable ones."""
    return quote(patch_id, safe="") + ".npy"


def _refuse_tables(connection: sa.Connection, url: str, force: bool) -> None:
    """A database holds one session, and nothing that is not ours is ever dropped."""
    if not sa.inspect(connection).get_table_names():
        return
    if not force:
        raise StoreError(
            f"A new store must start in an empty database. Got tables in {location_in_words(url)} instead. "
            "Remedy: name another database, or add to the session with cryoscout import --update."
        )
    if schema_version(connection) is None:
        raise StoreError(
            f"Only a session store may be replaced. Got tables of something else in {location_in_words(url)} instead. "
            "Remedy: name another database."
        )


def database_is_filled(url: str) -> bool:
    """Whether a database has tables. Raises StoreError where it does not answer."""
    with reading(engine_of(url), url) as connection:
        return bool(sa.inspect(connection).get_table_names())


def _refuse_occupied(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise StoreError(
            f"A new session must get a new place. Got {target}, which exists, instead. "
            "Remedy: choose another name with -o, or add to it with cryoscout import --update."
        )
    if not (target / DATABASE).is_file():
        raise StoreError(
            f"Only a session store may be replaced. Got {target}, which holds no {DATABASE}, instead. "
            "Remedy: choose another name with -o."
        )


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left beside a store, also what this very store had replaced; never anything else.

    What cannot be removed stays: a store may be written in a folder that may not.
    """
    with contextlib.suppress(OSError):
        remove_leftovers(folder)
        for line in (folder / COMPLETE).read_text(encoding="utf-8").splitlines():
            if line.startswith(_TOOK_THE_PLACE_OF):
                old = folder.with_name(line.removeprefix(_TOOK_THE_PLACE_OF))
                if old.name.startswith(f".{folder.name}.partial-") and old.name.endswith(REPLACED):
                    shutil.rmtree(old, ignore_errors=True)


def _rename_to(folder: Path, target: Path) -> None:
    """Rename a store to a place that was emptied a moment ago.

    A writer that is late may have made the folder of its lock there again. Raises OSError where more is there.
    """
    for _ in range(_RENAMES):
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir() or not {entry.name for entry in target.iterdir()} <= {LOCK}:
                raise
            shutil.rmtree(target, ignore_errors=True)
        else:
            return
    folder.rename(target)


def refuse_interrupted_replacement(folder: Path) -> None:
    """Raise StoreError where no store is, but the one that --force was replacing lies beside, set aside.

    Where the process that does so still runs, the new one is waited for, for a moment.
    """
    if not folder.parent.is_dir():
        return
    pattern = f".{glob.escape(folder.name)}.partial-*{REPLACED}"
    ends = time.monotonic() + _EXCHANGE_S
    while not (folder / COMPLETE).is_file():
        aside = [old for old in sorted(folder.parent.glob(pattern)) if (old / COMPLETE).is_file()]
        if not aside:
            return
        if time.monotonic() > ends or all(is_abandoned(old) for old in aside):
            there = f", in the place of {folder}" if folder.exists() else f" back to {folder}"
            raise StoreError(
                f"A session store must be at its place. Got {folder}, which was set aside as {aside[0]} by an "
                f"import with --force that never ended, instead. Remedy: rename {aside[0]}{there}, "
                "then import again."
            )
        time.sleep(0.02)


def _not_writable(place: str) -> StoreHeldError:
    return StoreHeldError(
        f"A session that something is added to must lie where files may be written. Got {place} instead; nothing was "
        "written. Remedy: import its files with --store-dir FOLDER, a folder of your own on a local disk, or copy the "
        "session there. Planning and reporting need no writing."
    )


def _refuse_incomplete(folder: Path) -> None:
    refuse_interrupted_replacement(folder)
    if not folder.is_dir():
        raise StoreError(
            f"A session store must be a folder NAME.session. Got {folder} instead, which is not one. "
            "Remedy: make it with cryoscout import."
        )
    if not (folder / COMPLETE).is_file() or not (folder / DATABASE).is_file():
        raise StoreError(
            f"A session store must be complete. Got {folder}, whose import never ended, instead. "
            "Remedy: import again into a new place; this folder was left as it is."
        )
