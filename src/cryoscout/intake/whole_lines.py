"""A text that is being written: its lines up to the last line end, because half a number looks like another number.

Programs that end no line with their last row exist too: a file that stands as it is for a minute is taken so. The
minute is that of our own clock: the computer whose disk it is may have another, and what is written now may look old.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.records import SourceRecords

SETTLED_S = 60.0
_TEXTS = frozenset((".csv", ".tsv", ".star", ".txt", ".mdoc", ".log"))


@dataclass
class WholeLines:
    """The texts of sources that are followed, and since when those without a last line end stand as they are."""

    clock: Callable[[], float] = time.monotonic
    _since_s: dict[Path, tuple[tuple[int, int], float]] = field(default_factory=dict)
    """File -> (size, mtime_ns), and when it was seen so first."""

    def unfinished_bytes(self, path: Path) -> int:
        """Bytes of a text that stand behind its last line end; 0 for a whole or settled one, and for other files."""
        if path.suffix.lower() not in _TEXTS or not path.is_file():
            return 0
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size > 0:
                file.seek(size - 1)
            if size == 0 or file.read(1) in (b"\n", b"\r"):
                self._since_s.pop(path, None)
                return 0
        stamp = size, path.stat().st_mtime_ns
        before, since_s = self._since_s.get(path, (None, 0.0))
        if before != stamp:
            since_s = self.clock()
            self._since_s[path] = stamp, since_s
        if self.clock() - since_s > SETTLED_S:
            return 0
        content = path.read_bytes()
        return len(content) - 1 - max(content.rfind(b"\n"), content.rfind(b"\r"))

    def read(self, path: Path, read: Callable[[Path], SourceRecords]) -> tuple[SourceRecords, int]:
        """What a reader says of the whole lines of a file, and how many bytes were left.

        Raises FileFormatError as the reader does, and where no line is whole yet.
        """
        rest = self.unfinished_bytes(path)
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
