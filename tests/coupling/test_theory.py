"""The regulariser by its definition, and Lemma 1 over random routes, partitions and trees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import InputError
from cryoscout.coupling.theory import (
    inconsistency,
    inconsistency_bound,
    labels_of_route,
    localization,
    mixed_parts,
)

A, B, C = 0, 1, 2


def inconsistency_by_definition(labels: Any, parts: Any, weights: Any) -> float:
    """Every state asks every other one."""
    n = len(labels)
    disagree = [
        any(parts[other] == parts[state] and labels[other] != labels[state] for other in range(n))
        for state in range(n)
    ]
    return float(sum(w for w, bad in zip(weights, disagree, strict=True) if bad) / sum(weights))


@st.composite
def routes(draw: st.DrawFn) -> tuple[Any, Any, int]:
    """(route, part of each state, N_C), 2 to 14 states; some routes stay long in a part, others hardly do."""
    n = draw(st.integers(2, 14))
    raw = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    parts = np.unique(raw, return_inverse=True)[1].astype(np.int64)
    route = np.array(draw(st.permutations(range(n))), dtype=np.int64)
    if draw(st.booleans()):
        order_of_parts = np.array(draw(st.permutations(range(int(parts.max()) + 1))))
        route = route[np.argsort(order_of_parts[parts[route]], kind="stable")]
        swaps = draw(st.lists(st.integers(0, n - 2), max_size=2))
        for at in swaps:
            route[[at, at + 1]] = route[[at + 1, at]]
    return route, parts, draw(st.integers(1, n - 1))


@given(routes(), st.integers(0, 2**32 - 1))
def test_inconsistency_is_its_definition(given_route: tuple[Any, Any, int], seed: int) -> None:
    route, parts, n_positive = given_route
    labels = labels_of_route(route, n_positive)
    weights = np.random.default_rng(seed).integers(1, 9, len(route)).astype(np.float64)
    assert inconsistency(labels, parts, weights) == pytest.approx(
        inconsistency_by_definition(labels, parts, weights)
    )
    even = np.ones(len(route))
    assert inconsistency(labels, parts) == pytest.approx(inconsistency_by_definition(labels, parts, even))


@given(routes())
def test_the_lemma_holds_and_its_condition_says_when_it_is_reached(given_route: tuple[Any, Any, int]) -> None:
    route, parts, n_positive = given_route
    found = localization(route, parts, n_positive)
    labels = labels_of_route(route, n_positive)
    assert found.parts == len(set(parts.tolist()))
    assert found.switches == sum(parts[a] != parts[b] for a, b in pairwise(route.tolist()))
    assert found.mixed == sum(len(set(labels[parts == part].tolist())) > 1 for part in set(parts.tolist()))
    assert found.mixed <= found.most_mixed
    assert found.is_tight == (found.mixed == found.most_mixed)
    exact = found.switches - (found.parts - 1) + found.cut_inside_a_single_visit - found.idle_returns
    assert found.mixed == exact
    assert inconsistency(labels, parts) <= inconsistency_bound(found.switches, parts, 1.0) + 1e-12


@given(routes())
def test_a_tight_route_visits_parts_once_or_on_both_sides_of_the_cut(
    given_route: tuple[Any, Any, int],
) -> None:
    route, parts, n_positive = given_route
    if not localization(route, parts, n_positive).is_tight:
        return
    blocks = [[int(route[0])]]
    for state in route[1:].tolist():
        if parts[state] == parts[blocks[-1][0]]:
            blocks[-1].append(state)
        else:
            blocks.append([state])
    labels = labels_of_route(route, n_positive)
    for part in set(parts.tolist()):
        mine = [block for block in blocks if parts[block[0]] == part]
        assert len(mine) <= 2
        if len(mine) == 2:
            assert labels[mine[0]].all()
            assert not labels[mine[1]].any()


def test_the_printed_condition_for_equality_does_not_hold() -> None:
    # Every part is visited at most twice and the cost is the same; what is mixed is not.
    parts = np.array([A, B, B, C, A, C])
    route = np.arange(6)
    two, three = (localization(route, parts, n_positive) for n_positive in (2, 3))
    assert two.switches == three.switches == 4
    assert (two.mixed, three.mixed) == (2, 1)
    assert two.most_mixed == three.most_mixed == 3
    # C returns idly in both; with N_C = 2 the cut falls inside B's only visit, with 3 between two parts.
    assert (two.cut_inside_a_single_visit, two.idle_returns) == (True, 1)
    assert (three.cut_inside_a_single_visit, three.idle_returns) == (False, 1)
    assert not two.is_tight
    assert not three.is_tight
    ratios = [inconsistency(labels_of_route(route, n_positive), parts) for n_positive in (2, 3)]
    assert ratios == [pytest.approx(4 / 6), pytest.approx(2 / 6)]


def test_a_route_that_reaches_the_bound() -> None:
    # A before and after the cut, the cut inside the only visit of B.
    parts = np.array([A, B, B, A])
    found = localization(np.arange(4), parts, 2)
    assert (found.mixed, found.most_mixed, found.is_tight) == (2, 2, True)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_on_a_tree_every_level_obeys_the_lemma_and_their_switches_are_the_cost(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    patch = np.unique(rng.integers(0, max(1, n // 2), n), return_inverse=True)[1]
    square_of_patch = np.unique(rng.integers(0, 4, patch.max() + 1), return_inverse=True)[1]
    grid_of_square = np.unique(rng.integers(0, 2, square_of_patch.max() + 1), return_inverse=True)[1]
    levels = [patch, square_of_patch[patch], grid_of_square[square_of_patch[patch]]]
    tier_costs = np.array([0.0, *np.cumsum(rng.integers(1, 9, 3))])
    route, n_positive = rng.permutation(n), int(rng.integers(1, n))
    cost = 0.0
    for here, there in pairwise(route.tolist()):
        cost += tier_costs[sum(level[here] != level[there] for level in levels)]
    found = [localization(route, level, n_positive) for level in levels]
    steps = np.diff(tier_costs)
    assert cost == pytest.approx(sum(s * f.switches for s, f in zip(steps, found, strict=True)))
    bound = cost + sum(s * (2 - f.parts) for s, f in zip(steps, found, strict=True))
    assert sum(s * f.mixed for s, f in zip(steps, found, strict=True)) <= bound + 1e-9


def test_labels_of_any_kind_are_compared() -> None:
    parts = np.array([0, 0, 1, 1, 2])
    assert mixed_parts(np.array(["a", "a", "a", "b", "c"]), parts).tolist() == [False, True, False]
    assert mixed_parts(np.array([3, 1, 2, 2, 2]), parts).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labels_of_route(np.array([0, 0, 1]), 1), "visit every state once"),
        (lambda: labels_of_route(np.arange(3), 0), "at least 1 and below 3.* Got 0"),
        (lambda: labels_of_route(np.arange(3), 3), "at least 1 and below 3.* Got 3"),
        (lambda: mixed_parts(np.zeros(3), np.array([0, 2, 2])), "none of them empty"),
        (lambda: mixed_parts(np.zeros(3), np.array([0, -1, 0])), "from 0 on"),
        (lambda: mixed_parts(np.zeros(3), np.array([0, 1])), "each of the 3 states"),
        (lambda: inconsistency(np.zeros(2), np.array([0, 1]), np.zeros(2)), "not all 0"),
        (lambda: inconsistency(np.zeros(2), np.array([0, 1]), np.array([1.0, np.nan])), "finite"),
        (lambda: inconsistency_bound(1.0, np.array([0, 1]), 0.0), "above 0. Got 0"),
    ],
)
def test_what_is_no_route_or_partition_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.0] * 6, [1.0] * 5 + [-1.0], [1.0] * 5 + [float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    parts = np.array([A, B, B, C, A, C])
    for refused in (
        lambda: inconsistency(parts > 0, parts, np.array(weights)),
        lambda: inconsistency_bound(3.0, parts, 1.0, np.array(weights)),
    ):
        with pytest.raises(InputError, match="Weights must be 6 finite numbers of 0 or more, not all 0"):
            refused()
