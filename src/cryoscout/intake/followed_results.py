"""A source of CTF results while it grows: only what is new in it is read, and what joined nothing yet is kept.

A table to which rows were appended is read as its head and the rows after the last that is known, by the reader of its
format; one that changed otherwise as a whole. Of a folder with a file for each micrograph the changed files are read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.names import exposure_name
from cryoscout.formats.epu.names import parse_exposure
from cryoscout.formats.records import SourceRecords, WholeReadingNeededError
from cryoscout.formats.registry import Format
from cryoscout.intake.assemble_fields import NO_ID
from cryoscout.intake.assemble_names import epu_shot
from cryoscout.intake.read import Stamps, stamps_of
from cryoscout.intake.whole_lines import WholeLines
from cryoscout.session.joins import leginon_stem

_Place = tuple[int, int]
"""Number of the reading, row of its results, further runs counted on from them."""
_MARKS_OF_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def names_to_join(name: str, image_id: str | None = None) -> tuple[str, ...]:
    """The ids of exposures that EPU names to which a result of this name may belong (see `joined_by_name`)."""
    parsed = parse_exposure(name)
    stem = name if parsed is None else parsed.stem
    further = () if not image_id else (image_id, exposure_name(image_id))
    return tuple(dict.fromkeys((name, exposure_name(name), stem, leginon_stem(name), *further)))


@dataclass(frozen=True)
class _Table:
    """What is remembered of a table that was read, to read on from its last row."""

    head: bytes
    """Everything before the first row."""
    known: bytes
    """Everything up to the end of the last row."""
    first_line: int
    last_line: int


class FollowedResults:
    """One source of results of a session that is followed."""

    def __init__(self, path: Path, of: Format, lines: WholeLines) -> None:
        """path : a file or a folder     of : its format, one of results alone     lines : of all that is followed."""
        self.path, self.format, self._lines = path, of, lines
        self._forget()

    def _forget(self) -> None:
        self._rest = 0
        self._read: Stamps = {}
        self._stored: Stamps = {}
        self._failed: Stamps = {}
        self._table: _Table | None = None
        self._names: set[str] = set()
        self._records: dict[int, SourceRecords] = {}
        self._next = 0
        self._waiting: dict[str, set[_Place]] = {}
        self._names_of: dict[_Place, tuple[str, ...]] = {}
        self._extra: dict[str, Mapping[str, str]] = {}
        self._new_extra: dict[str, Mapping[str, str]] = {}

    def read_all(self) -> None:
        """Read everything anew, as a whole reading of the session does. Raises the errors of the reader."""
        self._forget()
        stamps = stamps_of(self.path)
        self._keep(self._whole())
        self._read = {key: self._so_far(stamp) for key, stamp in stamps.items()} if self._rest else stamps

    def read_on(self, changed: Collection[Path]) -> None:
        """Read what has changed; the results wait until `records_for` asks for them.

        changed : files that may have; of a folder only these are looked at
        A file that cannot be read now is `unread`, until it changes. Raises WholeReadingNeededError where a file takes
        back what it said.
        """
        stamps = self._stamps_now(changed)
        new = {key: stamp for key, stamp in stamps.items() if stamp != self._read.get(key)}
        new = {key: stamp for key, stamp in new.items() if stamp != self._failed.get(key)}
        found = []
        for key, stamp in new.items():
            try:
                found += (
                    self._of_file(self.path / key)
                    if self.path.is_dir()
                    else [self._appended() or self._whole()]
                )
            except FileFormatError:
                self._failed[key] = stamp
                continue
            self._failed.pop(key, None)
            self._read[key] = stamp if self.path.is_dir() else self._so_far(stamp)
        for records in found:
            self._keep(records)

    def _so_far(self, stamp: tuple[int, int]) -> tuple[int, int]:
        """The stamp of what was read: where a line is not whole yet, it is read again."""
        return stamp[0] - self._rest, stamp[1]

    def _of_file(self, file: Path) -> list[SourceRecords]:
        """The results of one file of a folder, none where it is not one."""
        if not self.format.load().detect(file):
            return []
        records = replace(self.format.load().read_source(file, True), path=self.path)
        names = records.ctf["name"].tolist()
        if self._names.intersection(names):
            raise WholeReadingNeededError(f"{self.path.name} has several results of one micrograph")
        self._names.update(names)
        return [records]

    @property
    def unread(self) -> list[Path]:
        """Files that could not be read as they are now."""
        return [self.path / key if self.path.is_dir() else self.path for key in self._failed]

    @property
    def has_results(self) -> bool:
        """Whether any were read."""
        return bool(self._names)

    def _stamps_now(self, changed: Collection[Path]) -> Stamps:
        files = [path for path in changed if path.parent == self.path] if self.path.is_dir() else [self.path]
        stamps: Stamps = {}
        for file in files:
            if file.is_file():
                stamps |= stamps_of(file)
            elif file.name in self._read:
                raise WholeReadingNeededError(f"{file.name} went away")
        return stamps

    def new_stamps(self) -> Stamps:
        """Of the files that were read and are not stored yet."""
        return {key: stamp for key, stamp in self._read.items() if self._stored.get(key) != stamp}

    def new_extra(self) -> Mapping[str, Mapping[str, str]]:
        """Vendor fields, by record, that were read and are not stored yet."""
        return self._new_extra

    def left(self) -> list[str]:
        """Names of the results of which no exposure is known yet, in the order in which they were read."""
        return list(dict.fromkeys(names[0] for names in self._names_of.values()))

    def waiting_for(self) -> Collection[str]:
        """Ids of exposures, and of EPU's shots (`epu_shot`), that results wait for."""
        return self._waiting.keys()

    def records_for(self, exposure_ids: Collection[str]) -> list[SourceRecords]:
        """The results of these exposures that were not stored yet, in the order in which they were read."""
        rows: dict[int, set[int]] = {}
        for name in _called(exposure_ids):
            for number, row in self._waiting.get(name, ()):
                rows.setdefault(number, set()).add(row)
        chosen = []
        for number, some in sorted(rows.items()):
            records = self._records[number]
            n_results = len(records.ctf)
            ctf = records.ctf.iloc[sorted(row for row in some if row < n_results)]
            further = records.further_ctf.iloc[sorted(row - n_results for row in some if row >= n_results)]
            chosen.append(replace(records, ctf=ctf, further_ctf=further))
        return chosen

    def stored(self, exposure_ids: Collection[str]) -> None:
        """The results of these exposures, and what else was read, are stored."""
        for place in {place for each in _called(exposure_ids) for place in self._waiting.get(each, ())}:
            for name in self._names_of.pop(place):
                self._waiting[name].discard(place)
                if not self._waiting[name]:
                    del self._waiting[name]
        needed = {number for number, _ in self._names_of}
        self._records = {number: each for number, each in self._records.items() if number in needed}
        self._stored = dict(self._read)
        self._extra |= self._new_extra
        self._new_extra = {}

    def _whole(self) -> SourceRecords:
        records, self._rest = self._lines.read(
            self.path, lambda piece: self.format.load().read_source(piece, True)
        )
        if len(records.exposures) or len(records.holes):
            raise WholeReadingNeededError(f"{self.path.name} says more than results")
        self._table = _table_of(self.path, records) if self.path.is_file() else None
        # What joined nothing before is what the file said then.
        self._names, self._records, self._waiting, self._names_of = set(), {}, {}, {}
        return records

    def _appended(self) -> SourceRecords | None:
        """The rows after those that are known; None where the file is another one, or cannot be read so."""
        table = self._table
        if table is None:
            return None
        self._rest = self._lines.unfinished_bytes(self.path)
        content = self.path.read_bytes()
        content = content[: len(content) - self._rest]
        rows = content[len(table.known) :]
        if not content.startswith(table.known) or not rows.strip():
            return None
        with tempfile.TemporaryDirectory() as folder:
            piece = Path(folder) / self.path.name
            piece.write_bytes(table.head + rows)
            try:
                records = self.format.load().read_source(piece, True)
            except FileFormatError:
                return None
        offset = table.last_line + 1 - table.first_line
        ctf = records.ctf.assign(line=records.ctf["line"] + offset)
        names = ctf["name"].tolist()
        if records.deviations or len(records.further_ctf) or not names or self._names.intersection(names):
            return None
        last = int(ctf["line"].max())
        known = table.known + _first_lines(rows, last - table.last_line)
        self._table = replace(table, known=known, last_line=last) if known.endswith(b"\n") else None
        return replace(records, path=self.path, ctf=ctf)

    def _keep(self, records: SourceRecords) -> None:
        number, self._next = self._next, self._next + 1
        self._records[number] = records
        self._names.update(records.ctf["name"].tolist())
        for first, table in ((0, records.ctf), (len(records.ctf), records.further_ctf)):
            others = table["image_id"].tolist() if "image_id" in table else [None] * len(table)
            for row, (name, image_id) in enumerate(zip(table["name"].tolist(), others, strict=True), first):
                # A shot may have been taken again, and its result be named after the later image.
                names = tuple(dict.fromkeys((*names_to_join(name, image_id), epu_shot(name))))
                self._names_of[number, row] = names
                for each in names:
                    self._waiting.setdefault(each, set()).add((number, row))
        said = {record_id or NO_ID: fields for record_id, fields in records.extra.items()}
        self._new_extra |= {name: fields for name, fields in said.items() if self._extra.get(name) != fields}


def _called(exposure_ids: Collection[str]) -> set[str]:
    """The ids and their shots."""
    return {*exposure_ids, *map(epu_shot, exposure_ids)}


def _table_of(path: Path, records: SourceRecords) -> _Table | None:
    """How to read on from the last row; None for a file without lines, or of which lines were left out."""
    lines = records.ctf["line"]
    if records.deviations or len(records.further_ctf) or lines.empty or lines.isna().any():
        return None
    content = path.read_bytes()
    first, last = int(lines.min()), int(lines.max())
    if content.startswith(_MARKS_OF_UTF_16) or last - first + 1 != len(lines):
        return None
    known = _first_lines(content, last)
    return _Table(_first_lines(content, first - 1), known, first, last) if known.endswith(b"\n") else None


def _first_lines(content: bytes, lines: int) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:lines])
