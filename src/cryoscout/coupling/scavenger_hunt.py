"""A scavenger hunt in a building: the second problem that the loop takes, to show that it knows nothing of the first.

A robot looks for an object that lies at some of the places of a building. It has a few places searched, an embedding of
what every place looks like, and the known likelihood of the object by kind of room and of place. Rooms differ in a way
that no look tells (somebody tidies up), so what was found in a room says something of its other places.
In the manner of Yedidsion et al. 2021 (A Scavenger Hunt for Service Robots), whose data are not public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit, logit

from cryoscout.core.errors import InputError
from cryoscout.core.settings import Settings

ROOM_KINDS = ("office", "kitchen", "workshop", "lounge", "store")
PLACE_KINDS = ("table", "shelf", "drawer", "floor")
LIKELIHOOD = np.array(
    [
        [0.60, 0.35, 0.45, 0.10],
        [0.75, 0.65, 0.40, 0.15],
        [0.40, 0.50, 0.25, 0.30],
        [0.55, 0.30, 0.20, 0.25],
        [0.15, 0.45, 0.30, 0.35],
    ]
)
"""(room kinds, place kinds) share of such places that have the object, known beforehand."""

NOWHERE = -1


class HuntSettings(Settings):
    """One building."""

    floors: Annotated[int, Field(ge=1, le=100)] = 3
    rooms_per_floor: Annotated[int, Field(ge=1, le=1000)] = 12
    places_per_room: Annotated[int, Field(ge=1, le=1000)] = 12
    room_spread: Annotated[float, Field(ge=0.0, le=10.0)] = 1.2
    """Standard deviation of the logit between rooms of a kind: what is seen in none of the features."""
    features: Annotated[int, Field(ge=1, le=1000)] = 8
    """Numbers of the embedding of a place."""
    feature_noise: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    """Standard deviation; kinds lie about 1.4 apart in each number."""
    in_room_s: Annotated[float, Field(gt=0.0)] = 5.0
    to_room_s: Annotated[float, Field(ge=0.0)] = 30.0
    to_floor_s: Annotated[float, Field(ge=0.0)] = 120.0
    """Seconds of a move to a place of the same room, of another room, of another floor."""


@dataclass(frozen=True)
class Hunt:
    """n places; places are sorted by floor and room."""

    features: NDArray[np.float64]  # (n, d)
    has_object: NDArray[np.bool_]  # (n,) the truth
    p_object: NDArray[np.float64]  # (n,) the true probability that it was drawn with
    likelihood: NDArray[np.float64]  # (n,) known beforehand, by kind
    room_of_place: NDArray[np.int64]  # (n,) sorted
    floor_of_room: NDArray[np.int64]  # (r,) sorted
    settings: HuntSettings

    @property
    def floor_of_place(self) -> NDArray[np.int64]:
        """(n,)."""
        return self.floor_of_room[self.room_of_place]

    @property
    def known(self) -> NDArray[np.float64]:
        """(n, d + 1) what a perception model gets: the features, and the logit of the likelihood."""
        return np.column_stack([self.features, logit(self.likelihood)])

    def seconds_to(self, here: int) -> NDArray[np.float64]:
        """(n,) seconds of the move from a place to each; from NOWHERE every place is on another floor."""
        if here == NOWHERE:
            return np.full(len(self.has_object), self.settings.to_floor_s)
        s = self.settings
        same_room = self.room_of_place == self.room_of_place[here]
        same_floor = self.floor_of_place == self.floor_of_place[here]
        return np.where(same_room, s.in_room_s, np.where(same_floor, s.to_room_s, s.to_floor_s))

    def seconds_of(self, route: NDArray[np.int64]) -> float:
        """All moves of a route, the first from NOWHERE."""
        before = [NOWHERE, *route[:-1].tolist()]
        return float(sum(self.seconds_to(here)[there] for here, there in zip(before, route, strict=True)))


def building_hunt(settings: HuntSettings, seed: int) -> Hunt:
    """A building of these settings, its objects and what its places look like; the same seed gives the same.

    Kinds of rooms and places are drawn evenly. An object lies at a place with the likelihood of its kinds, shifted in
    its logit by the room.
    """
    s = settings
    if not s.in_room_s <= s.to_room_s <= s.to_floor_s:
        raise InputError(
            "Moves must cost more the further they go. Got "
            f"{s.in_room_s:g} s in a room, {s.to_room_s:g} s to another and {s.to_floor_s:g} s to another floor "
            "instead."
        )
    rng = np.random.default_rng(seed)
    rooms = s.floors * s.rooms_per_floor
    room_of_place = np.repeat(np.arange(rooms), s.places_per_room)
    n = len(room_of_place)
    kind_of_room = rng.integers(len(ROOM_KINDS), size=rooms)
    room_kind, place_kind = kind_of_room[room_of_place], rng.integers(len(PLACE_KINDS), size=n)
    likelihood = LIKELIHOOD[room_kind, place_kind]
    shift = s.room_spread * rng.standard_normal(rooms)
    p_object = expit(logit(likelihood) + shift[room_of_place])
    has_object = rng.random(n) < p_object
    looks_of_room = rng.standard_normal((len(ROOM_KINDS), s.features))
    looks_of_place = rng.standard_normal((len(PLACE_KINDS), s.features))
    noise = s.feature_noise * rng.standard_normal((n, s.features))
    features = looks_of_room[room_kind] + looks_of_place[place_kind] + noise
    floor_of_room = np.repeat(np.arange(s.floors), s.rooms_per_floor)
    return Hunt(features, has_object, p_object, likelihood, room_of_place, floor_of_room, s)


def labelled_places(hunt: Hunt, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) places that were searched beforehand: a random share of all, at least one with and one without the object.

    Raises InputError for a share that is not above 0 and below 1, or a building where all places are alike.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"The share of searched places must be above 0 and below 1. Got {share:g} instead.")
    if hunt.has_object.all() or not hunt.has_object.any():
        raise InputError(
            "A hunt must have places with the object and without it. Got all alike instead. Remedy: a larger building."
        )
    rng = np.random.default_rng(seed)
    n = len(hunt.has_object)
    chosen = np.zeros(n, dtype=np.bool_)
    chosen[rng.permutation(n)[: max(2, round(share * n))]] = True
    for value in (False, True):
        if not (hunt.has_object[chosen] == value).any():
            chosen[rng.choice(np.flatnonzero(hunt.has_object == value))] = True
    return chosen
