"""What every reader shares: how a deviation from a format is named, collected, and raised or reported.

Strict by default: the first deviation raises. With `permissive` the same messages are collected, the piece that
deviates is left out, and nothing else changes. `validate` lists all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryoscout.core.errors import FileFormatError

LARGEST_TEXT_BYTES = 512 * 1024 * 1024
"""A larger text or XML file is refused before it is read into memory."""


@dataclass(frozen=True)
class Deviation:
    """One place where a file does not say what its format must say."""

    line: int | None
    message: str
    element: str | None = None
    """Path of the element, key or column where the format has no lines; None otherwise."""


@dataclass
class Findings:
    """Collects the deviations of one file; strict unless `permissive`."""

    path: Path
    permissive: bool = False
    deviations: list[Deviation] = field(default_factory=list)

    def deviates(self, message: str, line: int | None = None, element: str | None = None) -> None:
        """Note a deviation, or raise it as FileFormatError when strict."""
        if not self.permissive:
            where = f"{element}: " if element else ""
            raise FileFormatError(self.path, line, where + message)
        self.deviations.append(Deviation(line, message, element))


def read_bytes(path: Path, limit: int = LARGEST_TEXT_BYTES) -> bytes:
    """The bytes of a file. Raises FileFormatError when it cannot be read, is no plain file, or is over the limit."""
    try:
        if not path.is_file():
            raise FileFormatError(path, None, "must be a file. Got something else, or nothing, instead.")
        size = path.stat().st_size
        if size > limit:
            raise FileFormatError(path, None, f"must be at most {limit:,} bytes. Got {size:,} instead.")
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(path, None, f"must be a readable file. Got {error.strerror} instead.") from None


def read_text(path: Path, limit: int = LARGEST_TEXT_BYTES) -> str:
    """The text of a UTF-8 (or, with a byte order mark, UTF-16) file; bytes that are not text raise FileFormatError."""
    data = read_bytes(path, limit)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FileFormatError(
            path,
            line,
            f"must be {encoding.removesuffix('-sig')} text. Got byte 0x{data[error.start]:02x} instead.",
        ) from None
    if "\0" in text:
        raise FileFormatError(
            path, text[: text.index("\0")].count("\n") + 1, "must be text. Got a NUL byte instead."
        )
    return text
