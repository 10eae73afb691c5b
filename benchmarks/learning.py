"""How fast agents act, learn and decide, beside a baseline that works as the published code does.

    python benchmarks/learning.py [--json] [--steps 50000]

Both learn on the 1,197 training holes of y1-2022, on one thread, with batches of 128 and 0.1 updates per visit,
without action elimination. The baseline scores every hole of every state, computes features in Python loops, one
environment after the other, and keeps whole states in its replay buffer; the published code makes 6.8 visits per
second. A baseline outside 4 to 14 is not like it, and the ratio is void.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cryoscout.learning.batch_env import BatchedRoutes, TrainingSession
from cryoscout.learning.from_session import load_to_learn_from, training_session
from cryoscout.learning.policy import LearnedPolicy
from cryoscout.learning.settings import (
    N_FRAMES,
    N_INPUTS,
    LearnSettings,
    NetworkSettings,
    ViewSettings,
    settings_of,
)
from cryoscout.learning.states import FULL_GRID, FULL_PATCH, FULL_SQUARE
from cryoscout.learning.tables import route_tables
from cryoscout.learning.training import Training
from cryoscout.learning.transitions import VisitBuffer
from cryoscout.learning.weights import PolicyFile
from cryoscout.routing.course import Course
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.simulate.presets import simulation_named
from cryoscout.simulate.tables import simulate_tables
from cryoscout.study.engine.runner import machine_in_words

BUDGET_MIN = 240.0
WHOLE_TRAINING = 50_000
WARM_UP = 1_000
BATCH = 128
ENVIRONMENTS = 10
ACTING_ENVIRONMENTS = 32
ACTING_S = 3.0
BASELINE_STEPS = 100
PUBLISHED_STEPS_PER_S = 6.8
BASELINE_RANGE = (4.0, 14.0)
DECISION_SIZES = (1_000, 10_000, 100_000)
DECISIONS = 21


def training_half() -> TrainingSession:
    """The training half of the later split of Y1, with its own prediction."""
    (session,) = load_to_learn_from(["y1-2022"])
    data, _, _ = training_session(session, budget_min=BUDGET_MIN, prediction=session.models()[0])
    return data


def settings_for(steps: int) -> LearnSettings:
    """The default agent on the whole session: no elimination, no parts, no held-out patches."""
    epochs = max(1, round(steps / 2_500))
    return settings_of(
        "dqn",
        elimination=False,
        held_out=0.0,
        parts=0,
        budget_min=BUDGET_MIN,
        environments=ENVIRONMENTS,
        batch_size=BATCH,
        updates_per_step=0.1,
        epochs=epochs,
        steps_per_epoch=-(-steps // epochs),
    )


def learning(data: TrainingSession, steps: int) -> dict[str, Any]:
    """Visits per second while acting and learning, checkpoints included, after a warm-up that compiles."""
    with tempfile.TemporaryDirectory() as folder:
        Training([data], settings_for(WARM_UP), Path(folder) / "warm", device="cpu").run()
        settings = settings_for(steps)
        training = Training([data], settings, Path(folder) / "timed", device="cpu")
        began = time.perf_counter()
        training.run()
        took = time.perf_counter() - began
    return {
        "env_steps": training.steps,
        "env_steps_per_s": training.steps / took,
        "train_50k_steps_s": took * WHOLE_TRAINING / training.steps,
        "train_50k_steps_is_scaled": training.steps != WHOLE_TRAINING,
    }


def acting(data: TrainingSession) -> float:
    """Visits per second of 32 environments that look and visit; candidates are taken at random, by no network."""
    rng = np.random.default_rng(0)
    routes = BatchedRoutes([data], ViewSettings(), ACTING_ENVIRONMENTS, rng)
    routes.reset_all()

    def visits(seconds: float) -> float:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            seen = routes.look()
            n = np.diff(seen.begin)
            step = routes.step(seen.holes[seen.begin[:-1] + (rng.random(len(n)) * n).astype(np.int64)])
            for route in np.flatnonzero(step.terminated | step.truncated):
                routes.reset(int(route))
            count += ACTING_ENVIRONMENTS
        return count / (time.perf_counter() - began)

    visits(0.2)
    return visits(ACTING_S)


class PublishedLikeEnvironment:
    """One environment as the published code has it: Python objects, and features of every hole in a loop."""

    def __init__(self, data: TrainingSession, rng: np.random.Generator) -> None:
        problem = data.problem
        self.problem, self.good, self.rng = problem, data.truth.good, rng
        self.patch = problem.patch_of_hole.tolist()
        self.square = problem.square_of_hole.tolist()
        self.grid = problem.grid_of_hole.tolist()
        self.predicted = [float(p >= 0.5) for p in problem.prior_p_good]
        self.tiers_min = problem.time_model.tiers_min(problem.shots).tolist()
        self.start(int(rng.integers(problem.n_holes)))

    def start(self, hole: int) -> None:
        """Start at a hole that is imaged and not counted."""
        self.visited = [False] * self.problem.n_holes
        self.minutes = self.problem.time_model.setup_min
        self.here = hole
        self.visited[hole] = True
        self.frames = deque([self.features()] * N_FRAMES, maxlen=N_FRAMES)

    def features(self) -> NDArray[np.float32]:
        """(n, 17) features of every hole."""
        counters: tuple[dict[int, list[float]], ...] = ({}, {}, {})
        for hole in range(len(self.patch)):
            for level, place in enumerate((self.patch[hole], self.square[hole], self.grid[hole])):
                count = counters[level].setdefault(place, [0.0] * 4)
                if self.visited[hole]:
                    count[2] += 1
                    count[3] += self.good[hole]
                else:
                    count[0] += 1
                    count[1] += self.predicted[hole]
        here = self.here
        rows = []
        for hole in range(len(self.patch)):
            row = [self.predicted[hole], float(self.visited[hole])]
            for level, (place, full) in enumerate(
                (
                    (self.patch[hole], FULL_PATCH),
                    (self.square[hole], FULL_SQUARE),
                    (self.grid[hole], FULL_GRID),
                )
            ):
                row += [min(count / full, 1.0) for count in counters[level][place]]
            row.append(float(self.patch[hole] != self.patch[here]))
            row.append(float(self.square[hole] != self.square[here]))
            row.append(float(self.grid[hole] != self.grid[here]))
            rows.append(row)
        return np.array(rows, dtype=np.float32)

    def state(self) -> NDArray[np.float32]:
        """(n, 68) features of the last four steps, the oldest first."""
        return np.concatenate(list(self.frames), axis=1)

    def visit(self, hole: int) -> tuple[float, bool]:
        """(reward, whether the route is over)."""
        tier = self.problem.tier_between(self.here, hole)
        self.minutes += self.tiers_min[tier]
        self.visited[hole], self.here = True, hole
        self.frames.append(self.features())
        reward = float(self.good[hole]) * (1.0, 0.57, 0.23, 0.09)[tier]
        return reward, self.minutes > self.problem.budget_min or all(self.visited)


def baseline(data: TrainingSession, steps: int = BASELINE_STEPS) -> float:
    """Visits per second of a deep Q-network that scores every hole of every state."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network, target = (_plain_network() for _ in range(2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    environments = [PublishedLikeEnvironment(data, rng) for _ in range(ENVIRONMENTS)]
    # As many whole states as one update needs; a longer buffer would not be slower.
    memory: deque[tuple[Any, ...]] = deque(maxlen=BATCH)

    def act_once() -> None:
        for environment in environments:
            state = environment.state()
            with torch.no_grad():
                scores = network(torch.from_numpy(state)).squeeze(-1).numpy()
            hole = int(np.argmax(np.where(environment.visited, -np.inf, scores)))
            reward, over = environment.visit(hole)
            memory.append((state, hole, reward, environment.state(), np.array(environment.visited), over))
            if over:
                environment.start(int(rng.integers(data.problem.n_holes)))

    def learn_once() -> None:
        sampled = [memory[int(i)] for i in rng.integers(len(memory), size=BATCH)]
        states, holes, rewards, after, visited, over = (
            np.array(column) for column in zip(*sampled, strict=True)
        )
        with torch.no_grad():
            future = target(torch.from_numpy(after)).squeeze(-1)
            future[torch.from_numpy(visited)] = -torch.inf
            best = torch.where(torch.from_numpy(over), 0.0, future.amax(1))
        scores = network(torch.from_numpy(states)).squeeze(-1)
        chosen = scores[torch.arange(BATCH), torch.from_numpy(holes)]
        loss = (chosen - (torch.from_numpy(rewards).float() + 0.9 * best)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    act_once()
    learn_once()
    began = time.perf_counter()
    for _ in range(steps // ENVIRONMENTS):
        act_once()
        learn_once()
    return steps // ENVIRONMENTS * ENVIRONMENTS / (time.perf_counter() - began)


def _plain_network() -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for n_in, n_out in pairwise((N_INPUTS, 128, 256, 128)):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(128, 1))


def million_transitions_mb(data: TrainingSession, prioritized: bool) -> float:
    """Memory of a replay buffer of 1,000,000 visits, MB of 10^6 bytes; priorities and their sums included."""
    tables = route_tables([data.problem], ViewSettings())
    exponent = 0.6 if prioritized else None
    buffer = VisitBuffer(tables, ENVIRONMENTS, 1_000_000, "visited", priority_exponent=exponent)
    sums = 0 if buffer.priorities is None else buffer.priorities._sums.nbytes
    return (buffer.visits.n_bytes + sums) / 1e6


def decision_s(holes: int) -> float:
    """Median seconds of one decision of a trained policy without elimination, on a simulated day's tree."""
    settings = simulation_named("daily").model_copy(update={"holes": holes})
    problem = simulate_tables(settings, seed=0).problem(1e6)  # so that no decision is the last one
    policy = LearnedPolicy("untrained", _untrained())
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    return _median_decision_s(policy, problem)


def _median_decision_s(policy: LearnedPolicy, problem: RoutingProblem) -> float:
    course, seconds = Course(problem), []
    for _ in range(DECISIONS):
        observation = course.observation()
        began = time.perf_counter()
        hole = policy.next_hole(observation)
        seconds.append(time.perf_counter() - began)
        course.visit(hole)
    return statistics.median(seconds[1:])


def _untrained() -> PolicyFile:
    network = NetworkSettings()
    rng = np.random.default_rng(0)
    widths = (N_INPUTS, *network.hidden)
    shapes = {f"trunk.{i}": (b, a) for i, (a, b) in enumerate(pairwise(widths))} | {"score": (1, widths[-1])}
    weights: dict[str, NDArray[np.generic]] = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = rng.normal(0.0, 0.1, shape).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], dtype=np.float32)
    return PolicyFile(settings_of("dqn", elimination=False), weights, {})


def measure(steps: int, baseline_steps: int = BASELINE_STEPS) -> dict[str, Any]:
    """All figures of one run."""
    torch.set_num_threads(1)
    data = training_half()
    baseline_per_s = baseline(data, baseline_steps)
    ours = learning(data, steps)
    low, high = BASELINE_RANGE
    is_like = low <= baseline_per_s <= high
    return {
        "machine": machine_in_words(("learning",)),
        "holes": data.problem.n_holes,
        **ours,
        "baseline_env_steps_per_s": baseline_per_s,
        "published_env_steps_per_s": PUBLISHED_STEPS_PER_S,
        "env_steps_ratio": ours["env_steps_per_s"] / baseline_per_s if is_like else None,
        "env_steps_ratio_void": None
        if is_like
        else f"The baseline must make {low:g} to {high:g} visits per second to be like the published code. Got "
        f"{baseline_per_s:.1f} instead: the ratio says nothing on this machine, or while it is busy.",
        "acting_env_steps_per_s": acting(data),
        "million_transitions_mb": million_transitions_mb(data, prioritized=False),
        "million_transitions_prioritized_mb": million_transitions_mb(data, prioritized=True),
        "decision_s": {str(holes): decision_s(holes) for holes in DECISION_SIZES},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--steps", type=int, default=WHOLE_TRAINING, help="visits of the timed training")
    options = parser.parse_args()
    figures = measure(options.steps, min(BASELINE_STEPS, max(20, options.steps // 50)))
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {each:.4g}" for key, each in value.items())
        print(f"{name:36} {f'{value:.5g}' if isinstance(value, float) else value}")


if __name__ == "__main__":
    main()
