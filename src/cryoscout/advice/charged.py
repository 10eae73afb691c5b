"""Replays that charge looks: a session before anything was looked at, and which policies are compared there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryoscout.routing.looking import World
    from cryoscout.routing.predictions import Prediction
    from cryoscout.routing.problem import RoutingProblem
    from cryoscout.routing.replay import Truth
    from cryoscout.routing.time_model import TimeModel
    from cryoscout.session.model import Session

POLICIES_THAT_LOOK = ("look-first", "look-greedy", "explore")
"""Compared where looks are charged and none is named."""


def hidden_world(session: Session, prediction: Prediction, problem: RoutingProblem, truth: Truth) -> World:
    """The problem where nothing was looked at.

    problem : on that prediction, holes without an outcome out
    A place without a measured hole is as if it had been looked at: nothing is known of what it held.
    """
    import numpy as np

    from cryoscout.routing.looking import World
    from cryoscout.routing.places import Places
    from cryoscout.session.looks import atlas_features, square_room

    tree = problem.tree
    patch_empty = np.bincount(tree.patch_of_hole[truth.measured], minlength=tree.n_patches) == 0
    square_empty = np.bincount(tree.square_of_patch[~patch_empty], minlength=tree.n_squares) == 0
    features = atlas_features(session)
    if np.isnan(features).all():
        features = features[:, :0]
    places = Places(square_empty, patch_empty, features, square_room=square_room(session))
    return World(problem, places, prediction.of_seen)


def notes_on_minutes_of_looks(model: TimeModel) -> tuple[str, ...]:
    """That looks are free but for the move, where the time model has no minutes of them."""
    if model.patch_look_min is not None or model.square_look_min is not None:
        return ()
    return (
        f"Looks take no minutes of their own in the time model {model.name}, only the move: places are hidden all the "
        "same. --time-model y1-looks-as-sketched charges them.",
    )
