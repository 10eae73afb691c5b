"""The one tree of errors that cryoscout raises for what a user or a file did.

    CryoscoutError
    ├── InputError          an argument or option is outside what is allowed
    │   └── UnknownNameError    a name is not in a registry; carries the nearest names
    ├── FileFormatError     a file does not say what its format must say (file and line)
    ├── ServiceError        a service on the network refuses, fails or does not answer
    ├── StoreError          a session store cannot be opened, read or written
    └── DataError           a session lacks what the asked-for step needs

Every message has one form: "X must be ... Got ... instead." and then the remedy. The command line prints the
message alone and leaves with exit code 2; a traceback means a defect of cryoscout.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class CryoscoutError(Exception):
    """Base of everything cryoscout raises on purpose."""


class InputError(CryoscoutError):
    """An argument or option is outside what is allowed."""


class UnknownNameError(InputError):
    """A name is not one of the known ones; the message offers the nearest."""

    def __init__(self, what: str, got: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(got, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"{what} must be one of {', '.join(known)}. Got {got!r} instead.{hint}")
        self.nearest: str | None = near[0] if near else None


class FileFormatError(CryoscoutError):
    """A file does not say what its format must say.

    path : the file     line : 1-based line number, None where the format has no lines
    """

    def __init__(self, path: Path | str, line: int | None, message: str) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {message}")
        self.path = Path(path)
        self.line = line
        self.detail = message


class ServiceError(CryoscoutError):
    """A service on the network refuses, fails or does not answer."""


class StoreError(CryoscoutError):
    """A session store cannot be opened, read or written."""


class StoreHeldError(StoreError):
    """The database of a store does not take or give anything now: held by others, no room, no permission."""


class DataError(CryoscoutError):
    """A session lacks what the asked-for step needs (predictions, outcomes, times)."""


@contextmanager
def interruptions_as_such() -> Iterator[None]:
    """Raise the KeyboardInterrupt that an error inside came from, in the place of the error.

    Ctrl-C in compiled code comes out of it as `SystemError: ... returned a result with an exception set`.
    """
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None and not isinstance(behind, KeyboardInterrupt):
            behind = behind.__cause__
        if behind is None:
            raise
        raise behind from None
