"""What a route's map shows: the whole session while it is small, else the squares that the route enters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cryoscout.core.hole_tree import HoleTree
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.session.model import Session

HOLES_OF_A_READABLE_MAP = 2500


@dataclass(frozen=True)
class RouteOnMap:
    """A route to draw: what was visited, and what it gave where that is known."""

    route: NDArray[np.int64]  # (visits,) hole indices
    start_hole: int  # NOWHERE when the route starts outside every grid
    good: NDArray[np.bool_] | None  # (visits,) None: a plan, whose outcomes are not known
    imaged: NDArray[np.bool_] | None = None  # (n,) holes imaged before the route


@dataclass(frozen=True)
class MapScene:
    """A problem, a route on it, and what the drawing adds.

    grid_names : by grid index, numbers where it is empty
    offset_in_patch : (n, 2) x to the right and y up in the hole's patch, any unit, NaN where unknown; or None
    squares_left_out : squares without a visit that are not drawn
    """

    problem: RoutingProblem
    drawn: RouteOnMap
    grid_names: Sequence[str] = ()
    offset_in_patch: NDArray[np.float64] | None = None
    squares_left_out: int = 0


def scene_of_session(session: Session, problem: RoutingProblem, drawn: RouteOnMap) -> MapScene:
    """The scene of a route on a session; above HOLES_OF_A_READABLE_MAP only squares that the route enters."""
    names = short_names(session.grids["grid_id"].tolist())
    scene = MapScene(problem, drawn, names, offsets(session))
    return scene if problem.n_holes <= HOLES_OF_A_READABLE_MAP else entered_squares(scene)


def entered_squares(scene: MapScene) -> MapScene:
    """The scene without the squares that neither the start nor a visit lies in; unchanged without either."""
    problem, drawn = scene.problem, scene.drawn
    stops = drawn.route if drawn.start_hole == NOWHERE else np.append(drawn.route, drawn.start_hole)
    if len(stops) == 0:
        return scene
    square_of_hole = problem.square_of_hole
    kept_holes = np.isin(square_of_hole, square_of_hole[stops])
    patches, patch_of_hole = np.unique(problem.patch_of_hole[kept_holes], return_inverse=True)
    squares, square_of_patch = np.unique(problem.square_of_patch[patches], return_inverse=True)
    grids, grid_of_square = np.unique(problem.grid_of_square[squares], return_inverse=True)
    place = np.cumsum(kept_holes) - 1
    small = RoutingProblem(
        tree=HoleTree(
            patch_of_hole.astype(np.int32), square_of_patch.astype(np.int32), grid_of_square.astype(np.int32)
        ),
        prior_p_good=problem.prior_p_good[kept_holes],
        budget_min=problem.budget_min,
        time_model=problem.time_model,
        shots=problem.shots,
    )
    return MapScene(
        problem=small,
        drawn=replace(
            drawn,
            route=place[drawn.route],
            start_hole=NOWHERE if drawn.start_hole == NOWHERE else int(place[drawn.start_hole]),
            imaged=None if drawn.imaged is None else drawn.imaged[kept_holes],
        ),
        grid_names=[scene.grid_names[grid] for grid in grids.tolist()] if scene.grid_names else (),
        offset_in_patch=None if scene.offset_in_patch is None else scene.offset_in_patch[kept_holes],
        squares_left_out=len(problem.grid_of_square) - len(squares),
    )


def offsets(session: Session) -> NDArray[np.float64]:
    """(n, 2) hole offsets in the patch image, x to the right, y up (its rows run down); NaN where unknown."""
    x, y = (session.holes[name].to_numpy(dtype=np.float64) for name in ("x_px", "y_px"))
    return np.stack([x, -y], axis=1)


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the part that all begin with, cut at a separator; ids repeat the session's name."""
    if len(names) < 2:
        return list(names)
    first, last = min(names), max(names)
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    common = first[: next(differ, min(len(first), len(last)))]
    cut = max((common.rfind(mark) for mark in "_-/ "), default=-1) + 1
    return [name[cut:] or name for name in names]
