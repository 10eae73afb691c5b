"""`cryoscout log`: what was advised and why, what was done, who said what, and the state as of a past moment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.output import print_json, progress
from cryoscout.cli.session_place import DatabaseUrl, SessionArgument, session_at
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.session.store_contents import Event


def log(
    session: SessionArgument = None,
    database_url: DatabaseUrl = None,
    at: Annotated[
        str | None,
        typer.Option(help="Show the state as of this time, local unless it has a zone: 2026-01-31T03:12."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of this kind, such as overridden.")] = None,
    after: Annotated[int, typer.Option(help="Only events after this one.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the audit trail of a stored session, or its state as of a past moment.

    \b
    Example:
      cryoscout log run7.session
      cryoscout log run7.session --kind overridden
      cryoscout log run7.session --at 2026-01-31T03:12
    """
    from cryoscout.session.store import SessionStore

    spec = session_at(session, database_url)
    moment = None if at is None else _time(at)
    with SessionStore.open_for_reading(spec) as store:
        if moment is not None:
            from cryoscout.advice.past import state_as_of

            state = state_as_of(store, moment)
            if as_json:
                print_json(state)
            else:
                for line in _state_lines(state):
                    typer.echo(line)
            return
        events = []
        with progress("reading events", store.number_of_events()) as step:
            for event in store.events(after=after, kind=kind):
                events.append(event)
                step()
    if as_json:
        print_json({"events": [_row(event) for event in events]})
        return
    for event in events:
        typer.echo(line_of(event))


def _time(given: str) -> datetime:
    try:
        return datetime.fromisoformat(given).astimezone()
    except ValueError:
        raise InputError(
            f"--at must be a time. Got {given!r} instead. Remedy: for example --at 2026-01-31T03:12."
        ) from None


def _row(event: Event) -> dict[str, Any]:
    payload = {name: value for name, value in event.payload.items() if name != "columns"}
    return {"event": event.id, "kind": event.kind, "at": event.at, **payload}


def line_of(event: Event) -> str:
    """One event on one line: when, what, and who said it. Ids and notes cannot begin a line of their own."""
    local = datetime.fromisoformat(event.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    author = event.payload.get("author")
    said = " ".join(_words(event).split())
    return f"{event.id:>6}  {local}  {event.kind:<10}  {said}" + (
        f"  [{' '.join(str(author).split())}]" if author else ""
    )


def _words(event: Event) -> str:
    payload = event.payload
    match event.kind:
        case "imported":
            columns = payload.get("columns") or {}
            rows = len(next(iter(columns.values()), []))
            of_table = f" of {payload['table']}" if "table" in payload else ""
            return (
                f"{payload.get('part')}{of_table}: {counted(rows, 'rows')}"
                if columns
                else str(payload.get("part"))
            )
        case "predicted":
            return f"{len(next(iter(payload['columns'].values()), []))} predictions"
        case "planned":
            return _planned_words(payload)
        case "imaged":
            return f"{payload['exposure_id']} of hole {payload['hole_id']}"
        case "measured":
            value = payload["ctf_max_res_angstrom"]
            return f"{payload['exposure_id']}: " + ("failed" if value is None else f"{value:.2f} Å")
        case "overridden":
            from cryoscout.advice.night import override_words

            return override_words(payload)
        case "noted":
            return f"{payload.get('kind', 'note')}: {payload.get('text', '')}"
    return ", ".join(f"{name} {value}" for name, value in payload.items() if name != "author")


def _planned_words(payload: dict[str, Any]) -> str:
    holes, looks = payload.get("holes") or [], payload.get("looks") or []
    first = holes[0]["hole"] if holes else "nothing"
    if looks and not holes:
        look = looks[0]
        first = f"look at patch {look['patch']}" if look.get("patch") else f"look at square {look['square']}"
    verdict = (payload.get("verdict") or {}).get("sentence", "")
    why = (payload.get("why") or {}).get("sentence", "")
    return f"next {first}; {verdict} {why}".strip()


def _state_lines(state: dict[str, Any]) -> list[str]:
    said = state["overrides"]
    lines = [
        f"Session {state['session']} as of {state['at']}, after event {state['event']}",
        f"{state['holes_imaged']} of {state['holes']} holes imaged, {state['exposures']} exposures, "
        f"{state['results']} results, {state['good']:.0f} good at {state['threshold_angstrom']:g} Å",
        "Advised: " + (state["advised"] or "nothing yet"),
    ]
    lines += [f"{name}: {value}" for name, value in said.items() if value]
    return lines
