"""From what sources say to one session: places from one format, results of every source joined by name.

    level      from
    squares    the source of the places; those without holes are known of, and stand in no plan but as looks
    patches    as the reader gives them, else clusters of positions, else the square (see `assemble_places`)
    shots      what the source declares or the hole with most of them has; the same for all holes (see `assemble_shots`)
    exposures  of the source of the places; one without a result is pending, a failed fit is a result
    results    of all sources, each a CTF run that is kept; of several the best resolution counts, a failed one only
               where all failed (see `assemble_ctf`)
    the rest   of all sources, as vendor fields (see `assemble_fields`)

A stored session can be extended: what is new is added, pending exposures get their results and others a better one,
missing positions are filled, and a hole that is imaged now comes into the patch it was imaged in; nothing else changes,
but what holes are chosen. Importing in steps gives what importing at once does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cryoscout.core.errors import DataError
from cryoscout.core.names import name_of_source
from cryoscout.formats.records import EXPOSURE_COLUMNS, SourceRecords
from cryoscout.formats.registry import BY_NAME, FORMATS
from cryoscout.formats.serialem.patterns_unsaid import notes_on_patterns_unsaid
from cryoscout.intake.assemble_ctf import with_results
from cryoscout.intake.assemble_fields import vendor_fields
from cryoscout.intake.assemble_names import joined_by_name, movie_folders
from cryoscout.intake.assemble_places import Places, places_of_sources
from cryoscout.intake.assemble_shots import Shots, as_shots, with_shots_again
from cryoscout.intake.known_own_places import FORMAT, NAMED_GRIDS
from cryoscout.intake.own_places import names_grids, own_places_told_apart
from cryoscout.intake.told_apart import grids_told_apart
from cryoscout.session.joins import NAMES_SHOWN, JoinReport
from cryoscout.session.live_exposures import renamed
from cryoscout.session.model import Session, SessionInfo
from cryoscout.session.tables import TABLES, empty_table, with_gaps_filled

_NOT_IN_A_NAME = re.compile(r"[^\w.+-]+")
_LONGEST_NAME = 100


class OnlyResultsError(DataError):
    """Sources of a session of which nothing is known yet say no more than results."""


@dataclass(frozen=True)
class Assembled:
    """A session, and what became of everything the sources said."""

    session: Session
    reports: list[JoinReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def assemble(
    sources: Sequence[SourceRecords],
    stored: Session | None = None,
    *,
    name: str | None = None,
    cluster_radius_um: float | None = None,
    radius_is_new: bool = True,
    same_source: bool = False,
) -> Assembled:
    """Join sources into a session, or extend a stored one with them.

    sources : what was read; later ones fill what earlier ones leave open     stored : the session to extend
    name : of the session, else as the source of the places has it
    cluster_radius_um : for holes that the reader gives no patch, else as the source has it
    radius_is_new : whether it was said now, so that it is told on which holes it does not act
    same_source : the stored session was imported from the same paths, so that all of it may be new
    Raises DataError where there are no holes, places of two formats, or a session other than the stored one.
    """
    sources, is_new_grid = grids_told_apart(sources, stored)
    chosen, tables = _choose_places(sources, stored)
    if chosen and chosen[0].format == FORMAT:
        told = own_places_told_apart(chosen, stored)
        of = {id(before): now for before, now in zip(chosen, told, strict=True)}
        chosen, sources = told, [of.get(id(source), source) for source in sources]
    places = places_of_sources(chosen, stored, cluster_radius_um, radius_is_new)
    if stored is not None and not is_new_grid:
        _refuse_other_session(places, stored, same_source)
    notes = _notes_of(sources)
    notes += [
        f"{name_of_source(table.path)}: its holes were not taken; results and times join by name"
        for table in tables
    ]
    notes += places.notes
    found, reports = _exposures(chosen, places, stored)
    sources = [with_shots_again(source, found.again) for source in sources]
    exposures, time_reports = _with_times(found.rows, tables)
    known_runs = renamed(_stored_table("ctf_runs", stored), found.new_ids)
    results = with_results(
        exposures,
        sources,
        known_runs,
        found.again,
        own_format=chosen[0].format if chosen else None,
        movie_folders=movie_folders(
            exposures["exposure_id"].tolist(), _stored_table("vendor_fields", stored), sources
        ),
    )
    session = Session(
        stored.name if stored is not None else _plain_name(name or _name_of(chosen)),
        _info(chosen, stored, found.shots, results.exposures),
        places.grids,
        places.squares,
        places.patches,
        places.holes,
        results.exposures[list(TABLES["exposures"])],
        _stored_table("predictions", stored),
        _provenance(sources, chosen, stored, places.grids),
        results.runs,
        vendor_fields(sources, _stored_table("vendor_fields", stored)),
    )
    notes += found.notes + results.notes + notes_on_patterns_unsaid(session)
    return Assembled(session, reports + time_reports + results.reports, notes)


def earlier_exposures(session: Session) -> pd.DataFrame:
    """The exposures of a stored session as EXPOSURE_COLUMNS, for readers that go on from them."""
    placed = session.exposures.merge(session.holes[["hole_id", "patch_id"]], on="hole_id", how="left")
    placed = placed.merge(session.patches, on="patch_id", how="left")
    placed = placed.merge(session.squares[["square_id", "grid_id"]], on="square_id", how="left")
    placed = placed.assign(shot_key="", shift_x_um=np.nan, shift_y_um=np.nan)
    return placed[list(EXPOSURE_COLUMNS)]


def _choose_places(
    sources: Sequence[SourceRecords], stored: Session | None
) -> tuple[list[SourceRecords], list[SourceRecords]]:
    """The sources that say where things are, all of one format, and tables that repeat it in their own words."""
    saying = [source for source in sources if _says_places(source)]
    if not saying and stored is None:  # an atlas alone: its squares are all that is known
        saying = [source for source in sources if len(source.squares) or len(source.patches)]
    present = [each.name for each in FORMATS if any(source.format == each.name for source in saying)]
    vendors = [name for name in present if BY_NAME[name].gives == "places"]
    own = [stored.info.format] if stored is not None else []
    if len(set(vendors + own) - {"generic", "leginon-export"}) > 1:
        raise DataError(
            "Squares and holes must come from one format. "
            f"Got {', '.join(dict.fromkeys(own + vendors))} instead. Remedy: import them one by one."
        )
    lead = own[0] if own else (vendors or present or [""])[0]
    if vendors and vendors[0] != lead:
        raise DataError(
            f"A later import must be of the session's own format, {lead}, or of results. Got {vendors[0]} instead. "
            "Remedy: import it into a new place with -o."
        )
    if not lead:
        got = ", ".join(f"{name_of_source(source.path)} ({source.format})" for source in sources) or "nothing"
        what = "only results" if any(len(source.ctf) for source in sources) else "none of them"
        raise OnlyResultsError(
            f"A session must have squares, holes or exposures. Got {what} instead: {got}. Remedy: add the "
            "folder of the session, a .nav file or a table with holes; or add results to a session that was "
            "imported before, with --update -o NAME.session."
        )
    chosen = [source for source in saying if source.format == lead]
    others = [source for source in sources if not any(source is each for each in saying)]
    chosen += [source for source in others if source.format == lead]
    beside = [
        each
        for each in others
        if each.format != lead and each.format == "generic" and (len(each.squares) or len(each.patches))
    ]
    if beside:
        raise DataError(
            "A table of squares must stand alone, or beside your own tables of holes. Got "
            f"{name_of_source(beside[0].path)} beside {lead} files instead, whose reader says the squares. Remedy: "
            "leave it out."
        )
    return chosen, [source for source in saying if source.format != lead]


def _says_places(source: SourceRecords) -> bool:
    return bool(len(source.holes) or len(source.exposures))


def _refuse_other_session(places: Places, stored: Session, same_source: bool) -> None:
    if same_source or places.shares_with_stored or not places.n_new_holes:
        return
    raise DataError(
        f"A later import must be of the same session. Got {places.n_new_holes} holes and none of the squares or "
        f"holes of session {stored.name} instead. Remedy: import it into a new place with -o."
    )


def _exposures(
    chosen: Sequence[SourceRecords], places: Places, stored: Session | None
) -> tuple[Shots, list[JoinReport]]:
    """Stored and new exposures, each a shot of its hole; and what found no hole."""
    before = _stored_table("exposures", stored)
    before = with_gaps_filled("exposures", before, places.exposures)
    new = places.exposures[~places.exposures["exposure_id"].isin(before["exposure_id"])]
    placed = new["hole_id"].isin(places.holes["hole_id"])
    lost = new.loc[~placed, "exposure_id"]
    report = JoinReport(
        what=f"exposures of {', '.join(name_of_source(source.path) for source in chosen if len(source.exposures))}",
        found=len(places.exposures),
        joined=len(places.exposures) - len(lost),
        first_not_joined=tuple(lost.head(NAMES_SHOWN)),
        why="they name no hole" if len(lost) else "",
    )
    shots = as_shots(
        before,
        new[placed].assign(outcome="pending", ctf_max_res_angstrom=np.nan),
        places.exposures,
        chosen,
        1 if stored is None else stored.info.shots,
        _stored_table("vendor_fields", stored),
    )
    return shots, [report] if len(places.exposures) else []


def _with_times(rows: pd.DataFrame, tables: Sequence[SourceRecords]) -> tuple[pd.DataFrame, list[JoinReport]]:
    """Times of tables for new exposures that have none."""
    reports = []
    for table in tables:
        timed = table.exposures[table.exposures["started_at"].notna()]
        if timed.empty:
            continue
        what = f"times of {name_of_source(table.path)}"
        place, report = joined_by_name(
            timed["exposure_id"].tolist(), None, rows["exposure_id"].tolist(), what
        )
        times = rows["started_at"].to_numpy(copy=True)
        known = place >= 0
        open_rows = rows["is_new"].to_numpy() & np.isnat(times)
        given = np.full(len(rows), np.datetime64("NaT", "ns"))
        given[place[known]] = timed["started_at"].to_numpy(dtype="datetime64[ns]")[known]
        rows = rows.assign(started_at=np.where(open_rows, given, times))
        reports.append(report)
    return rows, reports


def _notes_of(sources: Sequence[SourceRecords]) -> list[str]:
    """What the readers say, with the source's name; what is the same of several is said once, at the first."""
    named: dict[str, list[str]] = {}
    for source in sources:
        for note in source.notes:
            named.setdefault(note, []).append(name_of_source(source.path))
    return [
        f"{', '.join(names[:NAMES_SHOWN])}"
        f"{f' and {len(names) - NAMES_SHOWN} more' if len(names) > NAMES_SHOWN else ''}: {note}"
        for note, names in named.items()
    ]


def _info(
    chosen: Sequence[SourceRecords], stored: Session | None, shots: int, exposures: pd.DataFrame
) -> SessionInfo:
    has_times = int(exposures["started_at"].notna().sum()) > 1
    if stored is None:
        model = "fitted" if has_times else "cryorl"
        return SessionInfo(format=chosen[0].format, shots=shots, default_time_model=model)
    had_times = int(stored.exposures["started_at"].notna().sum()) > 1
    changes: dict[str, object] = {"shots": shots}
    if has_times and not had_times:
        changes["default_time_model"] = "fitted"
    return stored.info.model_copy(update=changes)


def _provenance(
    sources: Sequence[SourceRecords],
    chosen: Sequence[SourceRecords],
    stored: Session | None,
    grids: pd.DataFrame,
) -> pd.DataFrame:
    """One row for each table that a file fills; rows of earlier imports stay, first.     grids : of the session now"""
    new_grids = set(grids["grid_id"]) - set(_stored_table("grids", stored)["grid_id"])
    rows = []
    for source in sources:
        says_places = any(source is each for each in chosen)
        filled = [
            (*NAMED_GRIDS, says_places and names_grids(source, new_grids)),
            ("squares", "x_um, y_um", len(source.squares) and not len(source.holes)),
            ("holes", "x_um, y_um, x_px, y_px", len(source.holes) and says_places),
            ("holes", "chosen", says_places and source.holes["chosen"].notna().any()),
            ("exposures", "started_at", len(source.exposures)),
            ("exposures", "ctf_max_res_angstrom", len(source.ctf)),
        ]
        rows += [
            (table, column, name_of_source(source.path), source.format)
            for table, column, is_there in filled
            if is_there
        ]
    new = pd.DataFrame(rows, columns=list(TABLES["provenance"]), dtype="str")
    before = _stored_table("provenance", stored)
    known = set(before.itertuples(index=False, name=None))
    fresh = [row not in known for row in new.itertuples(index=False, name=None)]
    return _concatenated([before, new[fresh]])


def _stored_table(table: str, stored: Session | None) -> pd.DataFrame:
    found: pd.DataFrame = empty_table(table) if stored is None else getattr(stored, table)
    return found


def _concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames below each other; those without rows only where none has rows."""
    filled = [frame for frame in frames if len(frame)] or [frames[0]]
    return pd.concat(filled, ignore_index=True)


def _name_of(chosen: Sequence[SourceRecords]) -> str:
    named = (source.session_name for source in chosen if source.session_name)
    return next(named, None) or chosen[0].path.resolve().stem


def _plain_name(name: str) -> str:
    """A name that can be a folder's, whatever the file says."""
    plain = _NOT_IN_A_NAME.sub("_", name).strip("._ ")[:_LONGEST_NAME]
    return plain or "session"
