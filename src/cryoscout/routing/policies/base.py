"""The one protocol of everything that chooses the next hole, planner or learned agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cryoscout.routing.problem import RoutingProblem

PolicyKind = Literal["planner", "learned", "baseline", "recorded"]
"""`recorded` is the order in which a session was really imaged."""

STOP = -1
"""What `next_hole` returns when the policy wants nothing more."""


@dataclass(frozen=True)
class Observation:
    """What a policy sees before each visit. Outcomes still on their way are unknown: NaN."""

    visited: NDArray[np.bool_]  # (n,) holes imaged so far, the start hole included
    here: int  # the last hole imaged, NOWHERE before the first
    minutes_used: float
    outcome: NDArray[np.float64]  # (n,) good micrographs the hole gave, 0..shots; NaN where not known (yet)
    n_outcomes: int  # how many results were handed over so far; grows when `outcome` changed


@runtime_checkable
class Policy(Protocol):
    """Chooses the next hole. A new object serves one replay after the other: `reset` starts each."""

    name: str
    kind: PolicyKind
    default_prediction: str  # the named prediction it uses when the user names none
    drops_crossing: (
        bool  # True: its crossing visit is dropped whatever the replay says (the published greedy)
    )

    def reset(self, problem: RoutingProblem, start_hole: int, rng: np.random.Generator) -> None:
        """Start a route. start_hole : index, already imaged, or NOWHERE."""
        ...

    def next_hole(self, observation: Observation) -> int:
        """The next hole: an allowed one that is not visited, or STOP."""
        ...
