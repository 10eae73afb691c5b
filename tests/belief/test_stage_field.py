"""The field's basis gives the kernel back, its derivative is that of finite differences, and few positions suffice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import Matern

from cryoscout.belief.stage_field import FieldBasis, inducing_positions, matern, matern_by_log_length


def positions(n, seed=0, spread_um=60.0):
    return np.random.default_rng(seed).uniform(-spread_um, spread_um, (n, 2))


def test_the_kernel_is_that_of_scikit_learn():
    xy = positions(20)
    np.testing.assert_allclose(matern(cdist(xy, xy), 35.0), Matern(35.0, nu=1.5)(xy), atol=1e-12)


@given(st.floats(0.0, 500.0), st.floats(5.0, 500.0))
def test_the_kernels_derivative_is_that_of_finite_differences(distance, length):
    d, h = np.array([distance]), 1e-5
    slow = (matern(d, length * np.exp(h)) - matern(d, length * np.exp(-h))) / (2 * h)
    np.testing.assert_allclose(matern_by_log_length(d, length), slow, atol=1e-8)


@given(st.integers(1, 25), st.floats(5.0, 300.0), st.integers(0, 1000))
def test_with_every_position_inducing_the_basis_gives_the_kernel_back(n, length, seed):
    xy = positions(n, seed)
    distance = cdist(xy, xy)
    rows = FieldBasis(distance, length).rows(distance)
    np.testing.assert_allclose(rows @ rows.T, matern(distance, length), atol=2e-5)


def test_the_derivative_of_the_basis_is_that_of_finite_differences():
    inducing, elsewhere = positions(12), positions(7, seed=1)
    between, away, h = cdist(inducing, inducing), cdist(elsewhere, inducing), 1e-5
    basis = FieldBasis(between, 40.0)
    up, down = (FieldBasis(between, 40.0 * np.exp(sign * h)).rows(away) for sign in (1, -1))
    np.testing.assert_allclose(
        basis.rows_by_log_length(away, basis.rows(away)), (up - down) / (2 * h), atol=1e-6
    )


def test_positions_out_of_reach_have_no_field_and_no_derivative():
    inducing = positions(5)
    basis, far = FieldBasis(cdist(inducing, inducing), 40.0), np.full((2, 5), 1e9)
    assert np.array_equal(basis.rows(far), np.zeros((2, 5)))
    assert np.array_equal(basis.rows_by_log_length(far, np.zeros((2, 5))), np.zeros((2, 5)))


def test_without_inducing_positions_there_is_no_field():
    basis = FieldBasis(np.empty((0, 0)), 40.0)
    assert basis.rows(np.empty((3, 0))).shape == (3, 0)


def test_up_to_the_most_positions_each_distinct_one_is_taken_once():
    xy = positions(30)
    taken = inducing_positions(np.concatenate([xy, xy[::2]]), 40)
    assert {tuple(row) for row in taken} == {tuple(row) for row in xy}
    assert len(taken) == 30


def test_farthest_point_selection_is_that_of_a_slow_loop_and_covers_the_rest():
    xy = positions(60)
    taken = inducing_positions(xy, 15)
    middle = xy.mean(axis=0)
    slow = [max(xy, key=lambda at: np.hypot(*(at - middle)))]
    while len(slow) < 15:
        slow.append(max(xy, key=lambda at: min(np.hypot(*(at - other)) for other in slow)))
    np.testing.assert_array_equal(taken, slow)
    # Every position is nearer to a chosen one than two chosen ones are to each other.
    apart = cdist(taken, taken)[~np.eye(15, dtype=bool)].min()
    assert cdist(xy, taken).min(axis=1).max() <= apart


def test_fewer_positions_bring_nearly_the_same_field_when_it_is_long():
    xy = positions(200)
    few = inducing_positions(xy, 60)
    rows = FieldBasis(cdist(few, few), 60.0).rows(cdist(xy, few))
    off = np.abs(rows @ rows.T - matern(cdist(xy, xy), 60.0)).max()
    assert off < 0.12
    assert off == pytest.approx(1.0 - np.square(rows).sum(axis=1).min(), abs=0.02)
