"""Files of a folder that was read as one format and that its reader passes by: named, so that nothing is lost unseen.

A folder is read as the session that it holds. Results, tables and metadata of other programs that lie in it are not
taken unasked, because which of several belong is the user's to say; what they are, and how many, is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryoscout.core.counting import counted
from cryoscout.core.errors import FileFormatError
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.registry import BY_NAME, format_of, packed_as
from cryoscout.session.joins import NAMES_SHOWN

SUFFIXES = frozenset(
    (
        ".star",
        ".csv",
        ".tsv",
        ".txt",
        ".log",
        ".dat",
        ".cs",
        ".csg",
        ".nav",
        ".mdoc",
        ".idoc",
        ".yaml",
        ".yml",
        ".json",
    )
)
"""Of files that some format has; images and EPU's own XML are not looked into."""
_SERIALEM = frozenset((".nav", ".mdoc", ".idoc"))
PACKED = frozenset((".gz", ".tgz", ".bz2", ".tbz2", ".zip", ".xz", ".txz", ".zst", ".tar", ".7z"))
DEEPEST = 4
"""Levels of folders below the session's: as deep as REL/CtfFind/job003 of a RELION project beside it."""
MOST_FILES = 2_000
"""Looked into, those of the upper levels first; of a larger folder the others are counted."""
MOST_FOLDERS = 20_000
"""Listed; a session of 1,000 squares of EPU has 3,000."""


def with_files_not_read(
    records: Sequence[SourceRecords], named: Sequence[Path], formats: Mapping[Path, str]
) -> list[SourceRecords]:
    """The records of every folder with a note on its files that nothing read.

    named : the paths that are read     formats : name of the format of each
    """
    told = list(records)
    for path, name in formats.items():
        if not path.is_dir():
            continue
        place = next((row for row, each in enumerate(told) if _is_of(each, path, name)), None)
        # Of a job of RELION its table is read, and nothing that is like it.
        is_job = place is not None and BY_NAME[name].gives == "results" and told[place].path != path
        note = _note(
            path, name, [*named, told[place].path] if is_job and place is not None else named, is_job
        )
        if note and place is not None:
            told[place] = replace(told[place], notes=(*told[place].notes, note))
    return told


def _is_of(records: SourceRecords, path: Path, name: str) -> bool:
    return records.format == name and path in (records.path, *records.path.parents)


def _note(folder: Path, name: str, named: Sequence[Path], is_job: bool = False) -> str:
    """What lies in a folder and was not read; "" for nothing. is_job : of its files only those that are named are"""
    inside = [path.resolve() for path in named if path != folder]
    read = {path for path in inside if path.is_relative_to(folder.resolve())}
    others: dict[str, list[str]] = {}
    packed: list[str] = []
    unknown: list[str] = []
    uncounted = 0
    folders = _Folders(folder, DEEPEST if is_job or BY_NAME[name].gives == "places" else 0)
    for number, file in enumerate(folders.files()):
        shown = file.relative_to(folder).as_posix()
        if any(each in read for each in (file.resolve(), *file.resolve().parents)):
            continue
        if file.suffix.lower() in PACKED:
            if packed_as(file) is not None:
                packed.append(shown)
        elif number >= MOST_FILES:
            # Of SerialEM's own files its reader looks into every one.
            uncounted += not (name == "serialem" and file.suffix.lower() in _SERIALEM)
        else:
            try:
                of = format_of(file)
            except FileFormatError:
                unknown.append(shown)
            else:
                if of.name != name or is_job:
                    others.setdefault(of.what, []).append(shown)
    parts = [f"{len(files)} {what} ({_names(files)})" for what, files in others.items()]
    parts += [f"{len(unknown)} of no known format ({_names(unknown)})"] if unknown else []
    parts += [f"{len(packed)} packed ({_names(packed)}; unzip them to have them read)"] if packed else []
    parts += [f"{uncounted} more that were not looked into"] if uncounted else []
    if folders.not_listed:
        deeper = f"{counted(len(folders.not_listed), 'folders')} not looked into"
        parts.append(f"files of other programs in {deeper} ({_names(folders.not_listed)})")
    if not parts:
        return ""
    remedy = "; what belongs to the session is read when it is named beside the folder" if others else ""
    return f"not read in the folder: {', '.join(parts)}{remedy}"


@dataclass
class _Folders:
    """The files below a folder that may be of a format, level by level; links to folders are not followed."""

    folder: Path
    deepest: int
    not_listed: list[str] = field(default_factory=list)
    """Folders that were not entered: too deep, or too many."""

    def files(self) -> Iterator[Path]:
        """In order of their names in each folder."""
        level, listed = [self.folder], 0
        for _ in range(self.deepest + 1):
            below: list[Path] = []
            for place in level:
                listed += 1
                if listed > MOST_FOLDERS:
                    self._leave_out(place)
                    continue
                files, folders = _entries(place)
                yield from files
                below += folders
            level = below if self.deepest else []
        for place in level:
            self._leave_out(place)

    def _leave_out(self, place: Path) -> None:
        self.not_listed.append(place.relative_to(self.folder).as_posix())


def _entries(place: Path) -> tuple[list[Path], list[Path]]:
    """Files that may be of a format, and folders, directly in a folder; none where it cannot be listed."""
    try:
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return [], []
    files = [Path(entry.path) for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES | PACKED]
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    inside = {Path(entry.path) for entry in folders}
    files = [file for file in files if file not in inside and not file.is_dir()]
    return files, [Path(entry.path) for entry in folders if not entry.name.startswith(".")]


def _names(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMES_SHOWN]) + (", ..." if len(files) > NAMES_SHOWN else "")
