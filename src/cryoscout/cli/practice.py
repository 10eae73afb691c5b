"""`cryoscout practice`: pick holes yourself, and see how you compare with the planners."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.options import Split
from cryoscout.cli.output import TELLING, print_json, say
from cryoscout.cli.session_place import SessionArgument
from cryoscout.core.errors import InputError, UnknownNameError


def practice(
    session: SessionArgument = None,
    picks: Annotated[
        int, typer.Option(help="Picks of a round; the published study had 50 and 100.", min=1)
    ] = 50,
    split: Split = None,
    results: Annotated[Path, typer.Option(help="File that keeps every finished round.")] = Path(
        "cryoscout-practice.json"
    ),
    export: Annotated[
        str | None, typer.Option(help="csv: print the rounds of --results and leave; no page is opened.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 takes a free one.", min=0, max=65535)
    ] = 8322,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the table over people of --results and leave.")
    ] = False,
) -> None:
    """Pick holes on a page of your own computer and see each result, as the students of CryoRL's study did.

    Any session with results will do. At the end your curve stands beside those of `adaptive`, of the shipped agent and
    of the exact bound, against picks and against minutes.

    \b
    Example:
      cryoscout practice y1 --picks 50
      cryoscout practice y1 --export csv > rounds.csv
    """
    if export is not None and export != "csv":
        raise UnknownNameError("The export", export, ["csv"])
    if session is None:
        raise InputError("Practice must have a SESSION. Got none instead. Remedy: cryoscout practice y1.")
    _need_live()
    from cryoscout.advice.practice import table_rows
    from cryoscout.live.practice import Practice, practice_of, read_results, results_csv, run_practice
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.named import load_session
    from cryoscout.session.store import SessionStore

    if export is not None:
        sys.stdout.write(results_csv(read_results(results)))
        return
    if as_json:
        print_json({"results": str(results), "rows": table_rows(read_results(results))})
        return
    loaded = load_session(session, split, TELLING)
    stored = session not in BUILTIN_SESSIONS
    with SessionStore.open_for_reading(session) if stored else nullcontext() as store:
        made = (
            Practice(loaded, results, picks) if store is None else practice_of(store, loaded, results, picks)
        )
        run_practice(made, host, port, say)


def _need_live() -> None:
    try:
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f'practice must have the extra "live". Got no {error.name} instead. Remedy: pip install "cryoscout[live]".'
        ) from None
