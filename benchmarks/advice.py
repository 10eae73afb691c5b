"""How fast an advice follows: a whole plan, the next hole after a result, a stored event, and a new file of EPU.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/advice.py [--json]

On one thread, as `make bench` runs it; every figure is the median of 20 after a warm-up. Plans are of `adaptive` for
480 minutes on simulated sessions: `y1-like` with 2,400 holes, `daily` with 100,000, and `daily-images`, which has stage
positions, cut to 10,000 holes. `field_result_*` is one result into the belief with fields over the stage, until its
p_good is there, where 1,000 holes all over the session have results. `drift_look_fallen_ms` is one look at the drift
of 400 results of which the last 100 have fallen; `serve` takes it after the advice, while nothing else comes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from advice_epu import epu_one_new_file_20k_ms
from advice_store import fold_event_100k_ms

from cryoscout.advice.drift import KEPT, Promises, log_ratios
from cryoscout.advice.setting import AdviceRequest, setting_of
from cryoscout.routing.course import Course
from cryoscout.routing.plan_route import plan_route
from cryoscout.routing.policies import make_policy
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.simulate.presets import scene_named, simulation_named
from cryoscout.simulate.scene import simulate_scene
from cryoscout.simulate.session import scene_to_session, to_session
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.engine.runner import machine_in_words

BUDGET_MIN = 480.0
REPEATS = 20
KNOWN_RESULTS = 1_000
FALLEN_RESULTS = 100
SIZES = {"2400": ("y1-like", 2_400), "100k": ("daily", 100_000)}
TARGETS_MS: dict[str, float] = {
    "plan_2400_ms": 60.0,
    "plan_10k_ms": 100.0,
    "plan_100k_ms": 300.0,
    "result_to_next_2400_ms": 10.0,
    "result_to_next_100k_ms": 150.0,
    "field_result_10k_ms": 50.0,
    "field_result_100k_ms": 150.0,
    "fold_event_100k_ms": 20.0,
    "epu_one_new_file_20k_ms": 100.0,
    "drift_look_fallen_ms": 500.0,
}
"""Milliseconds that each figure should stay below."""


def median_ms(steps: Iterator[Callable[[], object]]) -> float:
    """Median milliseconds of REPEATS steps after one that warms up; what prepares a step is not in it."""
    milliseconds = []
    for _ in range(REPEATS + 1):
        step = next(steps)
        gc.collect()
        began = time.perf_counter()
        step()
        milliseconds.append(1000.0 * (time.perf_counter() - began))
    return statistics.median(milliseconds[1:])


def simulated_problem(preset: str, holes: int) -> RoutingProblem:
    """A new session of that size as `adaptive` faces it."""
    settings = simulation_named(preset).model_copy(update={"holes": holes})
    session = to_session(simulate_tables(settings, seed=0), "benchmark")
    return setting_of(session, AdviceRequest(BUDGET_MIN, as_new=True)).problem


def problem_on_the_stage(holes: int) -> RoutingProblem:
    """A new session of that size with stage positions: `daily-images`, 600 holes in each square, 14 squares a grid."""
    whole = scene_named("daily-images")
    share = holes / whole.holes
    counts = {name: max(round(getattr(whole, name) * share), 1) for name in ("patches", "squares", "grids")}
    scene = simulate_scene(whole.model_copy(update={"holes": holes, **counts}), 0)
    session = scene_to_session(scene, "benchmark")
    return setting_of(session, AdviceRequest(BUDGET_MIN, as_new=True)).problem


def field_results(problem: RoutingProblem) -> Iterator[Callable[[], object]]:
    """From one more result to the p_good of every hole, in the middle of a session."""
    rng = np.random.default_rng(0)
    holes = rng.permutation(problem.n_holes)
    good = (rng.random(problem.n_holes) < problem.prior_p_good).astype(np.float64)
    belief = problem.belief()
    belief.observe_many(holes[:KNOWN_RESULTS], good[holes[:KNOWN_RESULTS]])
    following = iter(holes[KNOWN_RESULTS:].tolist())

    def take_in() -> None:
        hole = next(following)
        belief.observe(hole, float(good[hole]))
        belief.p_good()

    while True:
        yield take_in


def whole_plans(problem: RoutingProblem) -> Iterator[Callable[[], object]]:
    """From a new policy to the last hole of its plan."""
    while True:
        yield lambda: plan_route(problem, make_policy("adaptive"), NOWHERE, 0)


def next_holes(problem: RoutingProblem) -> Iterator[Callable[[], object]]:
    """From a result to the hole that comes next, in a session where every visit gives one."""
    policy, course = make_policy("adaptive"), Course(problem)
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    results = np.random.default_rng(0)

    def take_in_and_choose() -> None:
        if len(course):
            hole = course.here
            course.take_result(hole, float(results.random() < problem.prior_p_good[hole]))
        course.visit(course.ask(policy))

    while True:
        yield take_in_and_choose


def looks_at_a_fall(problem: RoutingProblem) -> Iterator[Callable[[], object]]:
    """What the newest KEPT results say of a drift; of the last FALLEN_RESULTS seven tenths are lost."""
    rng = np.random.default_rng(0)
    promises, patch_of_hole = Promises(problem.prior_p_good, problem.tree), problem.tree.patch_of_hole
    patches = rng.permutation(problem.tree.n_patches)
    holes = [hole for patch in patches for hole in np.flatnonzero(patch_of_hole == patch)[:15]][:KEPT]
    rows = []
    for number, hole in enumerate(holes):
        square, grid = problem.square_of_hole[hole], problem.grid_of_hole[hole]
        promise = promises.of(int(hole), f"p{patch_of_hole[hole]}", f"s{square}", f"g{grid}")
        is_lost = number >= KEPT - FALLEN_RESULTS and rng.random() < 0.7
        rows.append((promise, bool(rng.random() < promise.p_good) and not is_lost))
    while True:
        yield lambda: log_ratios(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    for name, (preset, holes) in SIZES.items():
        problem = simulated_problem(preset, holes)
        figures[f"plan_{name}_ms"] = median_ms(whole_plans(problem))
        figures[f"result_to_next_{name}_ms"] = median_ms(next_holes(problem))
        if name == "2400":
            figures["drift_look_fallen_ms"] = median_ms(looks_at_a_fall(problem))
    on_the_stage = {"10k": problem_on_the_stage(10_000), "100k": problem_on_the_stage(100_000)}
    figures["plan_10k_ms"] = median_ms(whole_plans(on_the_stage["10k"]))
    for name, problem in on_the_stage.items():
        figures[f"field_result_{name}_ms"] = median_ms(field_results(problem))
    figures["fold_event_100k_ms"] = fold_event_100k_ms()
    figures["epu_one_new_file_20k_ms"] = epu_one_new_file_20k_ms()
    missed = [name for name, target in TARGETS_MS.items() if figures[name] > target]
    if arguments.json:
        told = {name: round(figures[name], 2) for name in TARGETS_MS}
        print(json.dumps({**told, "missed": missed, "machine": machine_in_words()}))
        return
    for name, target in TARGETS_MS.items():
        print(f"{name:28} {figures[name]:9.2f} (aim {target:g}){' missed' if name in missed else ''}")


if __name__ == "__main__":
    main()
