"""Every state of the page: how it comes about, its sentence, and what must be seen; the documentation is made of it:

python tests/live/page_states.py > docs/explanation/page-states.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class State:
    """One state.

    imaged : holes with a result     pending : exposures without one     unseen : squares nobody looked into
    says : overrides said before
    answers : API answer -> what is changed in it, for what a test cannot bring about in seconds
    """

    name: str
    sentence: str
    shows: str
    holes: int = 200
    imaged: int = 60
    pending: int = 0
    role: str = "operator"
    says: tuple[dict[str, Any], ...] = ()
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    does: str = ""
    serves: tuple[str, ...] = ("--budget-min", "300")
    verb: str = ""
    stay: str = ""
    long_names: bool = False
    unseen: int = 0


def worst_is(cause: str, sentence: str, remedy: str) -> dict[str, Any]:
    """What the server answers when that is all that is wrong."""
    since = "2026-01-31T03:00:00+00:00"
    worst = {"cause": cause, "sentence": sentence, "remedy": remedy, "level": "worse", "since": since}
    return {"worst": worst, "more": 0, "all": [worst]}


def _clock(age_s: float | None, usual_s: float | None, state: str) -> dict[str, Any]:
    return {"age_s": age_s, "usual_s": usual_s, "state": state}


STATES: tuple[State, ...] = (
    State(
        "no data yet",
        "No data yet: waiting for the first files of the session.",
        "WAIT, an empty map that says what it waits for, no next hole, lamps that have heard nothing.",
        holes=0,
        imaged=0,
        verb="WAIT",
    ),
    State(
        "an atlas alone",
        "No hole is seen yet: 12 squares are known, and a look into one shows its holes.",
        "LOOK and the square; dashed squares where they stand, the next five numbered; a fan of what looks promise.",
        holes=0,
        imaged=0,
        unseen=12,
        verb="LOOK",
    ),
    State(
        "nothing imaged yet",
        "Nothing is imaged yet: the plan rests on predictions alone.",
        "START and the first square; all holes without rings; a forecast that begins now.",
        imaged=0,
        verb="START",
    ),
    State(
        "fewer than 30 results",
        "Only 12 results so far: the numbers still move a lot.",
        "a wide fan, rings on the first holes.",
        imaged=12,
    ),
    State(
        "waiting for CTF",
        "Waiting for CTF: 5 exposures have no result yet.",
        "dotted rings; the advice goes on.",
        imaged=0,
        pending=5,
    ),
    State(
        "microscope stalled",
        "No exposure for 12 min, usually every 80 s. Look at the microscope, or enter a pause.",
        "the microscope's lamp is a cross with its age; the plan stands.",
        answers={
            "message": worst_is(
                "microscope",
                "No exposure for 12 min, usually every 80 s.",
                "Look at the microscope, or enter a pause.",
            ),
            "health": {
                "clocks": {
                    "server": _clock(1, 60, "well"),
                    "folder": _clock(2, 2, "well"),
                    "microscope": _clock(720, 80, "stalled"),
                    "ctf": _clock(720, 80, "stalled"),
                }
            },
        },
    ),
    State(
        "CTF stalled",
        "No CTF result for 20 min, 14 exposures wait.",
        "the lamp of CTF is a cross, the microscope's a disc.",
        answers={
            "message": worst_is(
                "ctf",
                "No CTF result for 20 min, 14 exposures wait.",
                "Look at the program that fits CTFs; the advice goes on without.",
            ),
            "health": {
                "clocks": {
                    "server": _clock(1, 60, "well"),
                    "folder": _clock(2, 2, "well"),
                    "microscope": _clock(40, 80, "well"),
                    "ctf": _clock(1200, 80, "stalled"),
                }
            },
        },
    ),
    State(
        "folder gone",
        "The folder cannot be read: /data/run7. Look at the mount; it is asked again.",
        "the folder's lamp is a cross; everything else stands.",
        answers={
            "message": worst_is(
                "folder", "The folder cannot be read: /data/run7.", "Look at the mount; it is asked again."
            ),
            "health": {
                "clocks": {
                    "server": _clock(1, 60, "well"),
                    "folder": _clock(300, 2, "stalled"),
                    "microscope": _clock(300, 80, "stalled"),
                    "ctf": _clock(300, 80, "stalled"),
                }
            },
        },
    ),
    State(
        "stale numbers",
        "old: no newer advice was made.",
        "verdict and numbers grey, with their age in the message; the lamps of what still comes stay.",
        answers={
            "health": {
                "clocks": {
                    "server": _clock(400, 60, "stalled"),
                    "folder": _clock(2, 2, "well"),
                    "microscope": _clock(40, 80, "well"),
                    "ctf": _clock(40, 80, "well"),
                }
            },
        },
    ),
    State(
        "drift",
        "Fewer good than promised all at once: 3 of 20, 13.2 expected. Look at focus and beam.",
        "the level of the drift and what to do stand in the message.",
        answers={
            "message": worst_is(
                "drift",
                "Fewer good than promised all at once: 3 of 20, 13.2 expected.",
                "Look at focus and beam.",
            )
        },
    ),
    State(
        "plan not followed",
        "The microscope does not follow the plan; it is made anew from where the microscope is.",
        "the count of followed holes under Trust.",
        answers={
            "trust": {
                "last_20": 20,
                "followed_of_last_20": 2,
                "followed": 5,
                "compared": 40,
                "followed_near": 9,
            }
        },
    ),
    State(
        "paused",
        "Paused by an operator. Press k to go on.",
        "WAIT; the next holes stay listed.",
        says=({"kind": "pause"},),
        verb="WAIT",
    ),
    State(
        "leaving a square",
        "All is well.",
        "LEAVE, the square that is left, and that it is now; the next hole is in another one.",
        imaged=100,
        verb="LEAVE",
        stay="now",
    ),
    State(
        "one hole",
        "Nothing is imaged yet: the plan rests on predictions alone.",
        "the one hole in the middle of the map, and as the next one.",
        holes=1,
        imaged=0,
        verb="START",
    ),
    State(
        "names of 200 characters",
        "Only 20 results so far: the numbers still move a lot.",
        "names cut with an ellipsis, in lists by their ends; nothing beyond the edge of the page.",
        holes=100,
        imaged=20,
        long_names=True,
    ),
    State(
        "target met",
        "Target met:",
        "the number found and the target at the top, the target's line below the curve.",
        says=({"kind": "target", "good": 10},),
    ),
    State(
        "target out of reach",
        "is out of reach: 0 %.",
        "the probability 0 % at the top, the target at the top of the curve, said to be above.",
        says=({"kind": "target", "good": 100000},),
    ),
    State(
        "finished",
        "Finished: every hole is imaged",
        "STOP, no next hole, no fan.",
        holes=40,
        imaged=40,
        verb="STOP",
    ),
    State(
        "replay",
        "Replay: a recorded session is played, not a microscope.",
        "the verdict moves by itself; a dotted line above the curves: the most any route could have.",
        does="bound",
        serves=("--replay", "0"),
    ),
    State(
        "read-only",
        "Read-only: this page may look and not write.",
        "everything as for the operator; a write says why it is none.",
        role="viewer",
    ),
    State(
        "the past",
        "this is the past. Move the slider to the right end for now.",
        "verdict and numbers grey, the slider away from its end.",
        does="past",
    ),
    State(
        "disconnected",
        "No contact with the server since",
        "the page's lamp is a cross, verdict and numbers grey with the time they are of.",
        does="kill",
    ),
    State(
        "server restarted",
        "The server was restarted at",
        "zoom, place and a half-typed note as they were.",
        does="restart",
    ),
    State(
        "slow network",
        "Reading the session since",
        "the time since when; no number that is not read, and grey what is of before; lamps that have heard nothing.",
        does="slow",
    ),
    State(
        "key ended",
        "This page's key has ended. Open the address that serve printed again in another tab: this one then goes on",
        "the page's lamp is a cross, verdict and numbers grey; what was typed stays.",
        does="key",
    ),
    State(
        "clock wrong",
        "This computer's clock is 120 min ahead of the server's: times here are the server's.",
        "the server's time at the top, lamps and numbers as with a right clock.",
        does="clock",
    ),
    State(
        "awake after a night",
        "Awake again: what came since",
        "nothing is called old or gone before it was asked for; History says what came.",
        does="sleep",
    ),
    State(
        "another session in its place",
        "Another session stands at this place since",
        "the holes and the verdict of that session, nothing selected; a half-typed note as it was.",
        does="replace",
    ),
)


def documentation() -> str:
    """The page of the documentation."""
    lines = [
        "# The states of the page",
        "",
        "What the page of `cryoscout serve` says and shows in every state. Each is brought about and photographed by",
        "`pytest -m slow tests/live/test_page_states.py`; the list is made from these tests.",
        "",
        "| state | its sentence | what must be seen |",
        "|---|---|---|",
        *(f"| {each.name} | {each.sentence} | {each.shows} |" for each in STATES),
        "",
        "The message line shows one sentence, the worst, and how many more there are; its button, or `m`, lists all of",
        "them beside the map. Nothing opens over the page, nothing takes the focus, and nothing moves.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(documentation())
