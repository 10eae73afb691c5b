"""The same loop on a hunt in a building: rooms differ in a way that no look tells, and routes carry that over."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cryoscout import coupling
from cryoscout.core.errors import InputError
from cryoscout.coupling.hunt import HuntRoutes, couple_hunt
from cryoscout.coupling.lesson import UNLABELLED, Told
from cryoscout.coupling.scavenger_hunt import HuntSettings, building_hunt, labelled_places
from cryoscout.coupling.settings import couple_settings
from examples import slow_but

SETTINGS = HuntSettings(floors=3, rooms_per_floor=8, places_per_room=10, room_spread=4.0, feature_noise=2.0)


@pytest.mark.parametrize("seeds", slow_but([1], [1, 3, 6]))
def test_where_rooms_differ_a_movement_cost_makes_the_labels_of_routes_better(
    seeds: int, tmp_path: Path
) -> None:
    gains = []
    for seed in range(seeds):
        hunt = building_hunt(SETTINGS, seed)
        labelled = labelled_places(hunt, 0.4, seed)
        right = []
        for cost in (True, False):
            settings = couple_settings("route", rounds=1, movement_cost=cost)
            found = couple_hunt(hunt, labelled, settings, tmp_path / f"{seed}-{cost}")
            assert [each.number for each in found.rounds] == [0, 1]
            right.append(found.rounds[1].guesses_right)
        gains.append(right[0] - right[1])
    assert np.mean(gains) > 0.01


def test_routes_visit_every_place_once_and_know_no_hidden_object(tmp_path: Path) -> None:
    hunt = building_hunt(SETTINGS, 3)
    labels = np.where(labelled_places(hunt, 0.2, 0), hunt.has_object, UNLABELLED).astype(np.int64)
    held = (labels != UNLABELLED) & (hunt.room_of_place < 4)
    lied = np.where(held, 1 - labels, labels)
    driver, p = HuntRoutes(hunt, couple_settings("route")), np.full(len(labels), 0.4)
    one = driver.routes(p, Told(labels, held), np.array([0, 7]), 0, tmp_path)
    for route in one:
        np.testing.assert_array_equal(np.sort(route), np.arange(len(labels)))
    np.testing.assert_array_equal(one, driver.routes(p, Told(lied, held), np.array([0, 7]), 0, tmp_path))


def test_a_better_perception_finds_more_of_the_held_out_objects(tmp_path: Path) -> None:
    hunt = building_hunt(SETTINGS, 3)
    labels = hunt.has_object.astype(np.int64)
    told = Told(labels, hunt.room_of_place < 6)
    driver = HuntRoutes(hunt, couple_settings("route"))
    right = np.where(hunt.has_object, 0.9, 0.1)
    assert driver.held_out_return(right, told, tmp_path) > driver.held_out_return(1.0 - right, told, tmp_path)


@pytest.mark.parametrize(
    ("teacher", "driver", "message"),
    [
        ("belief", "index", "teacher belief must be handed"),
        ("route", "double", "must be driven by index. Got double"),
    ],
)
def test_a_hunt_refuses_what_it_has_not(teacher: str, driver: str, message: str, tmp_path: Path) -> None:
    hunt = building_hunt(SETTINGS, 3)
    with pytest.raises(InputError, match=message):
        couple_hunt(hunt, labelled_places(hunt, 0.4, 0), couple_settings(teacher, driver), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_true_probability_can_teach_and_is_right_most_often(tmp_path: Path) -> None:
    hunt = building_hunt(SETTINGS, 3)
    labelled = labelled_places(hunt, 0.4, 0)
    right = {}
    for teacher in ("exact", "own"):
        settings = couple_settings(teacher, rounds=1)
        right[teacher] = couple_hunt(hunt, labelled, settings, tmp_path / teacher).rounds[1].guesses_right
    likelier = (hunt.p_object > 0.5) == hunt.has_object
    assert right["exact"] == pytest.approx(likelier[~labelled].mean())
    assert right["exact"] > right["own"]


@pytest.mark.parametrize("changed", [{"to_room_s": 119.0}, {"in_room_s": 4.0}])
def test_a_run_does_not_go_on_where_moves_cost_otherwise(changed: dict[str, float], tmp_path: Path) -> None:
    hunt, settings = building_hunt(SETTINGS, 3), couple_settings("route", rounds=1)
    labelled = labelled_places(hunt, 0.4, 0)
    whole = couple_hunt(hunt, labelled, settings, tmp_path)
    assert couple_hunt(hunt, labelled, settings, tmp_path, resume=True).report == whole.report
    other = building_hunt(SETTINGS.model_copy(update=changed), 3)
    with pytest.raises(InputError, match="minutes of moves"):
        couple_hunt(other, labelled, settings, tmp_path, resume=True)


def test_a_move_that_costs_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        HuntSettings(in_room_s=0.0)


@pytest.mark.parametrize("module", ["loop", "lesson", "hunt", "rate_route", "theory", "linear_perception"])
def test_the_loop_has_no_word_of_microscopes(module: str) -> None:
    text = Path(coupling.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    words = re.sub(r"cryoscout\.[\w.]+", "", text).lower()
    for word in ("hole", "patch", "micrograph", "cryo", "microscop", "ctf", "p_good"):
        assert not re.search(rf"\b{word}", words), word
