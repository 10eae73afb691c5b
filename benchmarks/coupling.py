"""How long one run of SSL2-RL's loop takes, and what Ray costs beside worker processes.

python benchmarks/coupling.py [--json] [--threads 2] [--agent] [--ray] [--quick]

On simulated y3, a tenth of the labels, in the budget of the quick study `ssl2rl`: the pretraining with FixMatch, then
the rounds, until the classifier is there. It needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoscout.study.coupling.ssl2rl import TEN_PER_CENT
from cryoscout.study.coupling.ssl2rl_cases import (
    BELIEF,
    PRESET,
    ROUTE_480,
    SUPERVISED,
    Case,
    RunCase,
    trial_of,
)
from cryoscout.study.engine.on_ray import LOCAL
from cryoscout.study.engine.runner import Trial, TrialStore, machine_in_words, run_trials
from cryoscout.study.images.cases import crops_of

SEED = 2000
"""The first of the study's development seeds."""
RUNS = {
    "belief_min": Case(BELIEF, TEN_PER_CENT),
    "route_index_min": Case(ROUTE_480, TEN_PER_CENT, "index"),
}
OF_AGENT = {"route_double_min": Case(ROUTE_480, TEN_PER_CENT, "double")}
TARGETS_MIN = {"belief_min": 3.0, "route_index_min": 5.0, "route_double_min": 40.0}
WORKERS = 2
TRIALS_ON_RAY = 4
STEPS_OF_A_MINUTE = 2_000
"""Of supervised training at 10 % of the labels: about a minute on one thread."""
RAY_TARGET = 1.15
TURNS = 2


def minutes_of_runs(cases: dict[str, Case], folder: Path, threads: int, quick: bool) -> dict[str, float]:
    """Minutes of one whole run of each case, each with a pretraining of its own; the crops are simulated before.

    folder : for crops and checkpoints     quick : 20 steps in place of the study's, and one round
    """
    found = {}
    for name, case in cases.items():
        of_run = folder / name
        crops_of(PRESET, SEED, of_run)
        asked = replace(case, changes={"rounds": 1}) if quick else case
        trial = with_budget(trial_of(asked, SEED, "quick", rewards=False), threads, 20 if quick else None)
        began = time.perf_counter()
        RunCase(of_run)(trial)
        found[name] = round((time.perf_counter() - began) / 60.0, 2)
    return found


def with_budget(trial: Trial, threads: int, steps: int | None) -> Trial:
    """The trial with other threads, and with other steps where these are given."""
    budget: dict[str, Any] = {**trial.parameters["budget"], "threads": threads}
    if steps is not None:
        budget |= {"steps": steps, "evaluate_every": steps}
    return replace(trial, parameters={**trial.parameters, "budget": budget})


def ray_over_workers(folder: Path, quick: bool) -> dict[str, float]:
    """Seconds of the same trials by worker processes and on an embedded Ray, in turn, and their ratio.

    Both with WORKERS processes; the start of the processes and of Ray is in both. The crops are simulated before.
    """
    run = RunCase(folder)
    seeds = range(SEED, SEED + (WORKERS if quick else TRIALS_ON_RAY))
    for seed in seeds:
        crops_of(PRESET, seed, folder)
    case = Case(SUPERVISED, TEN_PER_CENT)
    steps = 20 if quick else STEPS_OF_A_MINUTE
    trials = [with_budget(trial_of(case, seed, "quick", rewards=False), 1, steps) for seed in seeds]
    seconds: dict[str | None, float] = {None: 0.0, LOCAL: 0.0}
    alone = []
    for turn in range(1 if quick else TURNS):
        for ray in seconds:
            began = time.perf_counter()
            rows = run_trials(
                trials, run, TrialStore(folder / f"rows-{ray}-{turn}"), workers=WORKERS, ray=ray
            )
            seconds[ray] += time.perf_counter() - began
            alone += [row.seconds for row in rows if row.error is None]
            if failed := [row.error for row in rows if row.error is not None]:
                raise SystemExit(f"A trial failed: {failed[0]}")
    return {
        "workers_s": round(seconds[None], 1), "ray_s": round(seconds[LOCAL], 1),
        "ray_over_workers": round(seconds[LOCAL] / seconds[None], 3),
        "trial_s": round(sum(alone) / len(alone), 1),
    }  # fmt: skip


def missed(figures: dict[str, Any]) -> list[str]:
    """Figures above their target."""
    above = {**TARGETS_MIN, "ray_over_workers": RAY_TARGET}
    return [name for name, most in above.items() if figures.get(name, 0.0) > most]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch in the runs (default 2)")
    parser.add_argument("--agent", action="store_true", help="a run that a double DQN drives too (long)")
    parser.add_argument(
        "--ray", action="store_true", help="Ray beside worker processes too; needs cryoscout[scale]"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that the script runs")
    arguments = parser.parse_args(given)
    figures: dict[str, Any] = {"machine": machine_in_words(["perception"]), "threads": arguments.threads}
    cases = {**RUNS, **(OF_AGENT if arguments.agent else {})}
    with tempfile.TemporaryDirectory() as folder:
        figures |= minutes_of_runs(cases, Path(folder), arguments.threads, arguments.quick)
    if arguments.ray:
        with tempfile.TemporaryDirectory() as folder:
            figures |= ray_over_workers(Path(folder), arguments.quick)
    figures["missed"] = missed(figures)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
