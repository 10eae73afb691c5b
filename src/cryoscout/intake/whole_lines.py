"""A text that is being written: its lines up to the last line end, because half a number looks like another number.

Programs that end no line with their last row exist too: a file that has not changed for a minute is taken as it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.records import SourceRecords

SETTLED_S = 60.0
_TEXTS = frozenset((".csv", ".tsv", ".star", ".txt", ".mdoc", ".log"))


def unfinished_bytes(path: Path) -> int:
    """How many bytes of a text stand behind its last line end; 0 for a whole or settled one, and for other files."""
    if path.suffix.lower() not in _TEXTS or not path.is_file():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0 or time.time() - path.stat().st_mtime > SETTLED_S:
            return 0
        file.seek(size - 1)
        if file.read(1) in (b"\n", b"\r"):
            return 0
    content = path.read_bytes()
    return len(content) - 1 - max(content.rfind(b"\n"), content.rfind(b"\r"))


def of_whole_lines(path: Path, read: Callable[[Path], SourceRecords]) -> tuple[SourceRecords, int]:
    """What a reader says of the whole lines of a file, and how many bytes were left.

    Raises FileFormatError as the reader does, and where no line is whole yet.
    """
    rest = unfinished_bytes(path)
    if not rest:
        return read(path), 0
    content = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        piece = Path(folder) / path.name
        piece.write_bytes(content[: len(content) - rest])
        try:
            records = read(piece)
        except FileFormatError as error:
            raise FileFormatError(path, error.line, error.detail) from None
    return replace(records, path=path), rest
