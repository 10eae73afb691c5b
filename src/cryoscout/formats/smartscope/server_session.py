"""A session of a SmartScope server, read over its REST interface as the records of `records`.

    GET /api/sessions/
    GET /api/grids/?session_id=            400 where there is no such session
    GET /api/atlas/?grid_id=               pixel_size, on which areas of the atlas's squares (atlas_id) are counted
    GET /api/squares/?grid_id=             as the tables of `records`, without finders
    GET /api/squares/detailed/?grid_id=    with finders, targets below, and names in place of ids (newer versions)
    GET /api/holes/?grid_id=
    GET /api/highmag/?grid_id=

Specification: NIEHS/SmartScope, `Smartscope/server/api/viewsets.py`; of atlas_id, `core/models/square.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from cryoscout.core.errors import InputError
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.smartscope.exchange import BadRequestError, NotThereError
from cryoscout.formats.smartscope.records import FoundRecords, atlas_pixel_angstrom
from cryoscout.formats.smartscope.rest import JsonRecord, SmartScopeClient, identifier
from cryoscout.formats.text.findings import Findings
from cryoscout.formats.text.json_values import JsonValue

SESSIONS_SHOWN = 20


def list_sessions(client: SmartScopeClient) -> list[str]:
    """Ids of the server's sessions, the newest first. Raises as `SmartScopeClient.records` does."""
    records = sorted(
        client.records("sessions"), key=lambda record: str(record.get("date") or ""), reverse=True
    )
    return [identifier(record, "session_id", client) for record in records]


def read_session(client: SmartScopeClient, session_id: str, permissive: bool = False) -> SourceRecords:
    """Read all grids of a session.

    session_id : as SmartScope writes it, such as 20240105_run7     permissive : leave deviating records out, list them
    Raises ServiceError and FileFormatError as the client does, FileFormatError for a record that deviates (unless
    permissive), InputError where the server has no such session or it has no grids.
    """
    path = Path("smartscope") / session_id.replace("/", "_").replace("\0", "")
    findings = Findings(path, permissive)
    found = FoundRecords()
    notes: list[str] = []
    for grid_id in _grids_of(client, session_id):
        of_grid = {"grid_id": grid_id}
        finders = _finders(client, of_grid, notes)
        pixels = _atlas_pixels_angstrom(client, of_grid, findings)
        for square in client.records("squares", of_grid):
            found.add_square(_with_finders(square, finders), grid_id, findings, _pixel_of(square, pixels))
        for hole in client.records("holes", of_grid):
            square_id = str(hole.get("square_id"))
            if square_id not in found.squares:
                findings.deviates(
                    f"a hole must be of a square that is listed. Got {shown(square_id)} instead.",
                    element=f"hole {hole.get('hole_id')}",
                )
                continue
            found.add_hole(_with_finders(hole, finders), square_id, grid_id, findings)
        for image in client.records("highmag", of_grid):
            hole_id = str(image.get("hole_id"))
            if hole_id not in found.holes:
                findings.deviates(
                    f"a highmag record must be of a hole that is listed. Got {shown(hole_id)} instead.",
                    element=f"highmag {image.get('hm_id')}",
                )
                continue
            found.add_exposure(image, hole_id, str(found.holes[hole_id][2]), grid_id, findings)
    return found.source_records(path, findings, session_id, notes)


def _atlas_pixels_angstrom(
    client: SmartScopeClient, of_grid: dict[str, str], findings: Findings
) -> dict[str, float]:
    """atlas_id -> size of a pixel of the atlas; a grid that was looked at again has several."""
    try:
        records = list(client.records("atlas", of_grid))
    except (NotThereError, BadRequestError):
        return {}
    return {str(each.get("atlas_id")): atlas_pixel_angstrom(each, findings) for each in records}


def _pixel_of(square: JsonRecord, of_atlas: Mapping[str, float]) -> float:
    """Size of a pixel of the square's own atlas; of a square that names none, that of the only one."""
    atlas_id = square.get("atlas_id")
    if atlas_id is None and len(of_atlas) == 1:
        return next(iter(of_atlas.values()))
    return of_atlas.get(str(atlas_id), math.nan)


def _grids_of(client: SmartScopeClient, session_id: str) -> list[str]:
    try:
        records = list(client.records("grids", {"session_id": session_id}))
    except BadRequestError:
        records = []
    # A server that does not know the filter lists the grids of all sessions.
    own = [record for record in records if record.get("session_id") in (None, session_id)]
    if not own:
        raise InputError(
            f"A SmartScope session must have grids. Got none for {shown(session_id)} instead. "
            f"{sessions_in_words(client)} Remedy: take the session's id from its address in SmartScope."
        )
    return [identifier(record, "grid_id", client) for record in own]


def sessions_in_words(client: SmartScopeClient) -> str:
    """A sentence that names the server's sessions, the newest first. Raises as `list_sessions` does."""
    sessions = list_sessions(client)
    if not sessions:
        return "The server shows no session to this token's user."
    more = f" and {len(sessions) - SESSIONS_SHOWN} more" if len(sessions) > SESSIONS_SHOWN else ""
    return f"Sessions there: {', '.join(map(shown, sessions[:SESSIONS_SHOWN]))}{more}."


def _finders(client: SmartScopeClient, of_grid: dict[str, str], notes: list[str]) -> dict[str, JsonValue]:
    """Finders of squares and holes by name; empty, with a note, where the server has no such list."""
    finders: dict[str, JsonValue] = {}
    try:
        for square in client.records("squares/detailed", of_grid):
            targets = square.get("targets")
            for record in (square, *(targets if isinstance(targets, list) else [])):
                if isinstance(record, dict) and isinstance(record.get("name"), str):
                    finders[str(record["name"])] = record.get("finders")
    except NotThereError:
        note = "this version of SmartScope lists no positions; its export YAML has them"
        if note not in notes:
            notes.append(note)
    return finders


def _with_finders(record: JsonRecord, finders: dict[str, JsonValue]) -> JsonRecord:
    name = record.get("name")
    if "finders" in record or not isinstance(name, str) or name not in finders:
        return record
    return {**record, "finders": finders[name]}
