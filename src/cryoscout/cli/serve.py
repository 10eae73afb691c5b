"""`cryoscout serve`: follows running sessions and hands their advice to people and to the microscope's software."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.looks import looks_of
from cryoscout.cli.options import AlsoUnchosen, MinutesPerExposure, ThresholdAngstrom, TimesOfMovesAndLooks
from cryoscout.cli.output import say
from cryoscout.core.durations import minutes_of
from cryoscout.core.errors import InputError

_Sessions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION...", help="NAME.session folders. Several are several grids under one budget."
    ),
]
_Watch = Annotated[
    list[Path] | None,
    typer.Option(
        help="A vendor folder to follow; may be repeated. Default: what the session was imported from."
    ),
]
_Ctf = Annotated[list[Path] | None, typer.Option(help="CTF results to follow beside it; may be repeated.")]


def serve(
    sessions: _Sessions = None,
    watch: _Watch = None,
    ctf: _Ctf = None,
    database_url: Annotated[
        str | None, typer.Option(help="A PostgreSQL database that holds the session.")
    ] = None,
    export_to: Annotated[
        Path | None, typer.Option(help="Folder for next.json and next.txt, replaced at each advice.")
    ] = None,
    bridge: Annotated[
        str | None,
        typer.Option(
            help="How the advice reaches the software when sending is armed: serialem, leginon, smartscope, athena."
        ),
    ] = None,
    smartscope_address: Annotated[
        str | None,
        typer.Option(help="Of --bridge smartscope and --smartscope-session: the server, https://HOST."),
    ] = None,
    smartscope_session: Annotated[
        str | None,
        typer.Option(help="Follow this session of the server: squares, holes and CTF results, every 30 s."),
    ] = None,
    smartscope_token_file: Annotated[
        Path | None,
        typer.Option(help="Of that server. Default: variable CRYOSCOUT_SMARTSCOPE_TOKEN."),
    ] = None,
    athena_session: Annotated[
        str | None, typer.Option(help="Of --bridge athena: uuid of the session in the service.")
    ] = None,
    budget_min: Annotated[
        str | None, typer.Option(help="How long the session lasts from its first serve on: 480, 8h, 8:00.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="The microscope's time of the end: 09:00, or 2026-01-31T09:00.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Who plans, as for `plan`.")] = None,
    looks: Annotated[
        str, typer.Option(help="charged: the next step may be a look at a square or patch. free: never.")
    ] = "charged",
    prediction: Annotated[str | None, typer.Option(help="p_good to plan on, as for `plan`.")] = None,
    threshold_angstrom: ThresholdAngstrom = None,
    time_model: TimesOfMovesAndLooks = None,
    minutes_per_exposure: MinutesPerExposure = None,
    loaded_grid: Annotated[
        str | None,
        typer.Option(
            "--loaded",
            help="Grid that is in the microscope until an exposure says it. Default: that of the last imaged hole, or "
            "the only one.",
        ),
    ] = None,
    also_unchosen: AlsoUnchosen = False,
    committed: Annotated[
        int | None,
        typer.Option(help="So many first holes stand. Default: those of the open patch.", min=0),
    ] = None,
    hysteresis: Annotated[
        float, typer.Option(help="Good micrographs that a change of the rest must gain.", min=0.0)
    ] = 0.05,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8321,
    public_url: Annotated[
        str | None, typer.Option(help="https://HOST of a reverse proxy before the server.")
    ] = None,
    root_path: Annotated[str, typer.Option(help="Path of the reverse proxy, such as /cryoscout.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File of the two tokens, mode 600. Default: beside the session.")
    ] = None,
    alert_command: Annotated[
        str | None, typer.Option(help="Called with JSON on its standard input when something is wrong.")
    ] = None,
    replay: Annotated[
        float | None, typer.Option(help="Play the session SPEED times as fast; 0 waits for nothing.", min=0.0)
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(help="Of --replay: record plays what was done, advice takes the advised hole."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Of --replay and of a new session: the folder to keep."),
    ] = None,
) -> None:
    """Follow a running session, plan again after every result, and show the advice.

    It reads the sources that the session was imported from and writes the session and --export-to only. It listens at
    this computer alone; from another one: ssh -L.

    \b
    Example:
      cryoscout serve run7.session --until 2026-01-31T09:00
      cryoscout serve run7.session --export-to /data/advice --alert-command 'mail-me'
      cryoscout serve y1 --replay 60
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
        import watchfiles  # noqa: F401
        import websockets  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f'serve must have the extra "live". Got no {error.name} instead. Remedy: pip install "cryoscout[live]".'
        ) from None
    from cryoscout.live.serving import ServeRequest, run_server

    run_server(
        ServeRequest(
            sessions=tuple(sessions or ()),
            watch=tuple(watch or ()),
            ctf=tuple(ctf or ()),
            database_url=database_url,
            export_to=export_to,
            bridge=bridge,
            smartscope_address=smartscope_address,
            smartscope_session=smartscope_session,
            smartscope_token_file=smartscope_token_file,
            athena_session=athena_session,
            budget_min=None if budget_min is None else minutes_of(budget_min),
            until=until,
            policy=policy,
            looks=looks_of(looks),
            prediction=prediction,
            threshold_angstrom=threshold_angstrom,
            time_model=time_model,
            minutes_per_exposure=minutes_per_exposure,
            loaded=loaded_grid,
            also_unchosen=also_unchosen,
            committed=committed,
            hysteresis=hysteresis,
            host=host,
            port=port,
            public_url=public_url,
            root_path=root_path,
            token_file=token_file,
            alert_command=alert_command,
            replay=replay,
            follow=follow,
            output=output,
        ),
        say,
    )
