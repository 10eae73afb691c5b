"""The holes and squares of a plan, selected on a SmartScope server.

    PATCH /api/updatetargets/    {"type": "holes", "key": "selected", "new_value": "1", "ids": [...]}, also "squares",
                                 those of one atlas in a request

Selecting a hole of a group selects the group's centre, and queues it again if it was imaged; holes of groups and others
must not share a request, or the others are passed over.
Specification: NIEHS/SmartScope, `Smartscope/server/api/views.py`; `core/db_manipulations.py`,
`update_target_selection`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryoscout.core.errors import FileFormatError, InputError, ServiceError
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.smartscope.records import IMAGED
from cryoscout.formats.smartscope.rest import JsonRecord, SmartScopeClient, identifier
from cryoscout.formats.smartscope.selection import selection_body
from cryoscout.formats.text.json_values import JsonValue


@dataclass(frozen=True)
class SelectionReport:
    """What became of a selection."""

    selected: int
    """Planned holes that are selected now."""
    images: int
    """Holes that SmartScope will image for them: the whole group of each."""
    not_open: tuple[str, ...]
    """Planned holes left as they are, because they or the centre of their group are queued or imaged already."""


def select_holes(
    client: SmartScopeClient, grid_names: Iterable[str], holes: Sequence[str]
) -> SelectionReport:
    """Select the holes of a plan, in its order, patch by patch of the server's own grouping.

    grid_names : ids or names of the plan's grids     holes : ids or names, in order of visit, each once
    Holes, or centres of groups, that are queued or imaged are left as they are: selecting them would image them again.
    Raises ServiceError and FileFormatError as the client does; InputError where the server does not have a grid or a
    hole, or has several of that name. Nothing is sent before every hole is found.
    """
    listed: list[JsonRecord] = []
    for grid_id in _grid_ids(client, list(dict.fromkeys(grid_names))):
        listed += client.records("holes", {"grid_id": grid_id})
    chosen = _find(listed, holes, "hole")
    _refuse_twice(holes, chosen, "hole")
    members: dict[tuple[str, str], list[JsonRecord]] = {}
    for record in listed:
        if record.get("bis_group"):
            members.setdefault(_group_of(record, client), []).append(record)
    batches: dict[tuple[str, str], list[str]] = {}
    not_open: list[str] = []
    selected = images = 0
    for name, record in zip(holes, chosen, strict=True):
        group = _group_of(record, client)
        in_group = members.get(group, [record])
        centre = next((each for each in in_group if each.get("bis_type") == "center"), record)
        if centre.get("status") is not None or _plain(record, "status", client) in IMAGED:
            not_open.append(name)
            continue
        selected += 1
        batch = batches.setdefault(group, [])
        if not batch or not group[1]:
            batch.append(identifier(centre, "hole_id", client))
            images += len(in_group)
    for ids in batches.values():
        _select(client, selection_body(ids))
    return SelectionReport(selected, images, tuple(not_open))


def select_squares(client: SmartScopeClient, squares: Mapping[str, Sequence[str]]) -> SelectionReport:
    """Select squares to be opened; those that are queued or imaged are left as they are.

    squares : ids or names of each grid (id or name), each once     Raises as `select_holes`; nothing is sent before
    every square is found.
    """
    chosen: list[tuple[list[str], list[str]]] = []
    all_names: list[str] = []
    all_records: list[JsonRecord] = []
    for grid_id, names in zip(_grid_ids(client, list(squares)), squares.values(), strict=True):
        listed = list(client.records("squares", {"grid_id": grid_id}))
        open_ids, not_open = [], []
        records = _find(listed, names, "square")
        all_names += names
        all_records += records
        for name, record in zip(names, records, strict=True):
            if record.get("status") is None:
                open_ids.append(identifier(record, "square_id", client))
            else:
                not_open.append(name)
        chosen.append((open_ids, not_open))
    _refuse_twice(all_names, all_records, "square")
    for ids, _ in chosen:
        if ids:
            _select(client, selection_body(ids, "squares"))
    selected = sum(len(ids) for ids, _ in chosen)
    return SelectionReport(selected, selected, tuple(name for _, names in chosen for name in names))


def _select(client: SmartScopeClient, body: dict[str, JsonValue]) -> None:
    answer = client.request("PATCH", f"{client.api}updatetargets/", body)
    if not isinstance(answer, dict) or answer.get("success") is not True:
        raise ServiceError(
            f"SmartScope must say that the selection succeeded. Got {shown(json.dumps(answer))} instead. "
            "Remedy: look at the square in SmartScope; part of the plan may be selected."
        )


def _grid_ids(client: SmartScopeClient, names: Sequence[str]) -> list[str]:
    listed = list(client.records("grids"))
    ids = []
    for name in names:
        by_id = [grid for grid in listed if grid.get("grid_id") == name]
        ids.append(
            identifier(
                _only(by_id or [grid for grid in listed if grid.get("name") == name], "grid", name),
                "grid_id",
                client,
            )
        )
    return ids


def _find(listed: Sequence[JsonRecord], names: Sequence[str], what: str) -> list[JsonRecord]:
    """The records of these ids or names.     what : hole or square"""
    key = f"{what}_id"
    by_id = {record.get(key): record for record in listed if isinstance(record.get(key), str)}
    by_name: dict[JsonValue, list[JsonRecord]] = {}
    for record in listed:
        if isinstance(record.get("name"), str):
            by_name.setdefault(record["name"], []).append(record)
    return [by_id[name] if name in by_id else _only(by_name.get(name, []), what, name) for name in names]


def _refuse_twice(names: Sequence[str], records: Sequence[JsonRecord], what: str) -> None:
    """Raise InputError where two names of a plan mean one record, such as its id and its name."""
    first: dict[str, str] = {}
    for name, record in zip(names, records, strict=True):
        own_id = str(record.get(f"{what}_id"))
        if own_id in first:
            raise InputError(
                f"A {what} of the plan must be named once. Got {first[own_id]!r} and {name!r}, which are the {what} "
                f"{own_id} of the server, instead. Remedy: read the session from the server again and plan anew."
            )
        first[own_id] = name


def _only(found: Sequence[JsonRecord], what: str, name: str) -> JsonRecord:
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"A {what} of the plan must be one {what} of the server. Got {len(found)} for {name!r} instead. "
        "Remedy: read the session from the server again and plan anew."
    )


def _group_of(record: JsonRecord, client: SmartScopeClient) -> tuple[str, str]:
    """Square and group of a hole; the group is "" for a hole of none."""
    return _plain(record, "square_id", client), _plain(record, "bis_group", client)


def _plain(record: JsonRecord, key: str, client: SmartScopeClient) -> str:
    """A text or number of a record as text, "" where it has none."""
    value = record.get(key)
    if isinstance(value, (list, dict, bool)):
        raise FileFormatError(
            client.api, None, f"{key} of a record must be a text. Got {shown(str(value))} instead."
        )
    return "" if value is None else str(value)
