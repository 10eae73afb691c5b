"""How work below the command line says what it does: handed in, so that nothing there prints by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Say = Callable[[str], None]
"""One line for people."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""(what is done, steps in all) -> a context that gives the function to call after each step."""


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Nothing is shown."""
    yield lambda: None


@dataclass(frozen=True)
class Telling:
    """Where lines and progress go."""

    say: Say
    progress: Progress


SILENT = Telling(lambda message: None, no_progress)
"""For callers that show nothing, as in a library."""
