"""What the API says of a moment: columns of the map, rows, forecast, time, message, health. Functions of data alone."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.advice import night
from cryoscout.advice.why import Json, rounded
from cryoscout.core.errors import UnknownNameError
from cryoscout.core.names import as_cell
from cryoscout.live.advisor import Trouble
from cryoscout.live.clocks import offset_sentence
from cryoscout.live.running import Moment
from cryoscout.session.model import Session

STALLED = 3.0
"""The microscope, or CTF, is stalled after so many usual intervals without anything."""
LEAST_STALL_S = 120.0
LEAST_PROBLEM = 4
"""Weight of a trouble from which on somebody must act; lighter ones are good to know."""
WAKES_S = 60.0
"""So long after a sleep nothing is called stalled: what came meanwhile is read first."""

STATES = ("free", "pending", "not good", "good", "partly good")
"""`state` of a hole, by its number in the column."""
OUT_BAN, OUT_SKIP, PINNED, PLANNED, COMMITTED = 1, 2, 4, 8, 16
"""Bits of the column `flags`."""
P_SCALE = 10_000
"""p_good in its column is a whole number of so many parts."""
HOLE_COLUMNS = (
    "p_good",
    "prediction",
    "image",
    "state",
    "flags",
    "order",
    "x",
    "y",
    "square",
    "patch",
    "ctf",
)
LEAST_POINTS = 20


def hole_columns(moment: Moment, wanted: Sequence[str], scores: Mapping[str, NDArray[np.float64]]) -> Json:
    """Typed columns of all holes, in the order of the session: little-endian arrays in base64.

    wanted : of HOLE_COLUMNS, and of `scores` (any further column of the holes)
    p_good, prediction, image : <u2, parts of P_SCALE (65535 unknown)     state, flags : u1, see STATES and the bits
    order : <u2, place in the plan, 0 for none     x, y : <f4, um of the stage where any hole has it, else px of the
    patch image     square, patch : <u2 index, <u4 where there are more
    ctf : <f4 angstrom, best of the hole, NaN unknown
    Raises UnknownNameError for another column.
    """
    made: Json = {}
    for name in wanted:
        if name in scores:
            array: NDArray[Any] = scores[name].astype("<f4")
        elif name in HOLE_COLUMNS:
            array = _column(moment, name)
        else:
            raise UnknownNameError("A column of the holes", name, [*HOLE_COLUMNS, *scores])
        made[name] = {"dtype": array.dtype.str, "data": base64.b64encode(array.tobytes()).decode()}
    frame = "um" if _has_stage(moment) else "px"
    return {
        "run_id": moment.run_id,
        "revision": moment.revision,
        "n": moment.advice.problem.n_holes,
        "position_unit": frame,
        "p_scale": P_SCALE,
        "states": list(STATES),
        "columns": made,
    }


def _has_stage(moment: Moment) -> bool:
    x_um = moment.advice.names.x_um
    return x_um is not None and bool(np.isfinite(x_um).any())


def _column(moment: Moment, name: str) -> NDArray[Any]:
    advice = moment.advice
    problem = advice.problem
    if name in ("p_good", "prediction", "image"):
        values = {"p_good": advice.p_good, "prediction": problem.prior_p_good, "image": moment.image_p_good}[
            name
        ]
        if values is None:
            return np.full(problem.n_holes, 65535, dtype="<u2")
        return np.rint(np.clip(values, 0.0, 1.0) * P_SCALE).astype("<u2")
    if name == "state":
        return states_of(moment)
    if name == "flags":
        return _flags(moment)
    if name == "order":
        order = np.zeros(problem.n_holes, dtype="<u2")
        order[advice.walk.holes] = np.minimum(np.arange(1, len(advice.walk) + 1), 65535)
        return order
    if name in ("x", "y"):
        if _has_stage(moment):
            values = advice.names.x_um if name == "x" else advice.names.y_um
            return np.asarray(values).astype("<f4")
        session = moment.session
        missing = np.full(problem.n_holes, np.nan)
        return (
            missing if session is None else session.holes[f"{name}_px"].to_numpy(dtype=np.float64)
        ).astype("<f4")
    if name in ("square", "patch"):
        index = problem.square_of_hole if name == "square" else problem.patch_of_hole
        return index.astype("<u2" if not len(index) or index.max() <= 65535 else "<u4")
    return ctf_of_holes(moment).astype("<f4")


def states_of(moment: Moment) -> NDArray[np.uint8]:
    """(n,) index into STATES."""
    now = moment.advice.now
    good, results = np.nan_to_num(now.outcome), now.results
    state = np.zeros(len(now.imaged), dtype=np.uint8)
    state[now.imaged & (results == 0)] = 1
    state[(results > 0) & (good == 0)] = 2
    state[(results > 0) & (good == results)] = 3
    state[(results > 0) & (good > 0) & (good < results)] = 4
    return state


def _flags(moment: Moment) -> NDArray[np.uint8]:
    advice = moment.advice
    flags = np.zeros(advice.problem.n_holes, dtype=np.uint8)
    said = advice.now.overrides
    index = {name: place for place, name in enumerate(advice.names.squares)}
    skipped = [index[name] for name, each in said.squares.items() if each == "skip" and name in index]
    is_skipped = np.isin(advice.problem.square_of_hole, skipped)
    flags[advice.said.out & ~is_skipped] |= OUT_BAN
    flags[advice.said.out & is_skipped] |= OUT_SKIP
    flags[list(advice.said.pinned) + list(advice.said.first)] |= PINNED
    flags[advice.walk.holes] |= PLANNED
    flags[advice.walk.holes[: advice.committed]] |= COMMITTED
    return flags


def ctf_of_holes(moment: Moment) -> NDArray[np.float64]:
    """(n,) best CTF resolution of each hole, angstrom, NaN unknown; as of when the places were read."""
    session, n = moment.session, moment.advice.problem.n_holes
    best = np.full(n, np.nan)
    if session is not None and len(session.exposures):
        exposures = session.exposures[["hole_id", "ctf_max_res_angstrom"]].dropna()
        places = pd.Index(session.holes["hole_id"]).get_indexer(pd.Index(exposures["hole_id"]))
        best[:] = np.inf
        np.minimum.at(best, places, exposures["ctf_max_res_angstrom"].to_numpy(dtype=np.float64))
        best[np.isinf(best)] = np.nan
    return best


def hole_rows(moment: Moment, after: int, limit: int) -> tuple[list[Json], int | None]:
    """Holes from a place on, and where the next page begins, None at the end."""
    advice, names = moment.advice, moment.advice.names
    problem, last = advice.problem, min(after + limit, advice.problem.n_holes)
    states, flags = states_of(moment), _flags(moment)
    order = dict(zip(advice.walk.holes.tolist(), range(1, len(advice.walk) + 1), strict=True))
    rows = [
        {
            "hole": names.holes[hole],
            "patch": names.patches[int(problem.patch_of_hole[hole])],
            "square": names.squares[int(problem.square_of_hole[hole])],
            "grid": names.grids[int(problem.grid_of_hole[hole])],
            "p_good": round(float(advice.p_good[hole]), 4),
            "state": STATES[states[hole]],
            "flags": int(flags[hole]),
            "order": order.get(hole),
            "exposures": int(moment.taken[hole]),
            "results": int(advice.now.results[hole]),
            "good": None if np.isnan(advice.now.outcome[hole]) else float(advice.now.outcome[hole]),
        }
        for hole in range(after, last)
    ]
    return rows, last if last < problem.n_holes else None


def patch_rows(moment: Moment) -> list[Json]:
    """Every patch: its square, holes, imaged ones, results, mean chance of the free ones."""
    advice = moment.advice
    problem, names = advice.problem, advice.names
    n = len(names.patches)

    def count(weights: NDArray[Any]) -> list[float]:
        found: list[float] = np.bincount(problem.patch_of_hole, weights.astype(np.float64), n).tolist()
        return found

    free = problem.available() & ~advice.now.imaged
    planned = np.zeros(problem.n_holes, dtype=bool)
    planned[advice.walk.holes] = True
    columns = zip(
        names.patches,
        problem.square_of_patch.tolist(),
        count(np.ones(problem.n_holes)),
        count(advice.now.imaged),
        count(free),
        count(planned),
        count(np.nan_to_num(advice.now.outcome)),
        count(advice.now.results),
        count(np.where(free, advice.p_good, 0.0)),
        strict=True,
    )
    return [
        {
            "patch": patch,
            "square": names.squares[square],
            "holes": int(holes),
            "imaged": int(imaged),
            "free": int(n_free),
            "planned": int(n_planned),
            "good": good,
            "results": int(results),
            "p_good_mean_free": round(p / n_free, 4) if n_free else None,
        }
        for patch, square, holes, imaged, n_free, n_planned, good, results, p in columns
    ]


def forecast_json(moment: Moment, so_far: Sequence[tuple[str, float]], bound: Sequence[Json] = ()) -> Json:
    """Good micrographs against minutes from now, with 50 and 80 %, and as they were collected.

    so_far : (microscope time, good micrographs by then), ascending
    bound : of a session that is played, see `ReplayBound.points`
    """
    seen = moment.advice.outlook
    with_pauses = 1.0 + moment.advice.problem.time_model.pauses_per_min
    return {
        "revision": moment.revision,
        "microscope_at": moment.content["microscope_at"],
        "minutes": rounded((with_pauses * seen.minutes).tolist()),
        "expected": rounded(seen.expected.tolist()),
        "interval_50": rounded(seen.interval_50.tolist()),
        "interval_80": rounded(seen.interval_80.tolist()),
        "collected": [{"at": at, "good": good} for at, good in so_far],
        "bound": rounded([dict(each) for each in bound]),
        "target": moment.content["target"],
    }


def collected(session: Session, threshold_angstrom: float) -> list[tuple[str, float]]:
    """(microscope time, good micrographs by then) at every timed exposure."""
    times, good = night.collected(session, threshold_angstrom)
    return [(at.isoformat(), float(count)) for at, count in zip(times, good, strict=True)]


def minutes_spent(session: Session, moment: Moment, pauses: Sequence[Mapping[str, Any]]) -> Json:
    """Where the time went, see `advice.night.minutes_spent`."""
    return night.minutes_spent(session, moment.advice.problem, moment.advice.names.holes, pauses)


def health_json(moment: Moment, now_s: float, folder: Mapping[str, Any] | None) -> Json:
    """Four clocks: server, folder, microscope, CTF; of each its age against its own usual interval."""
    facts = moment.facts
    clocks: dict[str, Json] = {
        "server": {"age_s": max(0.0, now_s - moment.at_s), "usual_s": 60.0},
        "folder": {"age_s": None, "usual_s": None} if folder is None else dict(folder),
        "microscope": _clock(facts["microscope"], now_s),
        "ctf": _clock(facts["ctf"], now_s),
    }
    for clock in clocks.values():
        clock["state"] = _state(clock)
    return {
        "clocks": rounded(clocks),
        "now": datetime.fromtimestamp(now_s).astimezone().isoformat(timespec="seconds"),
    }


def _clock(ticks: Mapping[str, Any], now_s: float) -> Json:
    last_s = ticks["last_s"]
    return {"age_s": None if last_s is None else max(0.0, now_s - last_s), "usual_s": ticks["usual_s"]}


def _state(clock: Mapping[str, Any]) -> str:
    age_s, usual_s = clock["age_s"], clock["usual_s"]
    if age_s is None:
        return "nothing yet"
    if usual_s is None:
        return "too few to say"
    return "stalled" if age_s > max(STALLED * usual_s, LEAST_STALL_S) else "well"


def message_json(
    moment: Moment, now_s: float, troubles: Sequence[Trouble], folder: Mapping[str, Any] | None
) -> Json:
    """The worst problem, since when, what to do, and how many more there are; all of them, the worst first.

    level of each : worse (somebody must act), warn (good to know). since : null where it has no beginning that is known
    """
    found = list(troubles)
    facts, is_paused = moment.facts, moment.advice.now.overrides.is_paused
    clocks = health_json(moment, now_s, folder)["clocks"]
    drift = facts["drift"]
    if drift is not None:
        at = drift["since"]
        since_s = now_s if at is None else datetime.fromisoformat(at).timestamp()
        remedy = (
            "Look at focus and beam."
            if drift["level"] == "all at once"
            else "Look at the place; the plan knows."
        )
        found.append(Trouble("drift", drift["sentence"], remedy, since_s, 6))
    if facts["clock"] is not None:
        remedy = "Exposures are taken in the order they come; check the end of the session."
        found.append(Trouble("clock", facts["clock"], remedy, facts["clock_since_s"], 4))
    local = datetime.fromtimestamp(now_s).astimezone()
    ahead_s = 0.0 if (ahead := local.utcoffset()) is None else ahead.total_seconds()
    offset = None if facts["clock_offset_s"] is None else offset_sentence(facts["clock_offset_s"], ahead_s)
    if offset is not None:
        remedy = (
            "Ends that are said are by the microscope's clock. Behind may also mean that files come late."
        )
        found.append(Trouble("clock offset", offset, remedy, now_s, 1, has_beginning=False))
    # Who wakes reads first and warns after.
    is_waking = any(each.cause == "own clock" and now_s - each.since_s < WAKES_S for each in found)
    if clocks["folder"]["state"] == "stalled" and not is_waking:
        age_s = clocks["folder"]["age_s"]
        said = f"The sources were last looked at {age_s / 60:.0f} min ago."
        remedy = "Very many files are read at once, or a share does not answer: look at the mount."
        found.append(Trouble("folder", said, remedy, now_s - age_s, 7))
    if clocks["microscope"]["state"] == "stalled" and not is_paused and not is_waking:
        age_s = clocks["microscope"]["age_s"]
        found.append(
            Trouble(
                "microscope",
                f"No exposure for {age_s / 60:.0f} min, usually every {clocks['microscope']['usual_s']:.0f} s.",
                "Look at the microscope, or enter a pause.",
                now_s - age_s,
                7,
            )
        )
    if clocks["ctf"]["state"] == "stalled" and facts["waiting"] and not is_waking:
        age_s = clocks["ctf"]["age_s"]
        found.append(
            Trouble(
                "ctf",
                f"No CTF result for {age_s / 60:.0f} min, {facts['waiting']} exposures wait.",
                "Look at the program that fits CTFs; the advice goes on without.",
                now_s - age_s,
                5,
            )
        )
    if facts["n_overdue"]:
        found.append(
            Trouble(
                "overdue",
                f"Overdue results, ten times the usual wait: {facts['n_overdue']}.",
                "They stay unknown until they come.",
                now_s,
                2,
                has_beginning=False,
            )
        )
    if not moment.content["has_end"]:
        found.append(
            Trouble(
                "end",
                "Nobody said when the session ends: 8 hours ahead are planned.",
                "Say the end under Try, or with --until.",
                now_s,
                1,
                has_beginning=False,
            )
        )
    found.sort(key=lambda each: (-each.weight, each.since_s))
    shown = [
        {
            "cause": each.cause,
            "sentence": each.sentence,
            "remedy": each.remedy,
            "level": "worse" if each.weight >= LEAST_PROBLEM else "warn",
            "since": datetime.fromtimestamp(each.since_s).astimezone().isoformat(timespec="seconds")
            if each.has_beginning
            else None,
        }
        for each in found
    ]
    return {"worst": shown[0] if shown else None, "more": max(0, len(shown) - 1), "all": shown}


def rows_as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: as_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()
