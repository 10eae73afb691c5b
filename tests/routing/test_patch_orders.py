"""Orders of patches: the counted objective against a walk over holes, the searches against their rivals."""

from __future__ import annotations

import importlib
import itertools
import random
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.policies import make_policy
from cryoscout.routing.policies.patch_order_search import PatchOrders
from cryoscout.routing.policies.patch_orders import AnnealingSettings
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.reward import movement_cost
from cryoscout.routing.time_model import PRESETS
from cryoscout.testing import random_problem


def walked_objective(problem: RoutingProblem, patches: list[int], start_hole: int) -> float:
    """Equation 1, hole by hole: every visit gives 1 - c(minutes), one that does not fit ends the route."""
    tiers_min = problem.time_model.tiers_min(problem.shots)
    total, used_min, here = 0.0, problem.time_model.setup_min, start_hole
    for patch in patches:
        for hole in np.flatnonzero((problem.patch_of_hole == patch) & problem.available()):
            if problem.prior_p_good[hole] < 0.5 or hole == start_hole:
                continue
            minutes = float(tiers_min[problem.tier_between(here, int(hole))])
            used_min += minutes
            if used_min > problem.budget_min:
                return total
            total += 1.0 - float(movement_cost(minutes))
            here = int(hole)
    return total


@given(
    seed=st.integers(0, 100_000),
    n_holes=st.integers(1, 40),
    from_nowhere=st.booleans(),
    times=st.sampled_from(sorted(PRESETS)),
)
def test_the_objective_by_counts_is_the_objective_by_holes(
    seed: int, n_holes: int, from_nowhere: bool, times: str
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes, time_model=PRESETS[times], share_imaged=0.2)
    start_hole = NOWHERE if from_nowhere else int(rng.integers(n_holes))
    orders = PatchOrders.of(problem, start_hole)
    order = rng.permutation(len(orders.count))
    walked = walked_objective(problem, orders.patch[order].tolist(), start_hole)
    assert orders.objective(order) == pytest.approx(walked)


@given(seed=st.integers(0, 100_000), n_holes=st.integers(1, 60), evaluations=st.integers(1, 300))
def test_both_searches_give_a_permutation(seed: int, n_holes: int, evaluations: int) -> None:
    rng = np.random.default_rng(seed)
    orders = PatchOrders.of(random_problem(rng, n_holes), NOWHERE)
    m = len(orders.count)
    if m == 0:
        return
    for found in (orders.genetic(rng, evaluations, 20, 0.5), orders.annealed(rng, evaluations, 2.0, 0.1)):
        assert sorted(found.tolist()) == list(range(m))


@pytest.mark.parametrize("name", ["genetic", "annealing"])
def test_the_default_search_finds_the_best_of_all_orders_of_a_few_patches(name: str) -> None:
    for seed in range(12):
        problem = random_problem(np.random.default_rng(seed), 14, budget_min=60.0)
        orders = PatchOrders.of(problem, NOWHERE)
        m = len(orders.count)
        assert 1 <= m <= 8
        best = max(orders.objective(np.array(order)) for order in itertools.permutations(range(m)))
        policy = make_policy(name)
        found = policy._search(orders, np.random.default_rng(0))  # type: ignore[attr-defined]
        assert orders.objective(found) == pytest.approx(best)


@pytest.mark.parametrize("name", ["genetic", "annealing"])
def test_the_route_scans_the_patches_it_found_best(name: str) -> None:
    problem = random_problem(np.random.default_rng(4), 40, budget_min=80.0)
    policy = make_policy(name, evaluations=3000)
    planned = policy.whole_route(problem, 3, np.random.default_rng(1))  # type: ignore[attr-defined]
    again = policy.whole_route(problem, 3, np.random.default_rng(1))  # type: ignore[attr-defined]
    assert planned == again
    patches = list(dict.fromkeys(problem.patch_of_hole[planned].tolist()))
    good = np.flatnonzero((problem.prior_p_good >= 0.5) & (np.arange(40) != 3))
    assert planned == [hole for patch in patches for hole in good if problem.patch_of_hole[hole] == patch]


def test_annealing_must_cool() -> None:
    with pytest.raises(ValueError, match="temperature_end"):
        AnnealingSettings(temperature_start=0.1, temperature_end=0.2)


def session_of_thirty_patches() -> PatchOrders:
    rng = np.random.default_rng(7)
    square = np.sort(rng.integers(0, 12, size=30)).astype(np.int32)
    square = np.unique(square, return_inverse=True)[1].astype(np.int32)
    n_squares = int(square[-1]) + 1
    problem = RoutingProblem(
        tree=HoleTree(
            np.repeat(np.arange(30), 20).astype(np.int32),
            square,
            np.sort(rng.integers(0, 6, size=n_squares)).astype(np.int32),
        ),
        prior_p_good=np.clip(np.repeat(rng.random(30), 20) + rng.normal(0, 0.3, size=600), 0, 1),
        budget_min=240.0,
    )
    return PatchOrders.of(problem, 5)


SEEDS = range(8)


@pytest.mark.parametrize("name", ["genetic", "annealing"])
def test_a_search_beats_as_many_random_orders(name: str) -> None:
    orders = session_of_thirty_patches()
    m = len(orders.count)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        by_chance = max(orders.objective(rng.permutation(m)) for _ in range(2000))
        policy = make_policy(name, evaluations=2000)
        assert orders.objective(policy._search(orders, rng)) > 1.03 * by_chance  # type: ignore[attr-defined]


def test_annealing_is_at_least_as_good_as_simanneal_at_equal_evaluations() -> None:
    simanneal = importlib.import_module("simanneal")
    orders = session_of_thirty_patches()
    settings = AnnealingSettings(evaluations=2000)

    class Orders(simanneal.Annealer):  # type: ignore[misc, name-defined]
        Tmax, Tmin = settings.temperature_start, settings.temperature_end
        steps, updates = settings.evaluations - 1, 0
        copy_strategy = "method"

        def move(self) -> None:
            i, j = random.sample(range(len(self.state)), 2)
            self.state[i], self.state[j] = self.state[j], self.state[i]

        def energy(self) -> float:
            return -orders.objective(self.state)

    theirs, ours = [], []
    for seed in SEEDS:
        random.seed(seed)
        annealer = Orders(np.random.default_rng(seed).permutation(len(orders.count)))
        annealer.user_exit = False
        theirs.append(-annealer.anneal()[1])
        found = orders.annealed(
            np.random.default_rng(seed),
            settings.evaluations,
            settings.temperature_start,
            settings.temperature_end,
        )
        ours.append(orders.objective(found))
    assert np.mean(ours) >= np.mean(theirs), (ours, theirs)


@pytest.mark.slow
def test_genetic_is_at_least_as_good_as_pygad_at_equal_evaluations() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pygad = importlib.import_module("pygad")
    orders = session_of_thirty_patches()
    m, population, evaluations = len(orders.count), 50, 2000

    def fitness(_: object, order: np.ndarray, __: int) -> float:
        return orders.objective(order.astype(np.int64))

    theirs, ours = [], []
    for seed in range(40):  # a few seconds each; single seeds differ by more than the two searches do
        rng = np.random.default_rng(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = pygad.GA(
                num_generations=evaluations // population - 1,
                num_parents_mating=population // 2,
                fitness_func=fitness,
                initial_population=np.array([rng.permutation(m) for _ in range(population)]),
                gene_type=int,
                gene_space=list(range(m)),
                allow_duplicate_genes=False,
                mutation_type="swap",
                keep_elitism=1,
                random_seed=seed,
                suppress_warnings=True,
            )
            search.run()
            theirs.append(search.best_solution()[1])
        ours.append(orders.objective(orders.genetic(rng, evaluations, population, 0.8)))
    assert np.mean(ours) >= np.mean(theirs), (ours, theirs)
