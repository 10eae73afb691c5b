"""The planner of any problem against one that tries every visit, step by step, at its real costs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cryoscout.core.errors import InputError
from cryoscout.coupling.rate_route import rate_route
from cryoscout.coupling.scavenger_hunt import HuntSettings, building_hunt


def by_trying(reward: Any, parts: Any, cost_from: Any, start: int) -> list[int]:
    route, left = [start], set(range(len(reward))) - {start}
    while left:
        best, best_rate = [0], -1.0
        for part in sorted({int(parts[state]) for state in left}):
            states = sorted((s for s in left if parts[s] == part), key=lambda s: (-reward[s], s))
            for count in range(1, len(states) + 1):
                walk = [route[-1], *states[:count]]
                cost = sum(cost_from(here)[there] for here, there in pairwise(walk))
                rate = sum(reward[s] for s in states[:count]) / cost
                if rate > best_rate + 1e-9:
                    best, best_rate = states[:count], rate
        route += best
        left -= set(best)
    return route


@pytest.mark.parametrize("seed", range(6))
def test_every_visit_is_the_best_of_all(seed: int) -> None:
    hunt = building_hunt(HuntSettings(floors=2, rooms_per_floor=3, places_per_room=4), seed)
    rng = np.random.default_rng(seed)
    # Tenths, so that there are ties.
    reward, start = rng.integers(0, 10, len(hunt.has_object)) / 10.0, int(rng.integers(len(hunt.has_object)))
    found = rate_route(reward, hunt.room_of_place, hunt.seconds_to, start)
    assert found.tolist() == by_trying(reward, hunt.room_of_place, hunt.seconds_to, start)


def test_without_any_reward_every_state_is_visited_all_the_same() -> None:
    hunt = building_hunt(HuntSettings(floors=1, rooms_per_floor=2, places_per_room=3), 0)
    assert sorted(rate_route(np.zeros(6), hunt.room_of_place, hunt.seconds_to, 5).tolist()) == list(range(6))


@pytest.mark.parametrize(
    ("reward", "cost", "start", "message"),
    [
        (-1.0, 1.0, 0, "rewards of 0 or more"),
        (1.0, 1.0, 9, "start at one of 3"),
        (1.0, 0.0, 0, "cost more than 0"),
    ],
)
def test_wrong_problems_are_refused(reward: float, cost: float, start: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rate_route(np.full(3, reward), np.zeros(3, dtype=np.int64), lambda here: np.full(3, cost), start)
