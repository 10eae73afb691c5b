"""The lines of a site's own table as cells: which line is its header, what stands between values, and quotes.

The first line that is no comment (#) is the header. Between values stands a comma, a semicolon or a tab, whichever the
header has most of outside quotes; values may be in double quotes. Tables of exposures and of squares are both such.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.core.names import from_cell
from cryoscout.core.telling import ITEMS_AT_ONCE
from cryoscout.formats.ctf.records import HEAD_BYTES, LARGEST_TABLE_BYTES
from cryoscout.formats.text.findings import Findings, check_width, lines_of, read_lines, read_start

NO_VALUE = frozenset(("", "nan", "na", "n/a", "none", "null", "-"))
"""Texts (in any case) that mean an empty cell."""
_DELIMITERS = (",", ";", "\t")
_LINES_LOOKED_AT = 100


def plain_header(header: str) -> str:
    """A header without case, blanks and separators: letters (Å as a, µ as u) and digits alone."""
    text = header.lower().replace("å", "a").replace("\u212b", "a").replace("µ", "u").replace("μ", "u")
    return re.sub(r"[^a-z0-9]", "", text)


def header_of(path: Path) -> list[str]:
    """The cells of a file's header, for recognising it; empty where it begins with none."""
    lines, _ = lines_of(read_start(path, HEAD_BYTES))
    for line in lines[:_LINES_LOOKED_AT]:
        if _is_said(line):
            try:
                return next(csv.reader([line], delimiter=_delimiter(line)), [])
            except csv.Error:
                return []
    return []


class CellLines:
    """The header of a table, and its rows as they are asked for."""

    def __init__(self, findings: Findings) -> None:
        """Read the findings' file as far as its header.

        Raises FileFormatError without a header, and for one with more columns than tables may have; as `read_lines`.
        """
        self._findings = findings
        lines, self._is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
        self._skipped = next((row for row, line in enumerate(lines) if _is_said(line)), len(lines))
        if self._skipped == len(lines):
            raise FileFormatError(
                findings.path, None, "a table must have a header. Got a file without lines instead."
            )
        self.delimiter = _delimiter(lines[self._skipped])
        """Between the values of a line."""
        text = io.StringIO("\n".join(lines[self._skipped :]), newline="")
        self._reader = csv.reader(text, delimiter=self.delimiter, strict=True)
        self._last = self._skipped
        self._lines = len(lines)
        self.header_line, self.header = next(self._cells(), (self._skipped + 1, []))
        check_width(findings.path, self.header_line, len(self.header))
        self._rows = 0

    def rows(self, share: float = 1.0) -> Iterator[tuple[int, list[str]]]:
        """Line and cells of every row that is as wide as the header; others that say anything are reported.

        share : of the reading of the file that all rows are
        """
        for place, (line, cells) in enumerate(self._cells(), start=1):
            if place % ITEMS_AT_ONCE == 0:
                self._findings.step(share * ITEMS_AT_ONCE / self._lines)
            if not any(map(str.strip, cells)):
                continue
            if len(cells) == len(self.header):
                self._rows += 1
                yield line, [from_cell(cell) for cell in cells]
                continue
            message = f"a line must have {len(self.header)} values, as the header. Got {len(cells)} instead."
            if self.delimiter == "," and len(cells) > len(self.header):
                message += (
                    " Remedy: if numbers are written with a decimal comma, export them with a decimal point, "
                    "or with semicolons between the values."
                )
            self._findings.deviates(message, line)

    def notes(self) -> list[str]:
        """What is to be known of the text, once all rows were asked for."""
        notes = self._findings.notes_on_text()
        if not self._is_complete and self._rows:
            notes.append("the last line has no line break and was taken as whole")
        return notes

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Line and cells of what follows; a value in quotes may have several lines."""
        try:
            for cells in self._reader:
                line, self._last = self._last + 1, self._skipped + self._reader.line_num
                yield line, cells
        except csv.Error as error:
            raise FileFormatError(
                self._findings.path,
                self._last + 1,
                f"a value in quotes must end with its quote. Got {error} instead.",
            ) from None


def _is_said(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _delimiter(header: str) -> str:
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=unquoted.count)
