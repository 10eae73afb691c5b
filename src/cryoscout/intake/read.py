"""Reading what a user names: each path by its format, what belongs together as one, what is unchanged not again.

Belong together: an EPU session and its Atlas.dm, a navigator and its image metadata, the tables of one Leginon session.
Nothing is written, and stamps (size and time of change) are taken before a file is read. A folder is read as its
format says; what it does not enter although there is a session in it is named.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cryoscout.core.errors import DataError, FileFormatError
from cryoscout.core.telling import Progress, Step, no_progress, one_step
from cryoscout.formats.clusters import PATCH_RADIUS_UM, check_radius_um
from cryoscout.formats.leginon.session import EXPOSURE_PRESETS, LeginonImport
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.formats.records import FileStamp, SourceRecords
from cryoscout.formats.registry import BY_NAME, FORMATS, Format, format_of, read_by_format
from cryoscout.intake.not_read import with_files_not_read
from cryoscout.intake.said_before import map_for
from cryoscout.session.joins import NAMES_SHOWN
from cryoscout.session.model import Reading

if TYPE_CHECKING:
    from cryoscout.formats.leginon.tables import LeginonTable
    from cryoscout.formats.smartscope.rest import SmartScopeClient
    from cryoscout.intake.whole_lines import WholeLines

Stamps = dict[str, tuple[int, int]]
"""File below its source, with / -> (size in bytes, mtime in ns)."""

MOST_FILES = 1_000_000
MOST_FOLDERS = 200
"""Sub-folders of a folder that are looked into for sessions."""
_READ_AGAIN = "Remedy: read it again when the microscope has finished writing it."


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about the reading."""

    permissive: bool = False
    cluster_radius_um: float | None = None
    column_map: ColumnMap | Path | None = None
    """For sites' own tables."""
    images: Path | None = None
    """Folder of hole images, for Leginon tables."""
    model_id: str | None = None
    """Of the predictions among Leginon tables."""
    whole_lines: WholeLines | None = None
    """Of texts that are being written only whole lines are read; None: nobody writes."""
    presets: tuple[str, ...] | None = None
    """Of Leginon's exposures; None for Leginon's own."""
    reading: Reading = field(default_factory=Reading)
    """What was said before too, of earlier files of the session (`options_of`)."""
    refuse_unjoined: bool = False
    """Whether CTF results of which none belongs to an exposure are an error: they are of another session, or their
    names are not understood."""


@dataclass(frozen=True)
class ServerSession:
    """A session of a SmartScope server."""

    client: SmartScopeClient
    session_id: str


class NothingLeftError(DataError):
    """What is left makes no session; `left_out` says, each with its file, what was left out before."""

    def __init__(self, message: str, left_out: Sequence[str]) -> None:
        super().__init__(message)
        self.left_out = tuple(left_out)


@dataclass
class ReadSources:
    """What was read."""

    records: list[SourceRecords] = field(default_factory=list)
    leginon: LeginonImport | None = None
    """The session of the Leginon tables among the paths, whose records are among `records`."""
    unchanged: list[Path] = field(default_factory=list)
    """Sources that were not read, because all their files are as they were."""
    files: dict[str, Stamps] = field(default_factory=dict)
    """Source -> stamps of the files that are new or changed since."""
    again: dict[str, Stamps] = field(default_factory=dict)
    """The same of results and tables that are as they were and were read all the same."""


def source_key(path: Path) -> str:
    """The name under which a source's files are remembered."""
    return str(path.resolve())


def read_sources(
    paths: Sequence[Path],
    options: ReadOptions | None = None,
    known: Mapping[str, Stamps] | None = None,
    earlier: pd.DataFrame | None = None,
    servers: Sequence[ServerSession] = (),
    *,
    stored_format: str | None = None,
    read_earlier: Collection[str] = (),
    progress: Progress = no_progress,
) -> ReadSources:
    """Read every path by its format, and every session of a server.

    known : stamps of earlier reads by `source_key`; an EPU session is then read for what has changed, and the other
        sources are read, as a whole, only where a file of any source has changed
    earlier : exposures of the earlier reads (EXPOSURE_COLUMNS), so that runs of image-shift exposures go on
    servers : they do not say what has changed, and are always read, as are the sources beside them
    stored_format : of the session that is extended, None for a new one; it decides whose places are taken
    read_earlier : sources, by `source_key`, since whose last reading places came; results, tables and images of
        SerialEM among them are read again, because what joined nothing then may join now
    Raises FileFormatError for a path of no format and, unless permissive, at the first deviation; NothingLeftError
    where permissive reading leaves nothing of Leginon tables; InputError for a radius that is none; the errors of
    `server_session.read_session`.
    """
    options, known = options or ReadOptions(), known or {}
    if options.cluster_radius_um is not None:
        check_radius_um(options.cluster_radius_um)
    by_format: dict[str, list[Path]] = {}
    paths = list(dict.fromkeys(paths))
    maps = {path: map_for(path, options) for path in paths}
    formats = {path: _format_of(path, column_map).name for path, column_map in maps.items()}
    formats |= dict.fromkeys(_downloads_beside(formats, options), "leginon-export")
    paths = list(formats)
    for path, name in formats.items():
        by_format.setdefault(name, []).append(path)
    read = ReadSources()
    for session, atlas in _with_atlas(by_format.pop("epu", [])):
        _read_epu(read, session, atlas, options, known, earlier, progress)
    others = [path for some in by_format.values() for path in some]
    as_they_were: dict[Path, Stamps] = {}
    for path in others:
        stamps = stamps_of(path)
        key = source_key(path)
        may_join = _may_join_later(formats[path])
        if known.get(key) != stamps:
            read.files[key] = _changed(stamps, known.get(key, {}))
        elif may_join and key in read_earlier:
            read.again[key] = stamps
        else:
            as_they_were[path] = stamps
    if others and not read.files and not read.again and not servers:
        read.unchanged += as_they_were
        return read
    read.again |= {
        source_key(path): stamps for path, stamps in as_they_were.items() if _may_join_later(formats[path])
    }
    # Whose places are taken is known when the others are read: the names of a CTF download may be all there is.
    for name, some in by_format.items():
        if name == "leginon":
            continue
        if name == "serialem":
            _read_serialem(read, some, options, progress)
        elif name == "cryosparc":
            from cryoscout.formats.ctf.cryosparc import read_together

            with progress(f"reading {BY_NAME[name].what}", len(some)) as step:
                read.records += read_together(some, options.permissive, step=step)
        else:
            with progress(f"reading {BY_NAME[name].what}", len(some)) as step:
                for path in some:
                    with one_step(step) as part:
                        said = replace(options, column_map=maps.get(path))
                        read.records.append(_read_one_so_far(read, name, path, said, part))
    leginon = by_format.get("leginon", [])
    named = None if servers else _named_by_download(read.records, stored_format, options.presets)
    if leginon or named is not None:
        _read_leginon(read, leginon, options, named, progress)
    read.records = [_with_folders_not_entered(records, paths) for records in read.records]
    read.records = with_files_not_read(read.records, paths, formats)
    if servers:
        with progress("asking the server", len(servers)):
            read.records[:0] = [_read_server(server, options) for server in servers]
    return read


def _may_join_later(name: str) -> bool:
    """Whether what a source of the format says may join only when other sources' places are there: results, tables, and
    the images of SerialEM, whose navigator is another file."""
    return BY_NAME[name].gives != "places" or name == "serialem"


def _format_of(path: Path, column_map: ColumnMap | Path | None) -> Format:
    """The format of a path; where a folder is of none, but sessions are below it, the error names them."""
    try:
        return format_of(path, column_map)
    except FileFormatError:
        inside = list(_sessions_below(path, [each for each in FORMATS if each.gives == "places"]))
        if not inside:
            raise
        sessions = "one session" if len(inside) == 1 else f"{len(inside)} sessions"
        raise FileFormatError(
            path,
            None,
            f"must be the folder of a session. Got a folder above {sessions} instead: {_names(inside, path)}. "
            f"Remedy: name the session's own folder, such as {inside[0]}.",
        ) from None


def _downloads_beside(formats: Mapping[Path, str], options: ReadOptions) -> list[Path]:
    """The CTF downloads in folders of Leginon tables, which are read as if they were named.

    Not with hole images or a model id, which go with tables alone: then they are among what is not read.
    """
    if options.images is not None or options.model_id is not None:
        return []
    from cryoscout.formats.leginon.source import downloads_in

    folders = [path for path, name in formats.items() if name == "leginon" and path.is_dir()]
    named = {path.resolve() for path in formats}
    found = [download for folder in folders for download in downloads_in(folder)]
    return [download for download in found if download.resolve() not in named]


def _with_folders_not_entered(records: SourceRecords, named: Sequence[Path]) -> SourceRecords:
    """The records of a folder, with a note on sub-folders of the same format that its reader does not enter."""
    # SerialEM's folders are read with everything below them.
    if not records.path.is_dir() or records.format == "serialem":
        return records
    read = {path.resolve() for path in named if path.exists()}
    inside = [
        path
        for path in _sessions_below(records.path, [BY_NAME[records.format]], records.format)
        if not any(path.resolve() in (each, *each.parents) for each in read - {records.path.resolve()})
    ]
    if not inside:
        return records
    note = (
        f"sub-folders with files of the same kind that were not entered: {len(inside)} "
        f"({_names(inside, records.path)}); to read one too, name it beside the folder, such as {inside[0]}"
    )
    return replace(records, notes=(*records.notes, note))


def _sessions_below(folder: Path, formats: Sequence[Format], read_as: str | None = None) -> Iterator[Path]:
    """Sub-folders, at most two levels down, that are of one of the formats; what is below such a one is its own.

    read_as : the format that the folder itself was read as, whose own sub-folders are passed over
    """
    if not folder.is_dir():
        return
    from cryoscout.formats.epu.files import is_entered

    looked_into = 0
    pending = [(folder, 0)]
    while pending:
        above, depth = pending.pop(0)
        for path in _folders_in(above):
            if read_as == "epu" and is_entered(path.name):
                continue
            looked_into += 1
            if looked_into > MOST_FOLDERS:
                return
            if any(each.load().detect(path) for each in formats):
                yield path
            elif depth == 0:
                pending.append((path, 1))


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [folder / name for name in names if not name.startswith(".")]


def _names(paths: Sequence[Path], above: Path) -> str:
    """The first paths as they stand below a folder."""
    names = ", ".join(path.relative_to(above).as_posix() for path in paths[:NAMES_SHOWN])
    return names if len(paths) <= NAMES_SHOWN else f"{names}, ..."


def stamps_of(path: Path) -> Stamps:
    """Stamps of a file, or of every file below a folder; links to folders are not followed."""
    if path.is_file():
        status = path.stat()
        return {path.name: (status.st_size, status.st_mtime_ns)}
    stamps: Stamps = {}
    for place, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(place) / name
            try:
                status = file.stat()
            except OSError:
                continue  # a link to nothing, or a file that went away: no reader reads it either
            stamps[file.relative_to(path).as_posix()] = (status.st_size, status.st_mtime_ns)
        if len(stamps) > MOST_FILES:
            raise FileFormatError(path, None, f"must hold at most {MOST_FILES:,} files. Got more instead.")
    return stamps


def _changed(stamps: Stamps, known: Stamps) -> Stamps:
    return {file: stamp for file, stamp in stamps.items() if known.get(file) != stamp}


def _with_atlas(paths: list[Path]) -> list[tuple[Path, Path | None]]:
    """Sessions, with the atlas (its file, or the folder that holds nothing else) named beside the only one."""
    atlas_of = {path: _atlas_in(path) for path in paths}
    sessions = [path for path in paths if atlas_of[path] is None]
    atlases = [atlas for atlas in atlas_of.values() if atlas is not None]
    if len(sessions) == 1 and len(atlases) == 1:
        return [(sessions[0], atlases[0])]
    return [(path, None) for path in paths]


def _atlas_in(path: Path) -> Path | None:
    from cryoscout.formats.epu.dm import dm_kind
    from cryoscout.formats.epu.files import start_of

    files = [path] if path.is_file() else sorted(path.glob("*.dm"))
    return files[0] if len(files) == 1 and dm_kind(start_of(files[0])) == "atlas" else None


def _read_server(server: ServerSession, options: ReadOptions) -> SourceRecords:
    from cryoscout.formats.smartscope.server_session import read_session

    return read_session(server.client, server.session_id, options.permissive)


def _read_epu(
    read: ReadSources,
    path: Path,
    atlas: Path | None,
    options: ReadOptions,
    known: Mapping[str, Stamps],
    earlier: pd.DataFrame | None,
    progress: Progress,
) -> None:
    from cryoscout.formats.epu import session as epu
    from cryoscout.formats.epu.data_contract_xml import NotWholeError

    before = known.get(source_key(path), {})
    try:
        records = epu.read_source(
            path,
            options.permissive,
            atlas=atlas,
            known={file: FileStamp(*stamp) for file, stamp in before.items()},
            earlier=earlier,
            cluster_radius_um=options.cluster_radius_um,
            progress=progress,
        )
    except NotWholeError as error:
        told = error.detail if "Remedy:" in error.detail else f"{error.detail} {_READ_AGAIN}"
        raise FileFormatError(
            error.path,
            error.line,
            f"{told} Or leave it out with --permissive; --update adds it once it is whole.",
        ) from None
    stamps = {file: (stamp.size, stamp.mtime_ns) for file, stamp in records.stamps.items()}
    changed = _changed(stamps, before)
    if changed or not before:
        read.records.append(records)
        read.files[source_key(path)] = changed
    else:
        read.unchanged.append(path)


def _read_serialem(read: ReadSources, paths: list[Path], options: ReadOptions, progress: Progress) -> None:
    from cryoscout.formats.serialem import session as serialem

    given_um = options.cluster_radius_um
    radius_um = PATCH_RADIUS_UM if given_um is None else given_um
    read.records += serialem.read_grids(
        paths, options.permissive, patch_radius_um=radius_um, progress=progress
    )


def _named_by_download(
    records: Sequence[SourceRecords], stored_format: str | None, presets: Sequence[str] | None
) -> LeginonTable | None:
    """The exposures that a CTF download of Leginon names, None where another source says the places."""
    from cryoscout.formats.leginon.source import named_images

    downloads = [each for each in records if each.format == "leginon-export" and each.exposures.empty]
    others = [each for each in records if each.format != "generic" and len(each.exposures) + len(each.holes)]
    if others or stored_format not in (None, "leginon"):
        return None
    named = [named_images(each, presets or EXPOSURE_PRESETS) for each in downloads]
    tables = [table for table in named if table is not None]
    if not tables:
        return None
    return replace(tables[0], rows=pd.concat([table.rows for table in tables], ignore_index=True))


def _read_leginon(
    read: ReadSources,
    paths: list[Path],
    options: ReadOptions,
    named: LeginonTable | None,
    progress: Progress,
) -> None:
    from cryoscout.formats.leginon.session import read_session
    from cryoscout.formats.leginon.source import records_of

    try:
        read.leginon = read_session(
            paths,
            options.images,
            options.permissive,
            model_id=options.model_id,
            named=named,
            exposure_presets=options.presets or EXPOSURE_PRESETS,
            progress=progress,
        )
    except DataError as error:
        left_out = _lines_left_out(paths) if options.permissive else []
        if not left_out:
            raise
        raise NothingLeftError(str(error), left_out) from None
    where = [*paths, *([] if named is None else [named.path])]
    read.records.insert(0, records_of(where[0], read.leginon))


def _lines_left_out(paths: Sequence[Path]) -> list[str]:
    from cryoscout.formats.leginon.source import validate

    return [
        f"{path / found.element if found.element else path}, line {found.line}: {found.message}"
        for path in paths
        for found in validate(path)
    ]


def _read_one_so_far(
    read: ReadSources, name: str, path: Path, options: ReadOptions, step: Step
) -> SourceRecords:
    """The records of a file; of one that is being written those of its whole lines, to be read again later."""
    if options.whole_lines is None:
        return _read_one(name, path, options, step)
    records, rest = options.whole_lines.read(path, lambda piece: _read_one(name, piece, options, step))
    stamps = read.files.get(source_key(path), {})
    if rest and path.name in stamps:
        # Its size is that of what was read, so that the next reading finds it changed.
        size, mtime_ns = stamps[path.name]
        read.files[source_key(path)] = {path.name: (size - rest, mtime_ns)}
    return records


def _read_one(name: str, path: Path, options: ReadOptions, step: Step) -> SourceRecords:
    if name == "generic" and options.column_map is not None:
        from cryoscout.formats.own import table as generic_table

        return generic_table.read_source(path, options.permissive, options.column_map, step=step)
    return read_by_format(BY_NAME[name], path, options.permissive, step)
