"""What every command shares at its edge: one JSON object, progress, and files not overwritten."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cryoscout.core.errors import InputError
from cryoscout.core.names import is_visible, visible_lines
from cryoscout.core.new_files import finite
from cryoscout.core.telling import Step, Telling, no_step

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_WHEN_NOT_A_TERMINAL = 160
SHOWN_AFTER_S = 1.0
"""A bar that is gone before anybody read it is not shown."""
SESSION_SUFFIX = ".session"


def print_json(payload: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout. NaN and infinities become null: JSON has no word for them."""
    text = json.dumps(finite(payload), allow_nan=False, ensure_ascii=False)
    # The same JSON, of which a terminal shows every character.
    if not is_visible(text):
        text = "".join([each if is_visible(each) else f"\\u{ord(each):04x}" for each in text])
    typer.echo(text)


def console() -> Console:
    """Where people read: stdout, without markup (ids may hold brackets), wide when it is not a terminal."""
    from rich.console import Console

    class Visible(Console):
        """Whatever a name holds, the terminal obeys none of it."""

        def print(self, *objects: Any, **named: Any) -> None:
            super().print(
                *(visible_lines(each) if isinstance(each, str) else each for each in objects), **named
            )

    width = None if sys.stdout.isatty() else WIDTH_WHEN_NOT_A_TERMINAL
    return Visible(markup=False, highlight=False, emoji=False, width=width)


def say(message: str) -> None:
    """One line for people, on stderr, so that stdout stays what was asked for."""
    typer.echo(visible_lines(message), err=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Step]:
    """A bar with the time left on stderr, of what takes over a second; none when stderr is not a terminal.

    Gives a function to call after each of the `total` steps, or after shares of them. How long a work of few steps
    takes is not known before the first, or a share of it, is done: until then the bar shows how long it has taken.
    """
    if not sys.stderr.isatty():
        yield no_step
        return
    from threading import Timer

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("so far, left"),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bars.add_task(what, total=total)
    done = 0.0

    def step(share: float = 1.0) -> None:
        nonlocal done
        done += share
        # Shares that are steps together are whole steps: 2 of 2, not 1.
        bars.update(task, completed=round(done, 6))

    shown = Timer(SHOWN_AFTER_S, bars.start)
    shown.daemon = True
    shown.start()
    try:
        yield step
    finally:
        shown.cancel()
        shown.join()
        bars.stop()


TELLING = Telling(say, progress)
"""What commands hand to the work below them."""


def session_folder(output: Path | None, name: str, store_dir: Path | None = None) -> Path:
    """Where a new session goes: the -o path or NAME.session, inside --store-dir where that is given.

    Raises InputError when the folder is not called NAME.session or its parent does not exist, or a full -o path
    would leave --store-dir unused.
    """
    if output is not None and output.is_absolute() and store_dir is not None:
        raise InputError(
            f"The session folder must be relative where --store-dir is given. Got -o {output} and --store-dir "
            f"{store_dir} instead. Remedy: leave --store-dir out, or give -o {output.name}."
        )
    folder = Path(f"{name}{SESSION_SUFFIX}") if output is None else output
    if store_dir is not None:
        folder = store_dir / folder
    if folder.suffix != SESSION_SUFFIX or not session_name(folder):
        raise InputError(
            f"The session folder must be called NAME{SESSION_SUFFIX}. Got {folder} instead. "
            f"Remedy: -o {folder.stem or 'mine'}{SESSION_SUFFIX}."
        )
    if not folder.parent.is_dir():
        raise InputError(
            f"The folder for the session must exist. Got {folder.parent} instead. Remedy: make it, or "
            "choose another."
        )
    return folder


def session_name(folder: Path) -> str:
    """The session's name: the folder's without its suffix."""
    return folder.name.removesuffix(SESSION_SUFFIX)
