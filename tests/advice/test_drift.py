"""Drift: told when results fall off everywhere, at its level, and not for what predictions always get wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryoscout.advice import drift
from cryoscout.advice.drift import (
    EVERY,
    KEPT,
    SUREST,
    DriftWatch,
    Promise,
    Promises,
    _Results,
    log_ratios,
)
from cryoscout.belief.laplace import laplace_posterior
from cryoscout.core.hole_tree import HoleTree
from examples import slow_but


def promised(p_good: float, patch: int, square: str = "s1", grid: str = "g1") -> Promise:
    return Promise(p_good, float(np.log(p_good / (1 - p_good))), (0.0, 0.0, 0.0), f"p{patch}", square, grid)


def told(watch: DriftWatch, results: int, good_of_ten: int, *, first_patch: int, squares=("s1",), grid="g1"):
    """The first warning in results in patches of ten, the bad ones spread out; squares take turns patch by patch."""
    first = None
    for number in range(results):
        patch = first_patch + number // 10
        is_good = (number * 3) % 10 < good_of_ten
        watch.take(promised(0.9, patch, squares[patch % len(squares)], grid), is_good)
        first = first or (watch.warning if number % EVERY == EVERY - 1 else None)
    return first


def test_a_fall_everywhere_is_told_within_thirty_results_and_forgotten_when_it_is_over():
    watch = DriftWatch()
    assert told(watch, 200, 9, first_patch=0, squares=("a", "b", "c")) is None
    warning = told(watch, 30, 4, first_patch=20, squares=("a", "b", "c"))
    assert warning is not None
    assert warning.level == "all at once"
    assert "focus and beam" in warning.sentence
    assert 190 <= warning.since_result <= 215
    assert warning.good < 0.7 * warning.expected
    told(watch, KEPT + EVERY, 9, first_patch=30, squares=("a", "b", "c"))
    assert watch.warning is None


def test_a_fall_that_begins_in_a_new_square_is_that_squares():
    watch = DriftWatch()
    told(watch, 200, 9, first_patch=0, squares=("a", "b", "c"))
    warning = told(watch, 100, 2, first_patch=100, squares=("x",))
    assert warning is not None
    assert (warning.level, warning.place) == ("this square", "x")
    assert "Square x" in warning.sentence


def test_a_total_loss_is_told_with_the_first_ten_results_that_are_lost():
    # Seven of ten were good until then; the effects of patch and square could explain a fall, but hardly to nothing.
    watch = DriftWatch()
    assert told(watch, 100, 7, first_patch=0, squares=("a", "b", "c")) is None
    warning = told(watch, 20, 0, first_patch=10, squares=("a", "b", "c"))
    assert warning is not None
    assert (warning.level, warning.since_result, warning.good) == ("all at once", 100, 0.0)


@pytest.mark.parametrize("lost_since", [20, 50, 100])
def test_a_loss_that_goes_on_is_told_for_as_long_as_it_is_the_newest_of_the_results(lost_since):
    watch = DriftWatch()
    told(watch, 150, 8, first_patch=0, squares=("a", "b", "c"))
    told(watch, lost_since, 0, first_patch=15, squares=("a", "b", "c"))
    assert watch.warning is not None
    assert watch.warning.good <= 0.1 * watch.warning.expected


def test_a_grid_that_gives_nothing_is_told_as_that_grid():
    watch = DriftWatch()
    told(watch, 150, 8, first_patch=0, squares=("a", "b", "c"))
    warnings = [
        told(watch, 10, 0, first_patch=100 + number, squares=("x", "y", "z"), grid="g2")
        for number in range(6)
    ]
    levels = [warning.level for warning in warnings if warning is not None]
    assert levels[-1] == "this grid"
    assert "all at once" not in levels
    assert watch.warning is not None
    assert watch.warning.place == "g2"
    assert "Grid g2 is worse" in watch.warning.sentence


def test_a_hole_that_cannot_fail_counts_by_no_more_than_the_surest():
    rows = [(promised(0.9, number // 5), number % 3 != 0) for number in range(30)]
    results = _Results(rows)
    posterior = laplace_posterior(results.block(1.0))
    certain = replace(posterior, patch_mean=posterior.patch_mean + 60.0)  # p_good is 1 to the last bit
    score, information = results.score(certain)
    assert score[0] == pytest.approx(SUREST * 10.0)
    assert np.isfinite(information).all()


def test_predictions_that_always_promise_too_much_are_no_drift():
    watch = DriftWatch()
    for number in range(300):
        watch.take(promised(0.95, number // 10, f"s{number // 60}"), (number * 7) % 10 < 6)
        if number % EVERY == EVERY - 1:
            assert watch.warning is None


@pytest.mark.parametrize("sessions", slow_but([5], [5, 20]))
def test_patches_that_differ_by_more_than_predicted_are_no_drift(sessions):
    rng = np.random.default_rng(4)
    warned = 0
    for _ in range(sessions):
        watch, seen = DriftWatch(), False
        for patch in range(20):
            chance = 1 / (1 + np.exp(-(1.5 + rng.normal(0.0, 1.2))))
            for _ in range(10):
                watch.take(promised(0.8, patch, f"s{patch // 6}"), bool(rng.random() < chance))
            seen |= watch.warning is not None
        warned += seen
    assert warned <= sessions / 20


def test_a_look_that_is_put_off_says_the_same_and_no_later_than_the_next_one():
    watch, at_once = DriftWatch(), DriftWatch()
    said, unfinished = [None], 0
    for number in range(140):
        is_good = number < 80 and (number * 3) % 10 < 9
        for each in (watch, at_once):
            each.take(promised(0.9, number // 10, "abc"[number // 10 % 3]), is_good)
        if number % EVERY == EVERY - 1:
            said.append(at_once.warning)
        time_for = iter([True, False])  # one fit after each result
        unfinished += not watch.look_on(lambda: next(time_for, False))  # noqa: B023  called in this round alone
        assert watch.told in said[-2:]
    assert unfinished > 20
    assert watch.look_on(lambda: True)
    assert watch.told is not None
    assert (watch.told, watch.log_ratio) == (at_once.warning, at_once.log_ratio)


def test_a_look_that_fails_is_begun_anew(monkeypatch):
    watch = DriftWatch()
    told(watch, 200, 9, first_patch=0, squares=("a", "b", "c"))
    told(watch, 30, 4, first_patch=20, squares=("a", "b", "c"))
    again = DriftWatch()
    for row in watch._rows:
        again.take(*row)
    fit = drift.laplace_posterior
    fails = [True]

    def failing(*how, **more):
        if fails:
            fails.clear()
            raise np.linalg.LinAlgError("not positive definite")
        return fit(*how, **more)

    monkeypatch.setattr(drift, "laplace_posterior", failing)
    with pytest.raises(np.linalg.LinAlgError):
        again.look_on(lambda: True)
    assert again.warning == watch.warning is not None


def test_what_is_said_is_a_function_of_the_newest_results():
    rows = [(promised(0.8, number // 10), number % 4 != 0) for number in range(KEPT + 100)]
    one, other = DriftWatch(), DriftWatch()
    for number, row in enumerate(rows):
        one.take(*row)
        if number % 7 == 0:
            assert one.log_ratio is not None
    for row in rows:
        other.take(*row)
    assert one.log_ratio == other.log_ratio
    assert other.log_ratio == pytest.approx(float(log_ratios(rows[-KEPT:]).max()))


def test_the_surroundings_of_a_hole_are_differences_of_mean_logits():
    tree = HoleTree(np.array([0, 0, 1], np.int32), np.array([0, 0], np.int32), np.array([0], np.int32))
    promise = Promises(np.array([0.5, 0.5, 0.9]), tree).of(2, "p", "s", "g")
    assert promise.logit == pytest.approx(np.log(9))
    assert promise.around == pytest.approx((np.log(9) * 2 / 3, 0.0, 0.0))
