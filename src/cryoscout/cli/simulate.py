"""`cryoscout simulate`: a session with known truth, written as a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryoscout.cli.output import console, print_json, progress, session_folder, session_name


def simulate(
    preset: Annotated[str, typer.Option(help="Kind of session: small, y1-like, daily or million.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The session folder to make, NAME.session.")],
    holes: Annotated[int | None, typer.Option(help="Number of holes instead of the preset's.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same session.", min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a session of that name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a session with known truth: tree, outcomes, times, and the scores of an imperfect classifier.

    \b
    Example:
      cryoscout simulate --preset y1-like -o practice.session --seed 1
    """
    from cryoscout.session.store import SessionStore
    from cryoscout.simulate.presets import simulation_named
    from cryoscout.simulate.session import to_session
    from cryoscout.simulate.settings import SimulationSettings
    from cryoscout.simulate.tables import simulate_tables

    settings = simulation_named(preset)
    if holes is not None:
        settings = SimulationSettings.model_validate({**settings.model_dump(), "holes": holes})
    folder = session_folder(output, preset)
    # The store is made first: an output that may not be written is refused before the work, not after it.
    with SessionStore.create(folder, force=force) as store, progress("simulating", 3) as step:
        tables = simulate_tables(settings, seed)
        step()
        session = to_session(tables, session_name(folder))
        step()
        store.save_import(session, source=f"simulate --preset {preset} --seed {seed}")
        step()
    summary = {"session": session.name, "preset": preset, "seed": seed, **session.counts()}
    if as_json:
        print_json(summary)
        return
    out = console()
    out.print(f"Wrote {folder}: {session.n_holes} holes in {len(session.patches)} patches, seed {seed}")
    out.print(f"Next: cryoscout replay {folder} --budget-min 240")
