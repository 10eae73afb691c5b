"""Equally good holes are taken by the shortest way; nothing else of a plan changes."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from cryoscout.advice.obeyed import Obeyed
from cryoscout.advice.shortest_way import (
    Positions,
    as_listed,
    by_the_shortest_way,
    in_whole_patterns,
    length_of,
)
from cryoscout.advice.walk import walked
from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import NOWHERE, RoutingProblem


def lattice(side=12, patches=1):
    """A square lattice with shuffled ids, patch after patch, and everything equally good."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2).astype(float)
    xy = np.concatenate([rng.permutation(grid) + np.array([100.0 * patch, 0.0]) for patch in range(patches)])
    n = len(xy)
    tree = HoleTree(
        np.repeat(np.arange(patches), side * side).astype(np.int32),
        np.zeros(patches, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
    )
    return RoutingProblem(tree=tree, prior_p_good=np.full(n, 0.4), budget_min=100.0), xy


def test_a_flat_patch_is_gone_through_hole_by_hole():
    problem, xy = lattice()
    route = list(range(55))
    way = by_the_shortest_way(problem, NOWHERE, route, np.ones(144, dtype=bool), problem.prior_p_good, xy)
    assert len(set(way)) == 55
    assert length_of(way, xy) <= 1.06 * 54.0  # the spacing is 1: no way is shorter than 54
    assert length_of(route, xy) > 200


def test_the_way_goes_on_from_where_the_stage_is():
    problem, xy = lattice()
    free = np.ones(144, dtype=bool)
    corner = int(np.flatnonzero((xy == [11.0, 11.0]).all(axis=1))[0])
    free[corner] = False
    way = by_the_shortest_way(
        problem, corner, [n for n in range(20) if n != corner], free, problem.prior_p_good, xy
    )
    assert np.hypot(*(xy[way[0]] - xy[corner])) == 1.0
    assert corner not in way


def test_holes_that_differ_or_are_in_other_patches_or_kept_stay_where_they_are():
    problem, xy = lattice(patches=2)
    p_good = problem.prior_p_good.copy()
    p_good[[3, 7, 11]] = 0.9, 0.8, 0.7
    free = np.ones(288, dtype=bool)
    free[20:40] = False
    route = [3, 7, 11, 0, 1, 2, 150, 151, 152, 153, 60, 61]
    way = by_the_shortest_way(problem, NOWHERE, route, free, p_good, xy, keep=frozenset([151]))
    assert way[:3] == [3, 7, 11]
    assert way[7] == 151
    assert [problem.patch_of_hole[hole] for hole in way] == [problem.patch_of_hole[hole] for hole in route]
    np.testing.assert_allclose(p_good[way], p_good[route])
    assert free[way].all()
    assert len(set(way)) == len(way)


def test_without_positions_nothing_changes():
    problem, xy = lattice()
    route = [5, 3, 9, 1]
    nowhere = np.full_like(xy, np.nan)
    assert (
        by_the_shortest_way(problem, NOWHERE, route, np.ones(144, dtype=bool), problem.prior_p_good, nowhere)
        == route
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_way_over_few_scattered_holes_is_near_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    problem, _ = lattice(side=3)
    xy = rng.uniform(0, 10, (9, 2))
    free = np.zeros(9, dtype=bool)
    free[:7] = True
    way = by_the_shortest_way(problem, 8, list(range(7)), free, problem.prior_p_good, xy)
    best = min(length_of([8, *order], xy) for order in permutations(range(7)))
    assert length_of([8, *way], xy) <= 1.15 * best


def test_patches_that_are_worth_the_same_are_entered_by_the_shortest_way_and_others_stay():
    problem, xy = lattice(side=2, patches=12)
    # Twelve patches in a row, entered here and there; each of two holes.
    rng = np.random.default_rng(1)
    order = rng.permutation(12)
    route = [int(4 * patch + step) for patch in order for step in (0, 1)]
    free = np.ones(48, dtype=bool)
    way = by_the_shortest_way(problem, NOWHERE, route, free, problem.prior_p_good, xy)
    entered = [int(problem.patch_of_hole[hole]) for hole in way[::2]]
    assert entered in (list(range(12)), list(range(12))[::-1])
    assert sorted(problem.patch_of_hole[way]) == sorted(problem.patch_of_hole[route])
    # The open patch costs no step and stays first; one that is worth more keeps its place.
    p_good = problem.prior_p_good.copy()
    p_good[problem.patch_of_hole == order[4]] = 0.9
    here = int(4 * order[0] + 3)
    free[here] = False
    way = by_the_shortest_way(problem, here, route, free, p_good, xy)
    entered = [int(problem.patch_of_hole[hole]) for hole in way[::2]]
    assert (entered[0], entered[4]) == (order[0], order[4])
    assert sorted(entered) == list(range(12))
    first = entered[1:4]
    assert sorted(first) == sorted(order[1:4])


def scattered(seed, sizes):
    """One square of patches of these sizes, far from each other, everything equally good."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 100, (len(sizes), 2))
    patch = np.repeat(np.arange(len(sizes)), sizes)
    xy = centres[patch] + rng.uniform(-0.2, 0.2, (len(patch), 2))
    tree = HoleTree(patch.astype(np.int32), np.zeros(len(sizes), dtype=np.int32), np.zeros(1, dtype=np.int32))
    return RoutingProblem(tree=tree, prior_p_good=np.full(len(patch), 0.4), budget_min=100.0), xy, centres


@pytest.mark.parametrize("seed", range(8))
def test_patches_of_any_size_are_entered_by_a_way_near_the_shortest_of_all_with_the_same_plan(seed):
    sizes = [1, 1, 1, 1, 3, 3, 2, 2]
    problem, xy, centres = scattered(seed, sizes)
    free = np.arange(problem.n_holes) > 0  # the stage is at the hole of the first patch
    patch = problem.patch_of_hole
    planned = [4, 6, 3, 1]  # whole patches first, as planners have them
    route = [hole for each in planned for hole in np.flatnonzero(patch == each).tolist()]
    way = by_the_shortest_way(problem, 0, route, free, problem.prior_p_good, xy)
    assert walked(problem, 0, way, np.inf).minutes[-1] == walked(problem, 0, route, np.inf).minutes[-1]
    assert sorted(Counter(patch[way]).values()) == sorted(Counter(patch[route]).values()) == [1, 1, 2, 3]
    assert len(set(way)) == len(way)
    # Every order of every choice of as many patches of each size.
    best = min(
        length_of([0, *order], centres)
        for order in permutations(range(1, len(sizes)), 4)
        if sorted(sizes[each] for each in order) == [1, 1, 2, 3]
    )
    assert length_of([0, *dict.fromkeys(patch[way].tolist())], centres) <= 1.2 * best


def test_only_untouched_patches_that_are_worth_the_same_take_the_place_of_another():
    sizes = [1, 2, 2, 2, 2, 3, 2]
    problem, xy, _ = scattered(0, sizes)
    patch = problem.patch_of_hole
    xy = np.stack([10.0 * patch, np.arange(len(patch)) % 2], axis=-1)
    p_good = problem.prior_p_good.copy()
    p_good[patch == 1] = 0.39  # worth less
    p_good[np.flatnonzero(patch == 2)[0]] = 0.41  # uneven
    free = (patch > 0) & (np.arange(len(patch)) != np.flatnonzero(patch == 3)[0])  # one hole is imaged
    route = np.flatnonzero(patch == 6).tolist()
    way = by_the_shortest_way(problem, 0, route, free, p_good, xy)
    assert set(patch[way].tolist()) == {4}
    kept = by_the_shortest_way(problem, 0, route, free, p_good, xy, keep=frozenset(route[:1]))
    assert kept == route
    free[patch == 4] = False
    assert set(by_the_shortest_way(problem, 0, route, free, p_good, xy)) == set(route)


@pytest.mark.parametrize("seed", range(60))
def test_a_shorter_way_over_patterns_gives_up_nothing_that_is_expected(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 9)
    problem, xy, _ = scattered(seed, sizes)
    n = problem.n_holes
    # Patterns of up to three holes, which may reach into the next patch.
    at_once = np.arange(n)
    for begin in range(0, n - 3, 4):
        at_once[begin : begin + rng.integers(1, 4)] = begin
    route = [
        hole for each in rng.permutation(9)[:6] for hole in np.flatnonzero(problem.patch_of_hole == each)
    ]
    minutes = float(walked(problem, NOWHERE, route, np.inf).minutes[-1])
    said = Obeyed(np.zeros(n, dtype=bool), np.zeros(1, dtype=bool))
    free = np.ones(n, dtype=bool)
    rest = (said, free, problem.prior_p_good, minutes)
    found = as_listed(problem, NOWHERE, route, *rest, Positions(xy, True, at_once))
    plain = in_whole_patterns(problem, NOWHERE, route, free, at_once, minutes)
    fits = [walked(problem, NOWHERE, way, minutes) for way in (found, plain)]
    assert problem.prior_p_good[fits[0].holes].sum() >= problem.prior_p_good[fits[1].holes].sum() - 1e-9


def test_places_on_images_order_the_holes_of_each_patch_and_no_patches():
    problem, xy = lattice(side=4, patches=3)
    route = [hole for patch in (2, 0, 1) for hole in range(16 * patch, 16 * patch + 9)]
    free = np.ones(48, dtype=bool)
    way = by_the_shortest_way(problem, NOWHERE, route, free, problem.prior_p_good, xy, one_frame=False)
    assert [problem.patch_of_hole[hole] for hole in way] == [problem.patch_of_hole[hole] for hole in route]
    for begin in (0, 9, 18):
        assert length_of(way[begin : begin + 9], xy) < 0.8 * length_of(route[begin : begin + 9], xy)


def two_patches(looked_at):
    """Two patches of five holes in a square each; a look may have left the stage over the second square."""
    tree = HoleTree(
        np.repeat(np.arange(2), 5).astype(np.int32),
        np.arange(2, dtype=np.int32),
        np.zeros(2, dtype=np.int32),
    )
    at = tree.place_of_square(1) if looked_at else None
    problem = RoutingProblem(tree=tree, prior_p_good=np.full(10, 0.4), budget_min=100.0, stands_at=at)
    return problem, at


@pytest.mark.parametrize(("looked_at", "fits"), [(True, [5, 6, 7, 8]), (False, [6, 7])])
def test_minutes_of_an_operators_order_count_from_where_a_look_left_the_stage(looked_at, fits):
    problem, at = two_patches(looked_at)
    p_good = np.where(np.arange(10) == 5, 0.1, 0.4)
    out = Obeyed(np.zeros(10, dtype=bool), np.zeros(2, dtype=bool), first=(6,), pinned=(7,))
    # The first hole of the square takes 5 minutes from above it and 10 from the hole imaged last, the others 2.
    nowhere = Positions(np.full((10, 2), np.nan), on_stage=True)
    listed = as_listed(problem, 0, [5, 6, 7, 8], out, np.arange(10) > 0, p_good, 12.0, nowhere, at=at)
    assert sorted(listed) == fits


@pytest.mark.parametrize(("looked_at", "taken"), [(True, [5, 6, 7, 8, 9]), (False, [])])
def test_a_pattern_fits_by_the_minutes_from_where_a_look_left_the_stage(looked_at, taken):
    problem, at = two_patches(looked_at)
    at_once = np.where(np.arange(10) >= 5, 5, np.arange(10))
    found = in_whole_patterns(problem, 0, [5, 6], np.arange(10) > 0, at_once, 14.0, at)
    assert found == taken


@pytest.mark.parametrize("looked_at", [True, False])
def test_the_way_begins_where_a_look_left_the_stage(looked_at):
    """Of eight equal patches in a row; the hole imaged last is in the first of them."""
    problem, xy = lattice(side=2, patches=8)
    free = np.arange(32) > 0
    route = [hole for patch in range(1, 7) for hole in range(4 * patch, 4 * patch + 4)]
    at = problem.tree.place_of_patch(7) if looked_at else None
    way = by_the_shortest_way(problem, 0, route, free, problem.prior_p_good, xy, at=at)
    entered = list(dict.fromkeys(problem.patch_of_hole[way].tolist()))
    assert entered == ([6, 5, 4, 3, 2, 1] if looked_at else [1, 2, 3, 4, 5, 6])
