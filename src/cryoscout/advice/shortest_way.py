"""Equal holes of one stay by the shortest way: which of them are taken, and in which order the stage comes to them.

Holes that are believed equally good give the same plan in whatever order, so the order can serve the stage; so do
patches of one square that are entered in turn for such holes, for however many of each, because every entry costs the
same. A patch may give way to one in which nothing was planned and that has as many of them. Nothing else of a plan
changes: neither its minutes, nor what it expects, nor the order of what differs. Within it, a patch of few holes may
come before one of many, which saves entries: stopped early, the plan then has fewer holes than it could.
"""

from __future__ import annotations

from collections import Counter
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
    ways = [wanted]
    if np.isfinite(positions.xy).any():
        keep = frozenset((*said.first, *said.pinned, *stands))
        way = by_the_shortest_way(
            problem, here, wanted, free, p_good, positions.xy, keep, positions.on_stage, at
        )
        ways = [way, wanted]
    if positions.at_once is not None:
        ways = [
            in_whole_patterns(problem, here, way, free, positions.at_once, minutes_left, at) for way in ways
        ]
    if len(ways) == 1:
        return ways[0]
    # In another order another pattern may not fit: for a shorter way nothing that is expected is given up.
    reached = [walked(problem, here, way, minutes_left, at).holes for way in ways]
    expected = [float(p_good[holes].sum()) for holes in reached]
    return ways[0] if expected[0] >= expected[1] - ROUNDING else ways[1]


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
    """The route with patches of one square that are entered in turn for equally good holes by a short way, and each run
    of such holes of one patch exchanged for a short way among them.

    here : hole index or NOWHERE     free : (n,) holes that may be visited     p_good : (n,)
    xy : (n, 2) positions in one unit, NaN unknown     keep : holes that stay in the route at their place
    one_frame : whether positions of different patches can be compared     at : as of `walk.walked`
    """
    result = list(route)
    stage = problem.tree.place_of(here) if at is None else at
    begins = _place(here, xy) if at is None else _centre(problem, at, xy)
    if one_frame:
        in_squares = np.isin(problem.square_of_hole, problem.square_of_hole[result])
        patches = _even_patches(problem, free & in_squares, p_good, xy)
        stays = _stays(problem, stage.patch, result, p_good, xy, keep, patches)
        touched = {stage.patch, *problem.patch_of_hole[result].tolist()}
        others = [stay for patch, stay in patches.items() if patch not in touched]
        result = _by_the_shortest_way(stays, others, begins, xy)
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


class _Stay(NamedTuple):
    """Consecutive holes of one patch."""

    holes: list[int]
    centre: tuple[float, float]
    worth: tuple[int, int] | None  # square, p in steps of rounding; None where the stay keeps its place
    has: list[int]
    """All holes of the patch that may be visited, where they are equally good and nowhere else in the route; else
    none."""


def _by_the_shortest_way(
    stays: Sequence[_Stay],
    others: Sequence[_Stay],
    begins: NDArray[np.float64] | None,
    xy: NDArray[np.float64],
) -> list[int]:
    """Holes of the stays; patches of one square that are entered in turn for equal holes by a short way.

    others : patches that may take the place of a stay
    Each of them costs the step to a new patch, whichever comes first; the one that the stage is in already costs none
    and stays.
    """
    unused: dict[tuple[int, int] | None, list[_Stay]] = {}
    for stay in others:
        unused.setdefault(stay.worth, []).append(stay)
    result: list[int] = []
    for worth, run in groupby(stays, key=lambda stay: stay.worth):
        group = list(run)
        if worth is not None:
            before = _place(result[-1], xy) if result else begins
            found = _shortest(group, unused.get(worth, []), before)
            taken = {stay.has[0] for stay in found if stay.has}
            unused[worth] = [stay for stay in unused.get(worth, []) if stay.has[0] not in taken]
            group = found
        result += [hole for stay in group for hole in stay.holes]
    return result


def _shortest(group: list[_Stay], others: list[_Stay], before: NDArray[np.float64] | None) -> list[_Stay]:
    """The shortest found of: the stays as they are, in another order, with others of as many holes in their place.

    group : of one worth     others : of the same worth, that nothing is planned in     before : where the way begins
    """
    # A stay that cannot be exchanged is of a kind of its own.
    kinds = [len(stay.has) or -1 - number for number, stay in enumerate(group)]
    others = [stay for stay in others if len(stay.has) in kinds]
    number_of = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    kind = np.array([number_of[each] for each in (*kinds, *(len(stay.has) for stay in others))])
    centres = np.array([stay.centre for stay in (*group, *others)])
    n = len(group)
    of_kind = np.bincount(kind[:n])
    ways = [list(range(n)), _order(centres[:n], before, n)]
    if others:
        ways.append(_order(centres, before, n, kind, of_kind))
    way = min(ways, key=lambda each: _length(centres[each], before))
    counts: dict[int, list[int]] = {}
    for number, stay in zip(kind[:n].tolist(), group, strict=True):
        counts.setdefault(number, []).append(len(stay.holes))
    found = []
    for place in way:
        count = counts[int(kind[place])].pop(0)
        stay = (*group, *others)[place]
        if count != len(stay.holes):
            stay = stay._replace(holes=stay.has[:count])
        found.append(stay)
    return found


def _even_patches(
    problem: RoutingProblem,
    free: NDArray[np.bool_],
    p_good: NDArray[np.float64],
    xy: NDArray[np.float64],
) -> dict[int, _Stay]:
    """Patches of which all holes that may be visited are equally good and have a position, each as a stay for all."""
    holes = np.flatnonzero(free)
    begins = np.flatnonzero(np.diff(problem.patch_of_hole[holes], prepend=-1))
    found: dict[int, _Stay] = {}
    if not len(holes):
        return found
    p, place = p_good[holes], xy[holes]
    least, most = np.minimum.reduceat(p, begins), np.maximum.reduceat(p, begins)
    centres = np.add.reduceat(place, begins) / np.diff(begins, append=len(holes))[:, None]
    is_even = (most - least <= ROUNDING) & np.isfinite(centres).all(axis=1)
    ends = np.append(begins[1:], len(holes))
    for number in np.flatnonzero(is_even).tolist():
        inside = holes[begins[number] : ends[number]].tolist()
        worth = (int(problem.square_of_hole[inside[0]]), round(float(p_good[inside[0]]) / ROUNDING))
        centre = (float(centres[number, 0]), float(centres[number, 1]))
        found[int(problem.patch_of_hole[inside[0]])] = _Stay(inside, centre, worth, inside)
    return found


def _stays(
    problem: RoutingProblem,
    patch_here: int,
    route: list[int],
    p_good: NDArray[np.float64],
    xy: NDArray[np.float64],
    keep: frozenset[int],
    patches: dict[int, _Stay],
) -> list[_Stay]:
    found: list[_Stay] = []
    in_route = Counter(problem.patch_of_hole[route].tolist())
    for patch, group in groupby(route, key=lambda hole: int(problem.patch_of_hole[hole])):
        holes = list(group)
        centre = xy[holes].mean(axis=0)
        p = p_good[holes]
        is_free = not keep.intersection(holes) and (found or patch != patch_here)
        worth = None
        if is_free and np.isfinite(centre).all() and float(np.ptp(p)) <= ROUNDING:
            worth = (int(problem.square_of_patch[patch]), round(float(p[0]) / ROUNDING))
        whole = patches.get(patch)
        is_whole = whole is not None and whole.worth == worth and in_route[patch] == len(holes)
        has = whole.has if whole is not None and is_whole else []
        found.append(_Stay(holes, (float(centre[0]), float(centre[1])), worth, has))
    return found


def _length(places: NDArray[np.float64], before: NDArray[np.float64] | None) -> float:
    """Of the way from place to place, and from where it comes."""
    way = places if before is None else np.vstack([before, places])
    return float(np.hypot(*np.diff(way, axis=0).T).sum())


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


def _order(
    places: NDArray[np.float64],
    start: NDArray[np.float64] | None,
    count: int,
    kind: NDArray[np.int64] | None = None,
    of_kind: NDArray[np.int64] | None = None,
) -> list[int]:
    """Indices of a short way over `count` of the places: always on to the nearest, then uncrossed.

    kind : number of each place's kind     of_kind : how many of each kind are taken, `count` in all; None: of one kind
    """
    if kind is None or of_kind is None:
        kind, of_kind = np.zeros(len(places), dtype=np.int64), np.array([count])
    kind, of_kind = kind.astype(np.int64), of_kind.astype(np.int64)
    # From a corner nothing is left behind.
    begin = places.min(axis=0) if start is None else start
    way = _nearest_on(places, begin, count, kind, of_kind)
    if count > LONGEST_IMPROVED or count < 2:
        return [int(place) for place in way]
    _shorten(way, places, kind)
    if start is None:
        return [int(place) for place in way]
    # The nearest need not be the first: where the stage is stands before the way, of a kind that no other is of.
    from_start = np.concatenate([[len(places)], way])
    _shorten(from_start, np.vstack([places, begin]), np.append(kind, -1))
    return [int(place) for place in from_start[1:]]


@njit(cache=True)
def _nearest_on(places, start, count, kind, of_kind):  # type: ignore[no-untyped-def]
    """Indices of `count` places, each the nearest to the one before that is left, of each kind only so many."""
    left = np.ones(len(places), dtype=np.bool_)
    way = np.empty(count, dtype=np.int64)
    row, column = start[0], start[1]
    for step in range(count):
        nearest, least = -1, np.inf
        for place in range(len(places)):
            if left[place] and of_kind[kind[place]] > 0:
                squared = (places[place, 0] - row) ** 2 + (places[place, 1] - column) ** 2
                # Holes of a lattice that are equally near go by their order on every processor.
                if squared < least * (1.0 - LENGTH_ROUNDING):
                    nearest, least = place, squared
        left[nearest] = False
        of_kind[kind[nearest]] -= 1
        way[step] = nearest
        row, column = places[nearest, 0], places[nearest, 1]
    return way


@njit(cache=True)
def _shorten(way, places, kind):  # type: ignore[no-untyped-def]
    """Make the way shorter, in place, as long as one of two changes does; its first place stays.

    A piece of the way is turned round (2-opt), or a place gives way to one of its kind that is not on the way.
    """
    n = len(way)
    is_on = np.zeros(len(places), dtype=np.bool_)
    for i in range(n):
        is_on[way[i]] = True
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
        for i in range(1, n):
            best, most = -1, LENGTH_ROUNDING
            for place in range(len(places)):
                if is_on[place] or kind[place] != kind[way[i]]:
                    continue
                gain = _step(places, way[i - 1], way[i]) - _step(places, way[i - 1], place)
                if i < n - 1:
                    gain += _step(places, way[i], way[i + 1]) - _step(places, place, way[i + 1])
                if gain > most + LENGTH_ROUNDING:
                    best, most = place, gain
            if best >= 0:
                is_on[way[i]], is_on[best] = False, True
                way[i] = best
                is_shorter = True
        if not is_shorter:
            break


@njit(cache=True)
def _step(places, one, other):  # type: ignore[no-untyped-def]
    return np.hypot(places[one, 0] - places[other, 0], places[one, 1] - places[other, 1])
