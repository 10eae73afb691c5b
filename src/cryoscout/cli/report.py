"""`cryoscout report`: one self-contained page about a session, with the route, the curves and the figures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cryoscout.cli.looks import looks_or_default
from cryoscout.cli.minutes import budget_of
from cryoscout.cli.options import (
    AlsoUnchosen,
    LoadedGrid,
    MinutesPerExposure,
    SeedOfDraws,
    Split,
    ThresholdAngstrom,
    TimesOfMovesAndLooks,
    Until,
)
from cryoscout.cli.output import TELLING, print_json, progress, say
from cryoscout.cli.session_place import DatabaseUrl, SessionArgument, folders_of_source, in_words, session_at
from cryoscout.core.errors import DataError, InputError
from cryoscout.core.new_files import check_new_file, write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cryoscout.advice.night import Night
    from cryoscout.perception.from_session import SessionCrops
    from cryoscout.report.replays import ReportRequest, SessionReplays
    from cryoscout.report.results_curve import ResultsCurve
    from cryoscout.session.model import Session

DEFAULT_BUDGET = "480"
DEFAULT_POLICIES = ("random", "greedy", "index", "expected", "adaptive")


def report(
    session: SessionArgument = None,
    database_url: DatabaseUrl = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
    budget_min: Annotated[
        str | None, typer.Option(help="Microscope time: minutes, or 8h, 8:00. Default: 480.", metavar="TIME")
    ] = None,
    until: Until = None,
    policies: Annotated[
        str | None,
        typer.Option(
            help="Policies by commas, each policy or policy@prediction; the last one's route is drawn. "
            "Default: random,greedy,index,expected,adaptive, as far as the session serves them; where looks are "
            "charged look-first,look-greedy,explore."
        ),
    ] = None,
    starts: Annotated[int, typer.Option(help="How many start holes are drawn for the replays.", min=1)] = 20,
    threshold_angstrom: ThresholdAngstrom = None,
    time_model: TimesOfMovesAndLooks = None,
    minutes_per_exposure: MinutesPerExposure = None,
    loaded_grid: LoadedGrid = None,
    also_unchosen: AlsoUnchosen = False,
    looks: Annotated[
        str | None,
        typer.Option(
            help="charged: the plan may look at squares and patches that were not looked at yet, and replays hide "
            "everything but the start's patch and square and pay for each look. free: what is seen is imaged, and "
            "replays know it all. Default: charged where something was not looked at yet."
        ),
    ] = None,
    split: Split = None,
    seed: SeedOfDraws = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Also write route and curves as one PNG, for a README or a talk.")
    ] = None,
    classifier: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of cryoscout train: holes that it was fitted to are left out where predictions are judged."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the figures.")] = False,
) -> None:
    """One self-contained page about a session: route, good micrographs against time, predictions, settings.

    Replays need outcomes; a session without any gets the plan alone. Where times or names say in which order the holes
    were imaged, policies are compared with what that order found in the same minutes. The page loads nothing from
    elsewhere.

    \b
    Example:
      cryoscout report y1 -o report.html --budget-min 240 --policies greedy,expected
    """
    from cryoscout.advice.charged import POLICIES_THAT_LOOK
    from cryoscout.advice.recorded import default_policies
    from cryoscout.report.replays import ReportRequest
    from cryoscout.session.named import load_session

    spec = session_at(session, database_url)
    minutes = budget_of(DEFAULT_BUDGET if budget_min is None and until is None else budget_min, until)
    for file in (output, picture):
        if file is not None:
            check_new_file(file, force)
    loaded = load_session(spec, split, TELLING)
    looks_are = looks_or_default(looks, loaded)
    usual = POLICIES_THAT_LOOK if looks_are == "charged" else DEFAULT_POLICIES
    chosen, notes = default_policies(loaded, usual) if policies is None else _named(policies)
    options: list[str] = [
        "-o",
        output.name,
        "--budget-min",
        f"{minutes:g}",
    ]
    options += [] if policies is None else ["--policies", ",".join(chosen)]
    options += ["--starts", str(starts), "--seed", str(seed)]
    for option, value in (
        ("--threshold-angstrom", threshold_angstrom),
        ("--time-model", time_model),
        ("--minutes-per-exposure", minutes_per_exposure),
        ("--loaded", loaded_grid),
        ("--split", split),
    ):
        options += [] if value is None else [option, str(value)]
    options += [] if looks is None else ["--looks", looks]
    options += ["--also-unchosen"] if also_unchosen else []
    options += [part for folder in classifier or [] for part in ("--classifier", str(folder))]
    request = ReportRequest(
        budget_min=minutes,
        policies=chosen,
        starts=starts,
        seed=seed,
        threshold_angstrom=threshold_angstrom,
        time_model=time_model,
        minutes_per_exposure=minutes_per_exposure,
        loaded=loaded_grid,
        also_unchosen=also_unchosen,
        looks=looks_are,
        policies_named=policies is not None,
        pictures=folders_of_source(spec, loaded),
        command=shlex.join(["cryoscout", "report", in_words(spec), *options]),
        notes=notes,
    )
    crops, fitted_to = _images_of(spec, loaded, classifier or [])
    replays = make_report(
        loaded,
        request,
        output,
        picture,
        crops=crops,
        fitted_to=fitted_to,
        with_curve=True,
        night=_night_of(spec),
    )
    if as_json:
        print_json(
            {"report": str(output), "picture": None if picture is None else str(picture)}
            | figures(request, replays)
        )


def _night_of(spec: str) -> Night | None:
    """What the events of a stored session say; None for a built-in one, and, which is said, while others hold it."""
    from cryoscout.advice.night import night_of
    from cryoscout.core.errors import StoreHeldError
    from cryoscout.session.builtin import BUILTIN_SESSIONS
    from cryoscout.session.store import SessionStore

    if spec in BUILTIN_SESSIONS:
        return None
    try:
        with SessionStore.open_for_reading(spec) as store:
            return night_of(store.events())
    except StoreHeldError as error:
        say(f"The report is without the night, which the session's events say: {error}")
        return None


def _named(policies: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The policies by commas; there is nothing to note on them."""
    chosen = tuple(dict.fromkeys(part.strip() for part in policies.split(",") if part.strip()))
    if not chosen:
        raise InputError("The policies must be at least one. Got none instead. Remedy: --policies adaptive.")
    return chosen, ()


def make_report(
    session: Session,
    request: ReportRequest,
    output: Path,
    picture: Path | None = None,
    *,
    crops: SessionCrops | None = None,
    fitted_to: NDArray[np.bool_] | None = None,
    with_curve: bool = False,
    night: Night | None = None,
) -> SessionReplays | None:
    """Replay where there are outcomes, write the page and the picture, and return the replays.

    crops, fitted_to, night : as `session_page` takes them     with_curve : also learn from results, which takes seconds
    Raises InputError when a picture is asked for and there is nothing to replay.
    """
    from cryoscout.report.page import write_report
    from cryoscout.report.replays import replay_for_report, routes_to_replay
    from cryoscout.report.session_report import overview_png, session_page

    replays = None
    if session.measured_by_hole().any():
        with progress("replaying", routes_to_replay(session, request)) as step:
            replays = replay_for_report(session, request, step)
    elif picture is not None:
        raise InputError(
            f"A picture must show a replay, which needs outcomes. Got session {session.name} without any "
            "instead. "
            "Remedy: leave --picture out."
        )
    curve = _results_curve(session, request, fitted_to) if with_curve else None
    page = session_page(session, request, replays, crops, fitted_to, curve, progress, night)
    write_report(page, output)
    say(f"Wrote {output}")
    if picture is not None and replays is not None:
        write_whole(picture, overview_png(session, request, replays))
        say(f"Wrote {picture}")
    return replays


def _results_curve(
    session: Session, request: ReportRequest, fitted_to: NDArray[np.bool_] | None
) -> ResultsCurve | None:
    from cryoscout.advice.setting import threshold_of
    from cryoscout.report.results_curve import number_of_fits, results_curve

    threshold = threshold_of(session, request.threshold_angstrom)
    fits = number_of_fits(session, threshold, fitted_to)
    if fits == 0:
        return None
    with progress("learning from results", fits) as step:
        return results_curve(session, threshold, fitted_to, step)


def _images_of(
    spec: str, loaded: Session, classifiers: list[Path]
) -> tuple[SessionCrops | None, NDArray[np.bool_] | None]:
    """(hole images of a stored session, None without any; (n,) holes that one of the classifiers was fitted to).

    Raises DataError where classifiers are named and there is no image to know the holes by.
    """
    if not Path(spec).is_dir():
        if classifiers:
            raise InputError(
                f"--classifier must go with a session that has hole images. Got {in_words(spec)} instead. "
                "Remedy: leave it out."
            )
        return None, None
    from cryoscout.perception.from_session import fitted_holes, session_crops
    from cryoscout.session.store import SessionStore

    with SessionStore.open_for_reading(spec) as store:
        if not classifiers and not loaded.holes["image_row"].notna().any():
            return None, None
        try:
            crops = session_crops(store, progress)
        except DataError as error:
            if classifiers:
                raise
            say(f"No hole images in the report: {error}")
            return None, None
    if not classifiers:
        return crops, None
    import numpy as np

    from cryoscout.perception.predicting import load_predictor

    return crops, np.any([fitted_holes(load_predictor(path), crops) for path in classifiers], axis=0)


def figures(request: ReportRequest, replays: SessionReplays | None) -> dict[str, Any]:
    """The figures of a report as JSON: budget_min, looks, starts, bound_mean, policies by policy@prediction.

    Where looks are charged each policy has patches_looked_mean and squares_looked_mean, looks that it paid for.
    Where the recorded order is known the first policy is `as recorded`, with minutes_recorded_mean: what its routes
    took by the session's own times, null where it has names alone.
    """
    if replays is None:
        nothing: dict[str, Any] = {"starts": 0, "bound_mean": None, "policies": {}}
        return {"budget_min": request.budget_min, "looks": request.looks, **nothing}
    return {
        "budget_min": request.budget_min,
        "looks": request.looks,
        "starts": len(replays.starts),
        "bound_mean": float(replays.bound[:, -1].mean()),
        "policies": {
            each.label: {
                "kind": each.kind,
                "good_mean": float(each.good.mean()),
                "good_std": float(each.good.std()),
                "visited_mean": float(each.visited.mean()),
                **(
                    {
                        "patches_looked_mean": each.patches_looked_mean,
                        "squares_looked_mean": each.squares_looked_mean,
                    }
                    if request.looks == "charged"
                    else {}
                ),
                **(
                    {"minutes_recorded_mean": replays.minutes_recorded_mean}
                    if each.kind == "recorded"
                    else {}
                ),
            }
            for each in replays.policies
        },
    }
