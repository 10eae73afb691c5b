"""The logistic regression against scikit-learn's, and soft targets against the labels that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cryoscout.core.errors import InputError
from cryoscout.coupling.linear_perception import LinearPerception

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 3)) * [1.0, 5.0, 0.2] + [0.0, 2.0, -1.0]
Y = (X[:, 0] + 0.3 * X[:, 1] + RNG.standard_normal(200) > 0.5).astype(np.float64)


def test_it_is_scikit_learns() -> None:
    weights = RNG.integers(1, 4, 200).astype(np.float64)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    oracle = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(z, Y, sample_weight=weights)
    found = LinearPerception.fit(X, Y, weights)
    np.testing.assert_allclose(found.p_positive(X), oracle.predict_proba(z)[:, 1], atol=1e-4)


def test_a_soft_target_is_both_labels_by_their_shares() -> None:
    soft = np.where(np.arange(200) % 2 == 0, 0.25, Y)
    half = np.flatnonzero(np.arange(200) % 2 == 0)
    both = LinearPerception.fit(X, soft)
    split = LinearPerception.fit(
        np.concatenate([X, X[half]]),
        np.concatenate([np.where(np.arange(200) % 2 == 0, 1.0, Y), np.zeros(len(half))]),
        np.concatenate([np.where(np.arange(200) % 2 == 0, 0.25, 1.0), np.full(len(half), 0.75)]),
    )
    # The features' spread differs a little between the two, and with it the ridge.
    np.testing.assert_allclose(both.p_positive(X), split.p_positive(X), atol=5e-3)


def test_what_has_no_target_or_no_weight_is_not_learned_from() -> None:
    told = np.where(np.arange(200) < 50, Y, np.nan)
    weighed = LinearPerception.fit(X, 1.0 - Y, (np.arange(200) < 50) * 1.0)
    found = LinearPerception.fit(X, told)
    np.testing.assert_allclose(weighed.p_positive(X), 1.0 - found.p_positive(X), atol=1e-5)


def test_separable_classes_stay_finite() -> None:
    x = np.array([[-1.0], [1.0]])
    p = LinearPerception.fit(x, np.array([0.0, 1.0])).p_positive(x)
    assert 0.0 < p[0] < 0.5 < p[1] < 1.0


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        (np.full(200, np.nan), {}),
        (np.full(200, 1.5), {}),
        (Y, {"ridge": 0.0}),
        (Y, {"weights": np.where(np.arange(200) == 3, -1.0, 1.0)}),
    ],
)
def test_wrong_targets_are_refused(targets: Any, options: Any) -> None:
    with pytest.raises(InputError, match="must"):
        LinearPerception.fit(X, targets, **options)
