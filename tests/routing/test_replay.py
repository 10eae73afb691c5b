"""Replay by spies that write down what they see, by hand-worked routes, and by policies that cheat."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.course import PolicyError
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.base import STOP, Observation, PolicyKind
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import PseudoRewards, ReplanEvery, Truth, random_starts, replay
from cryoscout.routing.time_model import PRESETS, TimeModel
from cryoscout.testing import random_problem

UNKNOWN = None


def index(*parents: int) -> np.ndarray:
    return np.array(parents, dtype=np.int32)


def six_holes(budget_min: float = 60.0, crossing: Crossing = "drop") -> RoutingProblem:
    """Grid 0: square 0 with patches 0 (holes 0, 1) and 1 (hole 2), square 1 with patch 2 (holes 3, 4); grid 1: 5."""
    return RoutingProblem(
        tree=HoleTree(index(0, 0, 1, 2, 2, 3), index(0, 0, 1, 2), index(0, 0, 1)),
        prior_p_good=np.full(6, 0.5),
        budget_min=budget_min,
        crossing=crossing,
    )


GOOD = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
TRUTH = Truth(GOOD, np.ones(6, dtype=bool))


@dataclass(frozen=True)
class Seen:
    visited: list[int]
    here: int
    minutes_used: float
    outcome: list[float | None]
    news: int
    results: list[float]


class Scripted:
    """Follows a list of holes and writes down every observation."""

    name: ClassVar[str] = "scripted"
    kind: ClassVar[PolicyKind] = "baseline"
    default_prediction: ClassVar[str] = "flat"

    def __init__(self, *script: int, drops_crossing: bool = False) -> None:
        self.script, self.drops_crossing = script, drops_crossing
        self.given: list[object] = []

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        self.given = [problem, start_hole, rng]
        self.seen: list[Seen] = []
        self.rest = list(self.script)

    def next_hole(self, observation: Observation) -> int:
        self.given.append(observation)
        outcome = [UNKNOWN if np.isnan(good) else float(good) for good in observation.outcome]
        self.seen.append(
            Seen(
                np.flatnonzero(observation.visited).tolist(),
                observation.here,
                observation.minutes_used,
                outcome,
                observation.news,
                observation.results.tolist(),
            )
        )
        return self.rest.pop(0) if self.rest else STOP


# --- a route by hand ------------------------------------------------------------------------------


def test_a_route_by_hand_from_a_hole() -> None:
    policy = Scripted(1, 2, 3, 4, 5)
    result = replay(six_holes(), TRUTH, policy, [0], seed=0)[0]
    assert result.start_hole == 0
    assert result.route.tolist() == [1, 2, 3, 4, 5]
    assert result.minutes.tolist() == [2, 7, 17, 19, 39]
    assert result.good.tolist() == [0, 1, 1, 0, 1]
    assert result.good_found == 3  # the start hole is good and not counted
    assert result.visited == 5
    assert [seen.here for seen in policy.seen] == [0, 1, 2, 3, 4, 5]
    assert [seen.minutes_used for seen in policy.seen] == [0, 2, 7, 17, 19, 39]
    assert [seen.visited for seen in policy.seen] == [list(range(k)) for k in range(1, 7)]


def test_a_route_from_nowhere_pays_for_its_first_grid() -> None:
    policy = Scripted(4, 3)
    result = replay(six_holes(), TRUTH, policy, [NOWHERE], seed=0)[0]
    assert result.minutes.tolist() == [20, 22]
    assert policy.seen[0] == Seen([], NOWHERE, 0.0, [UNKNOWN] * 6, 0, [0.0] * 6)


def test_the_set_up_is_paid_before_the_first_visit() -> None:
    late = PRESETS["cryorl"].model_copy(update={"setup_min": 7.0})
    policy = Scripted(1)
    result = replay(replace(six_holes(), time_model=late), TRUTH, policy, [0], seed=0)[0]
    assert policy.seen[0].minutes_used == 7
    assert result.minutes.tolist() == [9]
    never = replay(replace(six_holes(6.0), time_model=late), TRUTH, policy, [0], seed=0)[0]
    assert never.visited == 0
    assert policy.seen == []  # the set-up alone passes the budget


def test_an_empty_route_has_no_minutes_and_no_reward() -> None:
    result = replay(six_holes(), TRUTH, Scripted(), [3], seed=0)[0]
    assert (result.visited, result.good_found, result.reward) == (0, 0.0, 0.0)
    assert (result.route.dtype, result.minutes.shape) == (np.int64, (0,))


@pytest.mark.parametrize(
    ("rule", "reward"),
    [
        ("cryorl", 0.57 + 0.23 + 0.09),  # holes 2, 3, 5 are good; 1 and 4 are not and cost nothing
        ("formula", np.exp(-0.185 * 3) + np.exp(-0.185 * 8) + np.exp(-0.185 * 18)),
        (
            "ssl2rl",
            3 - (1 - np.exp(-0.185 * 3)) - (1 - np.exp(-0.185 * 8)) - (1 - np.exp(-0.185 * 18)),
        ),
    ],
)
def test_rewards_of_a_route_by_hand(rule: str, reward: float) -> None:
    result = replay(six_holes(), TRUTH, Scripted(1, 2, 3, 4, 5), [0], seed=0, reward=rule)[0]
    assert result.reward == pytest.approx(reward, abs=1e-12)


def test_more_shots_give_more_micrographs_and_take_longer() -> None:
    model = PRESETS["cryorl"].model_copy(update={"extra_shot_min": 0.5})
    problem = replace(six_holes(), shots=3, time_model=model)
    result = replay(problem, Truth(GOOD * 2, TRUTH.measured), Scripted(1, 2), [0], seed=0)[0]
    assert result.minutes.tolist() == [3, 9]
    assert result.good_found == 2


# --- the end of the budget ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget_min", "crossing", "route"),
    [
        (6.9, "drop", [1]),
        (7.0, "drop", [1, 2]),  # used == budget is within the budget
        (6.9, "count", [1, 2]),  # the visit that crosses counts
        (7.0, "count", [1, 2, 3]),  # used == budget still allows one more
        (7.1, "count", [1, 2, 3]),
        (1.0, "drop", []),
        (1.0, "count", [1]),
    ],
)
def test_where_a_route_ends(budget_min: float, crossing: Crossing, route: list[int]) -> None:
    result = replay(six_holes(budget_min, crossing), TRUTH, Scripted(1, 2, 3, 4), [0], seed=0)[0]
    assert result.route.tolist() == route
    assert result.good.tolist() == GOOD[route].tolist()


def test_a_policy_that_drops_its_crossing_visit_always_drops_it() -> None:
    policy = Scripted(1, 2, 3, 4, drops_crossing=True)
    result = replay(six_holes(16.0, "count"), TRUTH, policy, [0], seed=0)[0]
    assert result.route.tolist() == [1, 2]
    assert result.reward == pytest.approx(0.57)  # nor does the dropped visit earn a reward
    assert len(policy.seen) == 3  # and the route is over


@pytest.mark.parametrize(("budget_min", "visits"), [(3.3, 3), (6.6, 6), (3.2, 2)])
def test_a_visit_that_just_fits_in_tenths_of_minutes_fits(budget_min: float, visits: int) -> None:
    tenths = TimeModel(
        name="tenths", same_patch_min=1.1, new_patch_min=1.1, new_square_min=1.1, new_grid_min=1.1
    )
    assert 1.1 + 1.1 + 1.1 > 3.3  # in floating point, not on a clock
    problem = replace(six_holes(budget_min), time_model=tenths)
    result = replay(problem, TRUTH, Scripted(0, 1, 2, 3, 4, 5), [NOWHERE], seed=0)[0]
    assert result.visited == visits


# --- when results arrive --------------------------------------------------------------------------


def knowledge(policy: Scripted) -> list[list[int]]:
    """The holes whose result is known, observation by observation."""
    return [[hole for hole, good in enumerate(seen.outcome) if good is not None] for seen in policy.seen]


@pytest.mark.parametrize(
    ("delay_min", "known"),
    [
        (0.0, [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]),  # visits end at 2, 7, 17, 19 min
        (5.0, [[0], [0], [0, 1], [0, 1, 2], [0, 1, 2]]),
        (5.01, [[0], [0], [0], [0, 1, 2], [0, 1, 2]]),
        (12.0, [[0], [0], [0], [0, 1], [0, 1, 2]]),
        (float("inf"), [[0]] * 5),
    ],
)
def test_a_result_appears_after_the_delay_and_not_before(delay_min: float, known: list[list[int]]) -> None:
    policy = Scripted(1, 2, 3, 4)
    replay(six_holes(), TRUTH, policy, [0], seed=0, ctf_delay_min=delay_min)
    assert knowledge(policy) == known
    assert [seen.news for seen in policy.seen] == [len(holes) - 1 for holes in known]
    for seen in policy.seen:
        assert all(good is UNKNOWN or good == GOOD[hole] for hole, good in enumerate(seen.outcome))


@pytest.mark.parametrize(
    ("every", "known"),
    [
        (1, [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]),
        (2, [[0], [0], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4]]),
        (3, [[0], [0], [0], [0, 1, 2, 3], [0, 1, 2, 3]]),
        (9, [[0]] * 5),
        # Hole 3 is the first of another square: everything up to it is handed over once it is imaged.
        ("square", [[0], [0], [0], [0, 1, 2, 3], [0, 1, 2, 3]]),
    ],
)
def test_results_are_handed_over_only_when_the_plan_is_renewed(
    every: ReplanEvery, known: list[list[int]]
) -> None:
    policy = Scripted(1, 2, 3, 4)
    replay(six_holes(), TRUTH, policy, [0], seed=0, replan_every=every)
    assert knowledge(policy) == known
    assert [seen.news for seen in policy.seen] == [len(holes) - 1 for holes in known]


def test_a_late_result_waits_for_the_next_renewal() -> None:
    policy = Scripted(1, 2, 3, 4, 5)
    replay(six_holes(), TRUTH, policy, [0], seed=0, ctf_delay_min=3.0, replan_every=2)
    assert knowledge(policy) == [[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]


def test_results_known_before_the_plan_are_known_from_the_start() -> None:
    outcome = np.array([np.nan, 1.0, np.nan, np.nan, np.nan, np.nan])
    imaged = np.array([0, 1, 1, 0, 0, 0], dtype=bool)
    policy = Scripted(4)
    replay(replace(six_holes(), imaged=imaged, outcome=outcome), TRUTH, policy, [3], seed=0)
    assert policy.seen[0].outcome == [UNKNOWN, 1.0, UNKNOWN, 1.0, UNKNOWN, UNKNOWN]
    assert policy.seen[0].visited == [1, 2, 3]
    assert policy.seen[0].results == [0, 1, 0, 1, 0, 0]
    assert outcome[1] == 1.0  # the problem's own arrays stay as they were
    assert np.isnan(outcome[3])
    assert imaged.sum() == 2


def test_a_hole_s_results_are_handed_over_with_all_its_shots() -> None:
    policy = Scripted(1, 2)
    problem = replace(
        six_holes(),
        shots=3,
        imaged=np.arange(6) == 5,
        outcome=np.where(np.arange(6) == 5, 1.0, np.nan),
        results=np.where(np.arange(6) == 5, 2.0, 0.0),
    )
    replay(problem, Truth(3.0 * GOOD, np.ones(6, dtype=bool)), policy, [0], seed=0)
    assert [seen.results for seen in policy.seen] == [
        [3, 0, 0, 0, 0, 2], [3, 3, 0, 0, 0, 2], [3, 3, 3, 0, 0, 2],
    ]  # fmt: skip


def test_a_start_hole_without_a_result_tells_nothing() -> None:
    unmeasured = Truth(GOOD * [0, 1, 1, 1, 1, 1], np.array([0, 1, 1, 1, 1, 1], dtype=bool))
    policy = Scripted()
    replay(six_holes(), unmeasured, policy, [0], seed=0)
    assert policy.seen[0] == Seen([0], 0, 0.0, [UNKNOWN] * 6, 0, [0.0] * 6)


# --- nobody reaches the truth ---------------------------------------------------------------------


def test_what_a_policy_is_given_holds_no_truth() -> None:
    policy = Scripted(1, 2, 3)
    replay(six_holes(), TRUTH, policy, [0], seed=0, ctf_delay_min=1e9)
    secrets = {id(TRUTH), id(TRUTH.good), id(TRUTH.measured)}
    for given_object in policy.given:
        assert not isinstance(given_object, Truth)
        for item in fields(given_object) if isinstance(given_object, RoutingProblem | Observation) else ():
            value = getattr(given_object, item.name)
            assert not isinstance(value, Truth)
            assert id(value) not in secrets
            if isinstance(value, np.ndarray):
                assert not np.shares_memory(value, TRUTH.good)
                assert not np.shares_memory(value, TRUTH.measured)


@pytest.mark.parametrize(
    "cheat",
    [
        lambda seen: seen.visited.__setitem__(1, False),
        lambda seen: seen.visited.fill(False),
        lambda seen: seen.outcome.__setitem__(3, 1.0),
        lambda seen: np.copyto(seen.outcome, 1.0),
        lambda seen: np.logical_not(seen.visited, out=seen.visited),
    ],
)
def test_a_policy_that_writes_into_what_it_sees_fails(cheat: Callable[[Observation], object]) -> None:
    class Cheat(Scripted):
        def next_hole(self, observation: Observation) -> int:
            cheat(observation)
            return super().next_hole(observation)

    with pytest.raises(ValueError, match="read-only"):
        replay(six_holes(), TRUTH, Cheat(1, 1, 1), [0], seed=0)


def test_an_observation_cannot_be_changed() -> None:
    class Rewinds(Scripted):
        def next_hole(self, observation: Observation) -> int:
            observation.minutes_used = 0.0  # type: ignore[misc]
            return super().next_hole(observation)

    with pytest.raises(AttributeError, match="minutes_used"):
        replay(six_holes(), TRUTH, Rewinds(1), [0], seed=0)


def test_replay_leaves_the_truth_as_it_was() -> None:
    truth = Truth(GOOD.copy(), np.ones(6, dtype=bool))
    replay(six_holes(), truth, Scripted(1, 2, 5), [0, 3], seed=0)
    assert truth.good.tolist() == GOOD.tolist()
    assert truth.measured.all()


# --- broken contracts and wrong arguments ---------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "hole"),
    [((1, 2, 1), 1), ((0,), 0), ((6,), 6), ((-2,), -2), ((1, 4), 4), ((3,), 3), ((2, 5), 5)],
)
def test_a_policy_that_breaks_its_contract_is_named_with_its_hole(script: tuple[int, ...], hole: int) -> None:
    problem = replace(
        six_holes(),
        imaged=np.array([0, 0, 0, 0, 1, 0], dtype=bool),  # 4 was imaged before
        allowed=np.array([1, 1, 1, 0, 1, 1], dtype=bool),  # 3 was eliminated
    )
    truth = Truth(GOOD, np.array([1, 1, 1, 1, 1, 0], dtype=bool))  # 5 has no result
    message = f"Policy 'scripted' must choose an allowed, unvisited hole with an outcome. Got {hole} instead."
    with pytest.raises(PolicyError, match=re.escape(message) + "$"):
        replay(problem, truth, Scripted(*script), [0], seed=0)


def test_a_hole_without_an_outcome_is_never_visited() -> None:
    rng = np.random.default_rng(4)
    problem = random_problem(rng, 30, budget_min=1e5)
    measured = rng.random(30) < 0.6
    truth = Truth(measured.astype(np.float64), measured)
    known = replace(problem, allowed=measured)  # as the studies and the command line hand it to a policy
    for name in ("random", "expected", "index", "adaptive"):
        visited = replay(known, truth, make_policy(name), [NOWHERE], seed=0)[0].route
        assert sorted(visited.tolist()) == np.flatnonzero(measured).tolist()
    with pytest.raises(PolicyError, match="with an outcome"):
        replay(problem, truth, make_policy("random"), [NOWHERE], seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": [6]}, "A start must be a hole index below 6 or NOWHERE (-1). Got 6 instead."),
        ({"starts": [0, -2]}, "A start must be a hole index below 6 or NOWHERE (-1). Got -2 instead."),
        ({"ctf_delay_min": -1.0}, "The CTF delay must be 0 minutes or more. Got -1.0 instead."),
        ({"ctf_delay_min": float("nan")}, "The CTF delay must be 0 minutes or more. Got nan instead."),
        ({"replan_every": 0}, "replan_every must be a number of holes >= 1 or 'square'. Got 0 instead."),
        ({"replan_every": 1.5}, "replan_every must be a number of holes >= 1 or 'square'. Got 1.5 instead."),
        (
            {"replan_every": "patch"},
            "replan_every must be a number of holes >= 1 or 'square'. Got 'patch' instead.",
        ),
        (
            {"truth": Truth(np.zeros(5), np.ones(5, dtype=bool))},
            "Truth must cover 6 holes. Got 5 instead.",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused_before_anything_runs(
    arguments: dict[str, object], message: str
) -> None:
    policy = Scripted(1)
    call = {"problem": six_holes(), "truth": TRUTH, "policy": policy, "starts": [0], "seed": 0} | arguments
    with pytest.raises(InputError, match=re.escape(message) + "$"):
        replay(**call)  # type: ignore[arg-type]
    assert policy.given == []


def test_an_unknown_reward_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'formula'"):
        replay(six_holes(), TRUTH, Scripted(), [0], seed=0, reward="formla")


def test_a_truth_must_say_of_every_hole_whether_it_was_measured() -> None:
    with pytest.raises(InputError, match=r"one `good` and one `measured` per hole\. Got 6 and 5 instead"):
        Truth(GOOD, np.ones(5, dtype=bool))


# --- seeds and starts -----------------------------------------------------------------------------


def random_routes(starts: list[int], seed: int) -> list[list[int]]:
    problem = random_problem(np.random.default_rng(8), 40, budget_min=150.0)
    truth = Truth(problem.prior_p_good, np.ones(40, dtype=bool))
    return [result.route.tolist() for result in replay(problem, truth, make_policy("random"), starts, seed)]


def test_the_same_seed_gives_the_same_routes_and_another_seed_others() -> None:
    starts = [0, 7, NOWHERE, 7]
    assert random_routes(starts, 3) == random_routes(starts, 3)
    assert random_routes(starts, 3) != random_routes(starts, 4)


def test_the_route_of_a_start_does_not_depend_on_the_other_starts() -> None:
    routes = random_routes([0, 7, 12, 7], 3)
    assert random_routes([30, 7, 5], 3)[1] == routes[1]
    assert random_routes([0], 3)[0] == routes[0]
    assert routes[1] != routes[3]  # the same hole twice is two draws


def test_one_policy_object_serves_start_after_start() -> None:
    problem = replace(six_holes(), prior_p_good=np.array([0.9, 0.1, 0.8, 0.7, 0.2, 0.6]))
    together = replay(problem, TRUTH, make_policy("adaptive"), [0, 3, NOWHERE], seed=5)
    for start, result in zip([0, 3, NOWHERE], together, strict=True):
        alone = replay(problem, TRUTH, make_policy("adaptive"), [start], seed=5)[0]
        assert (alone.start_hole, alone.route.tolist()) == (result.start_hole, result.route.tolist())


def test_progress_is_told_once_per_start() -> None:
    told: list[int] = []
    replay(six_holes(), TRUTH, Scripted(), iter([0, 1, 2]), seed=0, progress=lambda: told.append(1))
    assert len(told) == 3


@given(
    seed=st.integers(0, 100_000),
    n_holes=st.integers(1, 25),
    crossing=st.sampled_from(["count", "drop"]),
    delay_min=st.sampled_from([0.0, 7.0, 1e9]),
    replan_every=st.sampled_from([1, 3, "square"]),
)
def test_minutes_and_micrographs_of_any_route_add_up(
    seed: int,
    n_holes: int,
    crossing: Crossing,
    delay_min: float,
    replan_every: int | Literal["square"],
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes, crossing=crossing, shots=2, share_imaged=0.2, share_allowed=0.8)
    truth = Truth(rng.integers(0, 3, n_holes).astype(np.float64), np.ones(n_holes, dtype=bool))
    start = int(rng.integers(-1, n_holes))
    result = replay(
        problem,
        truth,
        make_policy("random"),
        [start],
        seed,
        ctf_delay_min=delay_min,
        replan_every=replan_every,
    )[0]
    tiers_min = problem.time_model.tiers_min(problem.shots)
    places = [start, *result.route.tolist()]
    steps = [tiers_min[problem.tier_between(a, b)] for a, b in pairwise(places)]
    assert result.minutes == pytest.approx(np.cumsum(steps))
    assert result.good.tolist() == truth.good[result.route].tolist()
    assert len(set(places)) == len(places)
    assert problem.available()[result.route].all()
    paid = result.minutes[:-1] if crossing == "count" else result.minutes
    assert np.all(paid <= problem.budget_min)


# --- starts ---------------------------------------------------------------------------------------


def test_all_starts_come_in_order_and_drawn_ones_come_from_the_candidates() -> None:
    candidates = np.array([0, 1, 0, 1, 1], dtype=bool)
    assert random_starts(candidates, "all", np.random.default_rng(0)).tolist() == [1, 3, 4]
    drawn = random_starts(candidates, 200, np.random.default_rng(0))
    assert len(drawn) == 200  # with replacement
    assert set(drawn.tolist()) == {1, 3, 4}
    assert drawn.tolist() == random_starts(candidates, 200, np.random.default_rng(0)).tolist()


def test_starts_need_a_candidate() -> None:
    with pytest.raises(InputError, match=r"drawn from at least one hole\. Got none instead"):
        random_starts(np.zeros(3, dtype=bool), 1, np.random.default_rng(0))


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=300), st.integers(0, 2**32 - 1))
def test_pseudo_rewards_of_a_route_sum_to_the_same_in_any_order(rewards: list[float], seed: int) -> None:
    kept = PseudoRewards(np.array(rewards), np.zeros(len(rewards), dtype=bool)).reward
    np.testing.assert_allclose(kept, rewards, atol=2.0**-13)
    shuffled = np.random.default_rng(seed).permutation(kept)
    sums = [float(np.add.accumulate(order.astype(np.float32))[-1]) for order in (kept, shuffled)]
    assert sums[0] == sums[1] == kept.sum()


def test_pseudo_rewards_are_labels_where_there_are_any_and_predictions_elsewhere() -> None:
    found = PseudoRewards.of(
        np.array([1.0, np.nan, 0.0, np.nan]), np.array([np.nan, 0.25, 0.9, 1.0]), shots=2
    )
    assert found.reward.tolist() == [1.0, 0.5, 0.0, 2.0]
    assert found.is_label.tolist() == [True, False, True, False]


def test_wrong_pseudo_rewards_are_refused() -> None:
    nobody = np.zeros(2, dtype=bool)
    with pytest.raises(InputError, match=r"one bool per hole. Got float64 \(3,\) and bool \(2,\)"):
        PseudoRewards(np.zeros(3), nobody)
    with pytest.raises(InputError, match=r"int64 \(2,\) instead"):
        PseudoRewards(np.zeros(2), nobody.astype(np.int64))
    for wrong in (-0.5, np.nan, np.inf):
        with pytest.raises(InputError, match=f"0 or more. Got {wrong} for hole 1"):
            PseudoRewards(np.array([0.0, wrong]), nobody)
    with pytest.raises(InputError, match=r"lie in 0\.\.1. Got 1.5 for hole 1"):
        PseudoRewards.of(np.array([1.0, np.nan]), np.array([5.0, 1.5]))
    with pytest.raises(InputError, match=r"the same holes. Got \(1,\) and \(2,\)"):
        PseudoRewards.of(np.array([1.0]), np.array([0.5, 0.5]))
