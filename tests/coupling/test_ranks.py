"""Ranks of routes, and the probability that labels make of them: a label never sees itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.coupling.ranks import FOLDS, made_probability, mean_ranks


def test_a_rank_is_the_mean_place_in_the_routes() -> None:
    np.testing.assert_array_equal(mean_ranks(np.array([[2, 0, 1], [0, 2, 1]])), [0.5, 2.0, 0.5])


def test_the_rank_of_a_label_is_of_routes_that_were_not_told_it() -> None:
    n = 40
    labels = np.where(np.arange(n) % 2 == 0, np.arange(n) % 4 // 2, UNLABELLED).astype(np.int64)
    told = Told(labels, np.zeros(n, dtype=np.bool_))
    asked: list[NDArray[np.int64]] = []

    def routes(known: Told) -> NDArray[np.int64]:
        asked.append(known.labels)
        # Whoever knows a label visits it first: a rank that sees its own label is right everywhere.
        return np.array([np.lexsort((np.arange(n), -known.labels))])

    def early(known: Told, fold: int = 0) -> NDArray[np.float64]:
        return -mean_ranks(routes(known))

    p = made_probability(early(told), told, early, increasing=True)
    hidden = [(each == UNLABELLED) & (labels != UNLABELLED) for each in asked[1:]]
    assert len(hidden) == FOLDS
    np.testing.assert_array_equal(np.sum(hidden, axis=0), labels != UNLABELLED)
    assert ((p >= 0.0) & (p <= 1.0)).all()
    # Out of sight of its label a hole's rank is that of any other, and says nothing.
    assert p[labels == 1].mean() < 0.9


@pytest.mark.parametrize("increasing", [True, False])
def test_labels_of_held_out_states_are_neither_told_nor_fitted(increasing: bool) -> None:
    n = 24
    labels = (np.arange(n) % 3 == 0).astype(np.int64)
    held = np.arange(n) % 4 == 1
    number = np.arange(n, dtype=np.float64)

    def probability(known: NDArray[np.int64]) -> NDArray[np.float64]:
        def numbers(told: Told, fold: int) -> NDArray[np.float64]:
            assert (told.shown[held] == UNLABELLED).all()
            return number

        return made_probability(number, Told(known, held), numbers, increasing=increasing)

    flipped = np.where(held, 1 - labels, labels)
    np.testing.assert_array_equal(probability(labels), probability(flipped))


def test_where_the_number_tells_the_kinds_apart_the_probability_does() -> None:
    number = np.arange(20, dtype=np.float64)
    told = Told((number >= 10).astype(np.int64), np.zeros(20, dtype=np.bool_))
    p = made_probability(number, told, lambda known, fold: number, increasing=True)
    np.testing.assert_array_equal(p, told.labels)
    p = made_probability(-number, told, lambda known, fold: -number, increasing=False)
    np.testing.assert_array_equal(p, told.labels)
