"""Study `coverage`: how often the interval that a plan states holds the count it gives, on sessions with known truth.

Every simulated session is predicted by a context model that was fitted on another one, as a user's session is by a
model fitted before it. What this study reports was not used to choose how intervals are made: those choices were
made on simulated sessions of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from cryoscout.belief.context import ContextModel, fit_context, y1_context
from cryoscout.belief.counts import CountForecast, forecast_count
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM
from cryoscout.report.statistics import paired_difference
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import SimulatedTables, simulate_tables
from cryoscout.study.engine.catalogue import Page, Profile, Study
from cryoscout.study.engine.published import BUDGETS_MIN
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import MISSING, markdown_table

PRESET = "y1-like"
SEED = 0
FIRST_TRAINING_SEED = 1_000_000
FIRST_SESSION_SEED = 2_000_000
"""Seeds of the simulated sessions; what was tried while intervals were designed lies below both."""

SESSIONS_PER_TRIAL = 5
STARTS_ON_Y1 = 50
TARGET = (0.75, 0.85)
"""Between these shares of sessions the 80 % interval has to hold the count."""

Y1, SIMULATED = "y1", "simulated"


@dataclass(frozen=True)
class Forecast:
    """A policy's plan at one budget, what it stated at the start and what came of it."""

    budget_min: float
    expected: float
    interval_50: tuple[float, float]
    interval_80: tuple[float, float]
    found: float

    def holds(self, percent: int) -> bool:
        """Whether the interval of 50 or 80 percent holds what was found."""
        low, high = self.interval_50 if percent == 50 else self.interval_80
        return low <= self.found <= high


def trials(profile: Profile) -> list[Trial]:
    """Blocks of simulated sessions, 40 in all or 200 in the profile `paper`, and one trial on Y1."""
    sessions = 40 if profile == "quick" else 200
    return [
        Trial(
            f"simulated sessions {first + 1}-{first + SESSIONS_PER_TRIAL}",
            {"data": SIMULATED, "first": first, "last": first + SESSIONS_PER_TRIAL, "preset": PRESET},
            SEED,
        )
        for first in range(0, sessions, SESSIONS_PER_TRIAL)
    ] + [Trial("Y1", {"data": Y1, "starts": STARTS_ON_Y1}, SEED)]


def run_trial(trial: Trial) -> Json:
    """Forecasts of `expected` and `adaptive`, each a list of the fields of Forecast in order, intervals as two."""
    if trial.parameters["data"] == Y1:
        return _run_y1(trial)
    rows: Json = {"expected": [], "adaptive": []}
    for number in range(trial.parameters["first"], trial.parameters["last"]):
        _add(rows, *forecasts_of_session(number, trial.seed, trial.parameters["preset"]))
    return rows


def forecasts_of_session(
    number: int, seed: int, preset: str = PRESET
) -> tuple[list[Forecast], list[Forecast]]:
    """Forecasts of `expected` and of `adaptive` for the simulated session of that number, one per budget."""
    settings = simulation_named(preset)
    training = simulate_tables(settings, FIRST_TRAINING_SEED + number)
    session = simulate_tables(settings, FIRST_SESSION_SEED + number)
    model = fit_context(
        training.score, training.good, training.patch_of_hole, _tree(training), variances_off_zero=True
    )
    tree = _tree(session)
    p_good = model.p_good(session.score, session.patch_of_hole, tree)
    loadings = model.loadings(session.score, session.patch_of_hole, tree)
    rng = np.random.default_rng([seed, number])
    start = int(rng.integers(session.n_holes))

    def problem(budget_min: float) -> RoutingProblem:
        return RoutingProblem(
            tree=HoleTree(session.patch_of_hole, session.square_of_patch, session.grid_of_square),
            prior_p_good=p_good,
            budget_min=budget_min,
            time_model=settings.time_model,
            shots=settings.shots,
            effects=model.effects,
        )

    return forecasts(problem, session.truth(), start, loadings, rng)


def forecasts(
    problem: Callable[[float], RoutingProblem],
    truth: Truth,
    start: int,
    loadings: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[list[Forecast], list[Forecast]]:
    """What `expected` and `adaptive` state at the start and find in the end, at each of the paper's budgets.

    problem : makes the problem of a budget; it must drop the visit that crosses the budget, as `plan` does
    loadings : (n, k) see `ContextModel.loadings`
    For `adaptive` the statement is about its plan as first written; what it finds is with planning again after
    every result.
    """
    fixed, adaptive = [], []
    for budget_min in BUDGETS_MIN:
        of_budget = problem(budget_min)
        belief = of_budget.belief()
        plan = plan_route(of_budget, make_policy("expected"), start, seed=0).route
        stated = forecast_count(belief, plan, of_budget.shots, rng, loadings=loadings)
        fixed.append(_outcome(budget_min, stated, float(truth.good[plan].sum())))
        first_plan = plan_route(of_budget, make_policy("adaptive"), start, seed=0).route
        stated = forecast_count(belief, first_plan, of_budget.shots, rng, loadings=loadings)
        followed = replay(of_budget, truth, make_policy("adaptive"), [start], seed=0)[0]
        adaptive.append(_outcome(budget_min, stated, followed.good_found))
    return fixed, adaptive


def _outcome(budget_min: float, stated: CountForecast, found: float) -> Forecast:
    return Forecast(budget_min, stated.expected, stated.interval_50, stated.interval_80, found)


def _tree(tables: SimulatedTables) -> HoleTree:
    return HoleTree(tables.patch_of_hole, tables.square_of_patch, tables.grid_of_square)


def _run_y1(trial: Trial) -> Json:
    """Y1 validation as shipped, from several starts: one truth, so the starts are no independent repeats."""
    from cryoscout.routing.from_session import problem_from_session, truth_from_session
    from cryoscout.routing.predictions import COMBINED, prediction_of
    from cryoscout.session.named import load_session

    training, session = load_session("y1", "train"), load_session("y1", "val")
    threshold = GOOD_THRESHOLD_ANGSTROM
    score, good = training.prediction("res18", threshold), training.good_by_hole(threshold)
    model = _fit(score, good, training.tree())
    tree = session.tree()
    loadings = model.loadings(session.prediction("res18", threshold), tree.patch_of_hole, tree)
    truth = truth_from_session(session)
    rng = np.random.default_rng(trial.seed)

    def problem(budget_min: float) -> RoutingProblem:
        return problem_from_session(
            session,
            prediction=prediction_of(session, COMBINED),
            budget_min=budget_min,
            time_model="cryorl",
            as_new=True,
        )

    rows: Json = {"expected": [], "adaptive": []}
    for start in rng.choice(np.flatnonzero(truth.measured), trial.parameters["starts"]):
        _add(rows, *forecasts(problem, truth, int(start), loadings, rng))
    return rows


def _fit(score: NDArray[np.float64], good: NDArray[np.float64], tree: HoleTree) -> ContextModel:
    return fit_context(score, good, tree.patch_of_hole, tree, y1_context().context_sd)


def _add(rows: Json, fixed: Sequence[Forecast], adaptive: Sequence[Forecast]) -> None:
    for name, added in (("expected", fixed), ("adaptive", adaptive)):
        rows[name] += [
            [each.budget_min, each.expected, *each.interval_50, *each.interval_80, each.found]
            for each in added
        ]


@dataclass(frozen=True)
class Coverage:
    """One line of the table: forecasts of one policy at one budget."""

    sessions: int
    held_80: int
    held_50: int
    width_80: float
    bias: float  # mean of found - expected
    bias_low: float
    bias_high: float
    found: float

    def share(self, percent: int) -> tuple[float, float, float]:
        """Share of forecasts whose interval of 50 or 80 percent holds, with its exact binomial 95 % interval."""
        held = self.held_80 if percent == 80 else self.held_50
        interval = binomtest(held, self.sessions).proportion_ci(0.95, method="exact")
        return held / self.sessions, float(interval.low), float(interval.high)


def coverage_of(made: Sequence[Forecast]) -> Coverage:
    """Coverage of forecasts of one policy at one budget, at least one."""
    found = np.array([each.found for each in made])
    bias = paired_difference(found, np.array([each.expected for each in made]), SEED)
    return Coverage(
        sessions=len(made),
        held_80=sum(each.holds(80) for each in made),
        held_50=sum(each.holds(50) for each in made),
        width_80=float(np.mean([each.interval_80[1] - each.interval_80[0] for each in made])),
        bias=bias.mean,
        bias_low=bias.low,
        bias_high=bias.high,
        found=float(found.mean()),
    )


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """Three tables (fixed plan, adaptive, Y1), the figure."""
    found = {
        (data, policy): _by_budget(rows, data, policy)
        for data in (SIMULATED, Y1)
        for policy in ("expected", "adaptive")
    }
    text = "\n\n".join(
        [
            f"Simulated sessions of the preset `{PRESET}`, each with a context model and effect variances fitted on "
            "another simulated session of the preset, each planned from one random start. A plan states how many "
            "good holes it will give, with intervals of 50 % and 80 %; here is how often these hold what it then "
            "gave. Brackets: exact binomial 95 % interval; for the bias a bootstrap interval over sessions.",
            "## A fixed plan",
            "The plan of `expected`, followed to its end: this is what the stated interval is about. "
            f"It has to hold in {TARGET[0]:.0%} to {TARGET[1]:.0%} of the sessions.".replace("%", " %"),
            _table(found[SIMULATED, "expected"]),
            "Counts are whole numbers, so no interval holds exactly 80 % of them: of the intervals of whole numbers "
            "the nearest is stated. The draws behind it hold the effects of patch, square and grid, the outcome of "
            "every hole, and the uncertainty of the fitted weights; the effects' variances are fitted with a uniform "
            "prior on their standard deviations. Equal-tailed quantiles held too often, a fit taken as exact too "
            "seldom; all of this was chosen on simulated sessions of other seeds.",
            "## Planning again after every result",
            "The interval that `adaptive` states at the start is about its plan as first written, without results. "
            "What is counted here is what it found with planning again, so by another plan: the interval was not "
            "made for that count, and there is no target: the band in the figure is that of the fixed plan.",
            _table(found[SIMULATED, "adaptive"]),
            "## Y1",
            f"Y1 validation, prediction `combined` and effects as shipped, {STARTS_ON_Y1} starts. This is one truth: "
            "routes from different starts visit mostly the same holes, so the shares are no estimate of coverage, "
            "and there is neither a target nor an interval.",
            _y1_table(found),
        ]
    )
    json_rows: list[Json] = [
        _row_json(data, policy, budget, found[data, policy][budget])
        for data, policy in found
        for budget in BUDGETS_MIN
    ]
    return Page(text, _figure(found), json_rows)


def _by_budget(rows: Sequence[TrialRow], data: str, policy: str) -> dict[int, Coverage | None]:
    """None where a trial failed: no share is of a part."""
    chosen = [row for row in rows if row.trial.parameters["data"] == data]
    results = [row.result for row in chosen if row.result is not None]
    if not chosen or len(results) < len(chosen):
        return dict.fromkeys(BUDGETS_MIN)
    made = [
        Forecast(budget, expected, (low_50, high_50), (low_80, high_80), good)
        for result in results
        for budget, expected, low_50, high_50, low_80, high_80, good in result[policy]
    ]
    return {
        budget: coverage_of([each for each in made if each.budget_min == budget]) for budget in BUDGETS_MIN
    }


def _table(by_budget: dict[int, Coverage | None]) -> str:
    lines = []
    for budget, cell in by_budget.items():
        if cell is None:
            lines.append([f"{budget} min", *[MISSING] * 6])
            continue
        lines.append(
            [
                f"{budget} min",
                str(cell.sessions),
                _share_text(cell, 80),
                _share_text(cell, 50),
                f"{cell.width_80:.1f}",
                f"{cell.found:.1f}",
                f"{cell.bias:+.2f} [{cell.bias_low:+.2f}, {cell.bias_high:+.2f}]",
            ]
        )
    return markdown_table(
        [
            "budget",
            "sessions",
            "80 % interval holds",
            "50 % interval holds",
            "width of 80 %",
            "found",
            "found − stated",
        ],
        lines,
    )


def _share_text(cell: Coverage, percent: int) -> str:
    share, low, high = cell.share(percent)
    return f"{100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _y1_table(found: dict[tuple[str, str], dict[int, Coverage | None]]) -> str:
    lines = []
    for policy in ("expected", "adaptive"):
        for budget, cell in found[Y1, policy].items():
            values = (
                [MISSING] * 5
                if cell is None
                else [
                    f"{100 * cell.share(80)[0]:.0f} %",
                    f"{100 * cell.share(50)[0]:.0f} %",
                    f"{cell.width_80:.1f}",
                    f"{cell.found:.1f}",
                    f"{cell.bias:+.1f}",
                ]
            )
            lines.append([f"`{policy}`", f"{budget} min", *values])
    return markdown_table(
        ["policy", "budget", "80 % interval holds", "50 % holds", "width of 80 %", "found", "found − stated"],
        lines,
    )


def _row_json(data: str, policy: str, budget: int, cell: Coverage | None) -> Json:
    row: Json = {
        "data": data,
        "policy": policy,
        "budget_min": budget,
        "missing": cell is None,
        "sessions_or_starts": 0,
    }
    if cell is None:
        return row
    share_80, low_80, high_80 = cell.share(80)
    share_50, low_50, high_50 = cell.share(50)
    row |= {
        "sessions_or_starts": cell.sessions,
        "share_held_80": share_80,
        "share_held_50": share_50,
        "width_80_mean": round(cell.width_80, 3),
        "found_mean": round(cell.found, 3),
        "bias_mean": round(cell.bias, 3),
    }
    if data == SIMULATED:
        row |= {
            "share_held_80_interval": [round(low_80, 4), round(high_80, 4)],
            "share_held_50_interval": [round(low_50, 4), round(high_50, 4)],
            "bias_interval": [round(cell.bias_low, 3), round(cell.bias_high, 3)],
        }
    return row


def _figure(found: dict[tuple[str, str], dict[int, Coverage | None]]) -> bytes:
    from cryoscout.report.figures import png_bytes
    from cryoscout.study.engine.figures import intervals_figure

    points: dict[str, list[tuple[float, float, float] | None]] = {}
    for policy, title in (("expected", "fixed plan"), ("adaptive", "planned again")):
        for budget, cell in found[SIMULATED, policy].items():
            points[f"{title}, {budget} min"] = [
                None if cell is None else _percent(cell.share(each)) for each in (80, 50)
            ]
    return png_bytes(
        intervals_figure(
            points,
            ["80 % interval", "50 % interval"],
            "sessions whose count it holds (%)",
            references=[80.0, 50.0],
            bands=[(100 * TARGET[0], 100 * TARGET[1]), None],
        )
    )


def _percent(shares: tuple[float, float, float]) -> tuple[float, float, float]:
    return (100 * shares[0], 100 * shares[1], 100 * shares[2])


STUDY = Study("coverage", "How often a plan's interval holds", trials, run_trial, page, page_profile="paper")
