"""From a problem to what is believed of its unseen places."""

from __future__ import annotations

import numpy as np

from cryoscout.belief.effects import Y1_FLAT_EFFECTS, EffectBelief, location_of
from cryoscout.belief.stage_belief import StageBelief
from cryoscout.belief.unseen import FLAT_UNSEEN, Y1_UNSEEN, UnseenPlaces, UnseenPrior, believe_unseen
from cryoscout.routing.problem import RoutingProblem


def unseen_of(
    problem: RoutingProblem, belief: EffectBelief | StageBelief, prior: UnseenPrior | None = None
) -> UnseenPlaces:
    """What is believed of every square's unseen patches.

    belief : of this problem, with the results so far     prior : None takes the problem's, else that of predictions,
        or of none
    """
    if prior is None:
        prior = problem.unseen_prior
    if prior is None:
        prior = FLAT_UNSEEN if problem.effects == Y1_FLAT_EFFECTS else Y1_UNSEEN
    places, tree = problem.places, problem.tree
    if places is None:
        square_looked = np.ones(tree.n_squares, dtype=bool)
        patch_looked, features = np.ones(tree.n_patches, dtype=bool), np.empty((tree.n_squares, 0))
        room = None
    else:
        square_looked, patch_looked = places.square_looked, places.patch_looked
        features, room = places.square_features, places.square_room
    return believe_unseen(
        tree,
        location_of(problem.prior_p_good, problem.effects.total),
        belief.evidence,
        problem.effects,
        square_looked,
        patch_looked,
        features,
        prior,
        room,
    )
