"""Equal holes of one stay by the shortest way: which of them are taken, and in which order the stage comes to them.

Holes that are believed equally good give the same plan in whatever order, so the order can serve the stage; so do
patches of one square that are entered for as many of them. Nothing else of a plan changes: neither its minutes, nor
what it expects, nor the order of what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cryoscout.advice.obeyed import Obeyed
from cryoscout.advice.walk import arranged, walked
from cryoscout.core.hole_tree import StagePlace
from cryoscout.core.ties import ROUNDING
from cryoscout.formats.serialem.patterns import item_of_hole
from cryoscout.routing.problem import NOWHERE, RoutingProblem
from cryoscout.routing.time_model import ROUNDING_MIN
from cryoscout.routing.times import keeps_grid_switch

if TYPE_CHECKING:
    from cryoscout.session.model import Session

LONGEST_IMPROVED = 400
"""Longer ways stay as the nearest neighbour gives them: improving one takes time with the square of its holes."""

PASSES = 8
LENGTH_ROUNDING = 1e-6
"""Lengths that differ by less are equal, in the unit of the positions."""


def as_listed(
    problem: RoutingProblem,
    here: int,
    planned: Sequence[int],
    said: Obeyed,
    free: NDArray[np.bool_],
    p_good: NDArray[np.float64],
    minutes_left: float,
    positions: Positions,
    stands: Sequence[int] = (),
    at: StagePlace | None = None,
) -> list[int]:
    """A policy's route as lists, exports and running advice give it: as operators said, then by the shortest way.

    free, p_good, at : as of `arranged`     stands : holes that stay at their place
    """
    wanted = list(planned)
    if said.changes_routes:
        wanted = arranged(problem, here, planned, said, free, p_good, minutes_left, at)
    if np.isfinite(positions.xy).any():
        keep = frozenset((*said.first, *said.pinned, *stands))
        wanted = by_the_shortest_way(
            problem, here, wanted, free, p_good, positions.xy, keep, positions.on_stage, at
        )
    if positions.at_once is None:
        return wanted
    return in_whole_patterns(problem, here, wanted, free, positions.at_once, minutes_left, at)


def in_whole_patterns(
    problem: RoutingProblem,
    here: int,
    route: Sequence[int],
    free: NDArray[np.bool_],
    at_once: NDArray[np.int64],
    minutes_left: float,
    at: StagePlace | None = None,
) -> list[int]:
    """The route with all holes of each pattern at its first one, because the microscope images them at once.

    free : (n,) holes that may be visited     at_once : (n,) as of `Positions`     at : as of `walk.walked`
    A pattern that does not fit into the minutes as a whole is left out.
    """
    members: dict[int, list[int]] = {}
    for hole in np.flatnonzero(free).tolist():
        members.setdefault(int(at_once[hole]), []).append(hole)
    result: list[int] = []
    used_min, done = 0.0, set[int]()
    for hole in route:
        item = int(at_once[hole])
        if item in done:
            continue
        done.add(item)
        block = [hole, *(each for each in members.get(item, ()) if each != hole)]
        way = walked(problem, result[-1] if result else here, block, np.inf, None if result else at)
        block_min = float(way.minutes[-1])
        if len(block) > 1 and used_min + block_min > minutes_left + ROUNDING_MIN:
            continue
        result += block
        used_min += block_min
    return result


class Positions(NamedTuple):
    """Where holes are, for the order in which the stage comes to them."""

    xy: NDArray[np.float64]  # (n, 2) um of the stage, or px of an image; NaN unknown
    on_stage: bool  # one frame for all; else a patch may have an image of its own
    at_once: NDArray[np.int64] | None = None
    """(n,) index of the item at which a hole is imaged with others at once (a MultiShot pattern), its own for a hole
    that is imaged by itself; None where all are."""

    def of_the_stage(self) -> Positions:
        """These, or none where they are places on images."""
        return self if self.on_stage else self._replace(xy=np.full_like(self.xy, np.nan), on_stage=True)


def positions_of(session: Session) -> Positions:
    """On the stage where that is known, else on images; of built-in and simulated sessions as the papers have them."""
    on_stage = session.holes[["x_um", "y_um"]].to_numpy(dtype=np.float64)
    at_once = _at_once(session)
    if np.isfinite(on_stage).any() or keeps_grid_switch(session):
        return Positions(on_stage, on_stage=True, at_once=at_once)
    on_images = session.holes[["x_px", "y_px"]].to_numpy(dtype=np.float64)
    return Positions(on_images, on_stage=False, at_once=at_once)


def _at_once(session: Session) -> NDArray[np.int64] | None:
    if session.info.format != "serialem":
        return None
    row = {hole_id: place for place, hole_id in enumerate(session.holes["hole_id"])}
    items = np.array([row[item_of_hole(hole_id, row)] for hole_id in row], dtype=np.int64)
    return None if (items == np.arange(len(items))).all() else items


def by_the_shortest_way(
    problem: RoutingProblem,
    here: int,
    route: Sequence[int],
    free: NDArray[np.bool_],
    p_good: NDArray[np.float64],
    xy: NDArray[np.float64],
    keep: frozenset[int] = frozenset(),
    one_frame: bool = True,
    at: StagePlace | None = None,
) -> list[int]:
    """The route with stays that are worth the same in the order of a short way, and each run of equally good holes of
    one patch exchanged for a short way among such holes.

    here : hole index or NOWHERE     free : (n,) holes that may be visited     p_good : (n,)
    xy : (n, 2) positions in one unit, NaN unknown     keep : holes that stay in the route at their place
    one_frame : whether positions of different patches can be compared     at : as of `walk.walked`
    """
    result = list(route)
    stage = problem.tree.place_of(here) if at is None else at
    begins = _place(here, xy) if at is None else _centre(problem, at, xy)
    if one_frame:
        result = _by_the_shortest_way(_stays(problem, stage.patch, result, p_good, xy, keep), begins, xy)
    planned = np.zeros(problem.n_holes, dtype=bool)
    planned[result] = True
    patch_begin = np.searchsorted(problem.patch_of_hole, np.arange(len(problem.square_of_patch) + 1))
    for begin, end in _runs(problem, result, p_good, keep):
        run = np.array(result[begin:end])
        patch = int(problem.patch_of_hole[run[0]])
        inside = np.arange(patch_begin[patch], patch_begin[patch + 1])
        equal = np.abs(p_good[inside] - p_good[run[0]]) <= ROUNDING
        others = inside[free[inside] & ~planned[inside] & equal]
        if not np.isfinite(xy[run]).all():
            continue
        others = others[np.isfinite(xy[others]).all(axis=1)]
        before = _place(result[begin - 1], xy) if begin else begins
        patch_before = int(problem.patch_of_hole[result[begin - 1]]) if begin else stage.patch
        if not one_frame and patch_before != patch:
            before = None
        way = _way(np.concatenate([run, others]), len(run), xy, before)
        planned[run] = False
        planned[way] = True
        result[begin:end] = way
    return result


def length_of(route: Sequence[int], xy: NDArray[np.float64]) -> float:
    """Sum of the distances from hole to hole."""
    places = xy[np.asarray(route, dtype=np.int64)]
    return float(np.hypot(*np.diff(places, axis=0).T).sum()) if len(places) > 1 else 0.0


def _runs(
    problem: RoutingProblem, route: list[int], p_good: NDArray[np.float64], keep: frozenset[int]
) -> list[tuple[int, int]]:
    """Ranges of consecutive holes of one patch with equal p, of two and more."""
    cuts = [0]
    for number, (one, other) in enumerate(pairwise(route), start=1):
        same = problem.patch_of_hole[one] == problem.patch_of_hole[other]
        if not same or abs(p_good[one] - p_good[other]) > ROUNDING or one in keep or other in keep:
            cuts.append(number)
    cuts.append(len(route))
    return [(begin, end) for begin, end in pairwise(cuts) if end - begin > 1]


def _by_the_shortest_way(
    stays: Sequence[_Stay], begins: NDArray[np.float64] | None, xy: NDArray[np.float64]
) -> list[int]:
    """Holes of the stays; patches of one square that are entered in turn for as many equal holes by a short way.

    Each of them costs the step to a new patch, whichever comes first; the one that the stage is in already costs none
    and stays.
    """
    result: list[int] = []
    begin = 0
    while begin < len(stays):
        end = begin + 1
        while end < len(stays) and stays[begin].worth is not None and stays[end].worth == stays[begin].worth:
            end += 1
        group = stays[begin:end]
        if len(group) > 1:
            centres = np.array([stay.centre for stay in group])
            before = _place(result[-1], xy) if result else begins
            group = [group[place] for place in _order(centres, before, len(group))]
        result += [hole for stay in group for hole in stay.holes]
        begin = end
    return result


class _Stay(NamedTuple):
    """Consecutive holes of one patch."""

    holes: list[int]
    worth: (
        tuple[int, int, int] | None
    )  # square, holes, p in steps of rounding; None where the stay keeps its place
    centre: tuple[float, float]


def _stays(
    problem: RoutingProblem,
    patch_here: int,
    route: list[int],
    p_good: NDArray[np.float64],
    xy: NDArray[np.float64],
    keep: frozenset[int],
) -> list[_Stay]:
    found: list[_Stay] = []
    for patch, group in groupby(route, key=lambda hole: int(problem.patch_of_hole[hole])):
        holes = list(group)
        centre = xy[holes].mean(axis=0)
        p = p_good[holes]
        is_free = not keep.intersection(holes) and (found or patch != patch_here)
        worth = None
        if is_free and np.isfinite(centre).all() and float(np.ptp(p)) <= ROUNDING:
            worth = (int(problem.square_of_patch[patch]), len(holes), round(float(p[0]) / ROUNDING))
        found.append(_Stay(holes, worth, (float(centre[0]), float(centre[1]))))
    return found


def _place(hole: int, xy: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Where the stage is at a hole, None unknown."""
    return xy[hole] if hole != NOWHERE and np.isfinite(xy[hole]).all() else None


def _centre(problem: RoutingProblem, at: StagePlace, xy: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Where the stage is after a look at a patch or square: amid its holes, None unknown."""
    if at.square == NOWHERE:
        return None
    looked_at = (
        problem.square_of_hole == at.square if at.patch == NOWHERE else problem.patch_of_hole == at.patch
    )
    known = looked_at & np.isfinite(xy).all(axis=1)
    return xy[known].mean(axis=0) if known.any() else None


def _way(
    holes: NDArray[np.int64], count: int, xy: NDArray[np.float64], before: NDArray[np.float64] | None
) -> list[int]:
    """A short way over `count` of the holes."""
    holes = np.sort(holes)
    return [int(holes[place]) for place in _order(xy[holes], before, count)]


def _order(places: NDArray[np.float64], start: NDArray[np.float64] | None, count: int) -> list[int]:
    """Indices of a short way over `count` of the places: always on to the nearest, then uncrossed."""
    if start is None:
        # From a corner nothing is left behind.
        start = places.min(axis=0)
    way = _nearest_on(places, start, count)
    if 3 <= count <= LONGEST_IMPROVED:
        _uncross(way, places)
    return [int(place) for place in way]


@njit(cache=True)
def _nearest_on(places, start, count):  # type: ignore[no-untyped-def]
    """Indices of `count` places, each the nearest to the one before that is left."""
    left = np.ones(len(places), dtype=np.bool_)
    way = np.empty(count, dtype=np.int64)
    row, column = start[0], start[1]
    for step in range(count):
        nearest, least = -1, np.inf
        for place in range(len(places)):
            if left[place]:
                squared = (places[place, 0] - row) ** 2 + (places[place, 1] - column) ** 2
                # Holes of a lattice that are equally near go by their order on every processor.
                if squared < least * (1.0 - LENGTH_ROUNDING):
                    nearest, least = place, squared
        left[nearest] = False
        way[step] = nearest
        row, column = places[nearest, 0], places[nearest, 1]
    return way


@njit(cache=True)
def _uncross(way, places):  # type: ignore[no-untyped-def]
    """Turn pieces of the way round, in place, as long as that makes it shorter; its first hole stays (2-opt)."""
    n = len(way)
    for _ in range(PASSES):
        is_shorter = False
        for i in range(n - 2):
            best, most = -1, LENGTH_ROUNDING
            for j in range(i + 2, n):
                # Turn round i+1 .. j: the steps out of i and j are exchanged; out of the last hole there is none.
                gain = _step(places, way[i], way[i + 1]) - _step(places, way[i], way[j])
                if j < n - 1:
                    gain += _step(places, way[j], way[j + 1]) - _step(places, way[i + 1], way[j + 1])
                if gain > most + LENGTH_ROUNDING:
                    best, most = j, gain
            if best >= 0:
                # One by one: a slice that is assigned brings numba's error texts, which take seconds to compile.
                low, high = i + 1, best
                while low < high:
                    way[low], way[high] = way[high], way[low]
                    low, high = low + 1, high - 1
                is_shorter = True
        if not is_shorter:
            break


@njit(cache=True)
def _step(places, one, other):  # type: ignore[no-untyped-def]
    return np.hypot(places[one, 0] - places[other, 0], places[one, 1] - places[other, 1])
