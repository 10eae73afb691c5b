"""The scavenger hunt as the loop's problem: a logistic regression of embeddings as perception, a planner as driver."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.array_file import read_arrays, write_arrays
from cryoscout.coupling.lesson import UNLABELLED, Lesson, Told, pseudo_rewards
from cryoscout.coupling.linear_perception import LinearPerception
from cryoscout.coupling.loop import Coupled, Loop
from cryoscout.coupling.rate_route import rate_route
from cryoscout.coupling.scavenger_hunt import Hunt
from cryoscout.coupling.settings import CoupleSettings
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out

KIND = "linear perception"
LEAST_REWARD = 1e-6
"""A place without any prospect is searched in the end all the same."""
JUDGED_AT = (0.25, 0.5, 0.75)
"""Moments of a search of the held-out places, as shares of the time that searching all of them takes."""


@dataclass(frozen=True)
class HuntPerception:
    """p(object) of every place from what it looks like and the known likelihood of its kind."""

    hunt: Hunt
    ridge: float = 1.0

    def pretrained(self, told: Told, folder: Path) -> LinearPerception:
        """Of the places that were searched; a linear model learns nothing from the others."""
        del folder
        shown = told.shown
        targets = np.where(shown == UNLABELLED, np.nan, shown)
        return LinearPerception.fit(self.hunt.known, targets, ridge=self.ridge)

    def fine_tuned(
        self, model: LinearPerception, lesson: Lesson, told: Told, seed: int, folder: Path
    ) -> LinearPerception:
        """Of what was found and the guesses; its optimum does not depend on where it starts."""
        del model, seed, folder
        shown = told.shown
        targets = np.where(shown == UNLABELLED, lesson.p_positive, shown)
        weights = np.where(shown == UNLABELLED, lesson.weight, 1.0)
        return LinearPerception.fit(self.hunt.known, targets, weights, self.ridge)

    def p_positive(self, model: LinearPerception) -> NDArray[np.float64]:
        """(n,)."""
        return model.p_positive(self.hunt.known)

    def save(self, model: LinearPerception, path: Path) -> None:
        """As one file of arrays."""
        write_arrays(vars(model), {"kind": KIND}, path)

    def load(self, path: Path) -> LinearPerception:
        """What `save` wrote."""
        arrays, _ = read_arrays(path, KIND)
        return LinearPerception(**{name: array.astype(np.float64) for name, array in arrays.items()})


@dataclass(frozen=True)
class HuntRoutes:
    """A robot that always makes the visit of a room with the best prospect per second."""

    hunt: Hunt
    settings: CoupleSettings

    def routes(
        self, p_positive: NDArray[np.float64], told: Told, starts: NDArray[np.int64], seed: int, folder: Path
    ) -> NDArray[np.int64]:
        """(M, n) all places in the order of their search, from each start."""
        del seed, folder
        rewards = np.maximum(pseudo_rewards(p_positive, told), LEAST_REWARD)
        return np.array([self._route(rewards, int(start)) for start in starts])

    def held_out_return(self, p_positive: NDArray[np.float64], told: Told, folder: Path) -> float:
        """Objects found by three moments of a search of the held-out places, which knows p of them alone; the mean."""
        del folder
        places = np.flatnonzero(told.held_out)
        rewards = np.full(len(told.labels), LEAST_REWARD)
        rewards[places] += p_positive[places]
        start = int(places[np.argmax(p_positive[places])])
        route = self._route(rewards, start)
        route = route[np.isin(route, places)]
        moves = [self.hunt.seconds_to(int(here))[there] for here, there in pairwise(route)]
        ended = np.concatenate([[0.0], np.cumsum(moves)])
        found = np.cumsum(told.labels[route] == 1)
        moments = [share * ended[-1] for share in JUDGED_AT]
        return float(np.mean([found[np.searchsorted(ended, moment, side="right") - 1] for moment in moments]))

    def _route(self, rewards: NDArray[np.float64], start: int) -> NDArray[np.int64]:
        if self.settings.movement_cost:
            return rate_route(rewards, self.hunt.room_of_place, self.hunt.seconds_to, start)
        same = np.full(len(rewards), self.hunt.settings.in_room_s)
        return rate_route(rewards, self.hunt.room_of_place, lambda here: same, start)


def couple_hunt(
    hunt: Hunt, labelled: NDArray[np.bool_], settings: CoupleSettings, folder: Path, *, resume: bool = False
) -> Coupled[LinearPerception]:
    """The loop on a building of which some places were searched, (n,) bool; rooms are held out whole."""
    labels = np.where(labelled, hunt.has_object, UNLABELLED).astype(np.int64)
    rng = np.random.default_rng([settings.seed, HELD_OUT_STREAM])
    told = Told(labels, hold_out(labels, hunt.room_of_place, settings.held_out, rng))
    digest = hashlib.sha256(
        hunt.known.tobytes() + labels.tobytes() + hunt.room_of_place.tobytes()
    ).hexdigest()
    truth = hunt.has_object.astype(np.int64)
    parts = (HuntPerception(hunt), HuntRoutes(hunt, settings))
    return Loop(told, *parts, settings, folder, digest, None, truth).run(resume=resume)
