"""Where a new store may go, and how it takes the place of another one: nothing is replaced that was not to be.

A complete store is renamed to its place. What stood there is set aside first, and offered back where that was never
ended.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
import time
from pathlib import Path

import sqlalchemy as sa

from cryoscout.core.errors import StoreError, StoreHeldError
from cryoscout.core.new_files import REPLACED, is_abandoned, remove_leftovers
from cryoscout.session.place import DATABASE, LOCK, PlaceMark, mark_of_place, refuse_changed_place, write_lock
from cryoscout.session.store_database import engine_of, location_in_words, reading
from cryoscout.session.store_schema import schema_version

COMPLETE = "complete"
"""The file that says that the first import ended; it is written last, before the folder gets its name."""

_TOOK_THE_PLACE_OF = "It took the place of "
"""How its line begins that names what was set aside for this store, and may go once this one is there."""

_RENAMES = 10
_EXCHANGE_S = 1.0
"""How long a store that is just being replaced is waited for."""


def refuse_tables(connection: sa.Connection, url: str, force: bool) -> None:
    """Raise StoreError where a database is not empty and may not be replaced: it holds one session.

    Nothing that is not ours is ever dropped.
    """
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


def refuse_occupied(target: Path, force: bool) -> None:
    """Raise StoreError where something stands at a place and may not be replaced."""
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


def remove_leftovers_of(folder: Path) -> None:
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


def take_place(folder: Path, target: Path, was: PlaceMark) -> None:
    """Rename a complete store to its place.

    was : what stood there when the command began     Raises StoreError where something else stands there now; nothing
    was replaced then.
    """
    old = target.with_name(f"{folder.name}{REPLACED}")
    (folder / COMPLETE).write_text(
        "The first import into this session store is complete.\n"
        + ("" if was.folder is None else f"{_TOOK_THE_PLACE_OF}{old.name}\n")
    )
    folder.chmod(0o755)
    if was.folder is None:
        try:
            # A folder does not take the place of one that is filled, whoever fills it first.
            folder.rename(target)
        except OSError:
            refuse_changed_place(target, was, mark_of_place(target))
            raise
    else:
        with write_lock(target):
            refuse_changed_place(target, was, mark_of_place(target))
            target.rename(old)
            _rename_to(folder, target)
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


def not_writable(place: str) -> StoreHeldError:
    """The error of a writer where files may not be written."""
    return StoreHeldError(
        f"A session that something is added to must lie where files may be written. Got {place} instead; nothing was "
        "written. Remedy: import its files with --store-dir FOLDER, a folder of your own on a local disk, or copy the "
        "session there. Planning and reporting need no writing."
    )


def refuse_incomplete(folder: Path) -> None:
    """Raise StoreError where no complete store is."""
    refuse_interrupted_replacement(folder)
    if not folder.is_dir():
        raise StoreError(
            f"A session store must be a folder NAME.session. Got {folder} instead, which is not one. "
            "Remedy: make it with cryoscout import."
        )
    if not (folder / COMPLETE).exists() and not (folder / DATABASE).exists():
        raise StoreError(
            f"A session store must be a folder that cryoscout import made. Got {folder} instead, which is none. "
            "Remedy: name the NAME.session that cryoscout import wrote; of a folder of data it is made with "
            "cryoscout import FOLDER -o NAME.session."
        )
    if not (folder / COMPLETE).is_file() or not (folder / DATABASE).is_file():
        raise StoreError(
            f"A session store must be complete. Got {folder}, whose import never ended, instead. "
            "Remedy: import again into a new place; this folder was left as it is."
        )
