"""The route that was really taken, as a policy: what every planner has to be better than."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.policies.base import PolicyKind
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
