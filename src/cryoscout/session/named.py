"""Opening the session that a person names: built in, a folder, or a database behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.telling import SILENT, Telling
from cryoscout.session.model import Session

_SESSION_FOLDER_SUFFIX = ".session"


def load_session(spec: str, split: str | None = None, telling: Telling = SILENT) -> Session:
    """The session a person means by a built-in name, a NAME.session folder or a database URL.

    split : of a built-in session, its default when None
    telling : told when a copy is read, because the folder may not be written
    Raises UnknownNameError with the nearest name, InputError for a split of a stored session, StoreError
    when the
    folder cannot be read.
    """
    from cryoscout.session.builtin import BUILTIN_SESSIONS, Split, load_builtin
    from cryoscout.session.replacing import refuse_interrupted_replacement
    from cryoscout.session.store import SessionStore
    from cryoscout.session.store_database import is_url, location_in_words

    if spec in BUILTIN_SESSIONS:
        return load_builtin(spec) if split is None else load_builtin(spec, split=cast("Split", split))
    folder = Path(spec)
    if not is_url(spec) and not folder.is_dir():
        if folder.exists():
            raise InputError(
                f"A session must be a folder NAME.session, a built-in one or a database URL. Got the file {spec} "
                "instead. Remedy: make a session of it with cryoscout import."
            )
        if folder.suffix == _SESSION_FOLDER_SUFFIX:
            refuse_interrupted_replacement(folder)
        parent = folder.parent
        beside = [str(path) for path in parent.glob(f"*{_SESSION_FOLDER_SUFFIX}")] if parent.is_dir() else []
        raise UnknownNameError("The session", spec, [*BUILTIN_SESSIONS, *beside])
    if split is not None:
        raise InputError(
            f"A split must belong to a built-in session ({', '.join(BUILTIN_SESSIONS)}). Got split "
            f"{split!r} of {location_in_words(spec)} "
            "instead. Remedy: leave --split out."
        )
    with SessionStore.open_for_reading(spec) as store:
        if store.as_of is not None:
            telling.say(
                f"{spec} may only be read: as of {store.as_of:%Y-%m-%d %H:%M:%S}, when it was last written to."
            )
        return store.load(telling.progress)
