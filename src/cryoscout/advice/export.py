"""What `plan --export` writes: the work list in the form that the microscope's own software, or a person, takes.

A format that names the vendor's own targets fits only a session of that vendor. Every file is written beside its place
and then moved there, so that a failure leaves neither half a file nor an overwritten one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.core.new_files import check_new_file, prefix_of_partial, remove_leftovers, write_whole
from cryoscout.core.telling import Say

if TYPE_CHECKING:
    from cryoscout.advice.work_list import PlannedLook, WorkList
    from cryoscout.formats.serialem.nav_writer import PlannedHole
    from cryoscout.session.model import Session


@dataclass(frozen=True)
class ExportRequest:
    """What the options of `plan` ask for; checked by `check_request`."""

    format: str
    file: Path
    force: bool = False
    nav: Path | None = None
    """The operator's own navigator file."""
    star: Path | None = None
    """RELION's table of all micrographs, whose columns are kept."""
    athena_session: str | None = None
    smartscope_address: str | None = None
    smartscope_token_file: Path | None = None
    pictures: tuple[Path, ...] = ()
    """Folders with pictures of squares and patches, for --export html."""


@dataclass(frozen=True)
class ExportFormat:
    """One format: which sessions it fits, who writes it, how its file is loaded."""

    of: str | None
    """Format of the sessions it fits; None for all."""
    write: Callable[[ExportRequest, Session, WorkList, Path], tuple[str, ...]]
    """Writes the file to the given path and returns notes for the operator."""
    load: str
    """How to load the file, for people; empty where the notes say it."""


@dataclass(frozen=True)
class _Option:
    name: str
    formats: tuple[str, ...]
    needed: bool
    remedy: str


_OPTIONS: dict[str, _Option] = {
    "nav": _Option("--nav", ("nav",), True, "--nav FILE, the navigator file that the session was read from"),
    "star": _Option("--star", ("star",), False, "--star FILE, RELION's table of all micrographs"),
    "athena_session": _Option(
        "--athena-session",
        ("athena-json",),
        True,
        "--athena-session UUID, from the Athena Decision Service, /api/v1/Sessions",
    ),
    "smartscope_address": _Option(
        "--smartscope-address", ("smartscope",), False, "--smartscope-address https://HOST"
    ),
    "pictures": _Option(
        "--pictures", ("html",), False, "--pictures FOLDER, pictures named by their square or patch"
    ),
    "smartscope_token_file": _Option(
        "--smartscope-token-file", ("smartscope",), False, "--smartscope-token-file FILE"
    ),
}


def export_request(
    export: str | None,
    output: Path | None,
    force: bool,
    *,
    nav: Path | None = None,
    star: Path | None = None,
    athena_session: str | None = None,
    smartscope_address: str | None = None,
    smartscope_token_file: Path | None = None,
    pictures: Path | None = None,
) -> ExportRequest | None:
    """The checked request, or None where nothing is to be exported.

    Raises InputError for a format without a file or the reverse, an option that another format needs, an output that
    exists (unless forced) or is one of the inputs; UnknownNameError for an unknown format.
    """
    given = {
        "nav": nav,
        "star": star,
        "athena_session": athena_session,
        "smartscope_address": smartscope_address,
        "smartscope_token_file": smartscope_token_file,
        "pictures": pictures,
    }
    _check_options(export, given)
    if export is None or output is None:
        if export is not None or output is not None:
            named, missing = ("--export", "-o FILE") if output is None else ("-o", "--export FORMAT")
            raise InputError(
                f"An export must have a format and a file. Got only {named} instead. Remedy: add {missing}."
            )
        return None
    check_new_file(output, force)
    if pictures is not None and not pictures.is_dir():
        raise InputError(
            f"--pictures must be a folder. Got {pictures}, which is none, instead. "
            "Remedy: name the folder that the pictures are in."
        )
    for source in (nav, star):
        if source is not None and output.exists() and source.exists() and output.samefile(source):
            raise InputError(
                f"The output must be another file than the one it is made from. Got {output} for both instead. "
                "Remedy: give another -o FILE; your own file is never overwritten."
            )
    if smartscope_address is not None:
        from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token

        # Before the work starts, so that nothing is planned in vain.
        SmartScopeClient(smartscope_address, read_token(smartscope_token_file))
    if athena_session is not None:
        from cryoscout.formats.epu.athena import check_session_id

        athena_session = check_session_id(athena_session)
    return ExportRequest(
        export,
        output,
        force,
        nav,
        star,
        athena_session,
        smartscope_address,
        smartscope_token_file,
        () if pictures is None else (pictures,),
    )


def _check_options(export: str | None, given: Mapping[str, object]) -> None:
    """Raise where the format is unknown, or where an option is given that it does not have."""
    if export is not None and export not in EXPORTS:
        raise UnknownNameError("The export format", export, EXPORTS)
    for name, option in _OPTIONS.items():
        if given[name] is not None and export not in option.formats:
            raise InputError(
                f"{option.name} must go with --export {option.formats[0]}. "
                f"Got {'no export' if export is None else f'--export {export}'} instead. Remedy: leave it out."
            )


def check_fits(request: ExportRequest, session: Session) -> None:
    """Raise InputError, naming what fits, where the format is of another vendor than the session, else where an option
    is missing that it needs."""
    wanted = EXPORTS[request.format].of
    got = session.info.format
    if wanted is not None and got != wanted:
        fitting = ", ".join(name for name, each in EXPORTS.items() if each.of in (None, got))
        raise InputError(
            f"--export {request.format} must be of a session read from {wanted} files. Got {session.name}, read from "
            f"{got}, instead. Remedy: for {got} use one of {fitting}."
        )
    for name, option in _OPTIONS.items():
        if option.needed and request.format in option.formats and getattr(request, name) is None:
            raise InputError(
                f"--export {request.format} must have {option.name}. Got none instead. Remedy: add {option.remedy}."
            )


def write_export(request: ExportRequest, session: Session, work_list: WorkList, say: Say) -> None:
    """Write the file of a request that fits the session, and tell how to load it.

    Raises the errors of the format's writer; then nothing is at the output that was not there before.
    """
    _put_in_place(request, lambda path: EXPORTS[request.format].write(request, session, work_list, path), say)


def write_good_micrographs_alone(
    request: ExportRequest, session: Session, threshold_angstrom: float, say: Say
) -> None:
    """The file of --export star for a session that has no hole left to plan. Raises as `write_export`."""
    _put_in_place(
        request,
        lambda path: _write_good_micrographs(session, threshold_angstrom, request.star, path),
        say,
    )


def select_in_smartscope(request: ExportRequest, work_list: WorkList, say: Say) -> None:
    """Select the planned holes and squares at the request's SmartScope address; nothing where it has none.

    Raises ServiceError, FileFormatError and InputError as `selecting.select_holes` does.
    """
    from cryoscout.formats.smartscope.rest import SmartScopeClient, read_token
    from cryoscout.formats.smartscope.selecting import select_holes, select_squares

    if request.smartscope_address is None:
        return
    client = SmartScopeClient(request.smartscope_address, read_token(request.smartscope_token_file))
    visits, squares = work_list.visits, squares_to_open(work_list)
    if squares:
        opened = select_squares(client, squares)
        said = f"Selected in SmartScope: {counted(opened.selected, 'squares')} to open."
        if opened.not_open:
            said += (
                f" {len(opened.not_open)} were queued or imaged there already (first: {opened.not_open[0]})."
            )
        say(said)
    if not visits:
        return
    report = select_holes(client, [visit.grid for visit in visits], [visit.hole for visit in visits])
    say(
        f"Selected in SmartScope: {report.selected} of {len(visits)} planned holes; it will image {report.images} "
        "holes, whole groups in its own order."
    )
    if report.not_open:
        say(
            f"Note: {len(report.not_open)} planned holes are queued or imaged there already and were left as they are "
            f"(first: {', '.join(report.not_open[:3])})."
        )


def looks_in_plan(work_list: WorkList) -> list[PlannedLook]:
    """The looks that the minutes are planned to reach, in order."""
    return [look for look in work_list.looks if look.in_plan]


def squares_to_open(work_list: WorkList) -> dict[str, list[str]]:
    """Grid -> its squares to open in the minutes that are left, in order."""
    found: dict[str, list[str]] = {}
    for look in looks_in_plan(work_list):
        if look.patch is None:
            found.setdefault(look.grid, []).append(look.square)
    return found


def _squares_left_out(session: Session, grid: str, to_open: Sequence[str]) -> list[str]:
    """The other squares of a grid that were not opened."""
    from cryoscout.session.looks import squares_looked_at

    squares = session.squares.loc[~squares_looked_at(session)]
    others = squares.loc[
        (squares["grid_id"] == grid) & ~squares["square_id"].isin(list(to_open)), "square_id"
    ]
    return [str(each) for each in others]


def _put_in_place(request: ExportRequest, write: Callable[[Path], tuple[str, ...]], say: Say) -> None:
    # In a folder of its own beside the output: the writers refuse a file that exists, and name the file in their notes.
    remove_leftovers(request.file)
    prefix = prefix_of_partial(request.file)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=request.file.parent) as folder:
        written = Path(folder) / request.file.name
        notes = write(written)
        check_new_file(request.file, request.force)
        written.replace(request.file)
    say(f"Wrote {request.file}")
    for note in (EXPORTS[request.format].load, *notes):
        if note:
            say(f"Note: {note}")


def _write_csv(_: ExportRequest, _session: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    write_whole(path, work_list.to_csv())
    return ()


def _write_html(request: ExportRequest, session: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    from cryoscout.advice.atlas_map import atlas_maps
    from cryoscout.advice.square_maps import MOST_DRAWN, pictures_of_session, square_maps

    pictures = pictures_of_session(session, request.pictures)
    maps, atlas = square_maps(session, work_list, pictures), atlas_maps(session, work_list)
    write_whole(path, work_list.to_html([*atlas, *maps]))
    on_pictures = session.holes[["x_px", "y_px"]].notna().all(axis=1).any()
    if not maps:
        if not work_list.visits:
            return () if atlas else ("No stage position of a square is known, so no atlas is drawn.",)
        if on_pictures:
            return (
                "The holes have places on pictures alone, and no picture of them was found, so no square is drawn: "
                "--pictures FOLDER names those of your squares or patches.",
            )
        return ("No position of a hole is known, so no square is drawn.",)
    squares = len({visit.square for visit in work_list.visits})
    more = f"; the first {MOST_DRAWN} alone" if len(maps) == MOST_DRAWN and squares > MOST_DRAWN else ""
    notes = [f"{counted(len(maps), 'maps', 'have')} the chosen holes numbered{more}."]
    if not pictures:
        notes.append(
            "No picture of them was found: --pictures FOLDER names those of your squares or patches."
            if on_pictures
            else "No file says where the holes are on a picture of their square, so they stand on a map of the stage."
        )
    return tuple(notes)


def _write_nav(request: ExportRequest, session: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    from cryoscout.formats.serialem.nav import read_nav
    from cryoscout.formats.serialem.nav_writer import (
        PlannedHole,
        PlannedSquare,
        write_nav,
        write_nav_of_squares,
    )

    if request.nav is None:
        raise InputError("--export nav must have --nav. Got none instead. Remedy: add --nav FILE.")
    # Places that cannot be read are kept as they are, and the notes count them.
    source = read_nav(request.nav, permissive=True)
    route = [PlannedHole(visit.hole, visit.patch, visit.p_good) for visit in work_list.visits]
    notes: tuple[str, ...] = ()
    squares = looks_in_plan(work_list)
    if squares and route:
        # One run of Acquire at Items takes all marked items with one setting.
        notes = (
            f"The plan also opens {len(squares)} squares or patches, first {squares[0].square}: they are not marked, "
            "because SerialEM would take them with the settings of the holes. Plan again when these holes are done.",
        )
    elif squares:
        grids = session.grids["grid_id"].tolist()
        grid = _grid_of_nav(grids, request.nav) if len(grids) > 1 else grids[0]
        chosen = [
            PlannedSquare(look.square.removeprefix(f"{grid}/"), look.rate)
            for look in squares
            if look.grid == grid
        ]
        elsewhere = [look.grid for look in squares if look.grid != grid]
        notes = _notes_on_other_grids(elsewhere, "squares to open", grid, has_own=bool(chosen))
        return (*notes, *write_nav_of_squares(source, chosen, path))
    if len(session.grids) > 1:
        route, more = of_one_grid(route, session, request.nav)
        notes = (*notes, *more)
    return (*notes, *write_nav(source, route, path))


def of_one_grid(
    route: Sequence[PlannedHole], session: Session, nav: Path
) -> tuple[list[PlannedHole], tuple[str, ...]]:
    """The holes of the grid that a navigator is of, under their labels there: labels repeat from grid to grid."""
    grid = _grid_of_nav(session.grids["grid_id"].tolist(), nav)
    square_of = dict(zip(session.patches["patch_id"], session.patches["square_id"], strict=True))
    grid_of = dict(zip(session.squares["square_id"], session.squares["grid_id"], strict=True))
    grids = [grid_of[square_of[hole.patch_id]] for hole in route]
    of_grid = [hole for hole, of in zip(route, grids, strict=True) if of == grid]
    elsewhere = [of for of in grids if of != grid]
    notes = _notes_on_other_grids(elsewhere, "planned holes", grid, has_own=bool(of_grid))
    own = [replace(hole, hole_id=hole.hole_id.removeprefix(f"{grid}/")) for hole in of_grid]
    return own, notes


def _grid_of_nav(grids: Sequence[str], nav: Path) -> str:
    """The grid that a navigator is of, which is named as it was imported."""
    if nav.stem not in grids:
        raise InputError(
            f"--nav must be the navigator of one grid of the session, named as it was imported ({', '.join(grids)}). "
            f"Got {nav.name} instead. Remedy: give that file; of a grid that is called after the folder of its "
            f"images, a copy of its navigator under the name of the grid, such as {grids[0]}.nav."
        )
    return nav.stem


def _notes_on_other_grids(
    elsewhere: Sequence[str], what: str, grid: str, *, has_own: bool
) -> tuple[str, ...]:
    """That some of what is planned is of other grids than the navigator; InputError where all of it is.

    elsewhere : the grid of each of them
    """
    others = sorted(set(elsewhere))
    if others and not has_own:
        raise InputError(
            f"The {what} must be of the grid of --nav, {grid}. Got {', '.join(others)} instead. "
            f"Remedy: give the navigator of {others[0]}."
        )
    if not others:
        return ()
    return (
        f"{len(elsewhere)} {what} are of other grids ({', '.join(others)}): export them again with the navigator of "
        "each",
    )


def _write_star(request: ExportRequest, session: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    return _write_good_micrographs(session, work_list.threshold_angstrom, request.star, path)


def _write_good_micrographs(
    session: Session, threshold_angstrom: float, source: Path | None, path: Path
) -> tuple[str, ...]:
    """Of the measured micrographs, hidden from the plan or not, the good ones; a note says how many."""
    from cryoscout.formats.ctf.relion import write_good_micrographs, write_micrographs

    exposures = session.exposures
    measured = (exposures["outcome"] == "measured").to_numpy()
    good = measured & (exposures["ctf_max_res_angstrom"] <= threshold_angstrom).to_numpy()
    if not good.any():
        raise DataError(
            f"Session {session.name} must have a micrograph with a CTF resolution of {threshold_angstrom:g} angstrom "
            f"or better. Got {int(measured.sum())} measured ones and no such one instead. "
            "Remedy: import the CTF results, or raise --threshold-angstrom."
        )
    names = exposures.loc[good, "exposure_id"].tolist()
    if source is not None:
        return (str(write_good_micrographs(source, path, names)),)
    write_micrographs(path, names, exposures.loc[good, "ctf_max_res_angstrom"].tolist())
    return (
        f"{len(names)} good micrographs, by name alone: add --star micrographs_ctf.star to keep folders, columns and "
        "optics groups.",
    )


def _write_athena(
    request: ExportRequest, session: Session, work_list: WorkList, path: Path
) -> tuple[str, ...]:
    import cryoscout
    from cryoscout.formats.epu.athena import (
        LABEL,
        SquarePlan,
        decisions_of,
        square_decisions,
        write_decisions,
    )

    if request.athena_session is None:
        raise InputError(
            "--export athena-json must have --athena-session. Got none instead. Remedy: add --athena-session UUID."
        )
    holes = session.holes.assign(imaged=session.imaged_by_hole()).merge(session.patches, on="patch_id")
    open_holes = holes.loc[~holes["imaged"] & (holes["hole_id"] != work_list.start)]
    of_square = {str(square): list(rows["hole_id"]) for square, rows in open_holes.groupby("square_id")}
    squares = []
    for square in dict.fromkeys(visit.square for visit in work_list.visits):
        places = {visit.hole: visit.order for visit in work_list.visits if visit.square == square}
        left_out = [hole for hole in of_square.get(square, []) if hole not in places]
        squares.append(SquarePlan(square, places, left_out))
    decided_by = f"cryoscout {cryoscout.__version__}, {work_list.policy}@{work_list.prediction}"
    details = f"plan of {session.name} for {work_list.budget_min:g} min"
    records = []
    if squares or not work_list.looks:
        records += decisions_of(request.athena_session, squares, decided_by=decided_by, details=details)
    notes = [f"The decisions are {LABEL}: try them on a test session first."]
    for grid, to_open in squares_to_open(work_list).items():
        left_out = _squares_left_out(session, grid, to_open)
        records.append(square_decisions(request.athena_session, grid, to_open, left_out, decided_by, details))
        notes.append(
            f"gridSquareSelection of {grid}: {counted(len(to_open), 'squares')} to open, and 'false' for "
            f"{len(left_out)} others that were not opened; export again when the plan changes."
        )
    write_decisions(path, records)
    return tuple(notes)


def _write_leginon(_: ExportRequest, session: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    from cryoscout.formats.leginon.order import LeginonOrder, write_order

    about = {
        "session": session.name,
        "policy": f"{work_list.policy}@{work_list.prediction}",
        "minutes": f"{work_list.minutes_used:.1f} of {work_list.budget_min:g}",
    }
    looks = tuple(look.square if look.patch is None else look.patch for look in looks_in_plan(work_list))
    write_order(path, LeginonOrder(tuple(visit.hole for visit in work_list.visits), about, looks))
    return ()


def _write_smartscope(request: ExportRequest, _: Session, work_list: WorkList, path: Path) -> tuple[str, ...]:
    from cryoscout.formats.smartscope.selection import write_selection

    squares = list(squares_to_open(work_list).values())
    write_selection(path, [[visit.hole for visit in stay.visits] for stay in work_list.stays()], squares)
    if request.smartscope_address is not None:
        return ()
    return ("Nothing was sent: add --smartscope-address https://HOST to select them in SmartScope.",)


EXPORTS: dict[str, ExportFormat] = {
    "csv": ExportFormat(None, _write_csv, "One line per step, in order, for a spreadsheet or a script."),
    "html": ExportFormat(None, _write_html, "Open it in a browser, or print it, and tick off step by step."),
    "star": ExportFormat(None, _write_star, "Load it in RELION with Import, or as input of a later job."),
    "nav": ExportFormat("serialem", _write_nav, ""),
    "athena-json": ExportFormat(
        "epu",
        _write_athena,
        "Post the records one by one to /api/v1/Decision of the Athena Decision Service; EPU then asks it.",
    ),
    "leginon": ExportFormat(
        "leginon",
        _write_leginon,
        "Leginon does not load target lists: queue the named targets, patch by patch, in this order.",
    ),
    "smartscope": ExportFormat("smartscope", _write_smartscope, ""),
}
