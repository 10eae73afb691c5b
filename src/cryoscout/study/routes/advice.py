"""Study `advice`: what a running session is told, on simulated sessions: stop or go, calm, drift.

Half of the sessions of the part stop or go have a classifier that is far too sure of itself. Defaults (hysteresis, the
limit of the drift, the assumptions of the outlook) were chosen on sessions of other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from cryoscout.advice.drift import EVERY, DriftWatch, Promises
from cryoscout.advice.outlook import outlook
from cryoscout.advice.running import CalmSettings, Now, RunningPlanner, Standing
from cryoscout.advice.setting import AdviceRequest
from cryoscout.advice.walk import Walk
from cryoscout.belief.effects import Y1_EFFECTS
from cryoscout.core.hole_tree import HoleTree
from cryoscout.report.statistics import paired_difference
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

PRESET = "y1-like"
SEED = 0
FIRST_SESSION_SEED = 3_000_000
HOLES = 1200
BUDGET_MIN = 480.0
MOMENTS = (0.25, 0.5, 0.75)
HARD = {"holes": HOLES, "share_good": 0.3, "classifier_accuracy": 0.75}
"""A session in which many holes are bad and the classifier is often wrong: elsewhere every target is certain."""
TOO_SURE = 2.5
"""Overconfidence of the classifier whose calibration is off; 1 is calibrated."""
SESSIONS_PER_TRIAL = 10
RESULTS, DRIFT_AT, DROPS = 400, 200, (0.2, 0.4)
DRIFT_BUDGET_MIN = 1100.0
"""Enough for RESULTS visits."""
DRIFT_HOLES = 2400
REPLAN_EVERY = 10
"""Results between two plans of the sessions with a drift."""
LIMITS = tuple(np.arange(1.0, 40.01, 0.25).round(2).tolist())
"""Limits at which the rival of the drift could warn; the one that warns as rarely is taken."""
SESSIONS = {"stop": 200, "drift": 200, "hard": 50, "calm": 40}
"""Simulated sessions of each part."""
PARTS = ("stop", "drift", "hard", "calm")


def trials(profile: Profile) -> list[Trial]:
    """Blocks of sessions of each part, a fifth of them in `quick`; parts take turns, so that a stopped run has all."""
    found = []
    for part, sessions in SESSIONS.items():
        sessions = sessions if profile == "paper" else sessions // 5
        for first in range(0, sessions, SESSIONS_PER_TRIAL):
            last = min(first + SESSIONS_PER_TRIAL, sessions)
            trial = Trial(f"{part} {first + 1}-{last}", {"part": part, "first": first, "last": last}, SEED)
            found.append((first / sessions, trial))
    return [trial for _, trial in sorted(found, key=lambda each: each[0])]


def run_trial(trial: Trial) -> Json:
    """One row for each session."""
    part = trial.parameters["part"]
    numbers = range(trial.parameters["first"], trial.parameters["last"])
    if part == "stop":
        return {"rows": [stop_or_go(number) for number in numbers]}
    if part == "calm":
        return {"rows": [calm_of(number) for number in numbers]}
    return {"rows": [drift_delays(number, part == "hard") for number in numbers]}


def simulated(number: int, **changes: Any) -> tuple[RoutingProblem, Truth, int]:
    """A session of that number, its truth and a random start."""
    settings = simulation_named(PRESET).model_copy(update=changes)
    tables = simulate_tables(settings, FIRST_SESSION_SEED + number)
    problem = RoutingProblem(
        tree=HoleTree(tables.patch_of_hole, tables.square_of_patch, tables.grid_of_square),
        prior_p_good=tables.score,
        budget_min=BUDGET_MIN,
        time_model=settings.time_model,
        effects=Y1_EFFECTS,
    )
    start = int(np.random.default_rng([SEED, number]).integers(tables.n_holes))
    return problem, tables.truth(), start


def stop_or_go(number: int) -> Json:
    """At each moment: the probability of reaching the target, ours and the rival's, and the 80 % interval."""
    is_off = number % 2 == 1
    problem, truth, start = simulated(number, **HARD, classifier_overconfidence=TOO_SURE if is_off else 1.0)
    result = replay(problem, truth, make_policy("adaptive"), [start], SEED)[0]
    final = result.good_found + float(truth.good[start])
    rng = np.random.default_rng([SEED, number, 1])
    nothing = np.zeros(problem.n_holes)
    first = _outlook(problem, nothing.astype(bool), start, truth, BUDGET_MIN)
    target = max(1, round(float(rng.uniform(0.7, 1.3)) * first.final.expected))
    rows = []
    for share in MOMENTS:
        visits = int(np.searchsorted(result.minutes, share * BUDGET_MIN, side="right"))
        done = np.concatenate([[start], result.route[:visits]])
        imaged = np.zeros(problem.n_holes, dtype=bool)
        imaged[done] = True
        used_min = float(result.minutes[visits - 1]) if visits else 0.0
        seen = _outlook(problem, imaged, int(done[-1]), truth, BUDGET_MIN - used_min)
        good = float(truth.good[done].sum())
        rival = rival_probability(target, good, len(done), BUDGET_MIN - used_min, used_min / max(visits, 1))
        low, high = seen.final.interval_80
        rows.append([seen.probability_of(target), rival, float(final >= target), low, high, final])
    return {"off": is_off, "rows": rows}


def _outlook(
    problem: RoutingProblem, imaged: NDArray[np.bool_], here: int, truth: Truth, left_min: float
) -> Any:
    outcome = np.where(imaged, truth.good, np.nan)
    known = imaged.astype(np.float64)
    left = replace(problem, imaged=imaged, outcome=outcome, results=known, budget_min=left_min)
    course = plan_route(left, make_policy("adaptive"), here, SEED)
    walk = Walk(course.route, course.tiers, course.minutes)
    return outlook(problem, outcome, known, np.zeros(problem.n_holes), walk, left_min, SEED)


def rival_probability(target: int, good: float, results: int, left_min: float, minutes_each: float) -> float:
    """Beta-binomial with a flat prior on the results so far; holes left by the mean minutes of a hole so far."""
    holes = int(left_min // minutes_each) if minutes_each > 0 else 0
    needed = target - good
    if needed <= 0:
        return 1.0
    return 0.0 if needed > holes else float(betabinom.sf(needed - 1, holes, 1 + good, 1 + results - good))


def drift_delays(number: int, hard: bool = False) -> Json:
    """When the watch warns without a drift and after drops of 20 and 40 points; the same of a rival that knows both
    rates, at each of LIMITS."""
    changes = {**HARD, "classifier_overconfidence": 1.0} if hard else {"holes": DRIFT_HOLES}
    problem, truth, start = simulated(number, **changes)
    problem = problem.with_budget(DRIFT_BUDGET_MIN)
    result = replay(problem, truth, make_policy("adaptive"), [start], SEED, replan_every=REPLAN_EVERY)[0]
    route = result.route[:RESULTS]
    found: Json = {"results": len(route)}
    if len(route) < RESULTS:
        return found
    before = float(truth.good[route[:DRIFT_AT]].mean())
    for drop in (0.0, *DROPS):
        rng = np.random.default_rng([SEED, number, 2])
        good = truth.good[route].copy()
        lost = rng.random(len(route)) < drop / max(before, drop)
        good[DRIFT_AT:] = np.where(lost[DRIFT_AT:], 0.0, good[DRIFT_AT:])
        ours, level = _first_warning(problem, route, good, found.get("0", {}).get("ours"))
        found[f"{drop:g}"] = {
            "ours": ours,
            "level": level,
            "rival": [_first_crossing(good, before, limit) for limit in LIMITS],
        }
    return found


def _first_warning(
    problem: RoutingProblem, route: NDArray[np.int64], good: NDArray[np.float64], without: int | None = None
) -> tuple[int | None, str | None]:
    """Index of the result at which the watch warns first, and the level.

    without : of the same session without a drift; a warning before DRIFT_AT is the same one
    """
    promises, watch = Promises(problem.prior_p_good, problem.tree), DriftWatch()
    is_same = without is not None and without < DRIFT_AT
    for place, hole in enumerate(route.tolist()):
        names = (problem.patch_of_hole[hole], problem.square_of_hole[hole], problem.grid_of_hole[hole])
        watch.take(promises.of(hole, *(str(each) for each in names)), bool(good[place]))
        if is_same and place == without:
            return place, None
        if (place + 1) % EVERY == 0 and watch.warning is not None:
            return place, watch.warning.level
    return None, None


def _first_crossing(good: NDArray[np.float64], rate: float, limit: float) -> int | None:
    """Index at which a CUSUM that knows the rate before, and 20 points less after, passes a limit."""
    high, low = min(max(rate, 0.23), 0.98), min(max(rate, 0.23), 0.98) - DROPS[0]
    total = 0.0
    for place, each in enumerate(good.tolist()):
        total = max(0.0, total + (np.log(low / high) if each else np.log((1 - low) / (1 - high))))
        if total >= limit:
            return place
    return None


def calm_of(number: int) -> Json:
    """Good micrographs found by planning freely and with all defaults, and how much of the next five one result
    changes with none committed."""
    settings = simulation_named(PRESET).model_copy(update=HARD)
    session = to_session(simulate_tables(settings, FIRST_SESSION_SEED + number), "simulated")
    truth = truth_from_session(session)
    start = int(np.random.default_rng([SEED, number]).integers(session.n_holes))
    found: Json = {}
    for name, calm in (
        ("free", CalmSettings(committed=0, hysteresis=0.0)),
        ("defaults", CalmSettings()),
        ("uncommitted", CalmSettings(committed=0)),
    ):
        found[name] = _driven(
            RunningPlanner(session, AdviceRequest(BUDGET_MIN, as_new=True), calm), truth, start
        )
    return found


def _driven(planner: RunningPlanner, truth: Truth, start: int) -> list[float]:
    """[good micrographs found, mean share of the next five holes that one result changed]."""
    n = len(truth.good)
    imaged, outcome, results = np.zeros(n, dtype=bool), np.full(n, np.nan), np.zeros(n)
    here, left_min, good = start, BUDGET_MIN, 0.0
    standing: Standing | None = None
    changed: list[float] = []
    while True:
        imaged[here], outcome[here], results[here] = True, truth.good[here], 1.0
        advice = planner.advise(Now(imaged, outcome, results, here, left_min), standing)
        holes = advice.walk.holes.tolist()
        if standing is not None:
            stood = [hole for hole in standing.holes if not imaged[hole]][:5]
            if len(stood) == 5:
                changed.append(len(set(stood) - set(holes[:5])) / 5)
        if not holes:
            return [good, float(np.mean(changed))]
        standing, here = advice.standing, holes[0]
        left_min -= float(advice.walk.minutes[0])
        good += float(truth.good[here])


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Three tables and the figure."""
    parts = {part: _rows_of(rows, part) for part in PARTS}
    stop = _stop_table(parts["stop"])
    drift, hard = _drift_table(parts["drift"]), _drift_table(parts["hard"], "hard")
    calm = _calm_table(parts["calm"])
    so_far = ", ".join(
        f"{len(parts[part])} of {count if profile == 'paper' else count // 5} ({part})"
        for part, count in SESSIONS.items()
    )
    text = "\n\n".join(
        [
            f"Simulated sessions (`{PRESET}`; where not said otherwise {HOLES} holes, 30 % good, a classifier that is "
            f"right for three holes of four), {BUDGET_MIN:g} minutes, planner `adaptive`. Sessions run so far: "
            f"{so_far}. Settings were chosen on sessions of other seeds.",
            "## Stop or go",
            "In half of the sessions the classifier is far too sure of itself. Each session's target is drawn between "
            "0.7 and 1.3 times the count that is expected at the start, independent of the truth. The rival takes the "
            "results so far as a beta-binomial with a flat prior, and the holes left from the mean minutes so far. "
            "Brier score of the probability of reaching the target, lower is better; brackets: paired 90 % bootstrap "
            "interval of the difference. Targets: lower than the rival at each moment, the interval below 0; the 80 % "
            "interval of the final count holds in 75 to 85 %, all moments together.",
            stop[0],
            stop[1],
            "The forecast is of the plan that stands. The route plans again after every result and finds more than "
            "that plan would have given; the last column says how often the final count lies above the interval. "
            "Gains of planning again are not in the forecast, and of a prediction it is not known how far it can be "
            "trusted before there are many results: both make it too low early on.",
            "## Drift",
            f"Sessions of {RESULTS} results; after {DRIFT_AT} of them good micrographs are lost at random. First "
            f"`{PRESET}` with {DRIFT_HOLES} holes, as it is: a classifier that is right for 88.5 % of the holes and "
            "too sure of itself. The rival is a CUSUM that knows both rates of the session, at the limit at which it "
            "warns as rarely without a drift. Targets: at most 5 % warn without a drift; 20 points within 80 results "
            "and 1.5 times the rival, 40 points within 30.",
            drift[0],
            "Then the hard sessions of the part above. Their patches differ by as much as a drift of 20 points, and "
            "the best holes are used up before the end: what can be told from that needs most of the session.",
            hard[0],
            "A whole grid that is bad from its first result is within what grids differ by, and hardly ever told as a "
            "drift: the belief learns it and the planner leaves it.",
            "## Calm",
            "One result after the other; with all defaults, and with none committed and the default hysteresis. "
            "Targets: all defaults find at most 1 % less than planning freely; with none committed one result changes "
            "at most 20 % of the next five.",
            calm[0],
        ]
    )
    return Page(text, _figure(parts["stop"]), [*stop[2], *drift[1], *hard[1], *calm[1]])


def _rows_of(rows: Sequence[TrialRow], part: str) -> list[Json]:
    chosen = [row.result for row in rows if row.trial.parameters["part"] == part]
    return [each for result in chosen if result is not None for each in result["rows"]]


def _stop_table(rows: Sequence[Json]) -> tuple[str, str, list[Json]]:
    if not rows:
        return MISSING, MISSING, []
    table = np.array([row["rows"] for row in rows])
    ours, rival = ((table[:, :, column] - table[:, :, 2]) ** 2 for column in (0, 1))
    held = (table[:, :, 3] <= table[:, :, 5]) & (table[:, :, 5] <= table[:, :, 4])
    above = table[:, :, 5] > table[:, :, 4]
    lines, json_rows = [], []
    for place, share in enumerate(MOMENTS):
        lines.append(
            [
                f"{share:.0%}".replace("%", " %"),
                str(len(rows)),
                f"{ours[:, place].mean():.3f}",
                f"{rival[:, place].mean():.3f}",
                f"{held[:, place].mean():.0%}".replace("%", " %"),
                f"{above[:, place].mean():.0%}".replace("%", " %"),
            ]
        )
        json_rows.append(
            {
                "part": "stop",
                "moment": share,
                "sessions": len(rows),
                "brier": float(ours[:, place].mean()),
                "brier_rival": float(rival[:, place].mean()),
                "held_80": float(held[:, place].mean()),
                "above_80": float(above[:, place].mean()),
            }
        )
    together = paired_difference(ours.mean(axis=1), rival.mean(axis=1), SEED, coverage=0.9)
    said = (
        f"All three together: difference {together.mean:+.4f} [{together.low:+.4f}, {together.high:+.4f}]. The 80% "
        f"interval of the final count holds in {held.mean():.1%} of all".replace("%", " %")
        + "."
    )
    json_rows.append(
        {
            "part": "stop together",
            "difference": together.mean,
            "low": together.low,
            "high": together.high,
            "held_80": float(held.mean()),
        }
    )
    head = ["time passed", "sessions", "Brier, ours", "Brier, rival", "80 % interval holds", "above it"]
    return markdown_table(head, lines), said, json_rows


def _drift_table(rows: Sequence[Json], part: str = "drift") -> tuple[str, list[Json]]:
    whole = [row for row in rows if row["results"] == RESULTS]
    if not whole:
        return MISSING, []
    false = float(np.mean([row["0"]["ours"] is not None for row in whole]))
    rival_false = [
        float(np.mean([row["0"]["rival"][place] is not None for row in whole]))
        for place in range(len(LIMITS))
    ]
    place = next((number for number, each in enumerate(rival_false) if each <= false), len(LIMITS) - 1)
    lines = [
        ["none", str(len(whole)), f"{100 * false:.1f} % warn", f"{100 * rival_false[place]:.1f} % warn", ""]
    ]
    json_rows: list[Json] = [{"part": part, "drop": 0.0, "warned": false, "warned_rival": rival_false[place]}]
    for drop in DROPS:
        told = [row[f"{drop:g}"] for row in whole]
        ours = _delays([each["ours"] for each in told])
        at_once = sum(each["level"] == "all at once" for each in told)
        found = sum(each["level"] is not None for each in told)
        rival = _delays([row[f"{drop:g}"]["rival"][place] for row in whole])
        lines.append(
            [
                f"{100 * drop:.0f} points",
                str(len(whole)),
                f"after {ours:.0f} results",
                f"after {rival:.0f} results",
                f"{at_once} of {found}",
            ]
        )
        json_rows.append(
            {
                "part": part,
                "drop": drop,
                "delay_median": ours,
                "delay_median_rival": rival,
                "at_once": at_once,
                "told": found,
            }
        )
    return markdown_table(
        ["drift", "sessions", "ours (median)", "rival (median)", "told as all at once"], lines
    ), json_rows


def _delays(first: Sequence[int | None]) -> float:
    """Median results from the drift to the first warning; sessions that warned before it are left out, and one that
    never warns counts as the longest."""
    delays = [
        RESULTS - DRIFT_AT if each is None else each - DRIFT_AT
        for each in first
        if each is None or each >= DRIFT_AT
    ]
    return float(np.median(delays)) if delays else float(RESULTS - DRIFT_AT)


def _calm_table(rows: Sequence[Json]) -> tuple[str, list[Json]]:
    if not rows:
        return MISSING, []
    lines, json_rows = [], []
    free = float(np.sum([row["free"][0] for row in rows]))
    for name, words in (
        ("free", "planned freely"),
        ("defaults", "all defaults"),
        ("uncommitted", "--committed 0"),
    ):
        good = float(np.sum([row[name][0] for row in rows]))
        changed = float(np.mean([row[name][1] for row in rows]))
        lines.append(
            [
                words,
                str(len(rows)),
                f"{good / len(rows):.1f}",
                f"{100 * (good / free - 1):+.2f} %",
                f"{100 * changed:.1f} %",
            ]
        )
        json_rows.append(
            {
                "part": "calm",
                "setting": name,
                "sessions": len(rows),
                "good": good,
                "of_free": good / free,
                "changed": changed,
            }
        )
    head = ["plan", "sessions", "good found", "against freely", "next five changed by a result"]
    return markdown_table(head, lines), json_rows


def _figure(rows: Sequence[Json]) -> bytes:
    """Reliability of the probabilities of reaching the target, ours and the rival's."""
    from matplotlib.figure import Figure

    from cryoscout.report.figures import house_style, png_bytes

    with house_style():
        figure = Figure(figsize=(5, 4.2), layout="constrained")
        axes = figure.subplots()
        table = np.array([row["rows"] for row in rows]) if rows else np.zeros((0, 3, 6))
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for column, label, marker in ((0, "advice", "o"), (1, "results alone", "s")):
            stated, met = table[:, :, column].ravel(), table[:, :, 2].ravel()
            fifth = np.minimum((stated * 5).astype(int), 4)
            points = [
                (stated[fifth == bin_].mean(), met[fifth == bin_].mean())
                for bin_ in range(5)
                if (fifth == bin_).any()
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=label)
        axes.set_xlabel("stated probability of reaching the target")
        axes.set_ylabel("share that reached it")
        if rows:
            axes.legend()
    return png_bytes(figure)


STUDY = Study(
    name="advice",
    title="What a running session is told: stop or go, drift, calm",
    trials=trials,
    run_one=run_trial,
    page=page,
)
