"""What a planner may know: the tree of holes, the predictions, the time model, the budget. No truth in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cryoscout.belief.effects import Y1_EFFECTS, EffectBelief, EffectVariances, location_of
from cryoscout.belief.mixture import MixtureBelief
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.belief.unseen import UnseenPrior
from cryoscout.core.errors import InputError
from cryoscout.core.hole_tree import NOWHERE as NOWHERE
from cryoscout.core.hole_tree import HoleTree, StagePlace
from cryoscout.routing.places import Places
from cryoscout.routing.time_model import PRESETS, TimeModel, check_budget_min

Crossing = Literal["count", "drop"]
"""Whether the visit that crosses the budget counts: `count` is the published environment (it ends once the time
used is greater than the budget), `drop` is what a real session allows."""


@dataclass(frozen=True)
class RoutingProblem:
    """One planning problem; holes are sorted by grid, square, patch.

    Raises InputError when an array has the wrong length or range, an index is not sorted, or the budget is not
    positive.
    """

    tree: HoleTree
    prior_p_good: NDArray[
        np.float64
    ]  # (n,) probability that one exposure of the hole is good, by the prediction alone
    budget_min: float
    time_model: TimeModel = PRESETS["cryorl"]
    shots: int = 1
    crossing: Crossing = "drop"
    effects: EffectVariances = Y1_EFFECTS
    fit_loadings: NDArray[np.float64] | None = None  # (n, k) logit per standard error of the fit
    imaged: NDArray[np.bool_] | None = None  # (n,) holes imaged before the plan starts; never planned
    outcome: NDArray[np.float64] | None = None  # (n,) good micrographs of imaged holes, NaN where unknown
    results: NDArray[np.float64] | None = (
        None  # (n,) shots behind each outcome; None: all shots have a result
    )
    allowed: NDArray[np.bool_] | None = (
        None  # (n,) holes that elimination and the operator's choice kept; None = all
    )
    loaded_grid: int = (
        NOWHERE  # grid that is in the microscope when a route starts NOWHERE: it costs no grid switch
    )
    stage_um: NDArray[np.float64] | None = (
        None  # (n, 2) position within the grid, NaN where unknown; None where no hole has one
    )
    hole_ids: tuple[str, ...] = field(default=(), repr=False)  # vendor ids, for people; planners use indices
    places: Places | None = None  # which squares and patches were looked at; None: all
    stands_at: StagePlace | None = None  # where the stage is when the plan starts, if not at the start hole
    unseen_prior: UnseenPrior | None = None  # of what unseen places hold; None: the one fitted to Y1

    def __post_init__(self) -> None:
        check_budget_min(self.budget_min)
        n = len(self.prior_p_good)
        if n == 0 and self.places is None:
            raise InputError("A routing problem must have at least one hole. Got 0 instead.")
        if self.tree.n_holes != n:
            raise InputError(
                f"The tree must have {n} holes, as prior_p_good. Got {self.tree.n_holes} instead."
            )
        bad = ~((self.prior_p_good >= 0) & (self.prior_p_good <= 1))
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"p_good must be between 0 and 1. Got {self.prior_p_good[first]} at hole {first} instead "
                f"({int(bad.sum())} such holes). Remedy: predict the session again."
            )
        for name in ("fit_loadings", "imaged", "outcome", "results", "allowed", "stage_um"):
            of_holes = getattr(self, name)
            if of_holes is not None and len(of_holes) != n:
                raise InputError(f"{name} must have {n} entries. Got {len(of_holes)} instead.")
        if self.places is not None:
            self.places.check(self.tree)
        if self.shots < 1:
            raise InputError(f"shots must be at least 1. Got {self.shots} instead.")
        if self.crossing not in get_args(Crossing):
            raise InputError(f"crossing must be 'count' or 'drop'. Got {self.crossing!r} instead.")

    @property
    def has_unseen(self) -> bool:
        """Whether a square or patch was not looked at yet: there may be more than the holes of this problem."""
        return self.places is not None and self.places.any_unseen

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.prior_p_good)

    @property
    def patch_of_hole(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.tree.patch_of_hole

    @property
    def square_of_patch(self) -> NDArray[np.int32]:
        """(P,) int32."""
        return self.tree.square_of_patch

    @property
    def grid_of_square(self) -> NDArray[np.int32]:
        """(S,) int32."""
        return self.tree.grid_of_square

    @property
    def square_of_hole(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.tree.square_of_hole

    @property
    def grid_of_hole(self) -> NDArray[np.int32]:
        """(n,) int32."""
        return self.tree.grid_of_hole

    @property
    def grid_of_patch(self) -> NDArray[np.int32]:
        """(P,) int32."""
        return self.tree.grid_of_patch

    def tier_between(self, here: int, there: int) -> int:
        """0 same patch, 1 same square, 2 same grid, 3 other grid; from NOWHERE 2 in the loaded grid, else 3."""
        return self.tree.tier_between(here, there)

    def place_of(self, here: int) -> StagePlace:
        """Patch, square and grid that are open at `here` (index or NOWHERE); NOWHERE where none is."""
        return self.tree.place_of(here)

    def with_budget(self, budget_min: float) -> RoutingProblem:
        """The same problem with another budget."""
        return replace(self, budget_min=budget_min)

    def belief(self) -> EffectBelief | StageBelief:
        """What is believed when the plan starts: p_good, the effects' prior, and the outcomes known so far.

        Where stage positions are known, smooth fields over the stage are part of it.
        """
        belief: EffectBelief | StageBelief
        if self.stage_um is None:
            location = location_of(self.prior_p_good, self.effects.total)
            belief = EffectBelief(location, self.patch_of_hole, self.tree, self.effects)
        else:
            belief = StageBelief(
                self.prior_p_good, self.patch_of_hole, self.tree, self.effects, self.stage_um
            )
        self._tell_outcomes(belief)
        return belief

    def mixture_belief(self) -> MixtureBelief:
        """As `belief`, and learning from the outcomes how far to trust p_good."""
        belief = MixtureBelief(self.prior_p_good, self.patch_of_hole, self.tree, self.effects)
        self._tell_outcomes(belief)
        return belief

    def known_results(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Good micrographs and shots with a result of every hole when the plan starts, (n,) and (n,), 0 where none."""
        if self.outcome is None:
            return np.zeros(self.n_holes), np.zeros(self.n_holes)
        known = ~np.isnan(self.outcome)
        shots = self.shots if self.results is None else self.results
        return np.where(known, self.outcome, 0.0), np.where(known, shots, 0.0)

    def _tell_outcomes(self, belief: EffectBelief | StageBelief | MixtureBelief) -> None:
        good, results = self.known_results()
        known = np.flatnonzero(results)
        belief.observe_many(known, good[known], results[known])

    def expected_good(self) -> NDArray[np.float64]:
        """(n,) good micrographs each hole is expected to give, the outcomes known so far taken in."""
        nothing_known = self.outcome is None or bool(np.isnan(self.outcome).all())
        return self.shots * (self.prior_p_good if nothing_known else self.belief().p_good())

    def available(self) -> NDArray[np.bool_]:
        """(n,) holes that may be visited when the plan starts: allowed and not imaged yet."""
        free = np.ones(self.n_holes, dtype=bool) if self.allowed is None else self.allowed.copy()
        if self.imaged is not None:
            free &= ~self.imaged
        return free
