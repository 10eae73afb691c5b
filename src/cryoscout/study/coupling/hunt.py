"""Study `scavenger-hunt`: SSL2-RL's loop on its second problem, where nothing is about microscopes.

A robot looks for an object at the places of a building (`coupling.scavenger_hunt`); rooms differ in a way that no look
tells, and how much is what the rows differ by.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cryoscout.coupling.hunt import couple_hunt
from cryoscout.coupling.linear_perception import LinearStates
from cryoscout.coupling.scavenger_hunt import HuntSettings, building_hunt, labelled_places
from cryoscout.coupling.settings import couple_settings
from cryoscout.report.figures import BLUE, GREEN, GREY, ORANGE, png_bytes
from cryoscout.report.statistics import Interval, paired_difference
from cryoscout.study.engine.catalogue import PACKAGES_BEHIND_RESULTS, Page, Profile, Study
from cryoscout.study.engine.runner import Json, Trial, TrialRow
from cryoscout.study.engine.tables import interval_text, markdown_table, over_seeds

SPREADS, SHARES = (0.0, 1.2, 4.0), (0.2, 0.4)
"""Standard deviation of the logit between rooms of a kind; share of the places that were searched before."""
SEEDS, COVERAGE = {"quick": 10, "paper": 40}, 0.9
FEATURE_NOISE = 2.0

FIRST, OWN = "perception, before the loop", "own labels, the control"
EXACT = "the true probability, the ceiling"
RULE, NO_COST = "labels of routes: SSL2-RL", "labels of routes without movement cost"
LOOPS: dict[str, tuple[str, bool]] = {
    OWN: ("own", True), RULE: ("route", True), NO_COST: ("route", False), EXACT: ("exact", True)
}  # fmt: skip
"""Row -> teacher, and whether its moves cost."""
ROWS = (FIRST, *LOOPS)


def trials(profile: Profile) -> list[Trial]:
    """One per building and share of the places."""
    return [
        Trial(
            f"rooms that spread by {spread:g}, {share:.0%} searched, seed {seed}",
            {"room_spread": spread, "share": share},
            seed,
        )
        for seed in range(SEEDS[profile])
        for spread in SPREADS
        for share in SHARES
    ]


def run_one(trial: Trial) -> Json:
    """Share of the places that were not searched of which each row is right: `{"places", "labels", "perception"}`.

    labels : those of the teacher     perception : after it was fine-tuned on them
    """
    settings = HuntSettings(room_spread=trial.parameters["room_spread"], feature_noise=FEATURE_NOISE)
    hunt = building_hunt(settings, trial.seed)
    searched = labelled_places(hunt, trial.parameters["share"], trial.seed)
    states = LinearStates(hunt.known)
    labels: dict[str, float | None] = {FIRST: None}
    perception: dict[str, float] = {}

    def right(p: NDArray[np.float64]) -> float:
        return float(((p > 0.5) == hunt.has_object)[~searched].mean())

    with tempfile.TemporaryDirectory() as folder:
        for row, (teacher, cost) in LOOPS.items():
            of_loop = couple_settings(teacher, rounds=1, seed=trial.seed, movement_cost=cost)
            home = Path(folder) / f"{teacher}-{cost}"
            found = couple_hunt(hunt, searched, of_loop, home)
            labels[row] = found.rounds[1].guesses_right
            perception[row] = right(states.p_positive(found.model))
            perception[FIRST] = right(states.p_positive(states.load(home / "round-00" / "model.safetensors")))
    return {"places": int((~searched).sum()), "labels": labels, "perception": perception}


def _values(rows: Sequence[TrialRow], spread: float, share: float, row: str, what: str) -> dict[int, float]:
    """Per cent, by seed."""
    return {
        each.trial.seed: 100.0 * float(each.result[what][row])
        for each in rows
        if each.result is not None
        and (each.trial.parameters["room_spread"], each.trial.parameters["share"]) == (spread, share)
        and each.result[what][row] is not None
    }


def _gain(rows: Sequence[TrialRow], spread: float, share: float, row: str, what: str) -> Interval | None:
    """Over perception before the loop, of the same places; what : `labels` or `perception`."""
    one = _values(rows, spread, share, row, what)
    other = _values(rows, spread, share, FIRST, "perception")
    both = [seed for seed in one if seed in other]
    if len(both) < 2:
        return None
    a, b = (np.array([values[seed] for seed in both]) for values in (one, other))
    return paired_difference(a, b, seed=0, coverage=COVERAGE)


def _shown(values: dict[int, float]) -> str:
    return over_seeds(np.array(list(values.values())))


def page(rows: Sequence[TrialRow], profile: Profile) -> Page:
    """The table, what it says, the figure, the rows."""
    lines, plain = [], []
    building = HuntSettings()
    places = building.floors * building.rooms_per_floor * building.places_per_room
    for spread in SPREADS:
        for share in SHARES:
            for row in ROWS:
                labels, after = (_values(rows, spread, share, row, what) for what in ("labels", "perception"))
                of_labels, change = (
                    interval_text(_gain(rows, spread, share, row, what)) for what in ("labels", "perception")
                )
                told = (
                    ["", "", _shown(after), ""]
                    if row == FIRST
                    else [_shown(labels), of_labels, _shown(after), change]
                )
                lines.append([f"{spread:g}", f"{share:.0%}", row, *told])
                plain.append(
                    {
                        "room_spread": spread, "searched": share, "labelled_by": row, "seeds": len(after),
                        "labels_right_mean": _mean(labels), "perception_right_mean": _mean(after),
                    }
                )  # fmt: skip
    header = [
        "rooms spread by",
        "searched",
        "",
        "labels right (%)",
        "− perception before the loop",
        "perception right (%)",
        "− before the loop",
    ]
    text = "\n\n".join(
        [
            "The loop of SSL2-RL knows states, features, labels and what moves cost ([from "
            "Python](../coupling.md#from-python-on-any-problem)). Here it runs on a scavenger hunt: a robot looks for "
            f"an object at the {places} places of a made-up building of {building.floors} floors. Perception is a "
            "logistic regression of what a place looks like and of the likelihood that is known for its kind of room "
            "and place; the driver goes where the prospect per second is best, and a move within a room takes "
            f"{building.in_room_s:g} s, to another one {building.to_room_s:g}, to another floor "
            f"{building.to_floor_s:g}. Somebody tidies up in some rooms and not in others: rooms of a kind differ, in "
            "their logit, by the standard deviation of the first column, and no look tells it. A fifth of the searched "
            "rooms judges alone.",
            f"Per cent of the places that were not searched, mean ± deviation over buildings (their number); "
            f"difference paired by building with a {COVERAGE:.0%} bootstrap interval; one round.",
            markdown_table(header, lines),
            _where_routes_help(rows),
            "A route with a movement cost goes on where something was found. Where rooms do not differ the same cost "
            "makes its labels worse: it takes what is near for what is likely. A regression of looks has no feature in "
            "which rooms differ, so perception takes up little of what routes know of a room, and not much even of the "
            "true probability. Labels of its own teach it nothing.",
        ]
    )
    return Page(text, figure(rows), plain)


def _where_routes_help(rows: Sequence[TrialRow]) -> str:
    """Where the labels of SSL2-RL's routes are above, below, or not told from perception before the loop."""
    sides: dict[str, list[str]] = {"above": [], "below": [], "not told from": []}
    for spread in SPREADS:
        for share in SHARES:
            gain = _gain(rows, spread, share, RULE, "labels")
            if gain is None:
                return "The comparison has not been run."
            side = "above" if gain.low > 0.0 else "below" if gain.high < 0.0 else "not told from"
            sides[side].append(f"{spread:g} with {share:.0%} searched ({gain})")
    told = [f"{side} it where rooms spread by {', '.join(cells)}" for side, cells in sides.items() if cells]
    return f"Labels of routes against the perception that drives them: {'; '.join(told)}."


def _mean(values: dict[int, float]) -> float | None:
    return round(float(np.mean(list(values.values()))), 2) if values else None


def figure(rows: Sequence[TrialRow]) -> bytes:
    """PNG: labels of each teacher by how much rooms differ, one panel for each share of searched places."""
    drawing = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = drawing.subplots(1, len(SHARES), sharey=True)
    for axes, share in zip(panels, SHARES, strict=True):
        for row, colour, marker in ((OWN, GREY, "x"), (NO_COST, ORANGE, "^"), (RULE, BLUE, "s")):
            means = [_mean(_values(rows, spread, share, row, "labels")) for spread in SPREADS]
            points = [np.nan if mean is None else mean for mean in means]
            axes.plot(SPREADS, points, color=colour, marker=marker, label=row)
        before = [_mean(_values(rows, spread, share, FIRST, "perception")) for spread in SPREADS]
        axes.plot(
            SPREADS,
            [np.nan if mean is None else mean for mean in before],
            color=GREEN,
            linestyle="--",
            label=FIRST,
        )
        axes.set_xlabel("rooms of a kind differ by (logit)")
        axes.set_title(f"{share:.0%} of the places searched", fontsize=10)
    panels[0].set_ylabel("places that were not searched: right (%)")
    panels[-1].legend(fontsize=8, frameon=False)
    return png_bytes(drawing)


STUDY = Study(
    "scavenger-hunt",
    "SSL2-RL's loop on a scavenger hunt",
    trials,
    run_one,
    page,
    (*PACKAGES_BEHIND_RESULTS, "coupling"),
    result_version=2,  # a row more
)
