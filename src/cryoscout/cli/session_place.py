"""Where the session of a command is, or is to be made: a folder, or a database behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryoscout.cli.output import session_folder, session_name
from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.session.model import Session

SessionArgument = Annotated[
    str | None,
    typer.Argument(metavar="SESSION", help="A NAME.session folder, or a built-in session: y1, y1-2022."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="A PostgreSQL database that holds the session, in place of SESSION: postgresql://HOST/DATABASE."
    ),
]
NewDatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="A PostgreSQL database for the session, in place of a folder: postgresql://HOST/DATABASE."
    ),
]


def session_at(session: str | None, database_url: str | None) -> str:
    """The session that is meant: SESSION or --database-url. Raises InputError unless one of them is given."""
    if session is not None and database_url is None:
        return session
    if session is None and database_url is not None:
        return _checked_url(database_url)
    got = "neither" if session is None else "both"
    raise InputError(f"The session must be named by SESSION or by --database-url. Got {got} instead.")


def place_of_new_session(
    output: Path | None, name: str, store_dir: Path | None = None, database_url: str | None = None
) -> Path | str:
    """Where a new session goes: the database of --database-url, else a folder as `session_folder` says.

    Raises InputError where both are said, or the folder is not one.
    """
    if database_url is None:
        return session_folder(output, name, store_dir)
    for option, given in (("-o", output), ("--store-dir", store_dir)):
        if given is not None:
            raise InputError(
                f"A session must go to one place. Got {option} {given} and --database-url instead. "
                "Remedy: leave one out."
            )
    return _checked_url(database_url)


def is_there(place: Path | str) -> bool:
    """Whether something is at a place already. Raises StoreError where a database does not answer."""
    from cryoscout.session.replacing import database_is_filled

    return place.exists() if isinstance(place, Path) else database_is_filled(place)


def in_words(place: Path | str) -> str:
    """A place as people may read it: without a password."""
    from cryoscout.session.store_database import location_in_words

    return location_in_words(place)


def refuse_images_in_database(place: Path | str, images: object) -> None:
    """Raise InputError, before the work, where images would go into a database."""
    if images and not isinstance(place, Path):
        raise InputError(
            f"Images must go into a session folder. Got {in_words(place)} instead. Remedy: leave them out, or give a "
            "folder with -o."
        )


def named_after(place: Path | str, session: Session) -> Session:
    """The session with the name of its folder; in a database it keeps its own."""
    from dataclasses import replace

    return replace(session, name=session_name(place)) if isinstance(place, Path) else session


def _checked_url(database_url: str) -> str:
    from cryoscout.session.store_database import is_url

    if not is_url(database_url):
        raise InputError(
            f"--database-url must be a database URL. Got {database_url!r} instead. "
            "Remedy: for example postgresql://USER@HOST/DATABASE."
        )
    return database_url


def folders_of_source(spec: str, session: Session) -> tuple[Path, ...]:
    """Folders that a stored EPU session was read from, as far as they are still there: its pictures are in them."""
    from cryoscout.core.errors import StoreHeldError
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.store import SessionStore

    if spec in BUILTIN_SESSIONS or session.info.format != "epu":
        return ()
    try:
        with SessionStore.open_for_reading(spec) as store:
            sources = [Path(source) for source in store.files()]
    except StoreHeldError:
        return ()
    return tuple(source for source in sources if source.is_dir())
