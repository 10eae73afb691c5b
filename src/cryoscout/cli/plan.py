"""`cryoscout plan`: the ordered work list for the minutes that are left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryoscout.advice.export import (
    ExportRequest,
    check_fits,
    export_request,
    select_in_smartscope,
    write_export,
    write_good_micrographs_alone,
)
from cryoscout.cli.looks import looks_of
from cryoscout.cli.minutes import budget_of
from cryoscout.cli.options import (
    AlsoUnchosen,
    LoadedGrid,
    MinutesPerExposure,
    Split,
    ThresholdAngstrom,
    TimesOfMovesAndLooks,
    Until,
)
from cryoscout.cli.output import TELLING, console, print_json, progress, say
from cryoscout.cli.plan_looks import print_looks
from cryoscout.cli.plan_table import print_plan
from cryoscout.cli.session_place import DatabaseUrl, SessionArgument, folders_of_source, session_at
from cryoscout.core.new_files import finite

if TYPE_CHECKING:
    from cryoscout.advice.work_list import WorkList
    from cryoscout.session.model import Session


def plan(
    session: SessionArgument = None,
    database_url: DatabaseUrl = None,
    budget_min: Annotated[
        str | None,
        typer.Option(
            help="Microscope time left, above 0: minutes, or 480min, 8h, 8h30, 8:00.", metavar="TIME"
        ),
    ] = None,
    until: Until = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Who plans: a policy, policy@prediction such as index@res18, a trained policy's file, or your own "
            "file.py:Class. Default: adaptive, or explore where squares or patches were not looked at yet."
        ),
    ] = None,
    threshold_angstrom: ThresholdAngstrom = None,
    prediction: Annotated[
        str | None, typer.Option(help="p_good to plan on: a model of the session, combined, or flat.")
    ] = None,
    from_hole: Annotated[
        str | None,
        typer.Option("--from", help="Hole the stage is at; it is not planned. Default: the last one imaged."),
    ] = None,
    loaded_grid: LoadedGrid = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Hide all outcomes and plan imaged holes again.")
    ] = False,
    also_unchosen: AlsoUnchosen = False,
    split: Split = None,
    time_model: TimesOfMovesAndLooks = None,
    minutes_per_exposure: MinutesPerExposure = None,
    looks: Annotated[
        str,
        typer.Option(
            help="charged: where squares or patches were not looked at, looks are planned too, with their minutes. "
            "free: only what is seen is planned."
        ),
    ] = "charged",
    export: Annotated[
        str | None,
        typer.Option(help="Write a file: nav, star, csv, athena-json, leginon, smartscope, html; needs -o."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File of --export.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of -o.")] = False,
    nav: Annotated[
        Path | None, typer.Option(help="Of --export nav: your navigator file; it is read, never written.")
    ] = None,
    star: Annotated[
        Path | None, typer.Option(help="Of --export star: micrographs_ctf.star, to keep its columns.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Of --export html: folder with pictures of squares or patches. Default: the EPU session's folder."
        ),
    ] = None,
    athena_session: Annotated[
        str | None, typer.Option(help="Of --export athena-json: uuid of the session in the service.")
    ] = None,
    smartscope_address: Annotated[
        str | None, typer.Option(help="Of --export smartscope: select the holes there too, https://HOST.")
    ] = None,
    smartscope_token_file: Annotated[
        Path | None,
        typer.Option(help="File of the SmartScope token. Default: variable CRYOSCOUT_SMARTSCOPE_TOKEN."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the policy's own draws, 0 or above.", min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Which holes to image, in which order, in the minutes that are left.

    Imaged holes are never planned, and the plan never passes the budget. Built-in sessions are planned as
    new.

    \b
    Example:
      cryoscout plan y1 --budget-min 480
      cryoscout plan y1 --budget-min 8h --policy dqn-y1
      cryoscout plan run7.session --budget-min 240 --from HOLE --export html -o list.html
    """
    from cryoscout.advice.advise import advise
    from cryoscout.advice.setting import AdviceRequest, default_policy
    from cryoscout.session.named import load_session

    minutes_left = budget_of(budget_min, until)
    looks_are = looks_of(looks)
    spec = session_at(session, database_url)
    request = export_request(
        export,
        output,
        force,
        nav=nav,
        star=star,
        pictures=pictures,
        athena_session=athena_session,
        smartscope_address=smartscope_address,
        smartscope_token_file=smartscope_token_file,
    )
    loaded = load_session(spec, split, TELLING)
    if request is not None:
        check_fits(request, loaded)
        if request.format == "html" and pictures is None:
            request = replace(request, pictures=folders_of_source(spec, loaded))
        if _is_finished_star(request, loaded, as_new, also_unchosen):
            write_good_micrographs_alone(
                request,
                loaded,
                loaded.info.threshold_angstrom if threshold_angstrom is None else threshold_angstrom,
                say,
            )
            say("Note: no hole that may be planned is left.")
            if as_json:
                print_json({"session": loaded.name, "holes": []})
            return
    asked = AdviceRequest(
        budget_min=minutes_left,
        policy=default_policy(loaded, looks_are) if policy is None else policy,
        prediction=prediction,
        threshold_angstrom=threshold_angstrom,
        from_hole=from_hole,
        as_new=as_new,
        also_unchosen=also_unchosen,
        time_model=time_model,
        minutes_per_exposure=minutes_per_exposure,
        loaded=loaded_grid,
        seed=seed,
        looks=looks_are,
    )
    work_list = advise(loaded, asked, progress=progress).work_list
    if request is not None:
        write_export(request, loaded, work_list, say)
    _remember(spec, work_list)
    if request is not None:
        select_in_smartscope(request, work_list, say)
    if as_json:
        print_json(work_list.to_json())
    else:
        print_plan(work_list, console())
        print_looks(work_list, console())


def _is_finished_star(request: ExportRequest, session: Session, as_new: bool, also_unchosen: bool) -> bool:
    """Good micrographs are most often wanted of a session that has no hole left."""
    from cryoscout.routing.from_session import is_planned_as_new, not_chosen

    if request.format != "star" or is_planned_as_new(session, as_new):
        return False
    done = session.imaged_by_hole()
    return bool((done if also_unchosen else done | not_chosen(session)).all())


def _remember(spec: str, work_list: WorkList) -> None:
    """Append the plan to the events of a stored session, so that what was advised can be read later."""
    from cryoscout.core.errors import StoreHeldError
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.store import SessionStore

    if spec not in BUILTIN_SESSIONS:
        try:
            with SessionStore.open(spec) as store:
                store.append("planned", finite(work_list.to_json()))
        except StoreHeldError:
            say(f"Note: this list is not kept among the events of {spec}, which cannot be written to.")
