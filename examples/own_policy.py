"""A policy of one's own: the surest hole nearby, and on to another patch when none is sure."""

from cryoscout.core.ties import first_of_the_best
from cryoscout.routing.policies.base import STOP, Observation, OwnPolicy


class SurestPerMinute(OwnPolicy):
    """The hole with the highest probability per minute from where the microscope stands."""

    name = "surest-per-minute"
    default_prediction = "combined"

    def next_hole(self, observation: Observation) -> int:
        """A hole's index, or STOP."""
        holes = self.candidates(observation)
        if not len(holes):
            return STOP
        tiers = self.problem.tree.tiers_from(observation.here)[holes]
        minutes = self.problem.time_model.tiers_min(self.problem.shots)[tiers]
        return int(holes[first_of_the_best(self.problem.prior_p_good[holes] / minutes)])
