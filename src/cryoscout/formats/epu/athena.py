"""Decision records of the Athena Decision Service, through which EPU takes decisions from outside: written and read.

Written to the published schema, not tested on an EPU: nobody outside the vendor can. Every record says so.

    field          type                  here
    sessionId      uuid                  of the service; EPU's own session id is another number
    areaId         int32                 the grid square that the decision is about, EPU's id; of squares, the grid
    decisionType   one of DECISION_TYPES foilHoleSelection, acquisitionOrder and gridSquareSelection are written
    pluginType     one of PLUGIN_TYPES   custom
    decisionValue  string, JSON          [{"areaId": 100, "result": "true"}, ...], areaId an EPU foil hole
    decidedBy      string                program, policy and prediction
    details        string                the label, then what it is about
    id, timestamp  uuid, date-time       given by the service; kept when read, never written

foilHoleSelection: result is "true" for a hole to image, "false" for one not to. acquisitionOrder: result is the place
of the hole in the whole plan, counted from 1. gridSquareSelection: areaId is the grid (EPU's sample or atlas), and the
list has its squares, in order, "true" for one to open. The schema leaves the shape of decisionValue open; the service's
documentation shows the first one, the second follows it. A record stands for one grid square; one file is a JSON array
of records, to be posted one by one to /api/v1/Decision.
Specification: the service's OpenAPI document, schema DecisionRecord, in DiamondLightSource/smartem-devtools,
`docs/athena-decision-service-api-spec.json`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.ctf.records import deviations_of, head_text, shown
from cryoscout.formats.records import HOLE_COLUMNS, SourceRecords
from cryoscout.formats.text.findings import TARGETS_ALONE, Deviation, Findings, read_text
from cryoscout.formats.text.json_values import JsonValue, parse_json

FORMAT = "athena"
LABEL = "written to the published schema, not tested on an EPU"
SELECTION, ORDER, SQUARES = "foilHoleSelection", "acquisitionOrder", "gridSquareSelection"
DECISION_TYPES = (
    "include",
    "focus",
    "stageWaitingTime",
    ORDER,
    SELECTION,
    SQUARES,
    "iceThicknessFoilHolePrediction",
    "automaticFoilHoleFinding",
)
PLUGIN_TYPES = ("default", "custom", "dummy")
LARGEST_AREA_ID = 2**31 - 1
LARGEST_FILE_BYTES = 64 * 1024 * 1024

_NEEDED = ("sessionId", "areaId", "decisionType", "pluginType", "decisionValue")
_KNOWN = (*_NEEDED, "decidedBy", "details", "id", "timestamp")
_MARKS = re.compile(r'"decisionType"\s*:')
_ID = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class HoleDecision:
    """What is decided about one foil hole, or about one square of a gridSquareSelection."""

    hole_id: int  # EPU's foil hole id, or a square's, 1..LARGEST_AREA_ID
    result: str  # "true" or "false"; place in the plan


@dataclass(frozen=True)
class DecisionRecord:
    """One decision about one grid square."""

    session_id: str  # uuid
    square_id: int  # EPU's grid square id, 1..LARGEST_AREA_ID
    decision_type: str
    plugin_type: str
    holes: tuple[HoleDecision, ...]
    decided_by: str = ""
    details: str = ""
    further: Mapping[str, str] = field(default_factory=dict)
    """`id` and `timestamp` of the service, the decisionValue of other decision types and, read permissively, fields
    that the schema does not have."""


@dataclass(frozen=True)
class SquarePlan:
    """One grid square of a plan, as the writer needs it."""

    square_id: str
    place_of_hole: Mapping[str, int]  # planned hole -> place in the whole plan, from 1
    left_out: Sequence[str]  # holes of the square that are not to be imaged


def decisions_of(
    session_id: str, squares: Sequence[SquarePlan], decided_by: str, details: str = ""
) -> list[DecisionRecord]:
    """Two records for each grid square: which holes, and in which order.

    session_id : uuid under which the service knows the EPU session     squares : in order of visit, ids of EPU
    Raises InputError for a session id that is no uuid, an id that is none of EPU's, an empty plan, a hole twice.
    """
    service_id = check_session_id(session_id)
    if not any(square.place_of_hole for square in squares):
        raise InputError(
            "A plan must have at least one hole. Got none instead. Remedy: plan with more minutes."
        )
    records = []
    seen: set[str] = set()
    for square in squares:
        for name in (*square.place_of_hole, *square.left_out):
            if name in seen:
                raise InputError(f"A hole must be decided on once. Got {name!r} again instead.")
            seen.add(name)
        planned = sorted(square.place_of_hole.items(), key=lambda item: item[1])
        selection = [HoleDecision(area_id(name), "true") for name, _ in planned]
        selection += [HoleDecision(area_id(name), "false") for name in square.left_out]
        order = [HoleDecision(area_id(name), str(place)) for name, place in planned]
        records += [
            DecisionRecord(
                session_id=service_id,
                square_id=area_id(square.square_id),
                decision_type=kind,
                plugin_type="custom",
                holes=tuple(holes),
                decided_by=decided_by,
                details=f"{LABEL}; {details}" if details else LABEL,
            )
            for kind, holes in ((SELECTION, selection), (ORDER, order))
        ]
    return records


def square_decisions(
    session_id: str,
    grid_id: str,
    to_open: Sequence[str],
    left_out: Sequence[str],
    decided_by: str,
    details: str = "",
) -> DecisionRecord:
    """The record of which squares of a grid to open, in this order.

    session_id, decided_by, details : as of `decisions_of`     grid_id, to_open, left_out : ids of EPU
    Raises InputError for a session id that is no uuid, an id that is none of EPU's, a square twice or none.
    """
    names = [*to_open, *left_out]
    if not to_open or len(set(names)) != len(names):
        raise InputError(
            f"Squares to open must be at least one, and each decided on once. Got {len(to_open)} to open, "
            f"{len(names)} in all and {len(set(names))} different ones instead. Remedy: plan with more minutes."
        )
    squares = [HoleDecision(area_id(name), "true") for name in to_open]
    squares += [HoleDecision(area_id(name), "false") for name in left_out]
    return DecisionRecord(
        session_id=check_session_id(session_id),
        square_id=area_id(grid_id),
        decision_type=SQUARES,
        plugin_type="custom",
        holes=tuple(squares),
        decided_by=decided_by,
        details=f"{LABEL}; {details}" if details else LABEL,
    )


def check_session_id(text: str) -> str:
    """The uuid in its usual form, or InputError."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InputError(
            "The session of the Athena Decision Service must be a uuid such as "
            f"3fa85f64-5717-4562-b3fc-2c963f66afa6. Got {text[:60]!r} instead. Remedy: take it from the service, "
            "/api/v1/Sessions; EPU's own session number is another one."
        ) from None


def area_id(name: str) -> int:
    """EPU's number of a grid square or foil hole, or InputError."""
    if not _ID.fullmatch(name) or int(name) > LARGEST_AREA_ID:
        raise InputError(
            f"An area id of EPU must be a whole number from 1 to {LARGEST_AREA_ID}. Got {name[:60]!r} instead. "
            "Remedy: plan a session that was read from EPU's files."
        )
    return int(name)


def write_decisions(path: Path, records: Sequence[DecisionRecord]) -> None:
    """Write records as a JSON array that `read_decisions` gives back equal; without `further`."""
    write_whole(path, json.dumps([_to_json(record) for record in records], indent=2) + "\n")


def _to_json(record: DecisionRecord) -> dict[str, str | int]:
    value = [{"areaId": hole.hole_id, "result": hole.result} for hole in record.holes]
    return {
        "sessionId": record.session_id,
        "areaId": record.square_id,
        "decisionType": record.decision_type,
        "pluginType": record.plugin_type,
        "decisionValue": json.dumps(value),
        "decidedBy": record.decided_by,
        "details": record.details,
    }


def detect(path: Path) -> bool:
    """Whether a file begins as JSON with decision records; reads its first kB."""
    head = head_text(path, 4096).lstrip()
    return head[:1] in ("[", "{") and _MARKS.search(head) is not None


def read_decisions(path: Path, permissive: bool = False) -> list[DecisionRecord]:
    """Read a JSON array of records, or a single one.

    permissive : leave deviating records out and deviating fields in `further`
    Raises FileFormatError at the first deviation unless permissive, and always for what is no JSON.
    """
    return _records(path, Findings(path, permissive))


def read_source(path: Path, permissive: bool = False) -> SourceRecords:
    """Squares and holes that records decide on; `chosen` is the last foilHoleSelection of a hole, NA without one.

    Raises as `read_decisions`.
    """
    findings = Findings(path, permissive)
    records = _records(path, findings)
    chosen: dict[tuple[int, int], bool | None] = {}
    extra: dict[str, dict[str, str]] = {}
    for number, record in enumerate(records, start=1):
        for hole in record.holes:
            if record.decision_type == SQUARES:
                extra.setdefault(str(hole.hole_id), {})["grid_square_selection"] = hole.result
                continue
            chosen.setdefault((record.square_id, hole.hole_id))
            if record.decision_type == SELECTION:
                chosen[record.square_id, hole.hole_id] = hole.result == "true"
            elif record.decision_type == ORDER:
                extra.setdefault(str(hole.hole_id), {})["acquisition_order"] = hole.result
        extra[f"record {number}"] = {
            "decision_type": record.decision_type,
            "decided_by": record.decided_by,
            "details": record.details,
            **record.further,
        }
    holes = pd.DataFrame(
        [
            (str(hole), "", str(square), "", *(np.nan,) * 4, pd.NA if is_chosen is None else is_chosen)
            for (square, hole), is_chosen in chosen.items()
        ],
        columns=list(HOLE_COLUMNS),
    )
    squares = pd.DataFrame(
        {"square_id": [str(square) for square in dict.fromkeys(square for square, _ in chosen)]}
    )
    return SourceRecords(
        format=FORMAT,
        path=path,
        squares=squares.assign(grid_id="", x_um=np.nan, y_um=np.nan),
        holes=holes.astype({"chosen": "boolean"}),
        extra=extra,
        deviations=tuple(findings.deviations),
        notes=(TARGETS_ALONE,),
    )


def validate(path: Path) -> list[Deviation]:
    """Every deviation of a file, by record; an empty list for a clean one."""
    return deviations_of(path, _records)


def _records(path: Path, findings: Findings) -> list[DecisionRecord]:
    value = parse_json(read_text(path, LARGEST_FILE_BYTES), path)
    if not isinstance(value, list):
        value = [value]
    records = []
    for number, item in enumerate(value, start=1):
        element = f"record {number}"
        if not isinstance(item, dict):
            findings.deviates(f"a record must be an object. Got {_kind(item)} instead.", None, element)
            continue
        record = _record(item, path, findings, element)
        if record is not None:
            records.append(record)
    return records


def _record(
    item: dict[str, JsonValue], path: Path, findings: Findings, element: str
) -> DecisionRecord | None:
    missing = [name for name in _NEEDED if item.get(name) is None]
    if missing:
        findings.deviates(f"a record must have {', '.join(missing)}. Got none instead.", None, element)
        return None
    texts: dict[str, str] = {}
    for name in _KNOWN:
        value = item.get(name)
        if name == "areaId" or value is None:
            continue
        if not isinstance(value, str):
            findings.deviates(f"{name} must be a text. Got {_kind(value)} instead.", None, element)
            return None
        texts[name] = value
    try:
        session_id = check_session_id(texts["sessionId"])
        square_id = _area(item["areaId"])
    except InputError as error:
        findings.deviates(str(error), None, element)
        return None
    for name, known in (("decisionType", DECISION_TYPES), ("pluginType", PLUGIN_TYPES)):
        if texts[name] not in known:
            findings.deviates(
                f"{name} must be one of {', '.join(known)}. Got {shown(texts[name])} instead.", None, element
            )
            return None
    holes = _holes(texts["decisionValue"], texts["decisionType"], path, findings, element)
    if holes is None:
        return None
    kept = (
        ("id", "timestamp")
        if texts["decisionType"] in (SELECTION, ORDER, SQUARES)
        else ("id", "timestamp", "decisionValue")
    )
    further = {name: texts[name] for name in kept if name in texts}
    for name in item.keys() - set(_KNOWN):
        findings.deviates(
            f"a record must have no field that the schema does not have. Got {shown(name)} instead.",
            None,
            element,
        )
        further[name] = json.dumps(item[name])
    return DecisionRecord(
        session_id,
        square_id,
        texts["decisionType"],
        texts["pluginType"],
        holes,
        texts.get("decidedBy", ""),
        texts.get("details", ""),
        further,
    )


def _holes(
    text: str, kind: str, path: Path, findings: Findings, element: str
) -> tuple[HoleDecision, ...] | None:
    """decisionValue of a selection or an order; of another decision, whose shape is not published, nothing."""
    if kind not in (SELECTION, ORDER, SQUARES):
        return ()
    try:
        value = parse_json(text, path)
    except FileFormatError as error:
        findings.deviates(f"decisionValue {error.detail}", None, element)
        return None
    holes: dict[int, HoleDecision] = {}
    for item in value if isinstance(value, list) else [value]:
        message = _hole_problem(item, kind, holes)
        if message:
            findings.deviates(message, None, f"{element}, decisionValue")
            return None
        if isinstance(item, dict):
            hole_id = _area(item["areaId"])
            holes[hole_id] = HoleDecision(hole_id, str(item["result"]))
    return tuple(holes.values())


def _hole_problem(item: JsonValue, kind: str, before: Collection[int]) -> str | None:
    if not isinstance(item, dict) or set(item) != {"areaId", "result"}:
        return f"a decision must be an object with areaId and result. Got {_kind(item)} instead."
    try:
        hole_id = _area(item["areaId"])
    except InputError as error:
        return str(error)
    if hole_id in before:
        return f"a hole must be decided on once in a record. Got {hole_id} again instead."
    result = item["result"]
    if kind in (SELECTION, SQUARES) and result not in ("true", "false"):
        return f"the result of a selection must be 'true' or 'false'. Got {shown(str(result))} instead."
    if kind == ORDER and not (isinstance(result, str) and _ID.fullmatch(result)):
        return f"the result of an order must be a place from '1' on. Got {shown(str(result))} instead."
    return None


def _area(value: JsonValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"areaId must be a whole number. Got {shown(str(value))} instead.")
    return area_id(str(value))


def _kind(value: JsonValue) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(sorted(value))[:60] or 'nothing'}"
    if isinstance(value, list):
        return "an array"
    return shown(json.dumps(value))
