"""What is damaged in a stored session: all of it, where reading stops at the first."""

from __future__ import annotations

from pathlib import Path

from cryoscout.core.errors import CryoscoutError
from cryoscout.core.telling import Progress, no_progress
from cryoscout.session.place import DATABASE
from cryoscout.session.store import SessionStore


def is_stored_session(path: Path) -> bool:
    """Whether a folder holds the database of a session."""
    return (path / DATABASE).is_file()


def damage_of(folder: Path, progress: Progress = no_progress) -> list[tuple[str, str]]:
    """(what, message) of everything in a stored session that is not as it was written; empty where it is whole.

    Tables, events and images are read and compared with their checksums. Nothing is written.
    """
    try:
        with SessionStore.open_for_reading(folder) as store:
            return [*_of_tables_and_images(store, progress), *_of_events(store, progress)]
    except CryoscoutError as error:
        return [("session", str(error))]


def _of_tables_and_images(store: SessionStore, progress: Progress) -> list[tuple[str, str]]:
    try:
        session = store.load(progress)
        store.files()
    except CryoscoutError as error:
        return [("tables", str(error))]
    found = []
    has_image = session.holes.groupby("patch_id")["image_row"].count()
    with progress("checking images", len(session.patches)) as step:
        for patch_id in session.patches["patch_id"]:
            step()
            element = f"images of patch {patch_id}"
            try:
                is_missing = store.images(patch_id) is None and has_image.get(patch_id, 0) > 0
            except (ValueError, OSError) as error:
                found.append((element, f"must be as they were written. Got {error} instead."))
                continue
            if is_missing:
                found.append((element, "must be there. Got no file instead."))
    return found


def _of_events(store: SessionStore, progress: Progress) -> list[tuple[str, str]]:
    try:
        with progress("checking events", store.number_of_events()) as step:
            for _ in store.events():
                step()
    except CryoscoutError as error:
        return [("events", str(error))]
    return []
