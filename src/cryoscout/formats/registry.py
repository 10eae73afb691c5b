"""Which formats there are, and which of them a file or folder is: told by its content, asked in a fixed order.

A format is a module with `detect`, `read_source` and `validate`; it is imported only when it is asked. The order is
that of the list: what is most particular comes first, a site's own table, which anything with a header could be, last.
Target lists that plans are written as are formats too: whoever names one is told what it is.
"""

from __future__ import annotations

import importlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Progress, Step, no_progress, no_step, one_step
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.text.findings import Deviation, UnreadableError, check_readable

if TYPE_CHECKING:
    from cryoscout.formats.own.columns import ColumnMap


class FormatModule(Protocol):
    """What every format's module offers."""

    def detect(self, path: Path) -> bool:
        """Whether a file or folder is of this format, from its first bytes or its structure."""

    def read_source(self, path: Path, permissive: bool = False) -> SourceRecords:
        """What the source says; FileFormatError at the first deviation unless permissive."""

    def validate(self, path: Path) -> list[Deviation]:
        """Every deviation of the source."""


@dataclass(frozen=True)
class Format:
    """One format by its name."""

    name: str
    """As in `SourceRecords.format`."""
    module: str
    what: str
    """For people, where nothing was recognised."""
    gives: Literal["places", "results", "table", "targets"]
    """Squares, holes and exposures; CTF results alone; whatever its columns are; or holes that are to be imaged."""

    def load(self) -> FormatModule:
        """The format's module."""
        return cast("FormatModule", importlib.import_module(f"cryoscout.formats.{self.module}"))


FORMATS: tuple[Format, ...] = (
    Format("epu", "epu.session", "EPU session", "places"),
    Format("serialem", "serialem.session", "SerialEM .nav or .mdoc", "places"),
    Format("athena", "epu.athena", "Athena decision records", "targets"),
    Format("smartscope-selection", "smartscope.selection", "SmartScope selection", "targets"),
    Format("leginon-order", "leginon.order", "Leginon order of visit", "targets"),
    Format("smartscope", "smartscope.records", "SmartScope export", "places"),
    Format("cryosparc", "ctf.cryosparc", "cryoSPARC .cs", "results"),
    Format("gctf", "ctf.gctf", "Gctf", "results"),
    Format("relion", "ctf.relion", "RELION star", "results"),
    Format("ctffind", "ctf.ctffind", "CTFFIND", "results"),
    Format("leginon-export", "leginon.exports", "Leginon or Appion export", "table"),
    Format("leginon", "leginon.source", "Leginon table", "places"),
    Format("generic-squares", "own.squares", "table with a header that names squares", "table"),
    Format("generic", "own.table", "table with a header that names exposures", "table"),
)
"""In the order in which they are asked; where several give places, the first one's are taken."""

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
"""First bytes -> what packed the file."""
_MOST_FILES_ASKED = 200
"""Of a folder that is of no format, which of its files are of one."""
_UNPACK = {
    "gzip": "gunzip",
    "zip": "unzip",
    "bzip2": "bunzip2",
    "xz": "unxz",
    "zstd": "unzstd",
    "7z": "7z x",
    "tar": "tar -xf",
}
_TAR_AT, _TAR = 257, b"ustar"
"""Where a tar file says what it is."""

BY_NAME = {each.name: each for each in FORMATS}


def format_of(path: Path, column_map: ColumnMap | Path | None = None) -> Format:
    """The format of a file or folder.

    column_map : what columns of a site's own tables mean, or a file that says it; a file that no format recognises is
        such a table then, and one of squares only where the map does not say otherwise
    Raises the errors of `read_column_map`, UnreadableError when it cannot be read, FileFormatError when it is of no
    format; the message names what was tried.
    """
    check_readable(path)
    # A folder that says places and holds results too is the places' first.
    asked = sorted(FORMATS, key=lambda each: each.gives != "places") if path.is_dir() else FORMATS
    for each in asked:
        if each.load().detect(path):
            return BY_NAME["generic"] if _is_mapped_otherwise(each, path, column_map) else each
    packed = packed_as(path)
    if packed is not None:
        raise FileFormatError(
            path,
            None,
            f"must be unpacked before it is read. Got a {packed} file instead. "
            f"Remedy: unzip it ({_UNPACK[packed]} {path.name}).",
        )
    if column_map is not None and path.is_file():
        return BY_NAME["generic"]
    _refuse_folder_of_files(path)
    if path.is_file() and not path.stat().st_size:
        raise FileFormatError(
            path,
            None,
            "must be a file of a known format. Got an empty file instead. Remedy: copy it again once it is written.",
        )
    raise FileFormatError(
        path,
        None,
        f"must be a {'folder' if path.is_dir() else 'file'} of a known format. Got none of these instead: "
        f"{', '.join(each.what for each in FORMATS)}. "
        "Remedy: give the folder of the session, the table of results itself, or say what the columns of your own "
        "table mean (--column ctf=NAME for results, --column p_good=NAME for probabilities of holes).",
    )


def _refuse_folder_of_files(folder: Path) -> None:
    """A folder that is no format's own, but holds files that are: which of them are meant only its owner knows."""
    from cryoscout.session.joins import NAMES_SHOWN

    try:
        files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    except OSError:
        return
    found: dict[Path, str] = {}
    for file in files[:_MOST_FILES_ASKED]:
        of = next((each for each in FORMATS if each.load().detect(file)), None)
        # A list of targets is no part of a session: it was written for one.
        if of is not None and of.gives != "targets":
            found[file] = of.what
    if not found:
        return
    first = list(found)[:NAMES_SHOWN]
    listed = ", ".join(f"{file.name} ({found[file]})" for file in first)
    several = (
        f"{len(found)}{' or more' if len(files) > _MOST_FILES_ASKED else ''} files that are read one by one"
    )
    held = "a file that is read by itself" if len(found) == 1 else several
    more = f" and {len(found) - len(first)} more" if len(found) > len(first) else ""
    raise FileFormatError(
        folder,
        None,
        f"must be the folder of a session. Got a folder with {held} instead: {listed}{more}. "
        f"Remedy: name those that belong to the session, all in one command: {shlex.join(map(str, first))}"
        f"{' ...' if more else ''}",
    )


def _is_mapped_otherwise(found: Format, path: Path, column_map: ColumnMap | Path | None) -> bool:
    """Whether a table that looks as one of squares is said to be one of exposures."""
    if column_map is None or found.name != "generic-squares":
        return False
    from cryoscout.formats.own.columns import map_of
    from cryoscout.formats.own.squares import is_mapped_otherwise

    return is_mapped_otherwise(path, map_of(column_map))


def packed_as(path: Path) -> str | None:
    """What a file was packed with, by its first bytes; None for one that is not packed, or cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(_TAR_AT + len(_TAR))
    except OSError:
        return None
    if start[_TAR_AT:] == _TAR:
        return "tar"
    return next((name for mark, name in _PACKED.items() if start.startswith(mark)), None)


class _InShares(Protocol):
    """Of formats whose files may be so large that it is said how much of one is read."""

    def read_source(self, path: Path, permissive: bool = False, *, step: Step = no_step) -> SourceRecords:
        """What the source says."""

    def validate(self, path: Path, *, step: Step = no_step) -> list[Deviation]:
        """Every deviation of the source."""


def read_by_format(found: Format, path: Path, permissive: bool, step: Step) -> SourceRecords:
    """What a source of results, or a table, says; `step` is told in shares, of target lists when they are read.

    Raises FileFormatError at the first deviation unless permissive.
    """
    if found.gives == "targets":
        return found.load().read_source(path, permissive)
    return cast("_InShares", found.load()).read_source(path, permissive, step=step)


class _InSteps(Protocol):
    """Of formats of many files."""

    def validate(self, path: Path, progress: Progress = no_progress) -> list[Deviation]:
        """Every deviation of the source."""


_OF_MANY_FILES = ("epu", "serialem")


def validate(
    path: Path, column_map: ColumnMap | None = None, progress: Progress = no_progress
) -> tuple[Format | None, list[Deviation]]:
    """The format of a file or folder, None where it is of none, and every deviation, each with a line or an element.

    column_map : of a site's own table: what its columns mean
    To be of no format, or so damaged that nothing can be read, is a deviation like any other. Raises UnreadableError
    when the path cannot be read, InputError for a map that names what is not there.
    """
    found: Format | None = None
    try:
        found = format_of(path, column_map)
        if found.name in _OF_MANY_FILES:
            deviations = cast("_InSteps", found.load()).validate(path, progress)
        else:
            with progress(f"checking {found.what}", 1) as step, one_step(step) as part:
                deviations = _deviations(found, path, column_map, part)
    except FileFormatError as error:
        if isinstance(error, UnreadableError) and error.path == path:
            raise
        deviations = [Deviation(error.line, error.detail, None if error.path == path else error.path.name)]
    whole = f"the whole {'folder' if path.is_dir() else 'file'}"
    return found, [
        each if each.line is not None or each.element else Deviation(None, each.message, whole)
        for each in deviations
    ]


def _deviations(found: Format, path: Path, column_map: ColumnMap | None, step: Step) -> list[Deviation]:
    """The deviations of a source; `step` is told in shares, of target lists when they are read."""
    if found.name == "generic" and column_map is not None:
        from cryoscout.formats.own import table as generic_table

        return generic_table.validate(path, column_map, step=step)
    if found.gives == "targets":
        return found.load().validate(path)
    return cast("_InShares", found.load()).validate(path, step=step)
