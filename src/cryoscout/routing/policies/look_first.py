"""Policies that look before they image: at everything, as CryoRL presumes, or at the best share of the squares."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from cryoscout.belief.mixture import MixtureBelief
from cryoscout.core.hole_tree import NOWHERE
from cryoscout.core.settings import Settings
from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.adaptive import Adaptive
from cryoscout.routing.policies.base import Observation, PolicyKind
from cryoscout.routing.problem import RoutingProblem
from cryoscout.routing.unseen import unseen_of


def nearest_look(problem: RoutingProblem, observation: Observation) -> Look | None:
    """The next place of a tour that looks at everything: this square's patches, this grid's squares, ties by id."""
    places, tree = problem.places, problem.tree
    if places is None or not places.any_unseen:
        return None
    at = tree.place_of(observation.where)
    squares = np.flatnonzero(~places.square_looked)
    patches = np.flatnonzero(~places.patch_looked)
    of_square = tree.square_of_patch[patches]
    # A square that is open, or the one that the stage is over, is finished before the next one is opened.
    if len(patches):
        far = np.where(of_square == at.square, 0, np.where(tree.grid_of_square[of_square] == at.grid, 1, 2))
        if far.min() == 0 or at.square not in squares:
            return Look("patch", int(patches[np.argmin(far)]))
    far = np.where(squares == at.square, 0, np.where(tree.grid_of_square[squares] == at.grid, 1, 2))
    return Look("square", int(squares[np.argmin(far)]))


class LookFirst(Adaptive):
    """Looks at every square and patch, nearest first, and then plans as `adaptive` does.

    The premise of CryoRL ("patch-level images to be pre-captured", its section 6), paid for: the start hole's patch
    and square too. It finds nothing in a budget that looking alone takes.
    """

    name: ClassVar[str] = "look-first"
    pays_for_start: ClassVar[bool] = True

    def next_step(self, observation: Observation) -> Step:
        """A look as long as a place was not looked at, then the next hole."""
        look = nearest_look(self._problem, observation)
        return self.next_hole(observation) if look is None else look


class LookShareSettings(Settings):
    """How much is looked at before anything is imaged."""

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Share of the squares, the best by what the images above say (and what is seen), ties by id."""


class LookShare(Adaptive):
    """Looks at the best share of the squares with all their patches, then plans as `adaptive` on what it has seen.

    A bar and no policy for users: which share is best is known in hindsight alone.
    """

    name: ClassVar[str] = "look-share"
    kind: ClassVar[PolicyKind] = "baseline"
    settings_type: ClassVar[type[LookShareSettings] | None] = LookShareSettings  # type: ignore[assignment]

    def __init__(self, settings: LookShareSettings | None = None) -> None:
        super().__init__()
        self.share = (settings or LookShareSettings()).share

    def next_step(self, observation: Observation) -> Step:
        """A look at an open square's patch, or at the next best square, until the share is reached."""
        problem = self._problem
        places, tree = problem.places, problem.tree
        if places is None:
            return self.next_hole(observation)
        patches = np.flatnonzero(~places.patch_looked)
        if len(patches):
            at = tree.place_of(observation.where)
            here = patches[tree.square_of_patch[patches] == at.square]
            return Look("patch", int(here[0] if len(here) else patches[0]))
        wanted = int(np.ceil(self.share * tree.n_squares - 1e-9))
        if int(places.square_looked.sum()) < wanted:
            return Look("square", self._best_square(problem, observation))
        return self.next_hole(observation)

    def _best_square(self, problem: RoutingProblem, observation: Observation) -> int:
        places, tree = problem.places, problem.tree
        assert places is not None  # noqa: S101  # only asked where there are places
        belief = self.belief
        assert not isinstance(belief, MixtureBelief)  # noqa: S101
        level = unseen_of(problem, belief).square_level()
        # Of equal ones those of this grid: what is near costs the least.
        at = tree.place_of(observation.where)
        near = 1e-6 * (tree.grid_of_square == at.grid) if at.grid != NOWHERE else 0.0
        return first_of_the_best(np.where(places.square_looked, -np.inf, level + near))
