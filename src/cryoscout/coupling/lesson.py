"""What perception is taught in one round: guesses for states without a label, and how far each is to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.coupling.settings import Form
from cryoscout.coupling.theory import labels_of_route

UNLABELLED = -1
KIND = "lesson of a coupling"


@dataclass(frozen=True)
class Told:
    """What the loop may know of n states. Raises InputError where a held-out state has no label."""

    labels: NDArray[np.int64]
    """(n,) 1 positive, 0 not, -1 = unlabelled"""
    held_out: NDArray[np.bool_]
    """(n,) labelled states that only judge rounds"""

    def __post_init__(self) -> None:
        """Check the form; what coupling needs beyond it is `check`."""
        if self.held_out.shape != self.labels.shape or (self.held_out & (self.labels == UNLABELLED)).any():
            raise InputError("Held-out states must be labelled ones. Got others instead.")

    def check(self) -> None:
        """Raise InputError where there is nothing to learn from, or nothing to label."""
        known = self.labels[self.shown != UNLABELLED]
        if not len(known):
            raise InputError(
                f"Coupling must have labelled states. Got none of {len(self.labels)} instead. Remedy: measure some "
                "first, of both kinds."
            )
        if len(np.unique(known)) < 2:
            raise InputError(
                f"Labels must be of both kinds. Got {len(known)}, all {'positive' if known[0] else 'negative'}, "
                "instead. Remedy: more labels, or another threshold between the two."
            )
        if not (self.labels == UNLABELLED).any():
            raise InputError(
                f"Coupling must have unlabelled states, which it labels. Got {len(self.labels)} labelled ones alone "
                "instead. Remedy: train on the labels as they are; nothing is left to propagate them to."
            )

    @property
    def shown(self) -> NDArray[np.int64]:
        """(n,) the labels that perception and policy are told: -1 where held out."""
        return np.where(self.held_out, UNLABELLED, self.labels)

    @property
    def unlabelled(self) -> NDArray[np.bool_]:
        """(n,) states that get guesses; held-out ones get none."""
        return np.asarray(self.labels == UNLABELLED)


@dataclass(frozen=True)
class Lesson:
    """Guesses of one round. Only unlabelled states have one."""

    p_positive: NDArray[np.float64]
    """(n,) what is taught: 0 or 1 where hard; NaN where nothing is guessed"""
    weight: NDArray[np.float64]
    """(n,) 0 or more, 0 where nothing is guessed"""
    n_positive: int | None = None
    """N_C, of routes"""
    votes: NDArray[np.float64] | None = None
    """(n,) share of the routes that call the state positive"""

    @property
    def guessed(self) -> NDArray[np.bool_]:
        """(n,)."""
        return np.isfinite(self.p_positive)

    @property
    def is_hard(self) -> bool:
        """Whether every guess is 0 or 1."""
        known = self.p_positive[self.guessed]
        return bool(((known == 0.0) | (known == 1.0)).all())

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(n,) the likelier side; False where nothing is guessed."""
        return self.guessed & (np.nan_to_num(self.p_positive) > 0.5)

    def share_right(self, truth: NDArray[np.int64]) -> float:
        """Share of the guesses on the true side; NaN where it is known of none. truth : (n,) 1, 0, -1 unknown."""
        known = self.guessed & (truth != UNLABELLED)
        return float((self.positive[known] == (truth[known] == 1)).mean()) if known.any() else float("nan")

    def share_changed(self, before: Lesson) -> float:
        """Share of the guesses that are on another side than before."""
        both = self.guessed & before.guessed
        return float((self.positive[both] != before.positive[both]).mean()) if both.any() else float("nan")

    def save(self, path: Path) -> None:
        """As one file of arrays."""
        arrays = {"p_positive": self.p_positive, "weight": self.weight}
        if self.votes is not None:
            arrays["votes"] = self.votes
        write_arrays(arrays, {"kind": KIND, "n_positive": self.n_positive}, path)

    @classmethod
    def load(cls, path: Path) -> Lesson:
        """What `save` wrote. Raises InputError for another file."""
        arrays, header = read_arrays(path, KIND)
        numbers = {name: array.astype(np.float64) for name, array in arrays.items()}
        return cls(numbers["p_positive"], numbers["weight"], header["n_positive"], numbers.get("votes"))


def lesson_of_p(p_positive: NDArray[np.float64], told: Told, form: Form = "soft") -> Lesson:
    """Guesses of a teacher that gives probabilities, (n,) in 0..1.

    form : `soft`: the probability itself, weight 1, because it says its doubt already; `hard`: the likelier side,
        weight |2 p - 1|
    """
    guess = p_positive if form == "soft" else (p_positive > 0.5).astype(np.float64)
    weight = np.ones(len(guess)) if form == "soft" else np.abs(2.0 * p_positive - 1.0)
    return Lesson(np.where(told.unlabelled, guess, np.nan), np.where(told.unlabelled, weight, 0.0))


def lesson_of_routes(routes: NDArray[np.int64], n_positive: int, told: Told) -> Lesson:
    """The paper's rule: the majority of M routes, whose first N_C states are positive; weight: the share that agree.

    routes : (M, n) each visits every state once     n_positive : N_C, 1 to n - 1
    Of an even vote the label is negative, with weight 1/2. Raises InputError for another N_C, or no route.
    """
    if not len(routes):
        raise InputError("The routes that vote, M, must be 1 or more. Got 0 instead.")
    votes = np.mean([labels_of_route(route, n_positive) for route in routes], axis=0)
    positive = votes > 0.5
    agree = np.where(positive, votes, 1.0 - votes)
    return Lesson(
        np.where(told.unlabelled, positive.astype(np.float64), np.nan),
        np.where(told.unlabelled, agree, 0.0),
        n_positive,
        votes,
    )


def pseudo_rewards(p_positive: NDArray[np.float64], told: Told) -> NDArray[np.float64]:
    """(n,) what a policy is told that each state gives: its label where one is shown, else the prediction."""
    return np.where(told.shown == UNLABELLED, p_positive, told.shown)


def cut_of(settings_n: int | None, rewards: NDArray[np.float64]) -> int:
    """N_C: the one that was asked for, else the sum of the pseudo-rewards. Raises InputError outside 1..n-1."""
    n = len(rewards)
    asked = round(float(rewards.sum())) if settings_n is None else settings_n
    if settings_n is None:
        return min(max(asked, 1), n - 1)
    if not 1 <= asked < n:
        raise InputError(
            f"N_C, the states that a route labels positive, must be at least 1 and below {n}, their number. Got "
            f"{asked} instead. Remedy: leave it out; the sum of the pseudo-rewards is taken."
        )
    return asked
