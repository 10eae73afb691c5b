"""The life of a store: made beside its place, opened or copied, written to under its lock, put in place, closed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cryoscout.core.errors import StoreError, StoreHeldError
from cryoscout.core.new_files import prefix_of_partial
from cryoscout.session.file_systems import is_on_network, refuse_network_file_system
from cryoscout.session.place import (
    DATABASE,
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
from cryoscout.session.replacing import (
    not_writable,
    refuse_incomplete,
    refuse_interrupted_replacement,
    refuse_occupied,
    refuse_tables,
    remove_leftovers_of,
    take_place,
)
from cryoscout.session.store_checks import renew_sums
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
from cryoscout.session.store_schema import (
    SCHEMA_VERSION,
    check_version,
    create_schema,
    drop_schema,
    migrate,
    schema_version,
)


class OpenedStore:
    """A store that is open; what is kept in it is `SessionStore`."""

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
                refuse_tables(connection, str(location), force)
            keep_write_ahead_log(engine)
            return cls(engine, str(location), None, None, is_to_be_made=True, force=force, was=seen)
        target = Path(location)
        refuse_network_file_system(target.parent)
        target = target.resolve() if target.is_symlink() else target
        seen = mark_of_place(target) if was is None else was
        refuse_interrupted_replacement(target)
        refuse_occupied(target, force)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers_of(target)
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
            refuse_incomplete(folder)
            refuse_network_file_system(folder)
            if not may_be_written(folder):
                raise not_writable(str(folder))
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
        refuse_incomplete(folder)
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

    @property
    def _in_words(self) -> str:
        return location_in_words(self._location)

    def _make_behind_url(self, connection: sa.Connection) -> None:
        """The tables come with the first import, in one transaction: a failed one leaves the database as it was."""
        if self._is_to_be_made:
            refuse_tables(connection, self._location, self._force)
            refuse_changed_place(self._location, self._was, mark_of_tables(connection))
            if schema_version(connection) is not None:
                drop_schema(connection)
            create_schema(connection)

    def _write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """The result of `work` in a transaction; refused where the store is no longer the one that was opened."""
        if self._snapshot is not None:
            raise not_writable(self._location)

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
                remove_leftovers_of(folder)
                self._is_swept = True
            return write(self._engine, self._location, with_sums)

    def _put_in_place(self, target: Path) -> None:
        if self._folder is None:
            raise StoreError(f"A store with a place must have a folder. Got none for {target} instead.")
        self._engine.dispose()
        take_place(self._folder, target, self._was)
        self._folder, self._target = target, None
        self._at = identity_of(target / DATABASE)
        self._engine = engine_of(target / DATABASE)
        keep_write_ahead_log(self._engine)
