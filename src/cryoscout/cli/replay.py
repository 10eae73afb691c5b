"""`cryoscout replay`: what policies would have found on holes that were really imaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from cryoscout.advice.compare import ReplayOutcome, ReplayRequest, StartsFrom, replay_session
from cryoscout.advice.recorded import AS_RECORDED, words_on_as_recorded
from cryoscout.advice.setting import split_policy_spec
from cryoscout.cli.looks import looks_or_default
from cryoscout.cli.minutes import budgets_of
from cryoscout.cli.options import (
    MinutesPerExposure,
    SeedOfDraws,
    Split,
    ThresholdAngstrom,
    TimesOfMovesAndLooks,
)
from cryoscout.cli.output import TELLING, console, print_json, progress
from cryoscout.cli.session_place import DatabaseUrl, SessionArgument, session_at
from cryoscout.core.counting import agreed, counted
from cryoscout.core.durations import minutes_of
from cryoscout.core.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from cryoscout.routing.problem import Crossing
    from cryoscout.routing.replay import ReplanEvery
    from cryoscout.session.model import Session


def replay(
    session: SessionArgument = None,
    database_url: DatabaseUrl = None,
    budget_min: Annotated[
        str, typer.Option(help="Budgets by commas: minutes, or 2h, 4:00.")
    ] = "120,240,360,480",
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies",
            "--policy",
            help="Policies by commas, each policy, policy@prediction, a trained policy's file, or your own "
            "file.py:Class. Default: greedy,adaptive@combined, as far as the session serves them; with looks charged "
            "look-first, look-greedy and explore.",
        ),
    ] = None,
    starts: Annotated[
        str, typer.Option(help="How many start holes are drawn, or all: each hole once.")
    ] = "50",
    starts_from: Annotated[
        str,
        typer.Option(
            help="Where starts are drawn: all holes, or those that action elimination keeps: eliminated."
        ),
    ] = "all",
    crossing: Annotated[
        str, typer.Option(help="The visit that crosses the budget: count (as published) or drop.")
    ] = "count",
    threshold_angstrom: ThresholdAngstrom = None,
    time_model: TimesOfMovesAndLooks = None,
    minutes_per_exposure: MinutesPerExposure = None,
    ctf_delay_min: Annotated[
        str,
        typer.Option(
            help="Time between a visit and its result: minutes, 0 or more, or 1h30.", metavar="TIME"
        ),
    ] = "0",
    replan_every: Annotated[
        str, typer.Option(help="Results reach the policy every N holes, or: square.")
    ] = "1",
    looks: Annotated[
        str | None,
        typer.Option(
            help="free: everything is seen. charged: squares and patches are hidden until a look, which takes minutes. "
            "Default: charged where the session has squares or patches that were not looked at, else free."
        ),
    ] = None,
    split: Split = None,
    seed: SeedOfDraws = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """What policies would have found on holes that were really imaged, beside the recorded order and the exact bound.

    Every policy starts from the same holes, and so does the recorded order: what the session itself found from there on
    in the same minutes. Holes without an outcome are left out. std is over starts.

    \b
    Example:
      cryoscout replay y1 --budget-min 120,240 --policies greedy,adaptive@combined --starts 50
      cryoscout replay y1 --policy dqn-y1 --starts-from eliminated
      cryoscout replay y1 --looks charged --time-model y1-looks-as-sketched --crossing drop
    """
    from cryoscout.session.named import load_session

    loaded = load_session(session_at(session, database_url), split, TELLING)
    looks_are = looks_or_default(looks, loaded)
    charged = looks_are == "charged"
    chosen, notes = _default_policies(loaded, charged) if policies is None else (_policies_of(policies), ())
    request = ReplayRequest(
        budgets_min=budgets_of(budget_min),
        policies=chosen,
        starts=_starts_of(starts),
        starts_from=cast("StartsFrom", _one_of("--starts-from", starts_from, get_args(StartsFrom))),
        crossing=cast("Crossing", _one_of("--crossing", crossing, ("count", "drop"))),
        threshold_angstrom=threshold_angstrom,
        time_model=time_model,
        minutes_per_exposure=minutes_per_exposure,
        ctf_delay_min=minutes_of(ctf_delay_min),
        replan_every=_replan_every_of(replan_every),
        seed=seed,
        notes=notes,
        looks=looks_are,
    )
    outcome = replay_session(loaded, request, progress)
    if as_json:
        print_json(outcome.to_json())
    else:
        _print(outcome)


def _default_policies(session: Session, charged: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The policies and notes on them.

    A session without a classifier of every hole has no `combined` to name; its policies take what it has.
    """
    from cryoscout.advice.charged import POLICIES_THAT_LOOK
    from cryoscout.advice.recorded import default_policies
    from cryoscout.routing.predictions import COMBINED, resolve_prediction

    prediction, _ = resolve_prediction(session, None, COMBINED)
    on = "@combined" if prediction == COMBINED else ""
    usual = [f"{name}{on}" for name in POLICIES_THAT_LOOK]
    return default_policies(session, usual if charged else ("greedy", f"adaptive{on}"))


def _policies_of(text: str) -> tuple[str, ...]:
    specs = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not specs:
        raise InputError("The policies must be at least one. Got none instead. Remedy: --policies adaptive.")
    return specs


def _starts_of(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(
        f"The starts must be a number above 0 or 'all'. Got {text!r} instead. Remedy: --starts 50."
    )


def _replan_every_of(text: str) -> ReplanEvery:
    if text == "square":
        return "square"
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(
        f"Replanning must be every N holes, N above 0, or 'square'. Got {text!r} instead. Remedy: "
        "--replan-every 1."
    )


def _one_of(option: str, got: str, known: tuple[str, ...]) -> str:
    if got not in known:
        raise UnknownNameError(option, got, known)
    return got


def _print(outcome: ReplayOutcome) -> None:
    from rich.table import Table

    request = outcome.request
    table = Table(title=f"Good micrographs found in session {outcome.session}, mean ± std over starts")
    table.add_column("policy")
    table.add_column("prediction")
    for budget in request.budgets_min:
        table.add_column(f"{budget:g} min", justify="right")
    table.add_column("runtime", justify="right")
    for spec, row in outcome.rows.items():
        cells = [
            f"{mean:.1f} ± {std:.1f} ({'all holes' if outcome.images_all(row, at) else _share(mean, bound)})"
            for at, (mean, std, bound) in enumerate(
                zip(row.good_mean, row.good_std, outcome.bound_mean, strict=True)
            )
        ]
        name = spec if row.prediction is None else split_policy_spec(spec)[0]
        table.add_row(name, row.prediction or "-", *cells, f"{row.runtime_s:.1f} s")
    table.add_row(
        "exact bound", "the truth", *(f"{bound:.1f}" for bound in outcome.bound_mean), "", end_section=True
    )
    out = console()
    out.print(table)
    out.print(outcome.headline)
    out.print("In brackets: share of the exact bound, the most any route could have found knowing the truth.")
    if AS_RECORDED in outcome.rows:
        out.print(words_on_as_recorded(outcome.rows[AS_RECORDED].minutes_recorded_mean or ()))
    if request.looks == "charged":
        out.print(
            "Looks are charged. Patches (squares) looked at, by budget, those of the start hole not counted:"
        )
        for spec, row in outcome.rows.items():
            counts = zip(row.patches_looked_mean, row.squares_looked_mean, strict=True)
            shown = "  ".join(f"{patches:.1f} ({squares:.1f})" for patches, squares in counts)
            out.print(f"  {spec}: {shown}")
    out.print(
        f"{'/'.join(str(count) for count in dict.fromkeys(outcome.n_starts))} starts from "
        f"{request.starts_from} holes, "
        f"crossing visit: {request.crossing}, time model {outcome.time_model}, seed {request.seed}"
    )
    if outcome.left_out:
        out.print(
            f"{counted(outcome.left_out, 'holes')} without an outcome {agreed(outcome.left_out, 'were')} left out: "
            "no truth to find there."
        )
    for note in outcome.notes:
        out.print(f"Note: {note}")


def _share(mean: float, bound: float) -> str:
    return f"{100 * mean / bound:.0f} %" if bound > 0 else "-"
