"""The route that was really taken, as a policy: what every planner has to be better than."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import NOWHERE, HoleTree
from cryoscout.routing.places import Look, Step
from cryoscout.routing.policies.base import STOP, AskedHoleByHole, Observation, PolicyKind
from cryoscout.routing.policies.fixed_order import FixedOrder, free_holes
from cryoscout.routing.problem import RoutingProblem

if TYPE_CHECKING:
    from cryoscout.routing.policies.base import Policy
    from cryoscout.session.recorded_order import RecordedOrder


def policy_as_recorded(order: RecordedOrder) -> Policy:
    """The policy that follows a session's recorded order."""
    return cast("Policy", AsRecorded(order.holes))


class AsRecorded(FixedOrder):
    """Goes on from the start hole as the session did, and round to its beginning at the end.

    It is made for one session, so it has no name in the registry. It uses no prediction. From NOWHERE, or from a hole
    that is not in the order, it begins with the first one.
    """

    name: ClassVar[str] = "as recorded"
    kind: ClassVar[PolicyKind] = "recorded"
    default_prediction: ClassVar[str] = "flat"
    drops_crossing: ClassVar[bool] = False

    def __init__(self, holes: NDArray[np.int64]) -> None:
        """holes : (k,) indices in the order they were imaged, none twice"""
        self._holes = holes

    def whole_route(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> list[int]:
        """The whole route; nothing is random."""
        at_start = np.flatnonzero(self._holes == start_hole)
        from_start = np.roll(self._holes, -int(at_start[0])) if len(at_start) else self._holes
        return [int(hole) for hole in from_start[free_holes(problem, start_hole)[from_start]]]


class LooksAsRecorded(AskedHoleByHole):
    """The same where looks are charged: it looks at a square or patch when the session's order first comes there.

    Made for one session whose tree it knows, as a record is; it sees no result beforehand.
    """

    name: ClassVar[str] = "as recorded"
    kind: ClassVar[PolicyKind] = "recorded"
    default_prediction: ClassVar[str] = "flat"
    drops_crossing: ClassVar[bool] = False

    def __init__(self, holes: NDArray[np.int64], tree: HoleTree) -> None:
        """holes : (k,) indices of the whole session in the order they were imaged     tree : of the whole session"""
        self._holes, self._tree = holes, tree

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Find what is seen of the whole session. start_hole : of the problem, or NOWHERE."""
        self._problem, whole = problem, self._tree
        places = problem.places
        if places is None:
            raise InputError(
                "A recorded order with looks must be followed where places have states. Got none instead."
            )
        self._patches = np.flatnonzero(places.square_looked[whole.square_of_patch])
        looked = np.zeros(whole.n_patches, dtype=bool)
        looked[self._patches] = places.patch_looked
        seen = np.flatnonzero(looked[whole.patch_of_hole])
        self._seen_hole = np.full(whole.n_holes, NOWHERE)
        self._seen_hole[seen] = np.arange(len(seen))
        is_start = (self._seen_hole[self._holes] == start_hole) & (start_hole != NOWHERE)
        at_start = np.flatnonzero(is_start)
        self._order = np.roll(self._holes, -int(at_start[0])) if len(at_start) else self._holes
        self._free = problem.available()

    def next_hole(self, observation: Observation) -> int:
        """The next hole of the order that is seen, or STOP."""
        step = self.next_step(observation)
        return step if isinstance(step, int) else STOP

    def next_step(self, observation: Observation) -> Step:
        """The next hole of the order, a look at its square or patch, or STOP."""
        places, whole = self._problem.places, self._tree
        assert places is not None  # noqa: S101  # `reset` has seen to it
        for hole in self._order.tolist():
            seen = int(self._seen_hole[hole])
            if seen != NOWHERE:
                if self._free[seen] and not observation.visited[seen]:
                    return seen
                continue
            patch = int(whole.patch_of_hole[hole])
            square = int(whole.square_of_patch[patch])
            if not places.square_looked[square]:
                return Look("square", square)
            return Look("patch", int(np.searchsorted(self._patches, patch)))
        return STOP


def looks_as_recorded(order: RecordedOrder, tree: HoleTree) -> Policy:
    """The policy that follows a session's recorded order where looks are charged. tree : of the whole session"""
    return cast("Policy", LooksAsRecorded(order.holes, tree))
