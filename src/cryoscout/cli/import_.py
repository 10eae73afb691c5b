"""`cryoscout import`: vendor files, or a session of a server, into one session folder; what joined and what did not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import TELLING, console, print_json, session_folder
from cryoscout.cli.session_place import (
    NewDatabaseUrl,
    in_words,
    is_there,
    named_after,
    place_of_new_session,
    refuse_images_in_database,
)
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError
from cryoscout.intake.images import images_request
from cryoscout.intake.take_in import (
    Sources,
    TakenIn,
    fitted_or_why_not,
    read_built_in,
    read_session,
    store_session,
    update_session,
    with_images,
)

if TYPE_CHECKING:
    from cryoscout.formats.own.columns import ColumnMap
    from cryoscout.intake.read import ReadOptions, ServerSession
    from cryoscout.routing.time_fit import FittedTimeModel


# The options, by name, so that the command itself stays readable.
_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Vendor files or folders, known by content; a SmartScope server, https://HOST; or a built-in session: "
        "y1, y1-2022.",
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The session folder to make. Default: NAME.session here."),
]
_Update = Annotated[
    bool, typer.Option("--update", help="Add what is new to the session of -o, which may exist.")
]
_Images = Annotated[
    Path | None,
    typer.Option(
        help="Folder of images to store too, from which the holes are cut: patch images (Leginon; MRC, TIFF, PNG, "
        "JPEG) or square images (others; no MRC) named by their patch or square; or hole images *_crop.png (Leginon)."
    ),
]
_CropPx = Annotated[
    int | None, typer.Option(help="Side of a hole cut from a patch image, in its pixels. Default: 150.")
]
_Permissive = Annotated[
    bool, typer.Option("--permissive", help="Leave what deviates out and list it, instead of stopping.")
]
_AllowUnjoined = Annotated[
    bool,
    typer.Option("--allow-unjoined", help="Go on where no CTF result of a file belongs to an exposure."),
]
_PatchRadiusUm = Annotated[
    float | None,
    typer.Option(
        "--patch-radius-um",
        "--cluster-radius-um",
        help="Holes without a patch: those within this distance of a middle are one. Default: what the files say, else "
        "5 um.",
    ),
]
_Columns = Annotated[
    list[str] | None,
    typer.Option(help="What a column of your own table means, such as ctf=MyCtf; may be repeated."),
]
_MappingFile = Annotated[Path | None, typer.Option(help="The same as a TOML file: [columns] ctf = 'MyCtf'.")]
_PositionUnit = Annotated[
    str | None,
    typer.Option(help="Of x and y of your own table: um of the stage, or px. Default: what the headers say."),
]
_ModelId = Annotated[
    str | None, typer.Option(help="Model id of the predictions. Default: the name of their file.")
]
_Presets = Annotated[
    str | None,
    typer.Option(
        help="Leginon's presets of exposures, in the order in which a target is imaged with them, such as en,ex. "
        "Default: en."
    ),
]
_Split = Annotated[str | None, typer.Option(help="Split of a built-in session: train, val, all.")]
_ServerSession = Annotated[
    str | None,
    typer.Option("--smartscope-session", help="Id of the server's session; without it, an error lists them."),
]
_TokenFile = Annotated[
    Path | None,
    typer.Option(help="File of the server's token. Default: the variable CRYOSCOUT_SMARTSCOPE_TOKEN."),
]
_TimeoutS = Annotated[
    float | None, typer.Option(help="Seconds within which each answer of the server must come. Default: 30.")
]
_Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Allow http:// to another computer: the token travels unencrypted."),
]
_StoreDir = Annotated[
    Path | None, typer.Option(help="Folder for the session; it must not be on a network file system.")
]
_Force = Annotated[bool, typer.Option("--force", help="Replace a session of that name.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def import_(
    paths: _Paths,
    output: _Output = None,
    update: _Update = False,
    images: _Images = None,
    crop_px: _CropPx = None,
    permissive: _Permissive = False,
    allow_unjoined: _AllowUnjoined = False,
    patch_radius_um: _PatchRadiusUm = None,
    column: _Columns = None,
    mapping: _MappingFile = None,
    position_unit: _PositionUnit = None,
    model_id: _ModelId = None,
    presets: _Presets = None,
    split: _Split = None,
    smartscope_session: _ServerSession = None,
    token_file: _TokenFile = None,
    timeout_s: _TimeoutS = None,
    insecure: _Insecure = False,
    store_dir: _StoreDir = None,
    database_url: NewDatabaseUrl = None,
    force: _Force = False,
    as_json: _AsJson = False,
) -> None:
    """Read vendor files into a session; say what joined and what did not.

    EPU, SerialEM, SmartScope and Leginon sessions; CTF results of RELION, cryoSPARC, CTFFIND and Gctf; your own
    tables; a SmartScope server. Nothing is written beside the files that are read, unless -o or --store-dir
    says so.

    \b
    Example:
      cryoscout import /data/epu-session micrographs_ctf.star -o run7.session
      cryoscout import /data/epu-session micrographs_ctf.star -o run7.session --update
      cryoscout import CTF.csv timestamps.csv predictions.txt
      cryoscout import https://smartscope.example.org --smartscope-session 20240105_run7
      cryoscout import tables -o run7.session --images patch-images
    """
    from cryoscout.intake.read import ReadOptions
    from cryoscout.session.place import mark_of_place

    built_in = _built_in(paths, split)
    if update:
        where = output if database_url is None else database_url
        _check_update(where, built_in=built_in is not None, images=images, force=force)
    named = None
    if output is not None or database_url is not None:
        named = place_of_new_session(output, "", store_dir, database_url)
        _refuse_existing(named, update, force)
        refuse_images_in_database(named, images)
    was = None if named is None else mark_of_place(named)
    access = _ServerAccess(smartscope_session, token_file, timeout_s, insecure)
    wanted = images_request(images, crop_px)
    columns = column_map_of(column, mapping, position_unit)
    predicted, others = _predictions_among([] if built_in else paths, columns)
    of_leginon = None if predicted else model_id
    options = ReadOptions(
        permissive,
        patch_radius_um,
        columns,
        wanted.crops,
        of_leginon,
        presets=_presets_of(presets),
        refuse_unjoined=not allow_unjoined,
    )
    sources = _sources(others, access, options)
    if built_in is not None:
        read = read_built_in(built_in, split, options)
    elif update and named is not None and is_there(named) and predicted:
        _tell(*_predictions_into(named, predicted, others, options, model_id), named, as_json)
        return
    elif update and named is not None and is_there(named):
        _tell(*update_session(named, sources, TELLING), named, as_json)
        return
    else:
        read = read_session(sources, TELLING)
        read = _with_predictions(read, predicted, options, model_id)
    if named is not None:
        place = named
        read = replace(read, session=named_after(place, read.session))
    else:
        place = folder = session_folder(None, read.session.name, store_dir)
        if store_dir is None:
            _refuse_source_folder(folder, sources.paths)
        _refuse_existing(place, update, force)
    read = with_images(read, wanted, permissive, TELLING)
    store_session(read, place, ", ".join(paths), force, TELLING, was)
    _tell(read, None, place, as_json)


def _predictions_among(
    paths: Sequence[str], columns: ColumnMap | Path | None
) -> tuple[list[Path], list[str]]:
    """Tables that hold predictions, and the other sources; a table that is all there is stands in both."""
    from cryoscout.formats.smartscope.addresses import is_address
    from cryoscout.intake.predictions import refuse_columns_of_no_table, tables_of_predictions

    addresses = [path for path in paths if is_address(path)]
    files = [Path(path) for path in paths if not is_address(path)]
    refuse_columns_of_no_table(files, columns)
    tables, others = tables_of_predictions(files, columns)
    if addresses and set(others) <= set(tables):
        others = []
    return tables, [*addresses, *(str(path) for path in others)]


def _predictions_into(
    place: Path | str, tables: list[Path], sources: Sequence[str], options: ReadOptions, model_id: str | None
) -> tuple[TakenIn, dict[str, int]]:
    """Add the predictions of tables to a stored session."""
    from cryoscout.intake.predictions import add_own_predictions
    from cryoscout.intake.take_in import TakenIn

    others = [source for source in sources if Path(source) not in tables]
    if others or options.column_map is None:
        raise InputError(
            f"Predictions must be added alone. Got {', '.join(others)} beside them instead. "
            "Remedy: update the session with those first."
        )
    session, found = add_own_predictions(place, tables, options.column_map, options.permissive, model_id)
    read = TakenIn(
        session,
        [each.report for each in found],
        left_out=sum(each.left_out for each in found),
        notes=[note for each in found for note in each.notes],
    )
    return read, {"predictions": sum(len(each.rows) for each in found)}


def _with_predictions(
    read: TakenIn, tables: list[Path], options: ReadOptions, model_id: str | None
) -> TakenIn:
    """What was read, with the predictions of tables."""
    from cryoscout.intake.predictions import own_predictions, with_own_predictions

    if not tables or options.column_map is None:
        return read
    found = own_predictions(read.session, tables, options.column_map, options.permissive, model_id)
    return replace(
        read,
        session=with_own_predictions(read.session, found),
        reports=[*read.reports, *(each.report for each in found)],
        left_out=read.left_out + sum(each.left_out for each in found),
        notes=[*read.notes, *(note for each in found for note in each.notes)],
    )


@dataclass(frozen=True)
class _ServerAccess:
    """What the options say of a server."""

    session_id: str | None
    token_file: Path | None
    timeout_s: float | None
    insecure: bool


def _built_in(paths: Sequence[str], split: str | None) -> str | None:
    """The built-in session that is asked for, if any."""
    from cryoscout.session.builtin import BUILTIN_SESSIONS

    found = [path for path in paths if path in BUILTIN_SESSIONS]
    if found and len(paths) > 1:
        raise InputError(
            f"A built-in session must be imported alone. Got {', '.join(paths)} instead. "
            "Remedy: import the files without it."
        )
    if split is not None and not found:
        raise InputError(
            f"A split must belong to a built-in session ({', '.join(BUILTIN_SESSIONS)}). Got split {split!r} instead. "
            "Remedy: leave --split out."
        )
    return found[0] if found else None


def _check_update(output: Path | str | None, *, built_in: bool, images: Path | None, force: bool) -> None:
    if built_in or images is not None or force or output is None:
        got = "a built-in session" if built_in else "--images" if images else "--force" if force else "no -o"
        raise InputError(
            f"An update must add files to the session of -o NAME.session. Got {got} instead. "
            "Remedy: import into a new place without --update, or name the session with -o."
        )


def _sources(paths: Sequence[str], access: _ServerAccess, options: ReadOptions) -> Sources:
    """Paths and servers told apart; a server is asked for its sessions where none is named."""
    from cryoscout.formats.smartscope.addresses import is_address

    addresses = [path for path in paths if is_address(path)]
    files = [Path(path) for path in paths if not is_address(path)]
    given = {
        "--smartscope-session": access.session_id is not None,
        "--token-file": access.token_file is not None,
        "--timeout-s": access.timeout_s is not None,
        "--insecure": access.insecure,
    }
    for name, is_given in given.items():
        if is_given and not addresses:
            raise InputError(
                f"{name} must go with the address of a SmartScope server. Got none instead. "
                f"Remedy: name it, https://HOST, or leave {name} out."
            )
    if len(addresses) > 1:
        raise InputError(
            f"A SmartScope session must be imported from one server. Got {len(addresses)} addresses instead. "
            "Remedy: import them one by one."
        )
    servers = [_server_session(address, access) for address in addresses]
    return Sources(files, servers, options, ", ".join(paths))


def _server_session(address: str, access: _ServerAccess) -> ServerSession:
    from cryoscout.formats.smartscope.addresses import NotEncryptedError
    from cryoscout.formats.smartscope.rest import TIMEOUT_S, SmartScopeClient, read_token
    from cryoscout.formats.smartscope.server_session import sessions_in_words
    from cryoscout.intake.read import ServerSession

    timeout_s = TIMEOUT_S if access.timeout_s is None else access.timeout_s
    try:
        client = SmartScopeClient(
            address, read_token(access.token_file), timeout_s, allow_http=access.insecure
        )
    except NotEncryptedError as error:
        raise InputError(f"{error} Or add --insecure, where nobody else can listen.") from None
    if access.session_id is None:
        raise InputError(
            f"A session of the server must be named. Got none instead. {sessions_in_words(client)} "
            "Remedy: add --smartscope-session ID."
        )
    return ServerSession(client, access.session_id)


def _refuse_existing(place: Path | str, update: bool, force: bool) -> None:
    if not update and not force and is_there(place):
        raise InputError(
            f"A new session must get a new place. Got {in_words(place)}, which exists, instead. Remedy: add what is "
            "new to it with --update, or choose another name with -o."
        )


def column_map_of(
    columns: Sequence[str] | None, mapping: Path | None, position_unit: str | None = None
) -> ColumnMap | Path | None:
    """What --column, --mapping and --position-unit say of the columns; None where none is given."""
    from cryoscout.formats.own.columns import ColumnMap, checked_unit

    if (columns or position_unit is not None) and mapping is not None:
        raise InputError(
            f"Columns must be said once. Got {'--column' if columns else '--position-unit'} and --mapping instead. "
            "Remedy: put them all into the file."
        )
    if not columns and position_unit is None:
        return mapping
    pairs = [text.partition("=") for text in columns or ()]
    for text, (role, sign, header) in zip(columns or (), pairs, strict=True):
        if not (role and sign and header):
            raise InputError(
                f"A column must be said as MEANING=NAME. Got {text!r} instead. Remedy: for example --column ctf=MyCtf."
            )
    return ColumnMap({role: header for role, _, header in pairs}, checked_unit(position_unit))


def _presets_of(text: str | None) -> tuple[str, ...] | None:
    """The presets of --presets, None where it is not given. Raises InputError for a name that is none."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z]+)*", name) is None:
            raise InputError(
                "A preset must be a name of letters and digits, maybe with hyphens and letters behind. "
                f"Got {name!r} in --presets {text!r} instead. Remedy: separate presets by commas, such as en,ex-e."
            )
    return names


def _refuse_source_folder(folder: Path, paths: Sequence[Path]) -> None:
    target = folder.parent.resolve()
    for path in paths:
        source = (path if path.is_dir() else path.parent).resolve()
        if target == source or (path.is_dir() and target.is_relative_to(source)):
            raise InputError(
                f"A session must not be written beside the files it is read from unasked. Got {folder} "
                "instead. "
                f"Remedy: add -o {folder}, or --store-dir DIR."
            )


def _tell(read: TakenIn, added: Mapping[str, int] | None, place: Path | str, as_json: bool) -> None:
    """Say what was read; added : by an update, new rows of each kind."""
    from cryoscout.intake.assemble_ctf import CTF_RESULTS

    folder = in_words(place)
    fit, time_notes = fitted_or_why_not(read.session)
    notes = [*read.notes, *time_notes]
    told = _account(read, folder, fit, notes)
    if added is not None:
        told |= {"added": dict(added), "unchanged": [str(path) for path in read.unchanged]}
    if as_json:
        print_json(told)
        return
    out = console()
    for report in read.reports:
        if report.found and not report.joined and report.what.startswith(CTF_RESULTS):
            out.print(f"Nothing joined: {report}")
    if added is None:
        out.print(f"Imported {told['session']} ({told['format']}) into {folder}")
    else:
        new = ", ".join(counted(count, what.replace("_", " ")) for what, count in added.items() if count)
        out.print(f"Added to {told['session']} ({told['format']}) in {folder}: {new or 'nothing new'}")
        for path in read.unchanged:
            out.print(f"Unchanged since the last import: {path}")
    levels = ("grids", "squares", "patches", "holes", "exposures")
    shots = f", {told['shots']} exposures per hole" if "shots" in told else ""
    out.print("Found: " + ", ".join(counted(told[level], level) for level in levels) + shots)
    out.print("Outcomes: " + ", ".join(f"{count} {outcome}" for outcome, count in told["outcomes"].items()))
    if told["chosen"] is not None:
        out.print(f"Chosen by the operator: {told['chosen']} of {told['holes']} holes")
    out.print(f"Predictions: {', '.join(told['models']) or 'none'}")
    for report in read.reports:
        out.print(f"Joined: {report}")
    if fit is not None:
        out.print(f"Fitted times of a visit: {_in_words(fit, read.session.info.shots)}")
        out.print(
            f"Pauses: {fit.pauses_min:.0f} min in {fit.visits_min:.0f} min of visits; plans set "
            f"{100 * (1 - fit.time_model.visits_min(1.0)):.1f} % of their time aside"
        )
    for note in notes:
        out.print(f"Note: {note}")


def _account(read: TakenIn, folder: str, fit: FittedTimeModel | None, notes: Sequence[str]) -> dict[str, Any]:
    """The object of `--json`.

    Keys: session, format, grids, squares, patches, holes, exposures, outcomes {measured, failed, pending,
    none}, chosen (holes that the operator had chosen) or null where no file says it,
    not_joined (rows of all sources), time_model_s {same_patch, new_patch, new_square, new_grid} or null,
    time_model_events and time_model_pauses (timed steps behind each tier, pauses among them) or null,
    pauses_per_min (minutes of pauses with each minute of visits) or null, then
    folder, models, joins (one account per source), left_out (deviating lines), notes; shots where a hole has
    several, and extra_shot_s where their times are known; of an update, added (new rows of each kind) and
    unchanged (sources that were not read again).
    """
    from cryoscout.core.units import SECONDS_PER_MINUTE

    several_shots = read.session.info.shots > 1
    times: dict[str, Any] = dict.fromkeys(
        ("time_model_s", "time_model_events", "time_model_pauses", "pauses_per_min")
    )
    if fit is not None:
        times = {
            "time_model_s": _by_tier((fit.time_model.tiers_min() * SECONDS_PER_MINUTE).round(1).tolist()),
            "time_model_events": _by_tier(fit.events.tolist()),
            "time_model_pauses": _by_tier(fit.pauses.tolist()),
            "pauses_per_min": fit.time_model.pauses_per_min,
        }
        if several_shots:
            times["extra_shot_s"] = round(fit.time_model.extra_shot_min * SECONDS_PER_MINUTE, 1)
    return {
        "session": read.session.name,
        "format": read.session.info.format,
        **read.session.counts(),
        "chosen": read.session.chosen_holes(),
        **({"shots": read.session.info.shots} if several_shots else {}),
        "not_joined": sum(report.not_joined for report in read.reports),
        **times,
        "folder": folder,
        "models": read.session.models(),
        "joins": [{**asdict(report), "not_joined": report.not_joined} for report in read.reports],
        "left_out": read.left_out,
        "notes": list(notes),
    }


def _by_tier(values: Sequence[Any]) -> dict[str, Any]:
    from cryoscout.core.units import TIER_NAMES

    return dict(zip((name.replace(" ", "_") for name in TIER_NAMES), values, strict=True))


def _in_words(fit: FittedTimeModel, shots: int) -> str:
    """Seconds of each tier and the timed steps behind them."""
    from cryoscout.core.units import SECONDS_PER_MINUTE, TIER_NAMES

    tiers = ", ".join(
        f"{seconds:.0f} s {tier} ({_steps_in_words(events, pauses) if events > pauses else 'filled, not measured'})"
        for tier, seconds, events, pauses in zip(
            TIER_NAMES, fit.seconds.tolist(), fit.events.tolist(), fit.pauses.tolist(), strict=True
        )
    )
    if shots == 1:
        return tiers
    shot_s = fit.time_model.extra_shot_min * SECONDS_PER_MINUTE
    return (
        f"{tiers}, {shot_s:.0f} s each further shot of a hole ({_steps_in_words(fit.extra_shot_events, 0)})"
    )


def _steps_in_words(events: int, pauses: int) -> str:
    steps = counted(events, "steps")
    return f"{steps}, {pauses:,} of them pauses" if pauses else steps
