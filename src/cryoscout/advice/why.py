"""Why this hole, in parts, and what to do with every square: the words of a running advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from cryoscout.advice.running import SHOWN, RunningAdvice
from cryoscout.advice.walk import stays, walked
from cryoscout.core.counting import counted
from cryoscout.core.units import TIER_NAMES
from cryoscout.routing.problem import NOWHERE

Json = dict[str, Any]
Verb = Literal["START", "LOOK", "STAY", "LEAVE", "CHANGE GRID", "WAIT", "STOP"]
SquareAdvice = Literal["go on", "leave", "skip", "look into"]


LEAST_FEWER = 0.05
"""A runner-up that gives fewer good micrographs by less than that is said to be as good."""


@dataclass(frozen=True)
class Verdict:
    """What to do now: one verb, one place, one number, one sentence."""

    verb: Verb
    place: str
    minutes: float  # until the plan leaves the place, or until the step is done
    sentence: str

    def to_json(self) -> Json:
        """The same as a JSON object."""
        return {"verb": self.verb, "place": self.place, "minutes": self.minutes, "sentence": self.sentence}


def verdict_of(advice: RunningAdvice) -> Verdict:
    """The verdict of an advice: by whether it stays in the square, or why there is nothing to image."""
    now, problem, names = advice.now, advice.problem, advice.names
    if now.overrides.is_paused:
        return Verdict("WAIT", "", 0.0, "Paused by the operator: nothing is imaged until it is resumed.")
    if advice.looks:
        look = advice.looks[0]
        place = look.square if look.patch is None else look.patch
        return Verdict("LOOK", place, look.minutes, look.sentence)
    if len(advice.walk) == 0:
        return _stop(advice)
    first = int(advice.walk.holes[0])
    square = int(problem.square_of_hole[first])
    stay = _minutes_in(advice, square)
    place = names.squares[square]
    holes = int((problem.square_of_hole[advice.walk.holes] == square).sum())
    here = now.square_in(problem)
    if here == NOWHERE:
        return Verdict(
            "START", place, stay, f"Start in square {place}: {counted(holes, 'holes')}, about {stay:.0f} min."
        )
    if here == square:
        return Verdict(
            "STAY",
            place,
            stay,
            f"Stay in square {place} for about {stay:.0f} min: {counted(holes, 'holes')} planned.",
        )
    grid, here_grid = int(problem.grid_of_square[square]), int(problem.grid_of_square[here])
    left = names.squares[here]
    if grid != here_grid:
        name = names.grids[grid]
        return Verdict(
            "CHANGE GRID",
            name,
            stay,
            f"Change to grid {name}, square {place}: {counted(holes, 'holes')}, about {stay:.0f} min.",
        )
    return Verdict(
        "LEAVE",
        left,
        stay,
        f"Leave square {left} for square {place}: {counted(holes, 'holes')} there, about {stay:.0f} min.",
    )


def _stop(advice: RunningAdvice) -> Verdict:
    """Why there is nothing to do now: nothing is known yet, all is done or left out, or the time is over."""
    problem, now, said = advice.problem, advice.now, advice.said
    left = f"in the {max(now.minutes_left, 0.0):.0f} minutes that are left."
    free = problem.available() & ~now.imaged
    has_unseen = bool(advice.unseen_squares.any())
    if (free & ~said.out).any():
        return Verdict("STOP", "", 0.0, f"No hole {'and no look fits' if has_unseen else 'fits'} {left}")
    if has_unseen and advice.looks_about:
        return Verdict("STOP", "", 0.0, f"No look fits {left}")
    if free.any() or said.squares_out.any():
        return Verdict("STOP", "", 0.0, "All that is left is banned or skipped.")
    if not problem.n_holes:
        if now.minutes_left <= 0:
            return Verdict("STOP", "", 0.0, "The time is over, and no hole is known.")
        return Verdict("WAIT", "", 0.0, "No hole is known yet: waiting for the session's first files.")
    return Verdict("STOP", "", 0.0, "Every hole is imaged.")


def _minutes_in(advice: RunningAdvice, square: int) -> float:
    """Minutes until the plan leaves the square it begins with."""
    inside = advice.problem.square_of_hole[advice.walk.holes] == square
    last = len(inside) if inside.all() else int(np.argmin(inside))
    return float(advice.walk.minutes[last - 1])


def next_holes(advice: RunningAdvice, how_many: int = SHOWN) -> list[Json]:
    """The first holes of the plan: ids, stage position (um), p_good, minutes, and what stands of them."""
    if advice.looks:
        return []  # a look comes first, and changes what comes after it
    names, problem = advice.names, advice.problem
    pinned = set(advice.said.pinned) | set(advice.said.first)
    found = []
    steps = zip(
        advice.walk.holes.tolist(), advice.walk.tiers.tolist(), advice.walk.minutes.tolist(), strict=True
    )
    used_before = 0.0
    for order, (hole, tier, used_min) in enumerate(steps, start=1):
        if order > how_many:
            break
        patch = int(problem.patch_of_hole[hole])
        square = int(problem.square_of_patch[patch])
        found.append(
            {
                "order": order,
                "hole": names.holes[hole],
                "patch": names.patches[patch],
                "square": names.squares[square],
                "grid": names.grids[int(problem.grid_of_square[square])],
                "x_um": _number(names.x_um, hole),
                "y_um": _number(names.y_um, hole),
                "p_good": float(advice.p_good[hole]),
                "tier": tier,
                "minutes": used_min - used_before,
                "minutes_used": used_min,
                "committed": order <= advice.committed,
                "pinned": hole in pinned,
            }
        )
        used_before = used_min
    return found


def _number(values: NDArray[np.float64] | None, place: int) -> float | None:
    return None if values is None or not np.isfinite(values[place]) else float(values[place])


def why_this(advice: RunningAdvice, image_p_good: NDArray[np.float64] | None = None) -> Json | None:
    """Why the next hole, in parts; None where there is none.

    image_p_good : (n,) what the classifier says of each hole's image alone; None where nothing else is known than the
        prediction that is planned on
    Parts: image (p of the image alone), patch and square (means of the prediction there), prediction (all that is known
    without results), own_results (results there, and how far all results moved this hole's p), minutes, runner_up (the
    first hole of the next best place, and how many good micrographs fewer if it were first).
    """
    if len(advice.walk) == 0 or advice.looks:
        return None
    problem, hole = advice.problem, int(advice.walk.holes[0])
    patch, square = int(problem.patch_of_hole[hole]), int(problem.square_of_hole[hole])
    prior, p_good = problem.prior_p_good, advice.p_good
    in_patch, in_square = problem.patch_of_hole == patch, problem.square_of_hole == square
    tier, minutes = int(advice.walk.tiers[0]), float(advice.walk.minutes[0])
    results = {
        "patch_good": float(np.nansum(advice.now.outcome[in_patch])),
        "patch_results": float(advice.now.results[in_patch].sum()),
        "square_good": float(np.nansum(advice.now.outcome[in_square])),
        "square_results": float(advice.now.results[in_square].sum()),
        "moved_p_by": float(p_good[hole] - prior[hole]),
    }
    runner_up = _runner_up(advice)
    parts: Json = {
        "hole": advice.names.holes[hole],
        "p_good": float(p_good[hole]),
        "image": None if image_p_good is None else float(image_p_good[hole]),
        "prediction": float(prior[hole]),
        "patch": float(prior[in_patch].mean()),
        "square": float(prior[in_square].mean()),
        "own_results": results,
        "minutes": minutes,
        "switch": TIER_NAMES[tier],
        "pinned": hole in advice.said.pinned or hole in advice.said.first,
        "runner_up": runner_up,
    }
    parts["sentence"] = _sentence(parts)
    return parts


def _sentence(parts: Json) -> str:
    results = parts["own_results"]
    said = f"p {parts['p_good']:.2f}"
    if parts["pinned"]:
        said = f"asked for by the operator; {said}"
    if results["patch_results"]:
        said += f": {results['patch_good']:.0f} of {results['patch_results']:.0f} good in this patch"
        said += f" ({results['moved_p_by']:+.2f} by results)"
    elif results["square_results"]:
        said += f": {results['square_good']:.0f} of {results['square_results']:.0f} good in this square"
    else:
        said += ", by the prediction alone"
    said += f"; {parts['minutes']:.1f} min"
    other = parts["runner_up"]
    if other is None:
        return f"{said}; nothing else is planned."
    fewer = (
        f"about {other['fewer_good']:.1f} good fewer"
        if other["fewer_good"] >= LEAST_FEWER
        else "just as good"
    )
    return f"{said}. Runner-up {other['hole']} (p {other['p_good']:.2f}): {fewer}."


def _runner_up(advice: RunningAdvice) -> Json | None:
    """The first hole of the plan's next place, and what going there first costs: its stay is taken first, then the
    rest as far as the minutes reach. In a plan of one patch, the next hole there."""
    problem, now = advice.problem, advice.now
    holes = advice.walk.holes.tolist()
    if len(holes) < 2:
        return None
    parts = stays(problem, holes)
    value = float(advice.p_good[advice.walk.holes].sum())
    if len(parts) == 1:
        other, fewer = holes[1], float(advice.p_good[holes[0]] - advice.p_good[holes[1]])
    else:
        other = parts[1][0]
        swapped = [*parts[1], *parts[0], *(hole for part in parts[2:] for hole in part)]
        first = walked(problem, now.here, swapped, now.minutes_left, now.at)
        fewer = value - float(advice.p_good[first.holes].sum())
    return {
        "hole": advice.names.holes[other],
        "p_good": float(advice.p_good[other]),
        "fewer_good": max(problem.shots * fewer, 0.0),
    }


def squares_of(advice: RunningAdvice) -> list[Json]:
    """Every square: what to do with it, and the numbers behind that.

    go on: holes of it are planned; look into: it, or a patch of it, was not looked at yet; leave: it was begun and
    nothing more of it is planned; skip: it was not begun and is not planned, it showed nothing, or operators left it
    out. Counts are of holes; good counts micrographs, patches_unseen patches that nobody looked at; x_um and y_um are
    of the stage, null where they are not known.
    """
    problem, now, names = advice.problem, advice.now, advice.names
    n_squares = len(names.squares)
    square = problem.square_of_hole

    def count(weights: NDArray[Any]) -> NDArray[np.float64]:
        counts = np.bincount(square, weights=weights.astype(np.float64), minlength=n_squares)
        return counts.astype(np.float64)

    planned = np.zeros(problem.n_holes, dtype=bool)
    planned[advice.walk.holes] = True
    free = problem.available() & ~now.imaged
    holes, imaged = count(np.ones(problem.n_holes)), count(now.imaged)
    n_planned, n_free = count(planned), count(free & ~advice.said.out)
    good, results = count(np.nan_to_num(now.outcome)), count(now.results)
    expected = problem.shots * count(np.where(planned, advice.p_good, 0.0))
    p_free = count(np.where(free, advice.p_good, 0.0)) / np.maximum(count(free), 1.0)
    first = np.full(n_squares, -1)
    for place, each in reversed(list(enumerate(square[advice.walk.holes].tolist(), start=1))):
        first[each] = place
    unseen, places = advice.unseen_squares, problem.places
    patches_unseen = np.zeros(n_squares, dtype=np.int64)
    if places is not None:
        patches_unseen += np.bincount(problem.square_of_patch[~places.patch_looked], minlength=n_squares)
    looks = {look.square: look.order for look in reversed(advice.looks)}
    rows = []
    for number, name in enumerate(names.squares):
        rows.append(
            {
                "square": name,
                "grid": names.grids[int(problem.grid_of_square[number])],
                "advice": _of_square(bool(unseen[number]), imaged[number], n_planned[number]),
                "looked": True if places is None else bool(places.square_looked[number]),
                "patches_unseen": int(patches_unseen[number]),
                "look": looks.get(name),
                "out": bool(advice.said.squares_out[number]),
                "x_um": _number(names.square_x_um, number),
                "y_um": _number(names.square_y_um, number),
                "holes": int(holes[number]),
                "imaged": int(imaged[number]),
                "free": int(n_free[number]),
                "planned": int(n_planned[number]),
                "first_in_plan": None if first[number] < 0 else int(first[number]),
                "good": float(good[number]),
                "results": int(results[number]),
                "expected_good": float(expected[number]),
                "p_good_mean_free": float(p_free[number]) if holes[number] > imaged[number] else None,
            }
        )
    return rows


def _of_square(is_unseen: bool, imaged: float, planned: float) -> SquareAdvice:
    if planned:
        return "go on"
    if is_unseen:
        return "look into"
    return "leave" if imaged else "skip"


def advice_json(advice: RunningAdvice, image_p_good: NDArray[np.float64] | None = None) -> Json:
    """The whole advice as one JSON object."""
    seen, problem, now = advice.outlook, advice.problem, advice.now
    target = now.overrides.target
    whole: Json = {
        "revision": advice.revision,
        "verdict": verdict_of(advice).to_json(),
        "next": next_holes(advice, 1)[0] if advice.next_hole is not None else None,
        "why": why_this(advice, image_p_good),
        "holes": next_holes(advice),
        "looks": [{**look.to_json(), "sentence": look.sentence} for look in advice.looks],
        "paused": now.overrides.is_paused,
        "squares_unseen": int(advice.unseen_squares.sum()),
        "planned_holes": len(advice.walk),
        "committed": advice.committed,
        "kept": advice.kept,
        "minutes_left": max(now.minutes_left, 0.0),
        "good_so_far": seen.good_so_far,
        "expected_good": seen.final.expected,
        "interval_50": list(seen.final.interval_50),
        "interval_80": list(seen.final.interval_80),
        "target": None
        if target is None
        else {"good": target.good, "by": str(target.by) if target.by else None},
        "grids": grids_of(advice),
        "holes_imaged": int(now.imaged.sum()),
        "holes_left": int((problem.available() & ~now.imaged).sum()),
        "results": int(now.results.sum()),
        "pending": int(now.shots_awaited(problem.shots).sum()),
        "shots": problem.shots,
        "notes": list(advice.notes),
    }
    return cast("Json", rounded(whole))


DIGITS = 4


def rounded(value: Any) -> Any:
    """The value with every float rounded to DIGITS: a belief that was told results in another order differs in the
    last bits, and says the same."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return value


def grids_of(advice: RunningAdvice) -> list[Json]:
    """Every grid: what the plan takes of it, and what is left there beside the plan."""
    problem, names = advice.problem, advice.names
    grid = problem.grid_of_hole
    planned = np.bincount(grid[advice.walk.holes], minlength=len(names.grids))
    expected = np.bincount(
        grid[advice.walk.holes], weights=advice.p_good[advice.walk.holes], minlength=len(names.grids)
    )
    free = problem.available() & ~advice.now.imaged & ~advice.said.out
    rows = []
    for number, name in enumerate(names.grids):
        best = np.sort(advice.p_good[free & (grid == number)])[::-1][:SHOWN]
        rows.append(
            {
                "grid": name,
                "planned": int(planned[number]),
                "expected_good": float(problem.shots * expected[number]),
                "free": int((free & (grid == number)).sum()),
                "p_good_of_best": float(best.mean()) if len(best) else None,
            }
        )
    return rows
