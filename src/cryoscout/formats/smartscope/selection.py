"""The selection that a plan for SmartScope is written as: known and checked, and never taken for a session.

    [{"type": "holes", "key": "selected", "new_value": "1", "ids": ["...", ...]}, ...]

One body of a request for each stay of the plan, in order of visit, then one of the type "squares" for those to open of
each grid; `selecting` sends them. It says which holes to image and which squares to open, and nothing
of where they are or of what was imaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.ctf.records import deviations_of, head_text, shown
from cryoscout.formats.text.findings import Deviation, Findings, read_text
from cryoscout.formats.text.json_values import JsonValue, parse_json

FORMAT = "smartscope-selection"
LARGEST_SELECTION_BYTES = 64 * 1024 * 1024

SelectedKind = Literal["holes", "squares"]

_HEAD_BYTES = 4096
_MARKS = (re.compile(r'"key"\s*:\s*"selected"'), re.compile(r'"new_value"\s*:'))


def selection_body(ids: Sequence[str], kind: SelectedKind = "holes") -> dict[str, JsonValue]:
    """The body that selects holes, of one group or of no group, or squares of one atlas."""
    return {"type": kind, "key": "selected", "new_value": "1", "ids": list(ids)}


def write_selection(
    path: Path, patches: Sequence[Sequence[str]], squares: Sequence[Sequence[str]] = ()
) -> None:
    """Write a plan as the bodies of requests, a JSON array that `read_selection` gives back equal.

    patches : ids (names where the session came from an export) of the holes of each stay, in order of visit
    squares : those to open of each grid, in order
    Raises InputError for an empty plan or patch, and a hole or square twice.
    """
    holes = [hole for patch in patches for hole in patch]
    opened = [square for of_grid in squares for square in of_grid]
    is_once = len(set(holes)) == len(holes) and len(set(opened)) == len(opened)
    if not (patches or squares) or not all(patches) or not all(squares) or not is_once:
        raise InputError(
            f"A selection must have patches of holes, or squares, each hole and square once. Got {len(patches)} "
            f"patches and {len(holes)} holes, {len(set(holes))} of them different, and {len(opened)} squares instead. "
            "Remedy: plan with more minutes."
        )
    bodies = [
        *(selection_body(patch) for patch in patches),
        *(selection_body(ids, "squares") for ids in squares),
    ]
    write_whole(path, json.dumps(bodies, indent=2) + "\n")


def read_selection(path: Path, kind: SelectedKind = "holes") -> list[list[str]]:
    """The holes of each patch of a selection, in order of visit, or the squares of each grid.

    Raises FileFormatError where it is none.
    """
    bodies = parse_json(read_text(path, LARGEST_SELECTION_BYTES), path)
    patches: list[list[str]] = []
    for number, body in enumerate(bodies if isinstance(bodies, list) else [bodies], start=1):
        ids = body.get("ids") if isinstance(body, dict) else None
        of_kind: SelectedKind = (
            "squares" if isinstance(body, dict) and body.get("type") == "squares" else "holes"
        )
        patch = [each for each in ids if isinstance(each, str) and each] if isinstance(ids, list) else []
        if not patch or not isinstance(ids, list) or body != selection_body(patch, of_kind):
            raise FileFormatError(
                path,
                None,
                f"request {number}: must be {json.dumps(selection_body(['...']))}. "
                f"Got {shown(json.dumps(body))} instead.",
            )
        if of_kind == kind:
            patches.append(patch)
    return patches


def detect(path: Path) -> bool:
    """Whether a file begins as JSON with the selection of holes; reads its first 4 kB."""
    head = head_text(path, _HEAD_BYTES).lstrip()
    return head[:1] in ("[", "{") and all(mark.search(head) for mark in _MARKS)


def read_source(path: Path, permissive: bool = False) -> NoReturn:
    """Raise FileFormatError, which says what the file is: there is no session in it."""
    raise FileFormatError(
        path,
        None,
        "must be a session, a table or results. Got a selection of holes for SmartScope instead: a target list, which "
        "says which holes to image and nothing of what was imaged. Remedy: import the session that was planned.",
    )


def validate(path: Path) -> list[Deviation]:
    """Every deviation of a file, by request; an empty list for a clean one."""
    return deviations_of(path, _check)


def _check(path: Path, findings: Findings) -> None:
    bodies = parse_json(read_text(path, LARGEST_SELECTION_BYTES), path)
    first: dict[str, int] = {}
    for number, body in enumerate(bodies if isinstance(bodies, list) else [bodies], start=1):
        element = f"request {number}"
        ids = _ids(body)
        if ids is None:
            findings.deviates(
                'must be {"type": "holes" or "squares", "key": "selected", "new_value": "1", "ids": ["...", ...]}. '
                f"Got {shown(json.dumps(body))} instead.",
                element=element,
            )
            continue
        for hole in ids:
            if hole in first:
                findings.deviates(
                    f"a hole or square must stand once. Got {shown(hole)} again instead (first in request "
                    f"{first[hole]}).",
                    element=element,
                )
            first.setdefault(hole, number)


def _ids(body: JsonValue) -> list[str] | None:
    """The holes of a request; None where it is none."""
    ids = body.get("ids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not ids:
        return None
    holes = [each for each in ids if isinstance(each, str) and each]
    bodies = (selection_body(holes), selection_body(holes, "squares"))
    return holes if len(holes) == len(ids) and body in bodies else None
