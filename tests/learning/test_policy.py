"""A trained policy keeps the contract of policies, and follows what the operator does; it needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_samples import VIEWS, even_session, quick, random_policy, random_truth

import cryoscout.learning
from cryoscout.learning.policy import LearnedPolicy
from cryoscout.learning.settings import AGENTS, LearnSettings, ViewSettings
from cryoscout.learning.weights import write_policy
from cryoscout.routing.bound import good_holes_bound
from cryoscout.routing.course import PolicyError
from cryoscout.routing.elimination import eliminated_holes
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import replay
from cryoscout.testing import check_policy, random_problem
from examples import share, slow_but

MAY_IMPORT_TORCH = {"a2c", "checkpoint", "networks", "q_learning", "training"}


def seen(
    problem: RoutingProblem, visited: list[int], outcome: dict[int, float] | None = None, minutes: float = 0.0
) -> Observation:
    mask = np.zeros(problem.n_holes, dtype=bool) if problem.imaged is None else problem.imaged.copy()
    mask[visited] = True
    known = np.full(problem.n_holes, np.nan) if problem.outcome is None else problem.outcome.copy()
    for hole, good in (outcome or {}).items():
        known[hole] = good
    return Observation(mask, visited[-1] if visited else NOWHERE, minutes, known, len(outcome or {}))


def states_of(policy: LearnedPolicy) -> list[np.ndarray]:
    states = policy._states
    return [array.copy() for array in (states.patch, states.square, states.grid, states.left, states.recent)]


@pytest.mark.parametrize(
    "case",
    slow_but([(VIEWS[0], True), (VIEWS[8], False)], product(VIEWS, [True, False])),
    ids=lambda case: f"{case[0].candidates}-{case[0].labels}-{case[0].history}-{case[1]}",
)
def test_it_keeps_the_contract_of_policies(case: tuple[ViewSettings, bool]) -> None:
    view, elimination = case
    check_policy(partial(random_policy, quick(view=view, elimination=elimination)), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agents_policy_keeps_the_contract(agent: str) -> None:
    check_policy(partial(random_policy, quick(agent, hidden=(8,))), seed=2)


@settings(max_examples=share(60))
@given(
    seed=st.integers(0, 2**32 - 1),
    crossing=st.sampled_from(["count", "drop"]),
    view=st.sampled_from(VIEWS),
    elimination=st.booleans(),
    shots=st.sampled_from([1, 3]),
    delay_min=st.sampled_from([0.0, 15.0]),
)
def test_no_learned_policy_exceeds_the_bound_or_visits_a_hole_twice(
    seed: int, crossing: Crossing, view: ViewSettings, elimination: bool, shots: int, delay_min: float
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, int(rng.integers(1, 25)), shots=shots, crossing=crossing, share_imaged=0.2, share_allowed=0.8
    )
    truth = random_truth(problem, rng)
    policy = random_policy(quick(view=view, elimination=elimination), seed)
    starts = [NOWHERE, *rng.integers(0, problem.n_holes, 3).tolist()]
    for result in replay(problem, truth, policy, starts, seed, ctf_delay_min=delay_min):
        assert len(set(result.route.tolist())) == result.visited
        assert problem.available()[result.route].all()
        assert result.start_hole not in result.route
        assert result.good_found <= good_holes_bound(problem, truth, result.start_hole) + 1e-9
        if crossing == "drop":
            assert (result.minutes <= problem.budget_min + 1e-6).all()


def test_it_stays_within_the_holes_that_action_elimination_keeps() -> None:
    session = even_session(n_grids=6)
    problem = session.problem.with_budget(60.0)
    kept = eliminated_holes(problem)
    assert 8 < kept.sum() < problem.n_holes - 8
    start = (
        problem.n_holes - 1
    )  # of the last grid, which is left out; equal scores alone would lead to the first
    for seed in range(5):
        (result,) = replay(problem, session.truth, random_policy(quick(), seed), [start], 0)
        assert result.visited > 3
        assert kept[result.route].all()
    routes = [
        replay(problem, session.truth, random_policy(quick(elimination=False), seed), [start], 0)[0].route
        for seed in range(5)
    ]
    assert any(not kept[route].all() for route in routes)


@pytest.mark.parametrize("n_holes", [0, 3])
def test_with_nothing_left_it_stops(n_holes: int) -> None:
    problem = replace(even_session().problem, allowed=np.arange(32) < n_holes)
    policy = random_policy(quick())
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    visited: list[int] = []
    for _ in range(n_holes):
        visited.append(policy.next_hole(seen(problem, visited)))
    assert sorted(visited) == list(range(n_holes))
    assert policy.next_hole(seen(problem, visited)) == STOP


def test_with_crossing_dropped_it_takes_the_best_that_fits_and_else_stops() -> None:
    problem = replace(even_session().problem, crossing="drop", budget_min=30.0)
    for seed in range(8):
        policy = random_policy(quick(elimination=False), seed)
        policy.reset(problem, 0, np.random.default_rng(0))
        assert policy.next_hole(seen(problem, [0], minutes=26.0)) in (1, 2, 3)  # 4 minutes: the patch alone
        assert policy.next_hole(seen(problem, [0], minutes=25.0)) < 8  # 5: another patch of the square too
        assert policy.next_hole(seen(problem, [0], minutes=28.0)) in (1, 2, 3)  # to the minute
        assert policy.next_hole(seen(problem, [0], minutes=28.1)) == STOP


def test_with_crossing_counted_time_is_no_reason_to_stop() -> None:
    problem = even_session().problem.with_budget(30.0)
    policy = random_policy(quick())
    policy.reset(problem, 0, np.random.default_rng(0))
    assert policy.next_hole(seen(problem, [0], minutes=29.9)) != STOP


def test_results_that_come_late_count_once_and_when_they_come() -> None:
    problem = even_session().problem
    policy = random_policy(quick(elimination=False, view=ViewSettings(candidates="holes", labels="hard")))
    policy.reset(problem, 0, np.random.default_rng(0))
    policy.next_hole(seen(problem, [0]))
    policy.next_hole(seen(problem, [0, 1]))
    assert policy._states.patch[0, 0].tolist() == [2.0, 1.0, 2.0, 0.0]
    policy.next_hole(seen(problem, [0, 1, 9], {0: 1.0}))
    policy.next_hole(seen(problem, [0, 1, 9], {0: 1.0}))
    assert policy._states.patch[0, 0].tolist() == [2.0, 1.0, 2.0, 1.0]
    assert policy._states.recent_good[0].tolist() == [0.0, 0.0, 1.0, 0.0]
    policy.next_hole(seen(problem, [0, 1, 9], {0: 1.0, 1: 1.0, 9: 0.0}))
    assert policy._states.patch[0, 0].tolist() == [2.0, 1.0, 2.0, 2.0]
    assert policy._states.grid[0, 0].tolist() == [13.0, 9.0, 3.0, 2.0]


def test_outcomes_known_before_the_plan_count_once() -> None:
    problem = even_session().problem
    imaged, outcome = np.arange(32) < 2, np.full(32, np.nan)
    outcome[:1] = 1.0
    problem = replace(problem, imaged=imaged, outcome=outcome)
    policy = random_policy(quick(elimination=False))
    policy.reset(problem, 1, np.random.default_rng(0))
    policy.next_hole(seen(problem, [1]))
    assert policy._states.patch[0, 0].tolist() == [2.0, 1.0, 2.0, 1.0]
    policy.next_hole(seen(problem, [1], {1: 1.0}))
    assert policy._states.patch[0, 0].tolist() == [2.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("history", ["visited", "candidate"])
def test_visits_that_the_operator_made_are_followed(history: str) -> None:
    """Several at once, some of them of holes that action elimination left out: as if each had been told."""
    problem = even_session(n_grids=6).problem.with_budget(60.0)
    left_out = int(np.flatnonzero(~eliminated_holes(problem))[0])
    settings_ = quick(view={"history": history})
    at_once, one_by_one = random_policy(settings_), random_policy(settings_)
    for policy in (at_once, one_by_one):
        policy.reset(problem, 0, np.random.default_rng(0))
        policy.next_hole(seen(problem, [0]))
    told = [0, 2, 3, left_out]
    for n in (2, 3, 4):
        one_by_one.next_hole(seen(problem, told[:n]))
    chosen = at_once.next_hole(seen(problem, told))
    for a, b in zip(states_of(at_once), states_of(one_by_one), strict=True):
        np.testing.assert_array_equal(a, b)
    assert chosen not in told
    assert (at_once._states.patch[0, :, 0] >= 0).all()


def test_asked_twice_it_says_the_same() -> None:
    problem = even_session().problem
    policy = random_policy(quick())
    policy.reset(problem, 0, np.random.default_rng(0))
    assert policy.next_hole(seen(problem, [0])) == policy.next_hole(seen(problem, [0]))


def test_a_hole_without_truth_is_refused_by_the_replay_not_by_the_policy() -> None:
    session = even_session()
    truth = replace(session.truth, measured=np.zeros(32, dtype=bool))
    with pytest.raises(PolicyError, match="hole with an outcome"):
        replay(session.problem, truth, random_policy(quick()), [0], 0)


# --- no torch ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_policy_file_is_used_without_torch(tmp_path: Path) -> None:
    trained: LearnSettings = quick("rainbow")
    policy = random_policy(trained)
    weights = {
        f"{name}.{part}": array.T if part == "weight" else array
        for name, (weight, bias) in policy._network._layers.items()
        for part, array in (("weight", weight), ("bias", bias))
    }
    write_policy(tmp_path / "policy.safetensors", trained, weights, {})
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['gymnasium'] = None\n"
        "from pathlib import Path; import numpy as np\n"
        "from cryoscout.learning.policy import LearnedPolicy\n"
        "from cryoscout.learning.weights import read_policy\n"
        "from cryoscout.testing import random_problem\n"
        "policy = LearnedPolicy('mine', read_policy(Path(sys.argv[1])))\n"
        "problem = random_problem(np.random.default_rng(0), 12, budget_min=100.0)\n"
        "policy.reset(problem, 0, np.random.default_rng(0))\n"
        "from cryoscout.routing.policies.base import Observation\n"
        "visited = np.arange(12) == 0\n"
        "print(policy.next_hole(Observation(visited, 0, 0.0, np.full(12, np.nan), 0)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "policy.safetensors")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) in range(1, 12)


def imported_by(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_torch_is_imported_where_agents_are_trained_and_nowhere_else() -> None:
    folder = Path(cryoscout.learning.__file__).parent
    assert {path.stem for path in folder.glob("*.py") if "torch" in imported_by(path)} == MAY_IMPORT_TORCH
    assert {path.stem for path in folder.glob("*.py") if "gymnasium" in imported_by(path)} == {"route_env"}
