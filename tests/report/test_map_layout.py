"""The drawn map nests every level in its parent and lets nothing overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.hole_tree import HoleTree
from cryoscout.report.map_layout import Box, lay_out
from cryoscout.testing import random_problem


def contains(outer: Box, inner: Box) -> bool:
    slack = 1e-9
    return (
        outer.x - slack <= inner.x
        and outer.y - slack <= inner.y
        and inner.x + inner.width <= outer.x + outer.width + slack
        and inner.y + inner.height <= outer.y + outer.height + slack
    )


def overlap(a: Box, b: Box) -> bool:
    slack = 1e-9
    return (
        a.x + a.width > b.x + slack
        and b.x + b.width > a.x + slack
        and a.y + a.height > b.y + slack
        and b.y + b.height > a.y + slack
    )


@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_every_level_lies_in_its_parent_and_siblings_do_not_overlap(seed, n_holes, with_offsets):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, n_holes)
    offsets = rng.normal(0, 300, size=(n_holes, 2)) if with_offsets else None
    layout = lay_out(problem, offsets)
    frame = Box(0.0, 0.0, layout.width, layout.height)
    assert all(contains(frame, grid) for grid in layout.grids)
    assert all(contains(layout.grids[problem.grid_of_square[i]], box) for i, box in enumerate(layout.squares))
    assert all(
        contains(layout.squares[problem.square_of_patch[i]], box) for i, box in enumerate(layout.patches)
    )
    for hole, (x, y) in enumerate(layout.hole_xy):
        assert contains(layout.patches[problem.patch_of_hole[hole]], Box(x, y, 0.0, 0.0))
    for boxes in (layout.grids, layout.squares, layout.patches):
        assert not any(overlap(a, b) for a, b in itertools.combinations(boxes, 2))


def test_known_offsets_keep_their_shape_and_direction():
    problem = random_problem(np.random.default_rng(0), 1)
    problem = type(problem)(
        HoleTree(np.zeros(3, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32)),
        np.full(3, 0.5),
        budget_min=10.0,
    )
    points = lay_out(problem, np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]])).hole_xy
    assert points[1] - points[0] == pytest.approx([1.0, 0.0])
    assert points[2] - points[0] == pytest.approx([0.0, 1.0])


def test_one_unknown_offset_puts_the_patch_on_a_lattice():
    problem = random_problem(np.random.default_rng(0), 1)
    problem = type(problem)(
        HoleTree(np.zeros(4, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32)),
        np.full(4, 0.5),
        budget_min=10.0,
    )
    offsets = np.array([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0], [np.nan, 0.0]])
    points = lay_out(problem, offsets).hole_xy
    assert (points - points.min(axis=0)).tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
