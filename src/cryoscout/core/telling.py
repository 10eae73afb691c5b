"""How work below the command line says what it does: handed in, so that nothing there prints by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

Say = Callable[[str], None]
"""One line for people."""

_Item = TypeVar("_Item")
ITEMS_AT_ONCE = 2_000
"""Of a long step: rows between two words about it, so that the words cost nothing beside the rows."""


class Step(Protocol):
    """Called after each step, or after each share of a long one."""

    def __call__(self, share: float = 1.0) -> None:
        """`share` : of the step, above 0 to 1"""


Progress = Callable[[str, int], AbstractContextManager[Step]]
"""(what is done, steps in all) -> a context that gives the function to call after each step."""


def no_step(share: float = 1.0) -> None:
    """Nothing is shown."""


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Step]:
    """Nothing is shown."""
    yield no_step


@contextmanager
def one_step(step: Step) -> Iterator[Step]:
    """One step that may be told in shares: it is told whole when the context ends, and never more than whole."""
    told = 0.0

    def tell(share: float = 1.0) -> None:
        nonlocal told
        share = min(share, 1.0 - told)
        if share > 0.0:
            told += share
            step(share)

    yield tell
    tell(1.0)


def in_shares(items: Sequence[_Item], step: Step, share: float) -> Iterator[_Item]:
    """The items one by one; `step` is told the `share` of a step that all of them are, some items at a time."""
    for start in range(0, len(items), ITEMS_AT_ONCE):
        some = items[start : start + ITEMS_AT_ONCE]
        yield from some
        step(share * len(some) / len(items))


@dataclass(frozen=True)
class Telling:
    """Where lines and progress go."""

    say: Say
    progress: Progress


SILENT = Telling(lambda message: None, no_progress)
"""For callers that show nothing, as in a library."""
