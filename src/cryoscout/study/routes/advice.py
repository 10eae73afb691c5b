"""Study `advice`: what a running session is told, on simulated sessions: stop or go, calm, drift.

Half of the sessions of the part stop or go have a classifier that is far too sure of itself. Defaults (hysteresis, the
limit of the drift, the assumptions of the outlook) were chosen on sessions of other seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from cryoscout.advice.drift import EVERY, DriftWatch, Promise, Promises
from cryoscout.advice.outlook import outlook
from cryoscout.advice.running import CalmSettings, Now, RunningPlanner, Standing
from cryoscout.advice.setting import AdviceRequest
from cryoscout.advice.walk import Walk
from cryoscout.belief.effects import Y1_EFFECTS
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.from_session import truth_from_session
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.session import to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow

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
RESULTS, DRIFT_AT, DROPS = 400, 200, (0.2, 0.4, 1.0)
"""Results of a session, the first of them with a drift, and the points that good micrographs fall by; 1: to nothing."""
DRIFT_BUDGET_MIN = 1100.0
"""Enough for RESULTS visits."""
DRIFT_HOLES = 2400
NEW_GRID_AFTER = 100
"""The first grid that is entered after so many results is the one that gives nothing."""
REPLAN_EVERY = 10
"""Results between two plans of the sessions with a drift."""
LIMITS = (*np.arange(1.0, 20.0, 0.25).tolist(), *np.arange(20.0, 100.1, 2.0).tolist())
"""Limits at which the rival of the drift could warn; the lowest that warns as rarely is taken."""
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
    """At each moment: the probability of reaching the target, ours and the rival's, whether it was reached, the 80 %
    interval, the final count, and the expected one."""
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
        stated = (seen.probability_of(target), rival, float(final >= target))
        rows.append([*stated, low, high, final, seen.final.expected])
    return {"off": is_off, "rows": rows}


def _outlook(
    problem: RoutingProblem, imaged: NDArray[np.bool_], here: int, truth: Truth, left_min: float
) -> Any:
    outcome = np.where(imaged, truth.good, np.nan)
    known = imaged.astype(np.float64)
    left = replace(problem, imaged=imaged, outcome=outcome, results=known, budget_min=left_min)
    course = plan_route(left, make_policy("adaptive"), here, SEED)
    walk = Walk(course.route, course.tiers, course.minutes)
    return outlook(problem, outcome, known, np.zeros(problem.n_holes), walk, left_min, SEED, plans_again=True)


def rival_probability(target: int, good: float, results: int, left_min: float, minutes_each: float) -> float:
    """Beta-binomial with a flat prior on the results so far; holes left by the mean minutes of a hole so far."""
    holes = int(left_min // minutes_each) if minutes_each > 0 else 0
    needed = target - good
    if needed <= 0:
        return 1.0
    return 0.0 if needed > holes else float(betabinom.sf(needed - 1, holes, 1 + good, 1 + results - good))


def drift_delays(number: int, hard: bool = False) -> Json:
    """When the watch warns without a drift and after each of DROPS; the same of a rival that knows the rate before and
    20 points less after, at each of LIMITS."""
    problem, route, found_good = drift_session(number, hard)
    found: Json = {"results": len(route)}
    if len(route) < RESULTS:
        return found
    before = float(found_good[:DRIFT_AT].mean())
    for drop in (0.0, *DROPS):
        good = with_drop(found_good, drop, number)
        ours, level = _first_warning(
            problem, route, good, None if drop == 0.0 else found["0"]["ours"], drop > 0
        )
        found[f"{drop:g}"] = {
            "ours": ours,
            "level": level,
            "rival": [_first_crossing(good, before, limit) for limit in LIMITS],
        }
    found["grid"] = _bad_grid(problem, route, found_good, found["0"]["ours"])
    return found


def drift_session(
    number: int, hard: bool = False
) -> tuple[RoutingProblem, NDArray[np.int64], NDArray[np.float64]]:
    """A session, its first RESULTS holes in the order of the route, and whether each is good without a drift."""
    changes = {**HARD, "classifier_overconfidence": 1.0} if hard else {"holes": DRIFT_HOLES}
    problem, truth, start = simulated(number, **changes)
    problem = problem.with_budget(DRIFT_BUDGET_MIN)
    result = replay(problem, truth, make_policy("adaptive"), [start], SEED, replan_every=REPLAN_EVERY)[0]
    route = result.route[:RESULTS]
    return problem, route, truth.good[route]


def with_drop(good: NDArray[np.float64], drop: float, number: int) -> NDArray[np.float64]:
    """The results of a session, (m,), that fall by so much from DRIFT_AT on, at random."""
    share = drop / max(float(good[:DRIFT_AT].mean()), drop, 1e-9)
    lost = np.random.default_rng([SEED, number, 2]).random(len(good)) < share
    return np.where(lost & (np.arange(len(good)) >= DRIFT_AT), 0.0, good)


def _bad_grid(
    problem: RoutingProblem, route: NDArray[np.int64], good: NDArray[np.float64], without: int | None
) -> Json | None:
    """When the watch warns of a grid that gives nothing from its first result on, and what it names first and last.

    without : as of `_first_warning`; None where it warned before, or where no grid is entered late enough
    """
    grid = problem.grid_of_hole[route]
    entered = next(
        (place for place in range(NEW_GRID_AFTER, len(route)) if grid[place] not in grid[:place]), None
    )
    if entered is None or (without is not None and without < entered):
        return None
    left = next((place for place in range(entered, len(route)) if grid[place] != grid[entered]), len(route))
    lost = np.where(np.arange(len(route)) >= entered, 0.0, good)[:left]
    watch, levels, first = DriftWatch(), [], None
    for place, promise in enumerate(promised(problem, route[:left])):
        watch.take(promise, bool(lost[place]))
        if place >= entered and (place + 1) % EVERY == 0 and watch.warning is not None:
            levels.append(watch.warning.level)
            first = place if first is None else first
    told = None if first is None else first - entered + 1
    return {"results": left - entered, "told_after": told, "levels": [*levels[:1], *levels[-1:]]}


def promised(problem: RoutingProblem, route: NDArray[np.int64]) -> Iterator[Promise]:
    """What was promised of each hole of a route."""
    promises = Promises(problem.prior_p_good, problem.tree)
    for hole in route.tolist():
        places = (problem.patch_of_hole[hole], problem.square_of_hole[hole], problem.grid_of_hole[hole])
        yield promises.of(hole, *(str(each) for each in places))


def _first_warning(
    problem: RoutingProblem,
    route: NDArray[np.int64],
    good: NDArray[np.float64],
    without: int | None,
    has_drift: bool,
) -> tuple[int | None, str | None]:
    """Index of the result at which the watch warns first, and the level.

    without : of the same session without a drift: what comes before DRIFT_AT is the same in both
    """
    if has_drift and without is not None and without < DRIFT_AT:
        return without, None
    watch = DriftWatch()
    for place, promise in enumerate(promised(problem, route)):
        watch.take(promise, bool(good[place]))
        is_asked = (place + 1) % EVERY == 0 and not (has_drift and place < DRIFT_AT)
        if is_asked and watch.warning is not None:
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
    """The tables and the figure."""
    from cryoscout.study.routes.advice_page import page_of

    return page_of(rows, profile)


STUDY = Study(
    name="advice",
    title="What a running session is told: stop or go, drift, calm",
    trials=trials,
    run_one=run_trial,
    page=page,
    packages=(*PACKAGES_BEHIND_RESULTS, "advice"),
)
