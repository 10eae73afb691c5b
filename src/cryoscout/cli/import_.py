"""`cryoscout import`: vendor files into one session folder, and an account of what joined and what not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import console, print_json, progress, say, session_folder, session_name
from cryoscout.core.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.session.joins import JoinReport
    from cryoscout.session.model import Session

DEVIATIONS_SHOWN = 5


def import_(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Leginon tables, or folders of them, known by content; or a built-in session: y1, y1-2022.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The session folder to make. Default: NAME.session here."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of hole images *_crop.png to store too.")
    ] = None,
    permissive: Annotated[
        bool,
        typer.Option("--permissive", help="Leave deviating lines out and list them, instead of stopping."),
    ] = False,
    model_id: Annotated[
        str | None, typer.Option(help="Model id of the predictions. Default: the name of their file.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a built-in session: train, val, all.")] = None,
    store_dir: Annotated[
        Path | None, typer.Option(help="Folder for the session; it must not be on a network file system.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a session of that name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read vendor files into a session; say what joined and what did not.

    Nothing is written beside the files that are read, unless -o or --store-dir says so.

    \b
    Example:
      cryoscout import CTF.csv timestamps.csv predictions.txt -o run7.session
      cryoscout import y1 --images crops
    """
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.store import SessionStore

    built_in = [path for path in paths if path in BUILTIN_SESSIONS]
    if built_in and len(paths) > 1:
        raise InputError(
            f"A built-in session must be imported alone. Got {', '.join(paths)} instead. "
            "Remedy: import the files without it."
        )
    if built_in:
        read = _read_built_in(built_in[0], split, images, model_id)
    elif split is not None:
        raise InputError(
            f"A split must belong to a built-in session ({', '.join(BUILTIN_SESSIONS)}). Got split "
            f"{split!r} instead. "
            "Remedy: leave --split out."
        )
    else:
        read = _read_files([Path(path) for path in paths], images, permissive, model_id)
    folder = session_folder(output, read.session.name, store_dir)
    if output is None and store_dir is None:
        _refuse_source_folder(folder, [] if built_in else paths)
    if output is not None:
        read = replace(read, session=replace(read.session, name=session_name(folder)))
    with SessionStore.create(folder, force=force) as store, progress("storing", 1) as step:
        store.save_import(read.session, source=", ".join(paths), images=read.images)
        step()
    _tell(read, folder, as_json)


@dataclass(frozen=True)
class _Read:
    """What was read, before it is stored."""

    session: Session
    reports: Sequence[JoinReport] = ()
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()  # deviating lines, as "file, line N: message"


def _read_files(paths: list[Path], images: Path | None, permissive: bool, model_id: str | None) -> _Read:
    from cryoscout.formats.leginon import read_session

    found = read_session(paths, images, permissive, model_id=model_id)
    left_out = tuple(
        f"{path}, line {deviation.line}: {deviation.message}"
        for path, deviations in found.deviations.items()
        for deviation in deviations
    )
    return _Read(found.session, found.reports, found.images, left_out)


def _read_built_in(name: str, split: str | None, images: Path | None, model_id: str | None) -> _Read:
    from cryoscout.formats.leginon_crops import read_crops
    from cryoscout.routing.from_session import load_session

    if model_id is not None:
        raise InputError(
            f"A model id must be given for files of predictions. Got {model_id!r} for the built-in "
            f"session {name} "
            "instead. Remedy: leave --model-id out."
        )
    session = load_session(name, split)
    if images is None:
        return _Read(session)
    crops, image_row, report = read_crops(images, session.holes)
    holes = session.holes.assign(image_row=image_row)
    return _Read(replace(session, holes=holes), [report], crops)


def _refuse_source_folder(folder: Path, paths: Sequence[str]) -> None:
    target = folder.parent.resolve()
    for path in map(Path, paths):
        if target == (path if path.is_dir() else path.parent).resolve():
            raise InputError(
                f"A session must not be written beside the files it is read from unasked. Got {folder} "
                "instead. "
                f"Remedy: add -o {folder}, or --store-dir DIR."
            )


def _tell(read: _Read, folder: Path, as_json: bool) -> None:
    times_s, notes = _fitted_times_s(read.session)
    for line in read.left_out[:DEVIATIONS_SHOWN]:
        say(f"Left out: {line}")
    if len(read.left_out) > DEVIATIONS_SHOWN:
        say(
            f"Left out: {len(read.left_out) - DEVIATIONS_SHOWN} more lines; cryoscout validate FILE lists "
            "all."
        )
    told = _account(read, folder, times_s, notes)
    if as_json:
        print_json(told)
        return
    out = console()
    out.print(f"Imported {told['session']} ({told['format']}) into {folder}")
    levels = ("grids", "squares", "patches", "holes", "exposures")
    out.print("Found: " + ", ".join(f"{told[level]} {level}" for level in levels))
    out.print("Outcomes: " + ", ".join(f"{count} {outcome}" for outcome, count in told["outcomes"].items()))
    out.print(f"Predictions: {', '.join(told['models']) or 'none'}")
    for report in read.reports:
        out.print(f"Joined: {report}")
    if times_s is not None:
        tiers = ", ".join(f"{seconds:.0f} s {tier.replace('_', ' ')}" for tier, seconds in times_s.items())
        out.print(f"Fitted times of a visit: {tiers}")
    for note in notes:
        out.print(f"Note: {note}")


def _account(
    read: _Read, folder: Path, times_s: dict[str, float] | None, notes: Sequence[str]
) -> dict[str, Any]:
    """The object of `--json`.

    Keys: session, format, grids, squares, patches, holes, exposures, outcomes {measured, failed, pending,
    none},
    not_joined (rows of all sources), time_model_s {same_patch, new_patch, new_square, new_grid} or null, then
    folder, models, joins (one account per source), left_out (deviating lines), notes.
    """
    return {
        "session": read.session.name,
        "format": read.session.info.format,
        **read.session.counts(),
        "not_joined": sum(report.not_joined for report in read.reports),
        "time_model_s": times_s,
        "folder": str(folder),
        "models": read.session.models(),
        "joins": [{**asdict(report), "not_joined": report.not_joined} for report in read.reports],
        "left_out": len(read.left_out),
        "notes": list(notes),
    }


def _fitted_times_s(session: Session) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Seconds of a visit by tier as the session's own times say, or None; and notes."""
    from cryoscout.core.units import SECONDS_PER_MINUTE
    from cryoscout.routing.from_session import FITTED, time_model_for

    try:
        model, notes = time_model_for(session, FITTED)
    except DataError as error:
        return None, (str(error),)
    tiers = ("same_patch", "new_patch", "new_square", "new_grid")
    seconds = (model.tiers_min() * SECONDS_PER_MINUTE).round(1).tolist()
    return dict(zip(tiers, seconds, strict=True)), notes
