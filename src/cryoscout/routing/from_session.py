"""From a session to what planners and replays take: problem, truth, named prediction, time model, names.

The one place that decides what a planner may know of a session, so that nothing of the truth slips into a
problem.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.units import GOOD_THRESHOLD_ANGSTROM, check_threshold_angstrom
from cryoscout.routing.places import Places
from cryoscout.routing.predictions import Prediction
from cryoscout.routing.problem import NOWHERE, Crossing, RoutingProblem
from cryoscout.routing.replay import Truth
from cryoscout.routing.time_model import TimeModel
from cryoscout.routing.times import keeps_grid_switch, time_model_for
from cryoscout.session.looks import atlas_features, patches_looked_at, square_room, squares_looked_at
from cryoscout.session.model import Session

MARK_GOES_WITH_THE_IMAGE = frozenset({"serialem"})
"""Formats of programs that take the mark off what they have imaged."""


def truth_from_session(session: Session, threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM) -> Truth:
    """What the holes gave. Without a result a hole is not measured; a failed fit is a result, not good."""
    good = session.good_by_hole(check_threshold_angstrom(threshold_angstrom))
    measured = ~np.isnan(good)
    return Truth(np.where(measured, good, 0.0), measured)


def problem_from_session(
    session: Session,
    *,
    prediction: Prediction,
    budget_min: float,
    time_model: TimeModel | str | None = None,
    threshold_angstrom: float = GOOD_THRESHOLD_ANGSTROM,
    crossing: Crossing = "drop",
    as_new: bool = False,
    also_unchosen: bool = False,
    loaded: str | None = None,
    may_be_empty: bool = False,
) -> RoutingProblem:
    """The planning problem of a session; holes in the session's order.

    prediction : of `prediction_of`, at the same threshold     time_model : None for the session's default
    as_new : hide every outcome and plan imaged holes again; built-in sessions always are as new
    also_unchosen : plan holes too that the operator did not choose (`not_chosen`)
    loaded : id of the grid that is in the microscope where a plan starts at no hole (`loaded_grid`)
    may_be_empty : a session of which no hole is known yet is a problem without holes, and no error
    Without as_new, imaged holes are marked as imaged (never planned) and known outcomes are handed over.
    Raises UnknownNameError, InputError, DataError as the parts do.
    """
    if not isinstance(time_model, TimeModel):
        time_model, _ = time_model_for(session, time_model)
    hidden = is_planned_as_new(session, as_new)
    left_out = not_chosen(session)
    places = places_of(session)
    if places is None and not session.n_holes:
        if not may_be_empty:
            raise _nothing_to_go_to(session)
        places = Places.looked_at(squares_looked_at(session), patches_looked_at(session))
    return RoutingProblem(
        tree=replace(session.tree(), loaded_grid=loaded_grid(session, loaded)),
        prior_p_good=prediction.p_good,
        budget_min=budget_min,
        time_model=time_model,
        shots=session.info.shots,
        crossing=crossing,
        effects=prediction.effects,
        fit_loadings=prediction.loadings,
        imaged=None if hidden else session.imaged_by_hole(),
        outcome=None if hidden else session.good_by_hole(threshold_angstrom),
        results=None if hidden else session.results_by_hole(),
        allowed=None if also_unchosen or not left_out.any() else ~left_out,
        stage_um=stage_positions_um(session),
        hole_ids=tuple(session.holes["hole_id"]),
        places=places,
    )


def _nothing_to_go_to(session: Session) -> DataError:
    """Why a session gives no problem: no hole is known, and no square is left to look at."""
    squares = len(session.squares)
    got = (
        f"{counted(squares, 'squares')}, all of them looked at, and no hole"
        if squares
        else "neither squares nor holes"
    )
    return DataError(
        f"Session {session.name} must have a hole, or a square that was not looked at yet. Got {got} instead. "
        "Remedy: import what names the holes with --update, such as the navigator with its points or the folder of "
        "the session."
    )


def places_of(session: Session) -> Places | None:
    """Which squares and patches were looked at, and what the atlas shows; None where nothing is unseen."""
    squares, patches = squares_looked_at(session), patches_looked_at(session)
    if squares.all() and patches.all():
        return None
    xy_um = session.squares[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    return Places(squares, patches, atlas_features(session), xy_um, square_room=square_room(session))


def stage_positions_um(session: Session) -> NDArray[np.float64] | None:
    """(n, 2) stage position of each hole within its grid, NaN where unknown; None where no hole has one."""
    stage_um = session.holes[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    stage_um = np.where(np.isfinite(stage_um).all(axis=1, keepdims=True), stage_um, np.nan)
    return None if np.isnan(stage_um).all() else stage_um


def not_chosen(session: Session) -> NDArray[np.bool_]:
    """(n,) bool: holes of which a file says that the operator did not choose them, and that have no image.

    Where no hole is chosen, the choice is not made yet and all may be planned. Not so for SerialEM, which takes the
    mark off every item that it has acquired (`SetItemSuccessfullyAcquired` in its NavigatorDlg.cpp): a hole without a
    mark may be exposed, with or without an image that is known. An imaged hole was chosen, whatever the file says now.
    """
    chosen = session.holes["chosen"]
    if not chosen.any() and session.info.format not in MARK_GOES_WITH_THE_IMAGE:
        return np.zeros(session.n_holes, dtype=bool)
    said_no = (~chosen).fillna(False).to_numpy(dtype=bool)
    return np.asarray(said_no & ~session.imaged_by_hole())


def is_planned_as_new(session: Session, as_new: bool) -> bool:
    """Whether outcomes are hidden: always for built-in sessions, otherwise when asked for."""
    return as_new or session.info.built_in


def loaded_grid(session: Session, named: str | None) -> int:
    """Index of the grid that is in before the first visit: the one named, else the only one, else NOWHERE.

    Built-in and simulated sessions are planned as the papers do, from outside every grid, unless a grid is named.
    Raises UnknownNameError for a grid that the session does not have.
    """
    grids = session.grids["grid_id"].tolist()
    if named is not None:
        if named not in grids:
            raise UnknownNameError("The loaded grid", named, grids)
        return int(grids.index(named))
    return 0 if len(grids) == 1 and not keeps_grid_switch(session) else NOWHERE


def stands_at_a_look(session: Session, loaded: str | None = None) -> StagePlace | None:
    """The patch or square that the stage stands at because it was looked at after every exposure; None otherwise.

    loaded : id of the grid that is in now; a look at another grid is no place to start from
    None too where an exposure was taken at no known time: it may be the later one.
    """
    tree = session.tree()
    levels = (
        (session.squares["looked_at"], tree.place_of_square),
        (session.patches["looked_at"], tree.place_of_patch),
    )
    looks = [(at.max(), int(at.argmax()), place_of) for at, place_of in levels if at.notna().any()]
    taken = session.exposures.loc[session.exposures["outcome"] != "none", "started_at"]
    if not looks or taken.isna().any():
        return None
    at, index, place_of = max(
        looks, key=lambda look: look[0]
    )  # of equal moments the square: it is looked at first
    place = place_of(index)
    elsewhere = loaded is not None and place.grid != loaded_grid(session, loaded)
    return None if elsewhere or (taken >= at).any() else place


def start_of_plan(session: Session, from_hole: str | None, as_new: bool, loaded: str | None = None) -> int:
    """Index of the hole a plan starts at: the one named, else the last one imaged, else NOWHERE.

    loaded : id of the grid that is in now; a last imaged hole of another grid is no start
    Raises InputError with the nearest id when the hole is not of the session, and for a hole of another grid than the
    loaded one; UnknownNameError for a grid that the session does not have.
    """
    grid = NOWHERE if loaded is None else loaded_grid(session, loaded)
    if from_hole is not None:
        start = session.hole_index(from_hole)
        if grid not in (NOWHERE, of_hole := int(session.tree().grid_of_hole[start])):
            raise InputError(
                f"The hole of --from must be on the loaded grid, {loaded}. Got {from_hole}, on "
                f"{session.grids['grid_id'].iloc[of_hole]}, instead. Remedy: leave --from or --loaded out."
            )
        return start
    last = None if is_planned_as_new(session, as_new) else session.last_imaged_hole()
    if last is None or grid not in (NOWHERE, int(session.tree().grid_of_hole[last])):
        return NOWHERE
    return last
