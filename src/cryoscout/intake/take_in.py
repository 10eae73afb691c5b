"""Sources to a session: what `cryoscout import` and the live advisor both do, from reading to the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryoscout.core.errors import DataError, InputError
from cryoscout.core.telling import Telling
from cryoscout.intake.images import ImagesRequest, cut_images
from cryoscout.session.model import Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.intake.assemble import Assembled
    from cryoscout.intake.read import ReadOptions, ReadSources, ServerSession, Stamps
    from cryoscout.routing.time_fit import FittedTimeModel
    from cryoscout.session.joins import JoinReport
    from cryoscout.session.model import Session
    from cryoscout.session.place import PlaceMark
    from cryoscout.session.store import SessionStore

DEVIATIONS_SHOWN = 5


@dataclass(frozen=True)
class Sources:
    """What is to be read, and how."""

    paths: Sequence[Path]
    servers: Sequence[ServerSession]
    options: ReadOptions
    as_given: str  # all of them, as the user named them


@dataclass(frozen=True)
class TakenIn:
    """What was read, before it is stored."""

    session: Session
    reports: Sequence[JoinReport] = ()
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    left_out: int = 0  # pieces that deviate
    notes: Sequence[str] = ()
    unchanged: Sequence[Path] = ()  # sources that were not read again
    files: Mapping[str, Stamps] = field(default_factory=dict)  # source -> files that were read


def read_session(sources: Sources, telling: Telling) -> TakenIn:
    """What all sources say together, before it is stored. Raises the errors of the readers."""
    from cryoscout.intake.assemble import assemble
    from cryoscout.intake.said_before import reading_after

    reading = reading_after(sources.options, Reading())
    found = _found(sources, telling)
    left_out = _say_left_out(_left_out(found), telling)
    only_leginon = found.leginon is not None and len(found.records) == 1
    _refuse_leginon_options(found, only_leginon, sources.options)
    radius_um = sources.options.cluster_radius_um
    if found.leginon is not None and only_leginon:
        leginon, joins = found.leginon, list(map(str, found.leginon.reports))
        notes = [note for note in found.records[0].notes if note not in joins]
        notes += _radius_without_effect(radius_um)
        session = _read_as(leginon.session, reading)
        return TakenIn(session, leginon.reports, leginon.images, left_out, notes, files=found.files)
    with telling.progress("joining", 1):
        joined = assemble(found.records, cluster_radius_um=radius_um)
    _refuse_unjoined(joined, sources.options)
    session = joined.session
    if found.leginon is not None and session.info.format == "leginon":
        session = replace(session, predictions=found.leginon.session.predictions)
    return TakenIn(_read_as(session, reading), joined.reports, {}, left_out, joined.notes, files=found.files)


def _read_as(session: Session, reading: Reading) -> Session:
    """The session with how its files are read."""
    if session.info.reading == reading:
        return session
    return replace(session, info=session.info.model_copy(update={"reading": reading}))


def _found(
    sources: Sources,
    telling: Telling,
    known: Mapping[str, Stamps] | None = None,
    stored: Session | None = None,
    read_earlier: Collection[str] = (),
) -> ReadSources:
    """What the sources say; where nothing is left of them, first what was left out."""
    from cryoscout.intake.assemble import earlier_exposures
    from cryoscout.intake.read import NothingLeftError, read_sources

    earlier = None if stored is None else earlier_exposures(stored)
    stored_format = None if stored is None else stored.info.format
    try:
        found = read_sources(
            sources.paths,
            sources.options,
            known,
            earlier,
            sources.servers,
            stored_format=stored_format,
            read_earlier=read_earlier,
            progress=telling.progress,
        )
    except NothingLeftError as error:
        _say_left_out(error.left_out, telling)
        raise
    return found


def _say_left_out(lines: Sequence[str], telling: Telling) -> int:
    """Name what deviates before anything is joined: where too little is left, it says why. The number of lines."""
    for line in lines[:DEVIATIONS_SHOWN]:
        telling.say(f"Left out: {line}")
    if len(lines) > DEVIATIONS_SHOWN:
        telling.say(
            f"Left out: {len(lines) - DEVIATIONS_SHOWN} more lines; cryoscout validate FILE lists all."
        )
    return len(lines)


def _radius_without_effect(radius_um: float | None) -> list[str]:
    if radius_um is None:
        return []
    return ["--patch-radius-um does not act: the names of Leginon's images say the patches"]


def _refuse_leginon_options(found: ReadSources, only_leginon: bool, options: ReadOptions) -> None:
    """Predictions and hole images are read with Leginon tables alone, and presets are Leginon's."""
    if options.presets is not None and found.leginon is None and found.records:
        formats = ", ".join(dict.fromkeys(records.format for records in found.records))
        raise InputError(
            f"--presets must go with Leginon tables. Got {formats} instead. Remedy: leave --presets out."
        )
    for name, value in (("--images", options.images), ("--model-id", options.model_id)):
        if value is not None and not only_leginon:
            formats = ", ".join(dict.fromkeys(records.format for records in found.records))
            raise InputError(
                f"{name} must go with Leginon tables alone. Got {formats} instead. Remedy: leave {name} out."
            )


def _refuse_unjoined(joined: Assembled, options: ReadOptions) -> None:
    """Results of which none belongs to the session are an error unless they are allowed."""
    from cryoscout.intake.assemble_ctf import CTF_RESULTS

    lost = [each for each in joined.reports if each.what.startswith(CTF_RESULTS) and not each.joined]
    if not options.refuse_unjoined or not lost:
        return
    exposures = joined.session.exposures["exposure_id"].head(2).tolist()
    called = f"its exposures are called {', '.join(exposures)}" if exposures else "it has no exposures"
    shown = ", ".join(lost[0].first_not_joined[:2])
    raise DataError(
        f"{lost[0].what} must be of exposures of the session. Got {lost[0].found} results of which none joins "
        f"(first: {shown}; {called}) instead. Remedy: name the results of this session; add --allow-unjoined where "
        "their images are still to come, and name the results again when these are there."
    )


def _left_out(found: ReadSources) -> tuple[str, ...]:
    """What deviates, with its file."""
    if found.leginon is not None and len(found.records) == 1:
        return tuple(
            f"{path}, line {deviation.line}: {deviation.message}"
            for path, deviations in found.leginon.deviations.items()
            for deviation in deviations
        )
    return tuple(
        ", ".join(
            [
                str(records.path),
                *([deviation.element] if deviation.element else []),
                *([f"line {deviation.line}"] if deviation.line is not None else []),
            ]
        )
        + f": {deviation.message}"
        for records in found.records
        for deviation in records.deviations
    )


def update_session(
    location: Path | str, sources: Sources, telling: Telling
) -> tuple[TakenIn, dict[str, int]]:
    """Add what is new to a stored session; what was there before stays."""
    from cryoscout.intake.assemble import Assembled, assemble
    from cryoscout.intake.read import source_key
    from cryoscout.intake.said_before import options_of, reading_after, says_otherwise
    from cryoscout.session.store import SessionStore

    options = sources.options
    with SessionStore.open(location) as store:
        stored, known = store.load(telling.progress), store.files()
        if not len(stored.grids):
            try:
                return _begun(store, stored, sources, telling)
            except _BegunMeanwhileError:
                stored, known = store.load(telling.progress), store.files()
        before = stored.info.reading
        said = options_of(options, before)
        # What a file says is another thing now: one that is as it was is read again.
        seen = {} if says_otherwise(said.reading, before) else known
        found = _found(replace(sources, options=said), telling, seen, stored, store.read_before_places())
        _refuse_leginon_options(found, only_leginon=False, options=options)
        if not found.records:
            why = "--patch-radius-um does not act: all sources are unchanged"
            notes = [] if options.cluster_radius_um is None else [why]
            return TakenIn(stored, notes=notes, unchanged=found.unchanged), {}
        left_out = _say_left_out(_left_out(found), telling)
        joined = Assembled(stored)

        def extend(now: Session) -> Session:
            nonlocal joined
            with telling.progress("joining", 1):
                joined = assemble(
                    found.records,
                    now,
                    cluster_radius_um=said.cluster_radius_um,
                    radius_is_new=options.cluster_radius_um is not None,
                    same_source=any(source_key(path) in known for path in sources.paths),
                )
            _refuse_unjoined(joined, options)
            return _read_as(joined.session, reading_after(options, now.info.reading))

        files = found.files | found.again
        added = store.save_update(extend, sources.as_given, files=files, progress=telling.progress)
    read = TakenIn(joined.session, joined.reports, {}, left_out, joined.notes, found.unchanged)
    return read, added


class _BegunMeanwhileError(Exception):
    """Another import was the first that came to the session."""


def _begun(
    store: SessionStore, stored: Session, sources: Sources, telling: Telling
) -> tuple[TakenIn, dict[str, int]]:
    """The first that comes to a session of which nothing was known: it is read as a new one.

    Raises _BegunMeanwhileError where another was faster.
    """
    if not sources.paths and not sources.servers:
        return TakenIn(stored), {}
    read = read_session(sources, telling)

    def begin(now: Session) -> Session:
        if len(now.grids):
            raise _BegunMeanwhileError
        return replace(read.session, name=now.name)

    return read, store.save_update(begin, sources.as_given, files=read.files)


def with_images(read: TakenIn, wanted: ImagesRequest, permissive: bool, telling: Telling) -> TakenIn:
    """With the images of the holes that are cut from pictures, where that is asked for."""
    cut = cut_images(read.session, wanted, permissive=permissive, telling=telling)
    if cut is None:
        return read
    holes = read.session.holes.assign(image_row=cut.image_row)
    return replace(
        read,
        session=replace(read.session, holes=holes),
        reports=[*read.reports, cut.report],
        images=cut.images,
        left_out=read.left_out + len(cut.left_out),
        notes=[*read.notes, *cut.notes],
    )


def store_session(
    read: TakenIn,
    place: Path | str,
    source: str,
    force: bool,
    telling: Telling,
    was: PlaceMark | None = None,
) -> None:
    """Write what was read into a new store.

    place : folder or database URL     force : replace what is there
    was : what stood at the place before anything was read, see `SessionStore.create`
    """
    from cryoscout.session.store import SessionStore

    with SessionStore.create(place, force=force, was=was) as store:
        store.save_import(
            read.session, source=source, images=read.images, files=read.files, progress=telling.progress
        )


def read_built_in(name: str, split: str | None, options: ReadOptions) -> TakenIn:
    """A built-in session, with the hole images of the options. Raises InputError for a model id."""
    from cryoscout.formats.leginon.crops import read_crops
    from cryoscout.session.named import load_session

    if options.model_id is not None:
        raise InputError(
            f"A model id must be given for files of predictions. Got {options.model_id!r} for the built-in session "
            f"{name} instead. Remedy: leave --model-id out."
        )
    session = load_session(name, split)
    notes = _radius_without_effect(options.cluster_radius_um)
    if options.images is None:
        return TakenIn(session, notes=notes)
    crops, image_row, report = read_crops(options.images, session.holes)
    holes = session.holes.assign(image_row=image_row)
    return TakenIn(replace(session, holes=holes), [report], crops, notes=notes)


def fitted_or_why_not(session: Session) -> tuple[FittedTimeModel | None, tuple[str, ...]]:
    """The session's own times, None where it has too few; and notes, also on why plans do not take them."""
    from cryoscout.routing.times import fitted_times, published_in_words, time_model_for

    _, plan_notes = time_model_for(session, None)
    try:
        fit = fitted_times(session)
    except DataError as error:
        return None, plan_notes or (published_in_words(error),)
    if session.info.default_time_model != "cryorl":
        return fit, tuple(dict.fromkeys([*plan_notes, *fit.warnings]))
    why = (
        f"{session.name} is built in"
        if session.info.built_in
        else "the session holds only part of the timed exposures, so that steps between the others look longer"
    )
    return fit, (
        *fit.warnings,
        f"Plans use the published time model cryorl unless --time-model fitted is given: {why}.",
    )
