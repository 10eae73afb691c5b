"""Files of a folder that was read as one format and that its reader passes by: named, so that nothing is lost unseen.

A folder is read as the session that it holds. Results, tables and metadata of other programs that lie in it are not
taken unasked, because which of several belong is the user's to say; what they are, and how many, is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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
PACKED = frozenset((".gz", ".bz2", ".zip", ".xz", ".zst"))
DEEPEST = 2
MOST_FILES = 2_000
"""Looked into; of a larger folder the others are counted."""


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
        note = _note(path, name, named)
        place = next((row for row, each in enumerate(told) if _is_of(each, path, name)), None)
        if note and place is not None:
            told[place] = replace(told[place], notes=(*told[place].notes, note))
    return told


def _is_of(records: SourceRecords, path: Path, name: str) -> bool:
    return records.format == name and path in (records.path, *records.path.parents)


def _note(folder: Path, name: str, named: Sequence[Path]) -> str:
    """What lies in a folder and was not read; "" for nothing."""
    inside = [path.resolve() for path in named if path != folder]
    read = {path for path in inside if path.is_relative_to(folder.resolve())}
    others: dict[str, list[str]] = {}
    packed: list[str] = []
    unknown: list[str] = []
    uncounted = 0
    for number, file in enumerate(_files(folder, DEEPEST if BY_NAME[name].gives == "places" else 0)):
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
                if of.name != name:
                    others.setdefault(of.what, []).append(shown)
    parts = [f"{len(files)} {what} ({_names(files)})" for what, files in others.items()]
    parts += [f"{len(unknown)} of no known format ({_names(unknown)})"] if unknown else []
    parts += [f"{len(packed)} packed ({_names(packed)}; unzip them to have them read)"] if packed else []
    parts += [f"{uncounted} more that were not looked into"] if uncounted else []
    if not parts:
        return ""
    remedy = "; what belongs to the session is read when it is named beside the folder" if others else ""
    return f"not read in the folder: {', '.join(parts)}{remedy}"


def _files(folder: Path, deepest: int) -> Iterator[Path]:
    """Files that may be of a format, in order of their names; links to other folders are not followed."""
    for place, folders, names in os.walk(folder, followlinks=False):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(each for each in folders if not each.startswith(".")) if depth < deepest else []
        for each in sorted(names):
            if Path(each).suffix.lower() in SUFFIXES | PACKED:
                yield Path(place) / each


def _names(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMES_SHOWN]) + (", ..." if len(files) > NAMES_SHOWN else "")
