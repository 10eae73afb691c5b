"""Random, greedy and the registry: conformance, hand-worked routes, the published rule in slow words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.base import Policy
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth, replay
from cryoscout.testing import check_policy, conformance_problems, random_problem
from examples import slow_but

SHORT_SEARCH: dict[str, dict[str, object]] = {
    "genetic": {"evaluations": 60},
    "annealing": {"evaluations": 60},
}
"""Settings that make a policy's search short: its contract does not depend on how long it searches."""


LOOKING = ("look-first", "look-share", "look-greedy", "explore")
"""What they do where everything is seen is what `adaptive` does; `test_looks_conform` has their looks."""


A_FEW = ("plain", "crossing counts", "three shots", "imaged holes")


@pytest.mark.parametrize("name", [each for each in POLICIES if each not in (*LOOKING, "adaptive-trust")])
def test_every_registered_policy_keeps_its_contract_on_a_few_problems(name: str) -> None:
    problems = conformance_problems()
    check_policy(
        lambda: make_policy(name, **SHORT_SEARCH.get(name, {})), {label: problems[label] for label in A_FEW}
    )


# On the others of these problems they are the same code; with looks they are in `test_looks_conform`.
@pytest.mark.parametrize("name", slow_but(["greedy", "offline"], POLICIES))
def test_every_registered_policy_passes_the_conformance_checker(name: str) -> None:
    check_policy(lambda: make_policy(name, **SHORT_SEARCH.get(name, {})))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_carries_the_name_it_is_registered_under(name: str) -> None:
    policy = make_policy(name)
    assert isinstance(policy, Policy)
    assert policy.name == name
    baseline = name in ("random", "greedy", "genetic", "annealing", "offline")
    # look-share chooses its share in hindsight: a bar, and no planner.
    assert (policy.kind == "baseline") == (baseline or name == "look-share")
    assert policy.default_prediction == ("res50" if baseline else "combined")


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'greedy'") as caught:
        make_policy("gredy")
    assert caught.value.nearest == "greedy"


def test_settings_reach_the_policy_and_are_checked() -> None:
    assert make_policy("genetic", evaluations=7).settings.evaluations == 7  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"'evaluations' of policy 'genetic'.*Got 0 instead"):
        make_policy("genetic", evaluations=0)
    with pytest.raises(InputError, match=r"'evaluation' .*Remedy: choose among evaluations, population"):
        make_policy("genetic", evaluation=5)
    with pytest.raises(InputError, match=r"without settings\. Got speed"):
        make_policy("greedy", speed=5)


def test_a_policy_is_imported_when_it_is_asked_for() -> None:
    code = (
        "import sys\n"
        "from cryoscout.routing.policies import make_policy\n"
        "make_policy('random'), make_policy('greedy')\n"
        "here = 'cryoscout.routing.policies.'\n"
        "print(sorted(name.removeprefix(here) for name in sys.modules if name.startswith(here)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['base', 'fixed_order', 'greedy', 'random_visits']"


@given(seed=st.integers(0, 10_000), n_holes=st.integers(1, 25))
def test_tiers_from_a_hole_are_the_tiers_between_holes(seed: int, n_holes: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    for here in (NOWHERE, int(rng.integers(n_holes))):
        expected = [problem.tier_between(here, hole) for hole in range(n_holes)]
        assert problem.tree.tiers_from(here).tolist() == expected


def all_measured(problem: RoutingProblem) -> Truth:
    return Truth(np.ones(problem.n_holes), np.ones(problem.n_holes, dtype=bool))


def test_random_chooses_every_hole_equally_often() -> None:
    problem = replace(conformance_problems()["every p_good 0"].with_budget(1.0), crossing="count")
    starts = [NOWHERE] * 4000  # the one visit that crosses 1 min
    first = [
        result.route[0] for result in replay(problem, all_measured(problem), make_policy("random"), starts, 3)
    ]
    share = np.bincount(first, minlength=problem.n_holes) / len(starts)
    assert np.all(np.abs(share - 1 / problem.n_holes) < 5 * np.sqrt(1 / problem.n_holes / len(starts)))


def test_random_uses_no_prediction() -> None:
    problems = conformance_problems()
    bad, good = problems["every p_good 0"], problems["every p_good 1"]
    routes = [
        replay(problem, all_measured(bad), make_policy("random"), [0, 1, 2], 9) for problem in (bad, good)
    ]
    assert [one.route.tolist() for one in routes[0]] == [one.route.tolist() for one in routes[1]]


def route_of(name: str, problem: RoutingProblem, start_hole: int, **settings: object) -> list[int]:
    policy = make_policy(name, **settings)
    return replay(problem, all_measured(problem), policy, [start_hole], 0)[0].route.tolist()


def greedy_by_the_book(problem: RoutingProblem, start_hole: int) -> list[int]:
    """The published rule, hole by hole: rank, let the start's patch change places, scan."""
    good = [
        hole
        for hole in range(problem.n_holes)
        if problem.prior_p_good[hole] >= 0.5 and problem.available()[hole] and hole != start_hole
    ]
    patches = list(range(len(problem.square_of_patch)))
    good_of = {patch: [hole for hole in good if problem.patch_of_hole[hole] == patch] for patch in patches}
    grid_of = {patch: int(problem.grid_of_patch[patch]) for patch in patches}
    grid_total = {
        grid: sum(len(good_of[p]) for p in patches if grid_of[p] == grid) for grid in grid_of.values()
    }
    patches.sort(key=lambda p: (-grid_total[grid_of[p]], grid_of[p], -len(good_of[p]), p))
    if start_hole != NOWHERE:
        start_patch = int(problem.patch_of_hole[start_hole])
        if good_of[start_patch]:
            place = patches.index(start_patch)
            patches[0], patches[place] = patches[place], patches[0]
    tiers_min = problem.time_model.tiers_min(problem.shots)
    route: list[int] = []
    used_min, here = problem.time_model.setup_min, start_hole
    for hole in [hole for patch in patches for hole in good_of[patch]]:
        used_min += float(tiers_min[problem.tier_between(here, hole)])
        if used_min > problem.budget_min:
            break
        route.append(hole)
        here = hole
    return route


@given(
    seed=st.integers(0, 100_000),
    n_holes=st.integers(1, 40),
    crossing=st.sampled_from(["count", "drop"]),
    from_nowhere=st.booleans(),
)
def test_greedy_follows_the_published_rule(
    seed: int, n_holes: int, crossing: Crossing, from_nowhere: bool
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes, crossing=crossing, share_imaged=0.2)
    start_hole = NOWHERE if from_nowhere else int(rng.integers(n_holes))
    assert route_of("greedy", problem, start_hole) == greedy_by_the_book(problem, start_hole)


def test_greedy_lets_the_patch_of_the_start_change_places_with_the_best() -> None:
    problem = RoutingProblem(
        tree=HoleTree(
            np.array([0, 0, 1, 1, 1, 2, 2], dtype=np.int32),
            np.array([0, 1, 2], dtype=np.int32),
            np.array([0, 1, 1], dtype=np.int32),
        ),
        prior_p_good=np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1]),
        budget_min=500.0,
    )
    assert route_of("greedy", problem, NOWHERE) == [2, 3, 4, 5, 0, 1]
    assert route_of("greedy", problem, 0) == [1, 5, 2, 3, 4]
    assert route_of("greedy", problem, 5) == [2, 3, 4, 0, 1]  # nothing good is left in the start's patch
