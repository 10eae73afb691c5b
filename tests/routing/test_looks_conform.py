"""Every registered policy where looks are charged, and that the checker of looks can fail."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from cryoscout.routing.places import Look
from cryoscout.routing.policies import POLICIES, make_policy
from cryoscout.routing.policies.explore import Explore
from cryoscout.testing import ConformanceError, check_looks
from cryoscout.testing.looks import _run, looking_worlds, random_world
from examples import slow_but

QUICK = {"genetic": {"evaluations": 60}, "annealing": {"evaluations": 60}}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", slow_but([0], [0, 1]))
def test_no_policy_sees_a_place_before_its_look(name: str, seed: int) -> None:
    check_looks(partial(make_policy, name, **QUICK.get(name, {})), seed=seed)


class LooksThroughTheWall(Explore):
    """Chooses by something that it was handed around the problem."""

    name = "spy"
    whole: list[int] = []  # noqa: RUF012

    def next_step(self, observation):
        step = super().next_step(observation)
        places = self._problem.places
        if isinstance(step, Look) and step.level == "square" and places is not None:
            unseen = np.flatnonzero(~places.square_looked)
            return Look("square", int(unseen[self.whole[0] % len(unseen)]))
        return step


def test_a_policy_that_sees_the_holes_of_a_place_before_its_look_is_caught(monkeypatch) -> None:
    from cryoscout.testing import looks

    def spied(small, *arguments, original=looks.SmallWorld.world):
        world = original(small)
        LooksThroughTheWall.whole[:] = [world[0].whole.n_holes]
        return world

    monkeypatch.setattr(looks.SmallWorld, "world", spied)
    with pytest.raises(ConformanceError, match="before its look"):
        check_looks(LooksThroughTheWall)


class LooksTwice(Explore):
    """Looks at the first square whatever it has seen."""

    name = "twice"

    def next_step(self, observation):
        return Look("square", 0)


def test_a_policy_that_looks_at_a_place_twice_is_caught() -> None:
    with pytest.raises(ConformanceError, match="must look at a square or patch that was not looked at"):
        check_looks(LooksTwice)


def test_every_looking_policy_looks_at_something() -> None:
    for name in ("look-first", "look-share", "look-greedy", "explore"):
        steps = _run(make_policy(name), looking_worlds()["endless budget"], [0]).steps
        assert any(isinstance(step, Look) for step in steps), name


def test_with_an_endless_budget_explore_images_every_hole_of_every_place() -> None:
    small = random_world(np.random.default_rng(5), budget_min=1e5, squares=6)
    holes = sum(len(patch.p_good) for square in small.squares for patch in square)
    steps = _run(make_policy("explore"), small, [0]).steps
    assert sum(not isinstance(step, Look) and step >= 0 for step in steps) == holes - 1  # the start is imaged
