"""When routes come to each state, as a number, and the probability that labels make of such a number.

SSL2-RL cuts a route once, at N_C, and what comes before is positive. The place in the route says more than its side of
the cut, and a regression on labels says how much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from cryoscout.core.errors import InputError
from cryoscout.core.ties import order_lowest_first
from cryoscout.coupling.lesson import UNLABELLED, Told

FOLDS = 4

NumbersOf = Callable[[Told, int], NDArray[np.float64]]
"""(what is told, fold) -> (n,) a number of every state"""


def mean_ranks(routes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) mean place of each state in the routes. routes : (M, n) each visits every state once"""
    places = np.empty(routes.shape)
    for row, route in zip(places, routes, strict=True):
        row[route] = np.arange(len(route))
    return np.asarray(places.mean(axis=0))


def made_probability(
    of_all: NDArray[np.float64], told: Told, numbers_of: NumbersOf, folds: int = FOLDS, *, increasing: bool
) -> NDArray[np.float64]:
    """(n,) probability by isotonic regression of the shown labels on a number that routes give every state.

    of_all : (n,) the number where all labels are told     numbers_of : the same for fewer labels
    increasing : whether a larger number speaks for a positive state
    A label must not see itself: the numbers of labelled states are those of routes that were not told the labels of
    their fold. For a perception that cannot memorise its labels; of any other see `probability_by_held_out`.
    """
    labelled = np.flatnonzero(told.shown != UNLABELLED)
    fold = np.random.default_rng(0).permutation(len(labelled)) % folds
    number = np.empty(len(labelled))
    for each in range(folds):
        hidden = labelled[fold == each]
        labels = told.labels.copy()
        labels[hidden] = UNLABELLED
        number[fold == each] = numbers_of(Told(labels, told.held_out), each)[hidden]
    return _fitted(number, told.labels[labelled], of_all, increasing)


def probability_by_held_out(
    of_all: NDArray[np.float64], told: Told, *, increasing: bool
) -> NDArray[np.float64]:
    """The same by the held-out labels, which neither the routes nor perception were told.

    A network's prediction for a state whose label it learned from repeats the label, and so does a route that goes by
    it, even where the route is not told the label.
    Raises InputError as `check_held_out`.
    """
    check_held_out(told)
    known = told.labels[told.held_out]
    p = _fitted(of_all[told.held_out], known, of_all, increasing)
    # A few labels of one kind at an end of the numbers do not make all states there sure: the curve has as much of the
    # share of positive ones in it as two labels would.
    return np.asarray((len(known) * p + 2.0 * known.mean()) / (len(known) + 2.0))


def check_held_out(told: Told) -> None:
    """Raise InputError where held-out labels are not of both kinds, so that nothing can be made a probability."""
    known = told.labels[told.held_out]
    if len(np.unique(known)) < 2:
        got = f"{len(known)}, all of one kind," if len(known) else "none"
        raise InputError(
            "Held-out labels, which make ranks and values probabilities, must be of both kinds. Got "
            f"{got} instead. Remedy: more labels, or the teacher belief or route."
        )


def _fitted(
    number: NDArray[np.float64], labels: NDArray[np.int64], of_all: NDArray[np.float64], increasing: bool
) -> NDArray[np.float64]:
    order = order_lowest_first(number)
    fitted = isotonic_regression(labels[order].astype(np.float64), increasing=increasing).x
    return np.asarray(np.interp(of_all, number[order], fitted))
