"""Following the sources of a stored session while they are written: what is new in them is in the store at once.

A call takes files that have changed, reads these alone and adds to the store what they say, as `update_session` would
from all sources: the same readers, the same rules, the same events. Where the change is more than the images and
results of single exposures it is `update_session` that is called, and the answer says why.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryoscout.core.errors import FileFormatError
from cryoscout.core.names import name_of_source
from cryoscout.core.telling import SILENT, Telling
from cryoscout.formats.epu.files import detect as is_epu
from cryoscout.formats.epu.followed import FollowedFolder
from cryoscout.formats.records import FileStamp, WholeReadingNeededError
from cryoscout.formats.registry import Format, format_of
from cryoscout.intake.assemble import OnlyResultsError, earlier_exposures
from cryoscout.intake.assemble_ctf import ANOTHER_RESULT, CTF_RESULTS
from cryoscout.intake.assemble_names import epu_shot
from cryoscout.intake.followed_results import FollowedResults, names_to_join
from cryoscout.intake.join_results import joined_results
from cryoscout.intake.join_rows import JoinedRows, KnownFields, joined_rows, new_fields, new_provenance
from cryoscout.intake.read import source_key
from cryoscout.intake.said_before import map_for, options_of
from cryoscout.intake.take_in import Sources, update_session
from cryoscout.intake.whole_lines import WholeLines
from cryoscout.session.joins import NAMES_SHOWN, JoinReport
from cryoscout.session.store import SessionStore
from cryoscout.session.store_events import events_of_files
from cryoscout.session.store_update import counts_of_changes
from cryoscout.session.stored_rows import StoredRows

_SHOT = re.compile(r"FoilHole_([0-9]+)_Data_[0-9]+")
_BEGIN = "the first reading"
_ASKED = "everything was asked for"


@dataclass(frozen=True)
class TakenOn:
    """What one call found, and wrote."""

    added: Mapping[str, int] = field(default_factory=dict)
    """New rows of each kind, as `import --update` counts them; empty where nothing was new."""
    whole_because: str = ""
    """Why all sources were read as a whole; "" where only what had changed was."""
    waiting: tuple[Path, ...] = ()
    """Files that are not whole, deviate so that nothing is left of them, or are not there: read when they change."""
    broken: tuple[Path, ...] = ()
    """Those of them that were so at the call before and have not changed since."""
    left_out: tuple[str, ...] = ()
    """What deviates, with its file."""
    notes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Those of the notes that say that results are others than before."""
    n_unjoined: int = 0
    """Results that were read so far and are of no exposure of the session."""
    unjoined: tuple[str, ...] = ()
    """Names of the first of them."""


class FollowedSources:
    """The sources of one stored session; what deviates is left out and named, as by `import --permissive`."""

    def __init__(self, location: Path | str, sources: Sources, telling: Telling = SILENT) -> None:
        """Nothing is read before the first `take_in`.

        location : folder or database URL of the stored session, which is there
        sources : an EPU session, its atlas and results of it; others are taken too, but always read as a whole. Results
        that are not there yet are waited for.
        """
        self._location = location
        self._lines = WholeLines()
        options = replace(sources.options, permissive=True, whole_lines=self._lines)
        self._sources = replace(sources, options=options)
        self._options = options
        """With what the operator said when the session was imported, once that was looked at."""
        self._telling = telling
        self._epu: FollowedFolder | None = None
        self._results: list[FollowedResults] = []
        self._whole_because = _BEGIN
        self._fields = KnownFields(set(), set())
        self._imported = 0
        self._recorded = 0
        self._late: list[Path] = []
        self._waited: dict[Path, FileStamp | None] = {}
        self._reports: list[JoinReport] = []
        """What became of results when all sources were read last."""
        self._store: SessionStore | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the store; a later `take_in` reads everything again."""
        if self._store is not None:
            self._store.close()
        self._store = None
        self._whole_because = self._whole_because or _BEGIN

    def take_in(self, changed: Collection[Path] | None = None) -> TakenOn:
        """Take in what is new in the sources, and write it.

        changed : files that are new or may have changed, below the paths of the sources as these were given; None looks
            at everything
        Raises the errors of `update_session`, and StoreError; what was not written is taken in by the next call.
        """
        if changed is None and not self._whole_because:
            return self._as_a_whole(_ASKED)
        if self._whole_because or self._epu is None or self._store is None:
            return self._as_a_whole(self._whole_because)
        try:
            return self._what_changed(self._epu, self._store, list(changed or ()))
        except WholeReadingNeededError as why:
            return self._as_a_whole(str(why))

    def _what_changed(self, epu: FollowedFolder, store: SessionStore, changed: Sequence[Path]) -> TakenOn:
        changed = [self._as_given(path) for path in changed]
        followed = {epu.path, *self._late, *(each.path for each in self._results)}
        for source in self._sources.paths:
            if source not in followed and any(path.is_relative_to(source) for path in changed):
                raise WholeReadingNeededError(f"{source.name} is new or has changed")
        few = epu.read(changed)
        self._results = self._in_order([*self._results, *self._late_results()])
        for each in self._results:
            each.read_on(changed)
        joined = JoinedRows()
        ids: list[str] = []
        notes: list[str] = []

        def changes(stored: StoredRows) -> list[dict[str, Any]]:
            if stored.last_event("imported") != self._imported:
                raise WholeReadingNeededError("another import wrote to the session")
            if stored.last_event("imaged") != self._recorded:
                raise WholeReadingNeededError("an exposure was recorded by hand")
            nonlocal joined
            ids.clear()  # asked again where another program held the database
            notes.clear()
            joined = joined_rows(few, stored, self._fields)
            notes.extend(joined.notes)
            payloads = joined.payloads + self._result_changes(joined.new_exposure_ids, stored, ids, notes)
            stamps = {source_key(epu.path): _plain(few.stamps)}
            stamps |= {source_key(each.path): each.new_stamps() for each in self._results}
            return payloads + list(events_of_files({source: some for source, some in stamps.items() if some}))

        payloads: list[dict[str, Any]] = []
        if few.stamps or few.deviations or any(each.new_stamps() for each in self._results):
            payloads, newest = store.save_changes(changes, self._sources.as_given)
            if payloads:
                self._imported = newest
            epu.stored(few, joined.exposures)
            self._fields.add(payloads)
            for each in self._results:
                each.stored(ids)
        left_out = [f"{epu.path}, {each.element}: {each.message}" for each in few.deviations]
        return self._told(counts_of_changes(payloads) if payloads else {}, "", left_out, notes)

    def _last_of_others(self, store: SessionStore) -> tuple[int, int]:
        """Ids of the newest event of an import, and of an exposure that was recorded by itself."""
        newest = []

        def look(stored: StoredRows) -> list[dict[str, Any]]:
            newest.append((stored.last_event("imported"), stored.last_event("imaged")))
            return []

        store.save_changes(look, "")
        return newest[-1]

    def _as_given(self, path: Path) -> Path:
        """The path of a file as it stands below its source, however the source was named."""
        for source in self._sources.paths:
            if path.is_relative_to(source):
                return path
        for source in self._sources.paths:
            if path.resolve().is_relative_to(source.resolve()):
                return source / path.resolve().relative_to(source.resolve())
        return path

    def _in_order(self, results: Sequence[FollowedResults]) -> list[FollowedResults]:
        """As `read_sources` has them: format by format, as the paths were named. Runs are numbered so."""
        place = {path: number for number, path in enumerate(self._sources.paths)}
        formats = dict.fromkeys(
            each.format.name for each in sorted(results, key=lambda each: place[each.path])
        )
        first = {name: number for number, name in enumerate(formats)}
        return sorted(results, key=lambda each: (first[each.format.name], place[each.path]))

    def _late_results(self) -> list[FollowedResults]:
        """Results that were not there or could not be read at the last whole reading, and now can."""
        found = []
        for path in self._late:
            stamp = _stamp(path)
            if stamp is None or self._waited.get(path) == stamp:
                continue
            try:
                of = format_of(path, map_for(path, self._options))
                if of.gives != "results" or _is_job(path, of):
                    raise WholeReadingNeededError(f"{path.name} is new")
                each = FollowedResults(path, of, self._lines)
                each.read_all()
            except FileFormatError:
                continue
            found.append(each)
        self._late = [path for path in self._late if path not in [each.path for each in found]]
        return found

    def _result_changes(
        self, new_exposure_ids: Sequence[str], stored: StoredRows, ids: list[str], notes: list[str]
    ) -> list[dict[str, Any]]:
        """Events of the results that join now; `ids` gets their exposures."""
        wanted = {name for each in self._results if each.new_stamps() for name in each.waiting_for()}
        named = stored.where("exposures", "exposure_id", wanted)
        holes = {found[1] for name in wanted if (found := _SHOT.fullmatch(name)) is not None}
        of_holes = stored.where("exposures", "hole_id", holes)
        named += [row for row in of_holes if epu_shot(row["exposure_id"]) in wanted]
        there = list(dict.fromkeys(row["exposure_id"] for row in named))
        ids += [*there, *new_exposure_ids]
        records = [one for each in self._results for one in each.records_for(ids)]
        payloads: list[dict[str, Any]] = []
        if records:
            payloads, more = joined_results(records, there, stored, new_exposure_ids)
            notes += more
        for each in self._results:
            name, reader = name_of_source(each.path), each.format.name
            if each.new_stamps():
                payloads += new_fields(each.new_extra(), name, reader, stored, self._fields)
        rows = [
            ("exposures", "ctf_max_res_angstrom", name_of_source(each.path), each.format.name)
            for each in self._results
            if each.new_stamps() and each.has_results
        ]
        return payloads + (new_provenance(rows, stored) if rows else [])

    def _as_a_whole(self, why: str) -> TakenOn:
        """Read everything there is by `update_session`, and go on from it."""
        self._whole_because = why
        present = [path for path in self._sources.paths if path.exists()]
        late = [path for path in self._sources.paths if path not in present]
        with SessionStore.open(self._location) as store:
            self._options = options_of(self._sources.options, store.info().reading)
        for path in present:
            try:
                format_of(path, map_for(path, self._options))
            except FileFormatError:
                late.append(path)
        present = [path for path in present if path not in late]
        epu, results, always = self._parts(present)
        for each in results:
            try:
                each.read_all()
            except FileFormatError:
                late.append(each.path)
            except WholeReadingNeededError as error:
                always = str(error)
        sources = replace(self._sources, paths=[path for path in present if path not in late])
        left_out: list[str] = []
        self.close()
        try:
            read, added = update_session(
                self._location, sources, Telling(left_out.append, self._telling.progress)
            )
        except OnlyResultsError:
            # CTF programs may be faster than the microscope's first file.
            self._late, self._epu, self._results, self._reports = late, None, [], []
            return self._told({}, why, [], [])
        # It stays open: what is prepared for a statement once is not prepared for each file again.
        self._store = SessionStore.open(self._location)
        self._imported, self._recorded = self._last_of_others(self._store)
        session, known = self._store.load(), self._store.files()
        self._fields = KnownFields.of(session.vendor_fields)
        self._late = late
        of_results = [report for report in read.reports if report.what.startswith(CTF_RESULTS)]
        self._reports = of_results or self._reports  # none: nothing was read again
        self._results = self._in_order([each for each in results if each.path not in late])
        exposures = earlier_exposures(session)
        names = exposures["exposure_id"].tolist()
        for each in self._results:
            each.stored(names)
        if epu is not None:
            stamps = known.get(source_key(epu.path), {})
            epu.begin({file: FileStamp(*stamp) for file, stamp in stamps.items()}, exposures)
            if not all(names_to_join(name) == (name,) for name in names):
                always = "the session has exposures with names that EPU does not give"
        self._epu, self._whole_because = epu, always
        lines = [line.removeprefix("Left out: ") for line in left_out]
        return self._told(added, why, lines, read.notes)

    def _parts(self, paths: Sequence[Path]) -> tuple[FollowedFolder | None, list[FollowedResults], str]:
        """The EPU folder and the results among the paths; and why they must always be read as a whole, "" for not."""
        folders = [path for path in paths if path.is_dir() and is_epu(path)]
        results = []
        for path in paths:
            if path in folders:
                continue
            of = format_of(path, map_for(path, self._options))
            if _is_job(path, of):
                return None, [], f"{path.name} is a job's folder, whose table alone would be followed"
            if of.gives == "results":
                results.append(FollowedResults(path, of, self._lines))
            elif of.name != "epu":
                return None, [], f"{path.name} is of a format that is not followed"
        if len(folders) != 1 or self._sources.servers:
            return None, [], "one EPU session and its results are followed, nothing else"
        return FollowedFolder(folders[0], self._options.cluster_radius_um), results, ""

    def _told(
        self, added: Mapping[str, int], why: str, left_out: Sequence[str], notes: Sequence[str]
    ) -> TakenOn:
        waiting = [*(self._epu.left_out if self._epu is not None else ()), *self._late]
        waiting += [file for each in self._results for file in each.unread]
        unfinished = self._lines.unfinished_bytes
        waiting += [path for path in self._sources.paths if path not in waiting and unfinished(path)]
        now = {path: _stamp(path) for path in waiting}
        broken = [path for path in waiting if path in self._waited and self._waited[path] == now[path]]
        self._waited = now
        if self._epu is not None:
            left = [name for each in self._results for name in each.left()]
            n_unjoined = len(left)
        else:
            left = [name for report in self._reports for name in report.first_not_joined]
            n_unjoined = sum(report.not_joined for report in self._reports)
        return TakenOn(
            dict(added),
            why,
            tuple(waiting),
            tuple(broken),
            tuple(left_out),
            tuple(notes),
            tuple(note for note in notes if ANOTHER_RESULT in note),
            n_unjoined,
            tuple(left[:NAMES_SHOWN]),
        )


def _plain(stamps: Mapping[str, FileStamp]) -> dict[str, tuple[int, int]]:
    return {file: (stamp.size, stamp.mtime_ns) for file, stamp in stamps.items()}


def _stamp(path: Path) -> FileStamp | None:
    """Of a file that waits; cryoSPARC's with the tables that lie beside it, which may be what it waits for."""
    try:
        beside = path.parent.glob("*passthrough*.cs") if path.suffix == ".cs" else ()
        all_of_it = [path.stat(), *(each.stat() for each in beside if each != path)]
    except OSError:
        return None
    return FileStamp(sum(each.st_size for each in all_of_it), max(each.st_mtime_ns for each in all_of_it))


def _is_job(path: Path, of: Format) -> bool:
    """Whether a path is the folder of a RELION job: its table is read, not every file that is like it."""
    return of.name == "relion" and path.is_dir()
