"""Ranks of routes, and the probability that labels make of them: a label never sees itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.coupling.ranks import FOLDS, made_probability, mean_ranks, probability_by_held_out


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


def _memorised() -> tuple[Told, NDArray[np.float64], NDArray[np.int64]]:
    """Labels of two fifths of 2,000 states, a fifth of them held out, a number of every state, and the truth.

    The number is of a network that has seen the other labels and knows nothing else: right of these, noise elsewhere.
    """
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 2000)
    labels, held = np.full(2000, UNLABELLED, dtype=np.int64), np.zeros(2000, dtype=np.bool_)
    labels[:800], held[:160] = truth[:800], True
    told = Told(labels, held)
    seen = told.shown != UNLABELLED
    return told, np.where(seen, truth + 0.1 * rng.random(2000), rng.random(2000)), truth


def test_where_perception_memorised_its_labels_held_out_ones_say_that_it_knows_nothing() -> None:
    told, number, truth = _memorised()
    hidden = told.labels == UNLABELLED

    def brier(p: NDArray[np.float64]) -> float:
        return float(np.square(p - truth)[hidden].mean())

    # Routes that are not told a label go by predictions that repeat it: folds of labels do not help.
    assert brier(made_probability(number, told, lambda known, fold: number, increasing=True)) > 0.3
    assert brier(probability_by_held_out(number, told, increasing=True)) < 0.27


def test_only_held_out_labels_make_the_probability() -> None:
    told, number, _ = _memorised()
    flipped = np.where(told.held_out | (told.labels == UNLABELLED), told.labels, 1 - told.labels)
    other = Told(flipped, told.held_out)
    p = probability_by_held_out(number, told, increasing=True)
    np.testing.assert_array_equal(p, probability_by_held_out(number, other, increasing=True))
    assert (np.diff(p[np.argsort(number)]) >= 0.0).all()
    falling = probability_by_held_out(-number, told, increasing=False)
    np.testing.assert_allclose(falling, p)


@pytest.mark.parametrize(("held", "got"), [([], "none"), ([0, 2], "2, all of one kind,")])
def test_held_out_labels_of_one_kind_make_no_probability(held: list[int], got: str) -> None:
    labels = np.arange(8) % 2
    told = Told(labels, np.isin(np.arange(8), held))
    with pytest.raises(InputError, match=f"must be of both kinds. Got {got} instead. Remedy: more labels"):
        probability_by_held_out(np.arange(8.0), told, increasing=True)


def test_a_few_held_out_labels_make_no_state_sure() -> None:
    labels, held = np.full(40, UNLABELLED, dtype=np.int64), np.isin(np.arange(40), [3, 10])
    labels[[3, 10]] = 1, 0
    p = probability_by_held_out(np.arange(40.0), Told(labels, held), increasing=False)
    assert (p.min(), p.max()) == (0.25, 0.75)
