"""Replays as trials of a study: what to replay, how one trial runs, and how its cells are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.routing.problem import Crossing, RoutingProblem
from cryoscout.routing.replay import (
    ReplanEvery,
    ReplayResult,
    Truth,
    good_course,
    only_measured,
    random_starts,
    replay,
    visited_course,
)
from cryoscout.study.engine.published import StartRule
from cryoscout.study.engine.runner import Json, Trial, TrialRow

if TYPE_CHECKING:
    from cryoscout.session.model import Session

BOUND = "bound"
"""Stands where a policy's name stands, for the exact bound."""

COURSE_STEP_MIN = 30
"""Distance of the moments at which a replay's course is kept, minutes."""


@dataclass(frozen=True)
class ReplaySpec:
    """One row of a study: a policy, its knowledge, and the rules it is replayed under.

    key : identifies the row within its study     policy : as `policy_named` takes it, or BOUND
    prediction : named prediction     starts : number drawn (with replacement) or "all"
    repeats : seeds per start, for policies that draw
    """

    key: str
    policy: str
    prediction: str
    starts_from: StartRule = "all"
    crossing: Crossing = "count"
    starts: int | Literal["all"] = 50
    repeats: int = 1
    ctf_delay_min: float = 0.0
    replan_every: ReplanEvery = 1
    session: str = "y1"  # as study.sessions takes it
    split: str | None = "val"

    @property
    def label(self) -> str:
        """Policy and prediction as users write them."""
        return "bound" if self.policy == BOUND else f"{self.policy}@{self.prediction}"


def replay_trials(
    specs: Iterable[ReplaySpec], budgets_min: Iterable[float], seed: int, chunk: int = 25
) -> list[Trial]:
    """Trials of every spec at every budget; `chunk` starts per trial, so that a stopped study loses little.

    Two specs that share `session`, `starts_from` and `starts` start at the same holes in the same order.
    """
    budgets = list(budgets_min)
    trials = []
    for spec in specs:
        for budget in budgets:
            count = spec.starts if spec.starts != "all" else _how_many_starts(spec, budget)
            for repeat in range(spec.repeats):
                for first in range(0, count, chunk):
                    last = min(first + chunk, count)
                    parameters = {
                        **asdict(spec),
                        "budget_min": budget,
                        "first": first,
                        "last": last,
                        "repeat": repeat,
                    }
                    name = f"{spec.key}, {budget:g} min, starts {first + 1}-{last}"
                    trials.append(
                        Trial(name + (f", seed {repeat}" if spec.repeats > 1 else ""), parameters, seed)
                    )
    return trials


def run_replay_trial(trial: Trial) -> Json:
    """Replay one spec from its chunk of starts.

    Returns lists with one entry per start: starts, good, visited, reward, good_course and visited_course
    (totals every COURSE_STEP_MIN minutes, the last at the budget). The bound has starts and good alone.
    """
    parameters = dict(trial.parameters)
    budget = float(parameters.pop("budget_min"))
    first, last, repeat = (int(parameters.pop(name)) for name in ("first", "last", "repeat"))
    spec = ReplaySpec(**parameters)
    problem, truth = problem_and_truth(spec, budget)
    starts = starts_of(spec, budget, trial.seed)[first:last]
    if spec.policy == BOUND:
        from cryoscout.routing.bound import good_holes_bound

        return {
            "starts": starts.tolist(),
            "good": [good_holes_bound(problem, truth, int(start)) for start in starts],
        }
    from cryoscout.learning.registry import policy_named

    # Seeds differ by repeat and chunk, not by policy: the same start meets the same draws.
    seed = trial.seed * 1_000_003 + repeat * 10_007 + first
    results = replay(
        problem,
        truth,
        policy_named(spec.policy),
        [int(start) for start in starts],
        seed=seed,
        ctf_delay_min=spec.ctf_delay_min,
        replan_every=spec.replan_every,
    )
    return routes_json(results, budget)


def routes_json(results: Sequence[ReplayResult], budget_min: float) -> Json:
    """What a trial keeps of its routes; see `run_replay_trial`."""
    moments = course_moments(budget_min)
    return {
        "starts": [result.start_hole for result in results],
        "good": [result.good_found for result in results],
        "visited": [result.visited for result in results],
        "reward": [round(result.reward, 4) for result in results],
        "good_course": [good_course(result, moments).tolist() for result in results],
        "visited_course": [visited_course(result, moments).tolist() for result in results],
    }


def course_moments(budget_min: float) -> NDArray[np.float64]:
    """(t,) moments at which a course is kept: every COURSE_STEP_MIN minutes and the budget."""
    moments = np.arange(COURSE_STEP_MIN, budget_min, COURSE_STEP_MIN, dtype=np.float64)
    return np.append(moments, budget_min)


def problem_and_truth(spec: ReplaySpec, budget_min: float) -> tuple[RoutingProblem, Truth]:
    """The problem as the policy may know it, without holes that have no outcome, and the truth."""
    from cryoscout.routing.from_session import problem_from_session, truth_from_session
    from cryoscout.routing.predictions import prediction_of

    session = _session(spec.session, spec.split)
    truth = truth_from_session(session)
    problem = problem_from_session(
        session,
        prediction=prediction_of(session, spec.prediction),
        budget_min=budget_min,
        time_model="cryorl",
        crossing=spec.crossing,
        as_new=True,
    )
    return only_measured(problem, truth), truth


def starts_of(spec: ReplaySpec, budget_min: float, seed: int) -> NDArray[np.int64]:
    """(k,) start holes of a spec, the same for every policy."""
    candidates = start_candidates(spec, budget_min)
    # By the study's seed alone: every policy gets the same holes, and `cryoscout replay` the same as a study.
    return random_starts(candidates, spec.starts, np.random.default_rng(seed))


def start_candidates(spec: ReplaySpec, budget_min: float) -> NDArray[np.bool_]:
    """(n,) holes a route may start at: with an outcome, and where asked kept by elimination."""
    problem, truth = problem_and_truth(_on_ranking_prediction(spec), budget_min)
    if spec.starts_from == "all":
        return truth.measured
    from cryoscout.routing.elimination import BETA_TEST, eliminated_holes

    return eliminated_holes(problem, BETA_TEST) & truth.measured


def _on_ranking_prediction(spec: ReplaySpec) -> ReplaySpec:
    """The elimination rule always ranks by the published ResNet-50, whatever the policy itself knows.

    A session without it is ranked by its first model.
    """
    from cryoscout.routing.predictions import PAPER_MODEL, resolve_prediction

    prediction, _ = resolve_prediction(_session(spec.session, spec.split), None, PAPER_MODEL)
    return replace(spec, prediction=prediction)


def _how_many_starts(spec: ReplaySpec, budget_min: float) -> int:
    return int(start_candidates(spec, budget_min).sum())


@lru_cache(maxsize=4)
def _session(name: str, split: str | None) -> Session:
    from cryoscout.study.engine.sessions import session_of

    return session_of(name, split)


@dataclass(frozen=True)
class Cell:
    """What one spec gave at one budget, over all its starts and seeds."""

    starts: NDArray[np.int64]  # (k,) repeated once per seed
    good: NDArray[np.float64]  # (k,)
    visited: NDArray[np.float64]  # (k,) empty for the bound
    reward: NDArray[np.float64]  # (k,) empty for the bound
    repeat: NDArray[np.int64]  # (k,)
    good_course: NDArray[np.float64]  # (k, t) empty for the bound
    visited_course: NDArray[np.float64]  # (k, t)

    @property
    def std_between_seeds(self) -> float | None:
        """Standard deviation of the seeds' means; None with fewer than two seeds."""
        seeds = np.unique(self.repeat)
        if len(seeds) < 2:
            return None
        return float(np.std([self.good[self.repeat == seed].mean() for seed in seeds], ddof=1))


def cells(rows: Sequence[TrialRow]) -> Mapping[tuple[str, float], Cell | None]:
    """Cells by (spec key, budget in minutes); None where a trial failed: no mean is of a part."""
    by_cell: dict[tuple[str, float], list[TrialRow]] = {}
    for row in rows:
        where = (str(row.trial.parameters["key"]), float(row.trial.parameters["budget_min"]))
        by_cell.setdefault(where, []).append(row)
    return {where: _cell(group) for where, group in by_cell.items()}


def _cell(rows: Sequence[TrialRow]) -> Cell | None:
    results = [row.result for row in rows if row.result is not None]
    if len(results) < len(rows):
        return None

    def column(name: str) -> NDArray[np.float64]:
        return np.array([entry for result in results for entry in result.get(name, ())], dtype=np.float64)

    repeats = [
        int(row.trial.parameters["repeat"])
        for row in rows
        if row.result is not None
        for _ in row.result["starts"]
    ]
    return Cell(
        starts=column("starts").astype(np.int64),
        good=column("good"),
        visited=column("visited"),
        reward=column("reward"),
        repeat=np.array(repeats, dtype=np.int64),
        good_course=column("good_course"),
        visited_course=column("visited_course"),
    )


def difference(first: Cell | None, second: Cell | None, seed: int = 0) -> Interval | None:
    """First minus second over the starts both were replayed from; None where a cell is missing.

    A cell of a policy that draws counts each start once, by the mean over its seeds.
    Raises InputError when the two share no start.
    """
    if first is None or second is None:
        return None
    a, b = _by_start(first), _by_start(second)
    shared = [start for start in first.starts[first.repeat == first.repeat[0]].tolist() if start in b]
    if not shared:
        raise InputError(
            "Paired results must share start holes. Got none in common instead. Remedy: replay both from "
            "the same starts."
        )
    return paired_difference(
        np.array([a[start] for start in shared]), np.array([b[start] for start in shared]), seed
    )


def _by_start(cell: Cell) -> dict[int, float]:
    holes, place = np.unique(cell.starts, return_inverse=True)
    means = np.bincount(place, weights=cell.good) / np.bincount(place)
    return dict(zip(holes.tolist(), means.tolist(), strict=True))


def cell_json(spec: ReplaySpec, budget_min: float, cell: Cell | None) -> Json:
    """One row of a study's NAME.json; `missing` is true where a trial failed."""
    row: Json = {
        **asdict(spec),
        "budget_min": budget_min,
        "missing": cell is None,
        "good_mean": None,
        "good_std": None,
        "good_std_between_seeds": None,
        "visited_mean": None,
        "reward_mean": None,
        "routes": 0,
    }
    if cell is not None:
        row["good_mean"], row["good_std"] = (
            round(float(cell.good.mean()), 3),
            round(float(cell.good.std()), 3),
        )
        row["good_std_between_seeds"] = cell.std_between_seeds
        row["visited_mean"] = round(float(cell.visited.mean()), 3) if len(cell.visited) else None
        row["reward_mean"] = round(float(cell.reward.mean()), 3) if len(cell.reward) else None
        row["routes"] = len(cell.good)
    return row
