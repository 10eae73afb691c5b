"""`cryoscout demo`: what cryoscout does, on a real session, in one command that needs no file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryoscout.cli.output import console, print_json, say
from cryoscout.core.counting import counted
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole

if TYPE_CHECKING:
    from cryoscout.report.replays import ReportRequest, SessionReplays
    from cryoscout.session.model import Session

MARK = "made-by-cryoscout-demo.txt"
BUDGET_MIN = 480.0
POLICIES = ("random", "greedy", "index", "expected", "adaptive")
STARTS = 8


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write; one that the demo made is written again.")
    ] = Path("cryoscout-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the starts and of every policy's draws.", min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Real Y1 session (aldolase, validation split of the CryoRL paper): import, plan, replay, report.

    Writes cryoscout-demo/: y1.session, plan.csv, plan.html, report.html.

    \b
    Example:
      cryoscout demo
    """
    from cryoscout.advice.advise import advise
    from cryoscout.advice.setting import AdviceRequest
    from cryoscout.cli.report import figures, make_report
    from cryoscout.report.replays import ReportRequest

    began = time.monotonic()
    claim_folder(output)
    session = import_session(output / "y1.session")
    say(f"1. Imported {output / 'y1.session'}: {session.n_holes} holes of {len(session.grids)} grids.")

    work_list = advise(session, AdviceRequest(BUDGET_MIN, seed=seed)).work_list
    write_whole(output / "plan.csv", work_list.to_csv())
    write_whole(output / "plan.html", work_list.to_html())
    low, high = work_list.interval_80
    say(
        f"2. Planned {BUDGET_MIN:g} minutes without knowing any outcome: {counted(len(work_list.visits), 'holes')}, "
        f"{work_list.expected_good:.0f} good micrographs expected (80 %: {low:.0f} to {high:.0f}). "
        f"Work list: {output / 'plan.html'}"
    )
    say(f"3. Replaying {len(POLICIES)} policies from {STARTS} start holes against the real outcomes ...")
    request = ReportRequest(
        BUDGET_MIN, POLICIES, starts=STARTS, seed=seed, command=f"cryoscout demo --seed {seed}"
    )
    page = output / "report.html"
    replays = make_report(session, request, page)
    seconds = time.monotonic() - began
    if as_json:
        print_json(
            {
                "folder": str(output),
                "session": str(output / "y1.session"),
                "plan": str(output / "plan.csv"),
                "report": str(page),
                "expected_good": work_list.expected_good,
                "seconds": round(seconds, 1),
                **figures(request, replays),
            }
        )
    elif replays is not None:
        _print(request, replays, page, seconds)


def claim_folder(folder: Path) -> None:
    """Make the folder, or take one that the demo made before.

    Raises InputError for a folder with anything else in it: the demo never overwrites what is not its own.
    """
    mark = folder / MARK
    if folder.exists() and not mark.is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(
            f"The demo's folder must be new, empty, or made by the demo. Got {folder} instead. "
            "Remedy: cryoscout demo -o OTHER-FOLDER."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(mark, "`cryoscout demo` made this folder and writes it again.\n")


def import_session(folder: Path) -> Session:
    """Store the built-in validation split as a session folder and read it back from there."""
    from cryoscout.session.builtin import load_builtin
    from cryoscout.session.store import SessionStore

    with SessionStore.create(folder, force=True) as store:
        store.save_import(load_builtin("y1", split="val"), source="built-in session y1, split val")
        return store.load()


def _print(request: ReportRequest, replays: SessionReplays, page: Path, seconds: float) -> None:
    from rich.table import Table

    table = Table(
        title=f"Good micrographs in {request.budget_min:g} minutes, mean ± std over {STARTS} starts"
    )
    for name in ("policy", "good", "of the bound", "holes visited"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    bound = float(replays.bound[:, -1].mean())
    for each in replays.policies:
        good = each.good
        share = f"{100 * good.mean() / bound:.0f} %"
        table.add_row(
            each.label, f"{good.mean():.1f} ± {good.std():.1f}", share, f"{each.visited.mean():.0f}"
        )
    table.add_row("exact bound", f"{bound:.1f} ± {replays.bound[:, -1].std():.1f}", "100 %", "")
    out = console()
    out.print(table)
    out.print(f"Done in {seconds:.0f} s. Open the report: {page.resolve()}", soft_wrap=True)
    out.print(
        "The same session as it runs, on a page that lives: make demo-live, or cryoscout serve y1 --replay 60"
    )
