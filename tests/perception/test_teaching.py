"""Teachers: measured labels stay, guesses follow p_good, and the belief knows of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.belief.in_session import predict_given_labels
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.perception.teaching import Places, believed, taught

ROWS = st.lists(st.tuples(st.integers(-1, 1), st.floats(0.0, 1.0)), min_size=1, max_size=30)


@given(ROWS, st.sampled_from(["hard", "soft"]))
def test_measured_labels_stay_and_the_others_are_guessed(rows: list[tuple[int, float]], form: Any) -> None:
    labels, p = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    lesson = taught(labels, p, form)
    np.testing.assert_array_equal(lesson.guessed, labels == -1)
    for label, p_good, told, weight in zip(labels, p, lesson.labels, lesson.weights, strict=True):
        if form == "hard":
            assert told == (label if label >= 0 else p_good > 0.5)
            assert weight == (1.0 if label >= 0 else abs(2 * p_good - 1))
        else:
            good = label if label >= 0 else p_good
            assert told.tolist() == [1.0 - good, good]
            assert weight == 1.0


def test_probabilities_of_labelled_holes_are_not_read() -> None:
    labels = np.array([1, -1, 0])
    one, other = (taught(labels, np.array([p, 0.7, np.nan]), "soft") for p in (0.1, 7.0))
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.tolist() == [[0.0, 1.0], pytest.approx([0.3, 0.7]), [1.0, 0.0]]


def test_guesses_are_judged_by_their_weight_where_the_truth_is_known() -> None:
    lesson = taught(np.array([1, -1, -1, -1]), np.array([0.0, 0.9, 0.2, 0.6]))
    assert lesson.mean_weight() == pytest.approx((0.8 + 0.6 + 0.2) / 3)
    assert lesson.share_right(np.array([0, 1, 1, 1])) == pytest.approx((0.8 + 0.2) / 1.6)
    assert lesson.share_right(np.array([0, 1, 1, -1])) == pytest.approx(0.8 / 1.4)
    nothing = taught(np.array([1, 0]), np.array([0.5, 0.5]))
    assert np.isnan(nothing.mean_weight())
    assert np.isnan(nothing.share_right(np.array([1, 0])))


def test_weights_of_guesses_can_be_given() -> None:
    lesson = taught(np.array([1, -1]), np.array([0.5, 0.5]), "soft", np.array([9.0, 0.25]))
    assert lesson.weights.tolist() == [1.0, 0.25]


@pytest.mark.parametrize(
    ("labels", "p", "options", "message"),
    [
        ([1, -1], [0.5, 1.5], {}, "lie in 0..1. Got 1.5 for hole 1"),
        ([1, -1], [0.5, np.nan], {}, "Got nan for hole 1"),
        ([2, -1], [0.5, 0.5], {}, "1 for good or 0. Got 2"),
        ([1], [0.5, 0.5], {}, "2 in all"),
        ([1, -1], [0.5, 0.5], {"form": "firm"}, "hard or soft. Got 'firm'"),
        (
            [1, -1],
            [0.5, 0.5],
            {"weights": np.array([1.0, -1.0])},
            "Weights of guesses .* Got -1.0 for image 1",
        ),
    ],
)
def test_wrong_lessons_are_refused(labels: Any, p: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        taught(np.array(labels), np.array(p), **options)


def test_the_belief_is_that_of_the_session_given_its_labels() -> None:
    rng = np.random.default_rng(0)
    patch = np.repeat(np.arange(6), 10).astype(np.int32)
    tree = HoleTree(
        np.empty(0, dtype=np.int32), np.repeat(np.arange(3), 2).astype(np.int32), np.zeros(3, dtype=np.int32)
    )
    is_good = patch % 2 == 0
    labels = np.where(rng.random(60) < 0.5, is_good.astype(np.int64), -1)
    p, learned = rng.uniform(0.3, 0.7, 60), (labels >= 0) & (rng.random(60) < 0.5)
    places = Places(patch, tree, rng.uniform(0, 50, 60), rng.uniform(0, 50, 60))
    found = believed(p, labels, learned, places)
    known = np.where(labels < 0, np.nan, labels)
    expected = predict_given_labels(
        p, known, patch, tree, places.x_um, places.y_um, "effects+stage", learned_from=learned
    )
    np.testing.assert_array_equal(found, expected.p_good)
    unlabelled = labels < 0
    assert ((found > 0.5) == is_good)[unlabelled].mean() > 0.9
    assert taught(labels, found).share_right(is_good.astype(np.int64)) > 0.9
