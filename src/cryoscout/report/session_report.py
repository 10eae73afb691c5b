"""What a report says of one session: the plan for what is left, and policies replayed on what was imaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cryoscout.advice.advise import Advice, advise
from cryoscout.advice.atlas_map import atlas_maps
from cryoscout.advice.night import Night
from cryoscout.advice.recorded import (
    headline,
    reference_among,
    words_on_as_recorded,
)
from cryoscout.advice.setting import default_policy, setting_of, threshold_of
from cryoscout.advice.square_maps import pictures_of_session, square_maps
from cryoscout.advice.work_list import WorkList
from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError
from cryoscout.core.telling import Progress, no_progress
from cryoscout.core.units import TIER_NAMES
from cryoscout.perception.from_session import SessionCrops
from cryoscout.report.figures import (
    Curve,
    curves_figure,
    overview_figure,
    png_bytes,
    route_figure,
    svg_text,
)
from cryoscout.report.map_scene import MapScene, RouteOnMap, scene_of_session
from cryoscout.report.night_section import night_section, other_orders
from cryoscout.report.page import ReportPage, ReportSection, ReportTable
from cryoscout.report.prediction_section import prediction_sections
from cryoscout.report.replays import (
    CURVE_STEPS,
    PolicyReplays,
    ReportRequest,
    SessionReplays,
    asked_of,
    time_model_of,
)
from cryoscout.report.results_curve import ResultsCurve, results_section
from cryoscout.report.statistics import mean_and_std, paired_difference
from cryoscout.routing.from_session import (
    is_planned_as_new,
)
from cryoscout.routing.problem import NOWHERE
from cryoscout.routing.replay import (
    good_course,
    visited_course,
)
from cryoscout.routing.time_model import TimeModel
from cryoscout.session.model import Session

LOOKS_LISTED = 20
"""Squares to open next that the page lists."""
SQUARES_DRAWN = 6
NIGHT_STEPS = 2
"""Squares of the plan that the page draws; the list of `plan --export html` draws more."""
_NOTE_ON_BOUND = (
    "The bound is the most any route could have found, knowing every outcome beforehand. The visit that "
    "crosses the "
    "budget counts (greedy drops it), as in the published comparison."
)
_NOTE_ON_LOOKS = (
    " Looks are charged: every square and patch is hidden at the start, but the start hole's, and each look takes its "
    "minutes, for who knows every outcome too."
)
_NOTE_ON_DIFFERENCE = (
    " The difference pairs routes from the same start; its 95 % interval says what the choice of start "
    "explains, on "
    "this session alone."
)


def session_page(
    session: Session,
    request: ReportRequest,
    replays: SessionReplays | None,
    crops: SessionCrops | None = None,
    fitted_to: NDArray[np.bool_] | None = None,
    curve: ResultsCurve | None = None,
    progress: Progress = no_progress,
    night: Night | None = None,
) -> ReportPage:
    """The report of a session.

    replays : of `replay_for_report`, None for a session without outcomes (then it shows the plan alone)
    crops, fitted_to : of `prediction_sections`     curve : of `results_curve`     night : of `night_of`
    Raises DataError when there is neither a hole to plan nor an outcome to replay.
    """
    sections: list[ReportSection] = []
    lead = ""
    if replays is not None:
        with progress("drawing routes and curves", 3) as step:
            lead = _lead(request, replays)
            sections.append(_table_section(request, replays))
            step()
            sections += _curve_sections(request, replays)
            step()
            sections.append(_replayed_map(session, replays))
    if replays is None or not is_planned_as_new(session, as_new=False):
        planned = _plan_section(session, request, progress)
        if planned is not None:
            lead, of_plan = planned
            sections[:0] = of_plan
    if night is not None:
        with progress("drawing the night", NIGHT_STEPS) as step:
            of_night = _night_section(session, request, replays, night, step)
        sections += [] if of_night is None else [of_night]
    if not sections:
        raise DataError(
            f"A report must have holes to plan or outcomes to replay. Got neither in session "
            f"{session.name} instead."
        )
    with progress("judging predictions", 1):
        sections += prediction_sections(
            session, threshold_of(session, request.threshold_angstrom), crops, fitted_to
        )
    sections += [] if curve is None else [results_section(curve)]
    model, _ = time_model_of(session, request)
    facts = _facts(session, request, replays, model)
    return ReportPage(f"Session {session.name}", lead, sections, facts, request.command)


def _night_section(
    session: Session,
    request: ReportRequest,
    replays: SessionReplays | None,
    night: Night,
    step: Callable[[], None],
) -> ReportSection | None:
    """The night; `step` is called up to NIGHT_STEPS times."""
    threshold = threshold_of(session, request.threshold_angstrom)
    if session.n_holes == 0:
        return None  # of an atlas alone there is no night yet
    if replays is None:
        problem = setting_of(session, asked_of(request, request.policies[-1], replayed=True)).problem
        step()
        return night_section(session, night, problem, threshold, None)
    problem, order, others = replays.policies[-1].problem, session.recorded_order(), None
    if order is not None:
        setting = setting_of(session, asked_of(request, request.policies[-1], replayed=True))
        step()
        others = other_orders(problem, replays.truth, order, {setting.label: setting.policy}, request.seed)
    step()
    return night_section(session, night, problem, threshold, others)


def _lead(request: ReportRequest, replays: SessionReplays) -> str:
    found = {each.label: float(each.good.mean()) for each in replays.policies}
    bound = float(replays.bound[:, -1].mean())
    return f"Replayed on what was really imaged. {headline(found, bound, request.budget_min, replays.long_budget)}"


def _table_section(request: ReportRequest, replays: SessionReplays) -> ReportSection:
    bound = float(replays.bound[:, -1].mean())
    reference = reference_among([each.label for each in replays.policies])
    compared = next((each for each in replays.policies if each.label == reference), None)
    header = ["policy", "good found", "of the bound", "holes visited", _share_in_words(replays)]
    charged = request.looks == "charged"
    header += ["squares, patches looked at"] if charged else []
    header += [f"more than {compared.label}"] if compared is not None else []
    rows: list[list[str]] = []
    for each in replays.policies:
        mean, std = mean_and_std(each.good)
        visited = float(each.visited.mean())
        taken = visited * each.problem.shots
        row = [
            each.label,
            f"{mean:.1f} ± {std:.1f}",
            f"{100 * mean / bound:.0f} %" if bound > 0 else "-",
            f"{visited:.0f}",
            f"{100 * mean / taken:.0f} %" if taken > 0 else "-",
        ]
        if charged:
            row.append(f"{each.squares_looked_mean:.0f}, {each.patches_looked_mean:.0f}")
        if compared is not None:
            more = "-" if each is compared else str(paired_difference(each.good, compared.good, request.seed))
            row.append(more)
        rows.append(row)
    last_columns = [""] * (charged + (compared is not None))
    mean, std = mean_and_std(replays.bound[:, -1])
    rows.append(["exact bound", f"{mean:.1f} ± {std:.1f}", "100 %", "", "", *last_columns])
    return ReportSection(
        f"What each policy finds in {request.budget_min:g} minutes",
        [words_on_as_recorded([replays.minutes_recorded_mean]).capitalize()] if replays.is_recorded else [],
        table=ReportTable(
            f"Good micrographs, mean ± standard deviation over {len(replays.starts)} start holes",
            header,
            rows,
            strong_row=len(replays.policies) - 1,
        ),
        note=_NOTE_ON_BOUND
        + (_NOTE_ON_LOOKS if charged else "")
        + (_NOTE_ON_DIFFERENCE if compared is not None else ""),
    )


def _share_in_words(replays: SessionReplays) -> str:
    """What the share of good ones is of: a hole gives one micrograph, or each of its shots one."""
    return "good among visited" if replays.policies[0].problem.shots == 1 else "good among micrographs"


@dataclass(frozen=True)
class Courses:
    """Curves of all policies and of the bound."""

    found: tuple[Curve, ...]
    share: tuple[Curve, ...]
    bound: Curve


def courses(request: ReportRequest, replays: SessionReplays) -> Courses:
    """Good micrographs and their share among the visits, by time, with the middle 80 % of the starts."""
    moments = np.linspace(0.0, request.budget_min, CURVE_STEPS + 1)
    found, share = [], []
    for each in replays.policies:
        good = np.array([good_course(result, moments) for result in each.results])
        visits = np.array([visited_course(result, moments) for result in each.results])
        found.append(Curve(each.label, moments, good.mean(axis=0), *np.quantile(good, [0.1, 0.9], axis=0)))
        # Before every route has ended three visits a share is noise.
        shown = (visits >= min(3.0, float(visits[:, -1].min()))).all(axis=0) & (visits > 0).all(axis=0)
        ratio = good[:, shown] / (visits[:, shown] * each.problem.shots)
        share.append(
            Curve(each.label, moments[shown], ratio.mean(axis=0), *np.quantile(ratio, [0.1, 0.9], axis=0))
        )
    bound = replays.bound.mean(axis=0)
    bound_curve = Curve("bound", replays.bound_moments_min, bound, bound, bound)
    return Courses(tuple(found), tuple(each for each in share if len(each.minutes)), bound_curve)


def _curve_sections(request: ReportRequest, replays: SessionReplays) -> list[ReportSection]:
    drawn = courses(request, replays)
    band = "Line: mean over start holes. Band: the middle 80 % of them."
    return [
        ReportSection(
            "Good micrographs against time",
            svg=svg_text(
                curves_figure(drawn.found, "good micrographs found", bound=drawn.bound),
                f"Good micrographs found against minutes used, by policy, with the exact bound. "
                f"{_ends(drawn.found)}",
                "found",
            ),
            note=f"{band} Dashed: the exact bound at that moment.",
        ),
        ReportSection(
            f"Share of {_share_in_words(replays)}",
            svg=svg_text(
                curves_figure(drawn.share, f"{_share_in_words(replays)} (%)", percent=True),
                f"Percentage of good micrographs among those taken so far, by policy. "
                f"{_ends(drawn.share, 100)}",
                "share",
            ),
            note=f"{band} Higher means less microscope time spent on bad holes.",
        ),
    ]


def _ends(curves: Sequence[Curve], factor: float = 1.0) -> str:
    ends = [f"{each.label} {factor * each.middle[-1]:.1f}" for each in curves if len(each.minutes)]
    return "At the end: " + ", ".join(ends) + "."


def replayed_route(replays: SessionReplays) -> tuple[PolicyReplays, RouteOnMap]:
    """The typical route of the last policy, ready to draw."""
    drawn = replays.policies[-1]
    result = drawn.typical()
    return drawn, RouteOnMap(result.route, result.start_hole, result.good > 0)


def _replayed_map(session: Session, replays: SessionReplays) -> ReportSection:
    policy, drawn = replayed_route(replays)
    scene = scene_of_session(session, policy.problem, drawn)
    good = int(drawn.good.sum()) if drawn.good is not None else 0
    what = "good" if policy.problem.shots == 1 else "with a good micrograph"
    title = f"A replayed route of {policy.label}: {counted(len(drawn.route), 'holes')} visited, {good} of them {what}"
    return ReportSection(
        "A replayed route",
        [f"{title}. Of {len(replays.starts)} routes it is the one nearest to the mean."],
        svg=svg_text(route_figure(scene), title, "route"),
        note=_map_words(scene),
    )


def overview_png(session: Session, request: ReportRequest, replays: SessionReplays) -> bytes:
    """Route and curves of a report as one picture."""
    policy, drawn = replayed_route(replays)
    curves = courses(request, replays)
    scene = scene_of_session(session, policy.problem, drawn)
    title = f"{policy.label} on session {session.name}, {request.budget_min:g} min"
    return png_bytes(overview_figure(scene, curves.found, curves.bound, curves.share, title))


def _map_words(scene: MapScene) -> str:
    """How to read a map, said once below each."""
    left_out = (
        f" {counted(scene.squares_left_out, 'squares')} that the route does not enter "
        f"{agreed(scene.squares_left_out, 'are')} not drawn."
        if scene.squares_left_out
        else ""
    )
    return (
        "Boxes are grids, squares and patches in the order of their names, not at their place on the stage. "
        f"Numbers count the patches in the order they are entered; a thicker line is a longer way.{left_out}"
    )


def _plan_section(
    session: Session, request: ReportRequest, progress: Progress
) -> tuple[str, list[ReportSection]] | None:
    """The plan for what is left: a sentence, and sections with its squares drawn; None without any.

    It is the last policy's, or, where that one does not look and there is something to look at, the default's.
    """
    policy = request.policies[-1]
    if not request.policies_named:
        default = default_policy(session, request.looks)
        policy = default if default != "adaptive" else policy
    asked = asked_of(request, policy, replayed=False)
    problem = setting_of(session, asked).problem
    if not problem.available().any() and not problem.has_unseen:
        return None
    advice = advise(session, asked, progress=progress)
    work_list = advice.work_list
    parts = [_route_section(session, request, advice)] if work_list.visits or not work_list.looks else []
    parts += _looks_sections(session, work_list)
    title = _title_of_plan(advice.setting.label, request, work_list, int(problem.available().sum()))
    return f"{title}.", [*parts, *_drawn_squares(session, request, work_list)]


def _title_of_plan(label: str, request: ReportRequest, work_list: WorkList, n_seen: int) -> str:
    """n_seen : holes that may be planned"""
    looks = sum(look.in_plan for look in work_list.looks)
    if not work_list.visits and work_list.looks:
        first = work_list.looks[0]
        seen = "no hole is worth its minutes before a look" if n_seen else "no hole is seen yet"
        return (
            f"The plan of {label}: {seen}; open square {first.square} first, of {looks} squares in "
            f"{request.budget_min:g} minutes"
        )
    then = f", then look at {looks} squares or patches" if looks else ""
    return (
        f"The plan of {label}: {counted(len(work_list.visits), 'holes')} in {work_list.minutes_used:.0f} of "
        f"{request.budget_min:g} minutes, of which about {work_list.expected_good:.0f} micrographs should be good{then}"
    )


def _where_it_starts(session: Session, advice: Advice) -> str:
    """The hole, the place that was looked at last, or the grid that is in the microscope."""
    problem, start = advice.problem, advice.work_list.start
    if start is not None:
        return f"at {start}"
    if problem.stands_at is not None:
        return f"at square {session.squares['square_id'].iloc[problem.stands_at.square]}"
    if problem.tree.loaded_grid != NOWHERE:
        return f"in grid {session.grids['grid_id'].iloc[problem.tree.loaded_grid]}, outside every square"
    return "outside every grid"


def _words_on_plan(where: str, work_list: WorkList) -> str:
    low, high = work_list.interval_80
    words = f"It starts {where}. With a probability of 80 % it gives {low:.0f} to {high:.0f}."
    if work_list.set_aside_min:
        words += (
            f" {work_list.set_aside_min:.1f} minutes are set aside for pauses, as many as the session had."
        )
    return words


def _route_section(session: Session, request: ReportRequest, advice: Advice) -> ReportSection:
    course, work_list = advice.planned.course, advice.work_list
    believed = replace(advice.problem, prior_p_good=advice.planned.p_good)
    scene = scene_of_session(
        session, believed, RouteOnMap(course.route, course.start_hole, None, advice.problem.imaged)
    )
    return ReportSection(
        "The plan for the holes that are left",
        [
            _words_on_plan(_where_it_starts(session, advice), work_list),
            *work_list.notes,
        ],
        svg=svg_text(
            route_figure(scene),
            _title_of_plan(advice.setting.label, request, work_list, int(advice.problem.available().sum())),
            "plan",
        ),
        note=_map_words(scene),
    )


def _looks_sections(session: Session, work_list: WorkList) -> list[ReportSection]:
    """The squares to open next as a table, and the atlas with all squares where they stand; none without looks."""
    if not work_list.looks:
        return []
    rows = [
        [
            f"{look.order}. {look.square}" + ("" if look.patch is None else f", patch {look.patch}"),
            look.grid,
            "" if look.x_um is None or look.y_um is None else f"{look.x_um:.0f}, {look.y_um:.0f}",
            f"{look.expected_good:.1f} ({look.good_80[0]:.0f} to {look.good_80[1]:.0f})",
            f"{look.minutes:.0f}",
            f"{look.rate:.2f} ({look.rate_80[0]:.2f} to {look.rate_80[1]:.2f})",
            "yes" if look.in_plan else "later",
        ]
        for look in work_list.looks[:LOOKS_LISTED]
    ]
    header = [
        "square",
        "grid",
        "x, y µm",
        "good expected (80 %)",
        "min",
        "good per min (80 %)",
        "in the plan",
    ]
    more = len(work_list.looks) - len(rows)
    note = "Each is what is expected as far as is known now; make the plan anew after each look."
    note += f" {more} more stand in --json of cryoscout plan." if more > 0 else ""
    said = [] if work_list.visits else list(work_list.notes)
    table = ReportTable("The best first", header, rows)
    return [
        ReportSection("Squares to open next", said, table=table, note=note),
        *(
            ReportSection(f"The squares of {each.title}", svg=Markup(each.svg), note=each.note)  # noqa: S704
            for each in atlas_maps(session, work_list)
        ),
    ]


def _drawn_squares(session: Session, request: ReportRequest, work_list: WorkList) -> list[ReportSection]:
    """The first squares of the plan, on their pictures or to scale, where positions are known."""
    maps = square_maps(session, work_list, pictures_of_session(session, request.pictures))
    return [
        ReportSection(f"The plan on {each.title}", svg=Markup(each.svg), note=each.note)  # noqa: S704
        for each in maps[:SQUARES_DRAWN]
    ]


def _facts(
    session: Session, request: ReportRequest, replays: SessionReplays | None, model: TimeModel
) -> list[tuple[str, str]]:
    info, counts = session.info, session.counts()
    times = session.exposures["started_at"].dropna()
    outcomes = counts["outcomes"]
    listed = (
        ", ".join(f"{count} {name}" for name, count in outcomes.items()) if isinstance(outcomes, dict) else ""
    )
    facts = [
        ("Session", " ".join(part for part in (session.name, info.split, info.description) if part)),
        ("Format", info.format),
        (
            "Date of the data",
            f"{times.min():%Y-%m-%d %H:%M} to {times.max():%Y-%m-%d %H:%M}" if len(times) else "-",
        ),
        ("Origin and licence", ", ".join(part for part in (info.origin, info.licence) if part) or "-"),
        ("Size", ", ".join(f"{counts[name]} {name}" for name in ("grids", "squares", "patches", "holes"))),
        ("Outcomes of exposures", listed),
        ("Good means", f"CTF resolution at or below {threshold_of(session, request.threshold_angstrom):g} Å"),
        ("Time model", _tiers_in_words(model)),
        ("Budget", f"{request.budget_min:g} min"),
    ]
    if replays is not None:
        facts += [
            (
                "Starts",
                f"{counted(len(replays.starts), 'holes')} drawn with seed {request.seed}, the same for every policy",
            ),
            ("Left out", f"{counted(replays.left_out, 'holes')} without an outcome"),
        ]
        facts += [("Note", note) for note in replays.notes]
    return facts


def _tiers_in_words(model: TimeModel) -> str:
    tiers = ", ".join(
        f"{name} {minutes:.3g}" for name, minutes in zip(TIER_NAMES, model.tiers_min(), strict=True)
    )
    looks = [
        f"look at a {level} {minutes:.3g}"
        for level, minutes in (("square", model.square_look_min), ("patch", model.patch_look_min))
        if minutes is not None
    ]
    return f"{model.name}: {', '.join([tiers, *looks])} min"
