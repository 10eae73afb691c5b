"""The adaptive planner's contract: exact where nothing can be learned, and it learns where something can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.belief.effects import EffectVariances
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.from_session import problem_from_session
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.base import STOP, Observation
from cryoscout.routing.predictions import prediction_of
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import ReplayResult, Truth, replay
from cryoscout.routing.time_model import PRESETS
from cryoscout.session.builtin import load_builtin
from cryoscout.testing import exhaustive_best, random_problem
from examples import share

NOTHING_SHARED = EffectVariances(patch=0, square=0, grid=0, session=0)
PATCHES_DIFFER = EffectVariances(patch=4.0, square=0, grid=0, session=0)
CLIPPED_BY = 1e-4
"""The belief keeps every p_good this far from 0 and 1."""


def replayed(
    problem: RoutingProblem,
    good: np.ndarray,
    start_hole: int = NOWHERE,
    delay_min: float = 0.0,
    **adaptive_settings: object,
) -> ReplayResult:
    truth = Truth(good, np.ones(problem.n_holes, dtype=bool))
    policy = make_policy("adaptive", **adaptive_settings)
    return replay(problem, truth, policy, [start_hole], seed=0, ctf_delay_min=delay_min)[0]


@settings(max_examples=share(150))
@given(
    seed=st.integers(0, 2**32 - 1),
    crossing=st.sampled_from(["count", "drop"]),
    shots=st.integers(1, 2),
    optimism=st.sampled_from([0.0, 2.0]),
)
def test_where_outcomes_tell_nothing_it_is_the_best_fixed_plan(
    seed: int, crossing: Crossing, shots: int, optimism: float
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng, int(rng.integers(1, 8)), crossing=crossing, shots=shots, share_imaged=0.2, share_allowed=0.8
    )
    problem = replace(problem, effects=NOTHING_SHARED)
    start = int(rng.integers(NOWHERE, problem.n_holes))
    expected = shots * problem.prior_p_good
    found = replayed(problem, expected, start, delay_min=1e9, optimism=optimism).good_found
    best = exhaustive_best(problem, expected, start)
    assert best - shots * problem.n_holes * CLIPPED_BY <= found <= best + 1e-9


def two_grids(p_good: list[float], budget_min: float, effects: EffectVariances) -> RoutingProblem:
    """As many holes in patch 0 as in patch 1; each patch has a grid of its own."""
    half = len(p_good) // 2
    return RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(2, dtype=np.int32), half),
            np.arange(2, dtype=np.int32),
            np.arange(2, dtype=np.int32),
        ),
        prior_p_good=np.array(p_good),
        budget_min=budget_min,
        effects=effects,
    )


LEFT, RIGHT = [1.0] * 20 + [0.0] * 20, [0.0] * 20 + [1.0] * 20


def test_it_leaves_a_patch_that_turns_out_bad_and_stays_in_one_that_turns_out_good() -> None:
    problem = two_grids([0.6] * 20 + [0.55] * 20, 70.0, PATCHES_DIFFER)
    stayed = replayed(problem, np.array(LEFT))
    assert problem.patch_of_hole[stayed.route].tolist() == [0] * 20  # 20 + 19 * 2 min
    moved = replayed(problem, np.array(RIGHT))
    visits = problem.patch_of_hole[moved.route].tolist()
    assert 1 <= visits.count(0) < 8  # as soon as the move pays
    assert visits == sorted(visits)  # and it does not come back
    assert moved.good_found == visits.count(1) > 8


def test_results_that_have_not_arrived_do_not_move_it() -> None:
    problem = two_grids([0.6] * 20 + [0.55] * 20, 70.0, PATCHES_DIFFER)
    blind = replayed(problem, np.array(RIGHT), delay_min=1e9)
    assert blind.route.tolist() == replayed(problem, np.array(LEFT), delay_min=1e9).route.tolist()
    late, soon = (replayed(problem, np.array(RIGHT), delay_min=minutes) for minutes in (10.0, 0.0))
    first_patch = [int((problem.patch_of_hole[result.route] == 0).sum()) for result in (soon, late, blind)]
    assert first_patch == sorted(first_patch)
    assert first_patch[0] < first_patch[1] < first_patch[2] == 20


@pytest.mark.parametrize(("good", "patch"), [(0.0, 1), (3.0, 0)])
def test_results_known_before_the_plan_count(good: float, patch: int) -> None:
    problem = replace(two_grids([0.5] * 20, 60.0, PATCHES_DIFFER), shots=3)
    imaged = np.arange(20) < 4  # four holes of patch 0
    outcome = np.where(imaged, good, np.nan)
    policy = make_policy("adaptive")
    first = replay(
        replace(problem, imaged=imaged, outcome=outcome),
        Truth(np.zeros(20), ~imaged),
        policy,
        [NOWHERE],
        seed=0,
    )[0].route[0]
    assert problem.patch_of_hole[first] == patch


@pytest.mark.parametrize(("good", "patch"), [(0.0, 1), (1.0, 0)])
def test_the_result_of_the_start_hole_counts(good: float, patch: int) -> None:
    # Neighbouring patches of one square, so that moving costs 3 minutes only.
    zero = np.zeros(1, dtype=np.int32)
    problem = RoutingProblem(
        HoleTree(np.repeat(np.arange(2, dtype=np.int32), 12), np.zeros(2, dtype=np.int32), zero),
        np.full(24, 0.5), 22.0,
        effects=PATCHES_DIFFER,
    )  # fmt: skip
    first = replayed(problem, np.full(24, good), start_hole=0).route[0]
    assert problem.patch_of_hole[first] == patch


def test_an_outcome_is_taken_in_once_when_it_is_announced() -> None:
    problem = two_grids([0.6] * 20 + [0.55] * 20, 70.0, PATCHES_DIFFER)
    policy = make_policy("adaptive")
    rng = np.random.default_rng(0)
    visited = np.arange(40) < 6
    outcome = np.where(visited, 0.0, np.nan)

    def asked(n_outcomes: list[int]) -> list[int]:
        policy.reset(problem, NOWHERE, rng)
        return [policy.next_hole(Observation(visited, 5, 30.0, outcome, count)) for count in n_outcomes]

    assert len(set(asked([6, 6, 6]))) == 1
    assert asked([6])[0] == asked([1, 6])[1]  # told once or twice, the belief is the same
    assert problem.patch_of_hole[asked([6])[0]] == 1


@pytest.mark.parametrize("name", ["adaptive", "adaptive-trust"])
def test_a_hole_s_shots_one_by_one_and_a_session_opened_again_give_the_belief_of_all_at_once(
    name: str,
) -> None:
    problem = replace(two_grids([0.6] * 20, 90.0, PATCHES_DIFFER), shots=3)
    visited, unknown = np.arange(20) < 2, np.full(20, np.nan)
    good, results = np.where(visited, 0.0, np.nan), np.zeros(20)
    one_by_one, at_once, again = make_policy(name), make_policy(name), make_policy(name)
    one_by_one.reset(problem, NOWHERE, np.random.default_rng(0))
    for shot in range(1, 4):
        for hole in (0, 1):
            results[hole], good[hole] = shot, shot - hole  # all three good, and two of three
            seen = np.where(results > 0, good, unknown)
            one_by_one.next_hole(Observation(visited, 1, 20.0, seen, 2 * shot + hole, results.copy()))
    at_once.reset(problem, NOWHERE, np.random.default_rng(0))
    at_once.next_hole(Observation(visited, 1, 20.0, good, 1, results))
    again.reset(replace(problem, imaged=visited, outcome=good, results=results), 1, np.random.default_rng(0))
    for other in (at_once, again):
        np.testing.assert_allclose(one_by_one.belief.p_good(), other.belief.p_good(), atol=1e-6)
    assert one_by_one.belief.p_good()[2] > 0.65


def test_results_not_counted_by_the_observation_are_those_of_all_shots() -> None:
    problem = replace(two_grids([0.6] * 20, 90.0, PATCHES_DIFFER), shots=3)
    visited, outcome = np.arange(20) < 1, np.where(np.arange(20) < 1, 1.0, np.nan)
    beliefs = []
    for results in (None, np.where(visited, 3.0, 0.0), np.where(visited, 1.0, 0.0)):
        policy = make_policy("adaptive")
        policy.reset(problem, NOWHERE, np.random.default_rng(0))
        policy.next_hole(Observation(visited, 0, 20.0, outcome, 1, results))
        beliefs.append(policy.belief.p_good()[1])
    assert beliefs[0] == beliefs[1] < 0.6 < beliefs[2]


def test_a_corrected_result_replaces_the_first() -> None:
    problem = two_grids([0.6] * 20, 90.0, PATCHES_DIFFER)
    visited = np.arange(20) < 1
    policy = make_policy("adaptive")
    policy.reset(problem, NOWHERE, np.random.default_rng(0))
    found = []
    for news, good in enumerate((1.0, 0.0, np.nan)):
        outcome = np.where(visited, good, np.nan)
        policy.next_hole(Observation(visited, 0, 20.0, outcome, news))
        found.append(policy.belief.p_good()[1])
    assert found[1] < found[2] < found[0]
    assert found[2] == pytest.approx(0.6, abs=1e-6)


def test_within_a_patch_the_best_hole_goes_first() -> None:
    problem = two_grids([0.3, 0.8, 0.5, 0.1, 0.1, 0.1], 24.0, NOTHING_SHARED)
    assert replayed(problem, problem.prior_p_good).route.tolist() == [1, 2, 0]


@pytest.mark.parametrize(("minutes_used", "expected"), [(60.0, STOP), (59.0, STOP), (58.0, 1)])
def test_it_stops_when_nothing_fits(minutes_used: float, expected: int) -> None:
    problem = two_grids([0.3, 0.8, 0.5, 0.1, 0.1, 0.1], 60.0, NOTHING_SHARED)
    policy = make_policy("adaptive")
    policy.reset(problem, 0, np.random.default_rng(0))
    visited, unknown = np.arange(6) == 0, np.full(6, np.nan)
    assert policy.next_hole(Observation(visited, 0, minutes_used, unknown, 0)) == expected


def test_where_the_crossing_visit_counts_it_is_the_best_hole_anywhere() -> None:
    problem = replace(two_grids([0.3, 0.8, 0.5, 0.1, 0.9, 0.1], 1.0, NOTHING_SHARED), crossing="count")
    assert replayed(problem, problem.prior_p_good, start_hole=0).route.tolist() == [4]


def test_the_same_seed_gives_the_same_route() -> None:
    rng = np.random.default_rng(9)
    problem = random_problem(rng, 40, budget_min=150.0)
    good = rng.binomial(1, problem.prior_p_good).astype(np.float64)
    assert replayed(problem, good, 3).route.tolist() == replayed(problem, good, 3).route.tolist()


def test_it_learns_the_same_from_one_shot_with_either_reset() -> None:
    """`reset` forgets the belief of the route before it."""
    problem = two_grids([0.6] * 20 + [0.55] * 20, 70.0, PATCHES_DIFFER)
    truth = Truth(np.array(RIGHT), np.ones(40, dtype=bool))
    twice = replay(problem, truth, make_policy("adaptive"), [NOWHERE, NOWHERE], seed=0)
    assert twice[0].route.tolist() == twice[1].route.tolist()


@settings(max_examples=share(60))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_holes=st.integers(1, 25),
    crossing=st.sampled_from(["count", "drop"]),
    optimism=st.sampled_from([0.0, 1.0]),
    delay_min=st.sampled_from([0.0, 15.0]),
)
def test_no_hole_twice_none_that_is_not_available_and_never_past_the_budget(
    seed: int, n_holes: int, crossing: Crossing, optimism: float, delay_min: float
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(
        rng,
        n_holes,
        time_model=PRESETS["cryorl-code"],
        crossing=crossing,
        share_imaged=0.2,
        share_allowed=0.8,
    )
    good = rng.binomial(1, problem.prior_p_good).astype(np.float64)
    start = int(rng.integers(NOWHERE, n_holes))
    result = replayed(problem, good, start, delay_min, optimism=optimism)
    assert len(set(result.route.tolist()) | {start}) == result.visited + 1
    assert problem.available()[result.route].all()
    paid = result.minutes[:-1] if crossing == "count" else result.minutes
    assert np.all(paid <= problem.budget_min)


@pytest.mark.parametrize("optimism", [-0.1, 3.1, float("nan")])
def test_optimism_must_be_in_its_range(optimism: float) -> None:
    with pytest.raises(InputError, match="'optimism' of policy 'adaptive'"):
        make_policy("adaptive", optimism=optimism)


@pytest.mark.parametrize("wrong", [False, True])
def test_results_in_random_orders_and_portions_give_adaptive_trust_one_belief(wrong: bool) -> None:
    """On real scores; in one case as wrong as they can be, so that the weights of the assumptions move far."""
    session = load_builtin("y1", split="val")
    problem = problem_from_session(session, prediction=prediction_of(session, "combined"), budget_min=480.0)
    rng = np.random.default_rng(1)
    told = rng.permutation(problem.n_holes)[:45]
    good = (rng.random(len(told)) < np.abs(float(wrong) - problem.prior_p_good[told])).astype(float)
    beliefs = []
    for _ in range(4):
        policy = make_policy("adaptive-trust")
        policy.reset(problem, NOWHERE, rng)
        outcome, order = np.full(problem.n_holes, np.nan), rng.permutation(len(told))
        for portion in np.array_split(order, int(rng.integers(1, len(told) + 1))):
            outcome[told[portion]] = good[portion]
            visited = ~np.isnan(outcome)
            policy.next_hole(Observation(visited, int(told[portion[-1]]), 0.0, outcome, int(visited.sum())))
        beliefs.append(policy.belief.p_good())
    assert np.ptp(beliefs, axis=0).max() < 1e-5  # 0.005 is what is promised
    assert np.abs(beliefs[0] - problem.belief().p_good()).max() > 0.05
