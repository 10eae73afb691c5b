"""The building: what is drawn, what a move costs, and that rooms hide what their looks do not tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cryoscout.core.errors import InputError
from cryoscout.coupling import scavenger_hunt
from cryoscout.coupling.scavenger_hunt import NOWHERE, HuntSettings, building_hunt, labelled_places

LARGE = HuntSettings(floors=5, rooms_per_floor=40, places_per_room=20)


def test_same_seed_same_building_and_another_seed_another() -> None:
    first, again, other = (building_hunt(HuntSettings(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.has_object, again.has_object)
    assert not np.array_equal(first.has_object, other.has_object)


def test_places_are_sorted_by_floor_and_room() -> None:
    hunt = building_hunt(HuntSettings(floors=2, rooms_per_floor=3, places_per_room=4), 0)
    assert hunt.room_of_place.tolist() == [room for room in range(6) for _ in range(4)]
    assert hunt.floor_of_place.tolist() == [0] * 12 + [1] * 12


def test_likelihoods_are_right_where_rooms_of_a_kind_are_alike() -> None:
    hunt = building_hunt(LARGE.model_copy(update={"room_spread": 0.0}), 0)
    for likelihood in np.unique(hunt.likelihood):
        those = hunt.likelihood == likelihood
        error = np.sqrt(likelihood * (1.0 - likelihood) / those.sum())
        assert abs(hunt.has_object[those].mean() - likelihood) < 4.0 * error


@pytest.mark.parametrize(("room_spread", "more_than_chance"), [(0.0, False), (1.2, True)])
def test_rooms_differ_by_more_than_chance_where_they_hide_something(
    room_spread: float, more_than_chance: bool
) -> None:
    hunt = building_hunt(LARGE.model_copy(update={"room_spread": room_spread}), 3)
    excess = hunt.has_object - hunt.likelihood
    of_room = np.bincount(hunt.room_of_place, weights=excess)
    chance = np.bincount(hunt.room_of_place, weights=hunt.likelihood * (1.0 - hunt.likelihood))
    assert (float((of_room**2 / chance).mean()) > 1.5) == more_than_chance


def test_what_is_known_of_a_place_is_its_look_and_its_likelihood() -> None:
    hunt = building_hunt(HuntSettings(), 0)
    assert hunt.known.shape == (432, 9)
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-hunt.known[:, -1])), hunt.likelihood)


def test_a_move_costs_by_the_highest_level_that_it_changes() -> None:
    hunt = building_hunt(HuntSettings(floors=2, rooms_per_floor=2, places_per_room=2), 0)
    assert hunt.seconds_to(0).tolist() == [5.0, 5.0, 30.0, 30.0, 120.0, 120.0, 120.0, 120.0]
    assert hunt.seconds_to(NOWHERE).tolist() == [120.0] * 8
    assert hunt.seconds_of(np.array([0, 1, 2, 7])) == 120.0 + 5.0 + 30.0 + 120.0


def test_searched_places_have_both_kinds() -> None:
    hunt = building_hunt(HuntSettings(), 0)
    for seed in range(20):
        chosen = labelled_places(hunt, 0.005, seed)
        assert set(hunt.has_object[chosen].tolist()) == {False, True}
    assert labelled_places(hunt, 0.1, 0).sum() == round(0.1 * len(hunt.has_object))


def test_what_is_no_building_is_refused() -> None:
    with pytest.raises(ValidationError):
        HuntSettings(floors=0)
    with pytest.raises(InputError, match=r"cost more the further they go\. Got 5 s in a room, 3 s"):
        building_hunt(HuntSettings(to_room_s=3.0), 0)
    with pytest.raises(InputError, match=r"above 0 and below 1\. Got 0"):
        labelled_places(building_hunt(HuntSettings(), 0), 0.0, 0)
    one_place = building_hunt(HuntSettings(floors=1, rooms_per_floor=1, places_per_room=1), 0)
    with pytest.raises(InputError, match="all alike"):
        labelled_places(one_place, 0.5, 0)


def test_the_hunt_speaks_of_places_alone() -> None:
    text = Path(scavenger_hunt.__file__).read_text(encoding="utf-8").lower().replace("cryoscout", "")
    assert not [
        word for word in ("hole", "patch", "square", "grid", "ctf", "micrograph", "cryo") if word in text
    ]
