"""The scavenger hunt as the loop's problem: a logistic regression of embeddings as perception, a planner as driver."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.coupling.lesson import UNLABELLED, Told, pseudo_rewards
from cryoscout.coupling.linear_perception import LinearPerception, LinearStates
from cryoscout.coupling.loop import Coupled, Loop, Probabilities
from cryoscout.coupling.rate_route import rate_route
from cryoscout.coupling.scavenger_hunt import Hunt
from cryoscout.coupling.settings import CoupleSettings
from cryoscout.session.splits import HELD_OUT_STREAM, hold_out

LEAST_REWARD = 1e-6
"""A place without any prospect is searched in the end all the same."""
JUDGED_AT = (0.25, 0.5, 0.75)
"""Moments of a search of the held-out places, as shares of the time that searching all of them takes."""


@dataclass(frozen=True)
class HuntRoutes:
    """A robot that always makes the visit of a room with the best prospect per second."""

    hunt: Hunt
    settings: CoupleSettings

    def routes(
        self,
        p_positive: NDArray[np.float64],
        told: Told,
        starts: NDArray[np.int64],
        seed: int,
        folder: Path,
        before: Path | None = None,
    ) -> NDArray[np.int64]:
        """(M, n) all places in the order of their search, from each start."""
        del seed, folder, before
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
    """The loop on a building of which some places were searched, (n,) bool; rooms are held out whole.

    settings : the teacher is `route`, `ranks`, `own` or `exact`, the driver `index`. Raises InputError for others.
    """
    if settings.driver != "index":
        raise InputError(
            f"A hunt must be driven by index. Got {settings.driver} instead. Remedy: leave driver out."
        )
    labels = np.where(labelled, hunt.has_object, UNLABELLED).astype(np.int64)
    rng = np.random.default_rng([settings.seed, HELD_OUT_STREAM])
    told = Told(labels, hold_out(labels, hunt.room_of_place, settings.held_out, rng))
    digest = hashlib.sha256(hunt.settings.model_dump_json().encode())
    for array in (hunt.known, hunt.p_object, labels, hunt.room_of_place, hunt.floor_of_room):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    truth = hunt.has_object.astype(np.int64)
    parts = (LinearStates(hunt.known), HuntRoutes(hunt, settings))
    exact: Probabilities | None = (
        (lambda p, number, folder: hunt.p_object) if settings.teacher == "exact" else None
    )
    return Loop(told, *parts, settings, folder, digest.hexdigest(), exact, truth).run(resume=resume)
