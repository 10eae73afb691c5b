"""How fast the planners, the bound, replay and simulation are, at the sizes that matter.

    python benchmarks/routing.py [--json] [--quick]

Every figure is the median of repeats after one warm-up, so the compilation of numba functions is not in it. The
ratios compare with rivals measured in the same run on the same input.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.course import Course
from cryoscout.routing.from_session import problem_from_session, truth_from_session
from cryoscout.routing.knapsack import TreeKnapsack
from cryoscout.routing.looking import Sight, World
from cryoscout.routing.places import Look, Places
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.base import STOP, next_step_of
from cryoscout.routing.policies.patch_order_search import PatchOrders
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.replay import Truth, random_starts, replay
from cryoscout.routing.time_model import PRESETS
from cryoscout.session.named import load_session
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import SimulatedTables, simulate_tables
from cryoscout.study.engine.runner import machine_in_words

BUDGET_MIN = 480.0
REPEATS = 5
STARTS = 50
TARGETS: dict[str, float] = {
    "index_plan_2341_s": 0.05,
    "index_plan_100k_s": 2.0,
    "adaptive_next_2341_s": 0.02,
    "explore_next_2400_s": 0.05,
    "explore_next_100k_s": 1.0,
    "bound_100k_s": 1.0,
    "replay_index_50_s": 2.0,
    "cli_help_s": 0.5,
    "simulate_1m_s": 60.0,
}
"""Seconds that each figure should stay below."""

ANNEALING_EVALUATIONS = 20_000
INTEGER_PROGRAMME_HOLES = 120
"""The rival of the knapsack is an integer programme, which needs a small instance to finish at all."""


def median_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median seconds of the work after one warm-up; the garbage of earlier work is collected before."""
    work()
    gc.collect()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def real_session() -> tuple[RoutingProblem, Truth]:
    """The 2,341 holes of the later validation split of Y1, every one with an outcome."""
    session = load_session("y1-2022", "val")
    problem = problem_from_session(
        session,
        prediction=prediction_of(session, session.models()[0]),
        budget_min=BUDGET_MIN,
        time_model="cryorl",
        as_new=True,
    )
    return problem, truth_from_session(session)


def simulated_day() -> tuple[RoutingProblem, Truth]:
    """The 100,000 holes of the preset `daily`."""
    tables = simulate_tables(simulation_named("daily"), seed=0)
    return tables.problem(BUDGET_MIN), tables.truth()


def plan_s(problem: RoutingProblem, repeats: int = REPEATS) -> float:
    """Seconds of one plan of `index`."""
    policy = make_policy("index")
    return median_s(lambda: policy.reset(problem, 0, np.random.default_rng(0)), repeats)


def adaptive_next_s(problem: RoutingProblem, truth: Truth, routes: int) -> tuple[float, float]:
    """Median and 95th percentile of the seconds of `next_hole` right after a new outcome, in mid route.

    Mid route is between a quarter and three quarters of the budget; every visit's outcome is known at once.
    """
    starts = random_starts(truth.measured, routes + 1, np.random.default_rng(0))
    seconds: list[float] = []
    for number, start in enumerate(starts.tolist()):
        policy, course = make_policy("adaptive"), Course(problem, start, start_good=float(truth.good[start]))
        policy.reset(problem, start, np.random.default_rng(0))
        while True:
            observation = course.observation()
            began = time.perf_counter()
            hole = policy.next_hole(observation)
            took = time.perf_counter() - began
            if hole == STOP or course.ends_min(hole) > BUDGET_MIN:
                break
            # The first route warms up.
            if number > 0 and BUDGET_MIN / 4 <= course.minutes_used <= 3 * BUDGET_MIN / 4:
                seconds.append(took)
            course.visit(hole)
            course.take_result(hole, float(truth.good[hole]))
    return statistics.median(seconds), float(np.quantile(seconds, 0.95))


def half_seen(tables: SimulatedTables) -> tuple[World, Truth, int]:
    """A world of a simulated session of which every second square was looked at with all its patches, and a start."""
    problem, tree = tables.problem(BUDGET_MIN), tables.problem(BUDGET_MIN).tree
    looked = np.arange(tree.n_squares) % 2 == 0
    places = Places.looked_at(looked, looked[tree.square_of_patch])
    model = PRESETS["y1-looks-as-sketched"]
    world = World(replace(problem, time_model=model), places)
    start = int(np.flatnonzero(looked[tree.square_of_hole])[0])
    return world, tables.truth(), start


def explore_next_s(tables: SimulatedTables, decisions: int) -> float:
    """Median seconds of one `next_step` of `explore` right after a new result, where half of the places are unseen."""
    world, truth, start = half_seen(tables)
    sight = Sight(world, BUDGET_MIN, start, float(truth.good[start]))
    seconds: list[float] = []
    while len(seconds) < decisions + 1:
        seen = sight.seen_problem()
        policy, course = make_policy("explore"), Course(seen.problem, seen.start_hole)
        policy.reset(seen.problem, seen.start_hole, np.random.default_rng(0))
        for _ in range(decisions):
            began = time.perf_counter()
            step = next_step_of(policy, course.observation())
            seconds.append(time.perf_counter() - began)
            if isinstance(step, Look):
                course.look(step)
                sight.take_look(step, seen)
                break
            course.visit(step)
            hole = int(seen.holes[step])
            sight.imaged[hole], sight.outcome[hole], sight.results[hole] = True, truth.good[hole], 1
            course.take_result(step, float(truth.good[hole]))
        sight.stands_at(course.at, course.here, seen)
        sight.used_min += course.minutes_used
    return statistics.median(seconds[1:])  # the first warms up


def sessions_to_explore() -> tuple[SimulatedTables, SimulatedTables]:
    """2,400 holes in 170 patches, and 100,000 holes in 5,000 patches."""
    y1_like, daily = simulation_named("y1-like"), simulation_named("daily")
    small = y1_like.model_copy(update={"holes": 2_400, "holes_per_patch": 2_400 / 170})
    return simulate_tables(small, 0), simulate_tables(daily.model_copy(update={"holes_per_patch": 20.0}), 0)


def replay_s(problem: RoutingProblem, truth: Truth) -> float:
    """Seconds to replay `index` from 50 starts."""
    starts = random_starts(truth.measured, STARTS, np.random.default_rng(0)).tolist()
    policy = make_policy("index")
    return median_s(lambda: replay(problem, truth, policy, starts, seed=0))


def command_s_and_peak_mb(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident memory, MB of 2^20 bytes, of the command line in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "import sys; from cryoscout.cli.main import run; sys.exit(run())",
        *arguments,
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read() if process.stderr is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"cryoscout {' '.join(arguments)} failed: {said.decode(errors='replace')}")
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return took, usage.ru_maxrss / per_mb


def help_s() -> float:
    """Seconds of `cryoscout --help`, the start of Python included."""
    command_s_and_peak_mb(["--help"])
    return statistics.median(command_s_and_peak_mb(["--help"])[0] for _ in range(REPEATS))


def simulated_million(holes: int) -> dict[str, float]:
    """`cryoscout simulate --preset million`, its store written, once and without a warm-up; and the tables alone."""
    settings = simulation_named("million").model_copy(update={"holes": holes})
    began = time.perf_counter()
    simulate_tables(settings, seed=0)
    tables_s = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "million.session")
        took, peak_mb = command_s_and_peak_mb(
            ["simulate", "--preset", "million", "--holes", str(holes), "-o", target]
        )
    return {"simulate_1m_s": took, "simulate_1m_tables_s": tables_s, "peak_mb_1m": peak_mb}


def annealing_ratio(problem: RoutingProblem) -> dict[str, float] | None:
    """Our annealing against simanneal: seconds at the same number of judged orders; None where it is not installed."""
    try:
        from simanneal import Annealer
    except ImportError:
        return None
    orders = PatchOrders.of(problem, 0)

    class Rival(Annealer):  # type: ignore[misc]
        """The same objective, a swap of two patches as its move."""

        copy_strategy = "method"

        def move(self) -> float:
            i, j = rng.integers(0, len(self.state), 2)
            before = self.energy()
            self.state[i], self.state[j] = self.state[j], self.state[i]
            return float(self.energy() - before)

        def energy(self) -> float:
            return -orders.objective(self.state)

    rng = np.random.default_rng(0)

    def rival() -> float:
        annealer = Rival(np.arange(len(orders.count)))
        annealer.Tmax, annealer.Tmin = 4.0, 0.05
        # Its move asks for two energies.
        annealer.steps, annealer.updates = ANNEALING_EVALUATIONS // 2, 0
        _, energy = annealer.anneal()
        return -float(energy)

    def ours() -> float:
        order = orders.annealed(np.random.default_rng(0), ANNEALING_EVALUATIONS, 4.0, 0.05)
        return orders.objective(order)

    ours_s, rival_s = median_s(ours), median_s(rival, 1)
    return {
        "annealing_s": ours_s,
        "simanneal_s": rival_s,
        "annealing_times_faster": rival_s / ours_s,
        "annealing_objective": ours(),
        "simanneal_objective": rival(),
    }


def small_instance() -> RoutingProblem:
    """A simulated session small enough for an integer programme."""
    settings = simulation_named("small").model_copy(update={"holes": INTEGER_PROGRAMME_HOLES})
    return simulate_tables(settings, seed=0).problem(60.0)


def integer_programme(problem: RoutingProblem) -> float:
    """The most expected good holes within the budget from nowhere, by scipy's milp (HiGHS).

    Variables: a hole is taken, a patch, square, grid is entered; a child implies its parent; minutes within budget.
    """
    parents = [problem.patch_of_hole, problem.square_of_patch, problem.grid_of_square]
    sizes = [*(len(each) for each in parents), int(problem.grid_of_square[-1]) + 1]
    first = np.concatenate([[0], np.cumsum(sizes)])
    child = np.arange(first[3])
    parent = np.concatenate([first[level + 1] + parents[level] for level in range(3)])
    rows = np.arange(len(child))
    implied = csr_array(
        (
            np.r_[np.ones(len(child)), -np.ones(len(child))],
            (np.r_[rows, rows], np.r_[child, parent]),
        ),
        shape=(len(child), first[4]),
    )
    tiers_min = problem.time_model.tiers_min(problem.shots)
    minutes = np.repeat(np.diff(tiers_min, prepend=0.0), sizes)
    value = np.zeros(first[4])
    value[: sizes[0]] = problem.prior_p_good
    result = milp(
        -value,
        integrality=np.ones(first[4]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(implied, -np.inf, 0.0),
            LinearConstraint(minutes[None, :], 0.0, problem.budget_min),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise SystemExit(f"milp must solve the small instance. Got {result.message!r} instead.")
    return float(problem.prior_p_good @ result.x[: sizes[0]])


def knapsack_ratio() -> dict[str, float]:
    """The tree knapsack against the integer programme on one small instance; both are exact."""
    problem = small_instance()
    free = np.ones(problem.n_holes, dtype=bool)

    def ours() -> float:
        return (
            TreeKnapsack(problem)
            .solve(problem.prior_p_good, free, NOWHERE, problem.budget_min, plan=True)
            .value
        )

    ours_s, rival_s = median_s(ours, 20), median_s(lambda: integer_programme(problem), 3)
    return {
        "knapsack_small_s": ours_s,
        "milp_small_s": rival_s,
        "knapsack_times_faster": rival_s / ours_s,
        "knapsack_value": ours(),
        "milp_value": integer_programme(problem),
    }


def measure(quick: bool) -> dict[str, Any]:
    """All figures, in seconds unless the name says otherwise. quick : a tenth of the large sizes, to try the script."""
    real, real_truth = real_session()
    day, day_truth = simulated_day()
    few, many = sessions_to_explore()
    adaptive_s, adaptive_p95_s = adaptive_next_s(real, real_truth, routes=1 if quick else 5)
    figures: dict[str, Any] = {
        "machine": machine_in_words(),
        "budget_min": BUDGET_MIN,
        "quick": quick,
        "index_plan_2341_s": plan_s(real, 4 * REPEATS),
        "index_plan_100k_s": plan_s(day),
        "adaptive_next_2341_s": adaptive_s,
        "adaptive_next_2341_p95_s": adaptive_p95_s,
        "explore_next_2400_s": explore_next_s(few, 10 if quick else 60),
        "explore_next_100k_s": explore_next_s(many, 5 if quick else 20),
        "bound_2341_s": median_s(lambda: good_holes_bound(real, real_truth, 0)),
        "bound_100k_s": median_s(lambda: good_holes_bound(day, day_truth, 0), 1 if quick else REPEATS),
        "replay_index_50_s": replay_s(real, real_truth),
        "cli_help_s": help_s(),
        **simulated_million(100_000 if quick else 1_000_000),
        **knapsack_ratio(),
    }
    figures |= annealing_ratio(real) or {}
    figures["targets"] = TARGETS
    figures["missed"] = [name for name, target in TARGETS.items() if figures[name] > target]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that the script runs")
    options = parser.parse_args()
    figures = measure(options.quick)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    print(f"{figures['machine']}\nbudget {BUDGET_MIN:g} min; medians after a warm-up, without compilation\n")
    for name, value in figures.items():
        if isinstance(value, float) and name != "budget_min":
            target = f"   target <= {TARGETS[name]:g}" if name in TARGETS else ""
            print(f"{name:28} {value:12.5g}{target}{'   MISSED' if name in figures['missed'] else ''}")


if __name__ == "__main__":
    main()
