"""SmartScope over its REST interface: read a session, and select the holes of a plan.

    GET   /api/sessions/                   pages of 10 or more records: {"results": [...], "next": address or null}
    GET   /api/grids/?session_id=          400 where there is no such session
    GET   /api/atlas/?grid_id=             for pixel_size, on which areas of squares are counted
    GET   /api/squares/?grid_id=           as the tables of `smartscope`, without finders
    GET   /api/squares/detailed/?grid_id=  with finders, targets below, and names in place of ids (newer versions)
    GET   /api/holes/?grid_id=
    GET   /api/highmag/?grid_id=
    PATCH /api/updatetargets/              {"type": "holes", "key": "selected", "new_value": "1", "ids": [...]}, also
                                           "squares", those of one atlas in a request

The token goes into the header `Authorization: Token ...`, to the address that the user gave and to no other: https, or
http on this computer (elsewhere only when the user says so); redirections are refused and `next` is followed on the
same origin only. Each answer has a deadline and a size, and all together have them too (see `exchange`).
Selecting a hole of a group selects the group's centre, and queues it again if it was imaged; holes of
groups and others must not share a request, or the others are passed over.
Specification: NIEHS/SmartScope, `Smartscope/server/api/` urls.py, viewsets.py, views.py, pagination.py;
`core/db_manipulations.py`, `update_target_selection`.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlencode, urlsplit

from cryoscout.core.errors import FileFormatError, InputError, ServiceError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.records import SourceRecords
from cryoscout.formats.smartscope.exchange import (
    NOT_SMARTSCOPE,
    BadRequestError,
    NotThereError,
    Request,
    ask,
)
from cryoscout.formats.smartscope.records import IMAGED, FoundRecords
from cryoscout.formats.text.findings import Findings, read_text
from cryoscout.formats.text.json_values import JsonValue, parse_json

TOKEN_VARIABLE = "CRYOSCOUT_SMARTSCOPE_TOKEN"  # noqa: S105
"""Read where the first one is not set."""
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
"""A page of 1,000 records takes about 1 MB, a square with its 300 holes 0.3 MB."""
LARGEST_IMPORT_BYTES = 512 * 1024 * 1024
"""Of all answers to one client together; a record takes about 1 kB."""
MOST_RECORDS = 300_000
"""Of all lists to one client together."""
LARGEST_SELECTION_BYTES = 64 * 1024 * 1024
MOST_PAGES = 100_000
PAGE_SIZE = 1000
TIMEOUT_S = 30.0
TIMEOUTS_OF_ALL = 120
"""All answers to one client together may take this many times the limit of one: an hour, by default."""
SESSIONS_SHOWN = 20
_LARGEST_TOKEN_BYTES = 1024

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"(?<=://).*@|[?#].*", re.DOTALL)
JsonRecord = dict[str, JsonValue]
SelectedKind = Literal["holes", "squares"]


def read_token(file: Path | None = None) -> str:
    """The token from a file, or else from the environment (CRYOSCOUT_SMARTSCOPE_TOKEN).

    Never from a command line, where others can read it. Raises InputError where there is none, or what there is cannot
    be one; FileFormatError for a file that cannot be read.
    """
    if file is not None:
        token, where = read_text(file, _LARGEST_TOKEN_BYTES).strip(), f"in {file}"
    else:
        token, where = os.environ.get(TOKEN_VARIABLE, "").strip(), f"in the variable {TOKEN_VARIABLE}"
    if not token or not token.isascii() or not token.isalnum():
        got = "something else" if token else "none"
        raise InputError(
            f"A SmartScope token must be one word of letters and digits. Got {got} {where} instead. Remedy: set "
            f"{TOKEN_VARIABLE}, or name a file that holds the token and that only you can read."
        )
    return token


@dataclass(frozen=True)
class SelectionReport:
    """What became of a selection."""

    selected: int
    """Planned holes that are selected now."""
    images: int
    """Holes that SmartScope will image for them: the whole group of each."""
    not_open: tuple[str, ...]
    """Planned holes left as they are, because they or the centre of their group are queued or imaged already."""


class SmartScopeClient:
    """Reads and selects at one SmartScope server."""

    def __init__(
        self, address: str, token: str, timeout_s: float = TIMEOUT_S, *, allow_http: bool = False
    ) -> None:
        """Check the address; nothing is sent yet.

        address : of the server, with or without /api/
        timeout_s : for each whole answer, 0.1..600; TIMEOUTS_OF_ALL times as long for all of them
        allow_http : let the token travel unencrypted to another computer
        Raises InputError for an address that is no http(s) one, holds a password, or would carry the token unencrypted
        to another computer (unless allowed).
        """
        if not 0.1 <= timeout_s <= 600.0:
            raise InputError(
                f"The time limit of an answer must be between 0.1 and 600 s. Got {timeout_s!r} instead. "
                f"Remedy: leave it out, for {TIMEOUT_S:g} s."
            )
        self.origin = _check_address(address, allow_http)
        path = urlsplit(address).path.rstrip("/")
        self.api = f"{self.origin}{path if path.endswith('/api') else path + '/api'}/"
        self.timeout_s = timeout_s
        self._token = token
        self._ends_at: float | None = None
        """On the monotonic clock; from the first request on."""
        self._bytes = 0
        self._records = 0

    def records(self, collection: str, filters: Mapping[str, str] | None = None) -> Iterator[JsonRecord]:
        """All records of a collection, page after page.

        Raises ServiceError where the server refuses, fails or is slow, FileFormatError for an answer of another shape.
        """
        query = urlencode({**(filters or {}), "page_size": str(PAGE_SIZE)})
        address: str | None = f"{self.api}{collection}/?{query}"
        seen: set[str] = set()
        while address is not None:
            if address in seen or len(seen) >= MOST_PAGES:
                raise FileFormatError(
                    address, None, "the pages of a list must end. Got a page again, or too many, instead."
                )
            seen.add(address)
            page = self.request("GET", address)
            if not isinstance(page, dict) or not isinstance(page.get("results"), list):
                raise FileFormatError(
                    address, None, "a list must be an object with `results`. Got something else instead."
                )
            results = page["results"] if isinstance(page["results"], list) else []
            self._records += len(results)
            if self._records > MOST_RECORDS:
                raise FileFormatError(
                    address, None, f"all lists must have at most {MOST_RECORDS:,} records. Got more instead."
                )
            for record in results:
                if not isinstance(record, dict):
                    raise FileFormatError(
                        address, None, f"`results` must hold records. Got {shown(str(record))} instead."
                    )
                yield record
            address = self._next(address, page.get("next"))

    def _next(self, address: str, value: JsonValue) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not self._is_own(value):
            raise FileFormatError(
                address,
                None,
                f"`next` must be an address on {self.origin}. Got {shown(str(value))} instead. "
                "Remedy: use the address under which the server knows itself.",
            )
        return value

    def _is_own(self, address: str) -> bool:
        try:
            return _origin(_split(address)) == self.origin
        except InputError:
            return False

    def request(self, method: str, address: str, body: Mapping[str, JsonValue] | None = None) -> JsonValue:
        """The JSON answer to one request to this server. Raises as `records`."""
        if not self._is_own(address):
            raise InputError(f"A request must go to {self.origin}. Got {shown(address)} instead.")
        content = self._answer(method, address, body)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise FileFormatError(
                address, None, f"must be utf-8 text. Got other bytes instead. {NOT_SMARTSCOPE}"
            ) from None
        if text.lstrip()[:1] == "<":
            raise FileFormatError(
                address, None, f"must be JSON. Got a page of HTML or XML instead. {NOT_SMARTSCOPE}"
            )
        try:
            return parse_json(text, address)
        except FileFormatError as error:
            raise FileFormatError(address, error.line, f"{error.detail} {NOT_SMARTSCOPE}") from None

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """The certificates of this computer, or those that SSL_CERT_FILE names."""
        return ssl.create_default_context()

    def _answer(self, method: str, address: str, body: Mapping[str, JsonValue] | None) -> bytes:
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + TIMEOUTS_OF_ALL * self.timeout_s
        content = None if body is None else json.dumps(body).encode()
        request = Request(method, address, self.origin, self._token, content)
        left_s = max(self._ends_at - now, 0.0)
        try:
            return ask(request, self._trusted, min(self.timeout_s, left_s), self._counter(address))
        except TimeoutError:
            raise self._too_slow(address, of_all=left_s < self.timeout_s) from None

    def _counter(self, address: str) -> Callable[[int], None]:
        size = 0

        def count(more: int) -> None:
            nonlocal size
            size += more
            self._bytes += more
            if size > LARGEST_ANSWER_BYTES:
                raise FileFormatError(
                    address, None, f"must be at most {LARGEST_ANSWER_BYTES:,} bytes. Got more instead."
                )
            if self._bytes > LARGEST_IMPORT_BYTES:
                raise FileFormatError(
                    address,
                    None,
                    f"all answers must be at most {LARGEST_IMPORT_BYTES:,} bytes. Got more instead.",
                )

        return count

    def _too_slow(self, address: str, of_all: bool) -> ServiceError:
        if of_all:
            return ServiceError(
                f"The SmartScope server must give all answers within {TIMEOUTS_OF_ALL * self.timeout_s:g} s, "
                f"{TIMEOUTS_OF_ALL} times the limit of one. Got more to read at {address} instead. "
                "Remedy: try again later, or allow more time for each."
            )
        return ServiceError(
            f"The SmartScope server must answer within {self.timeout_s:g} s. Got no whole answer at {address} "
            "instead. Remedy: try again later, or allow more time."
        )


def list_sessions(client: SmartScopeClient) -> list[str]:
    """Ids of the server's sessions, the newest first. Raises as `SmartScopeClient.records` does."""
    records = sorted(
        client.records("sessions"), key=lambda record: str(record.get("date") or ""), reverse=True
    )
    return [_identifier(record, "session_id", client) for record in records]


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
        pixel_angstrom = _atlas_pixel_angstrom(client, of_grid)
        for square in client.records("squares", of_grid):
            found.add_square(_with_finders(square, finders), grid_id, findings, pixel_angstrom)
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


def _atlas_pixel_angstrom(client: SmartScopeClient, of_grid: dict[str, str]) -> float:
    """Size of a pixel of the grid's atlas; NaN where the server does not say it."""
    try:
        sizes = [record.get("pixel_size") for record in client.records("atlas", of_grid)]
    except (NotThereError, BadRequestError):
        return math.nan
    known = [float(each) for each in sizes if isinstance(each, (int, float)) and not isinstance(each, bool)]
    return known[0] if known and math.isfinite(known[0]) and known[0] > 0 else math.nan


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
    return [_identifier(record, "grid_id", client) for record in own]


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
            batch.append(_identifier(centre, "hole_id", client))
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
    for grid_id, names in zip(_grid_ids(client, list(squares)), squares.values(), strict=True):
        listed = list(client.records("squares", {"grid_id": grid_id}))
        open_ids, not_open = [], []
        for name, record in zip(names, _find(listed, names, "square"), strict=True):
            if record.get("status") is None:
                open_ids.append(_identifier(record, "square_id", client))
            else:
                not_open.append(name)
        chosen.append((open_ids, not_open))
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


def _grid_ids(client: SmartScopeClient, names: Sequence[str]) -> list[str]:
    listed = list(client.records("grids"))
    ids = []
    for name in names:
        by_id = [grid for grid in listed if grid.get("grid_id") == name]
        ids.append(
            _identifier(
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


def _identifier(record: JsonRecord, key: str, client: SmartScopeClient) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise FileFormatError(
            client.api, None, f"a record must have {key}, a text. Got {shown(str(value))} instead."
        )
    return value


class NotEncryptedError(InputError):
    """The address would carry the token unencrypted to another computer."""


def is_address(text: str) -> bool:
    """Whether what a user names is an address of a server, and not a path; it need not be a good one."""
    return _ADDRESS.match(text) is not None


def _check_address(address: str, allow_http: bool) -> str:
    parts = _split(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise InputError(
            "A SmartScope address must be https://HOST, without user name. "
            f"Got {_without_secrets(address)} instead."
        )
    if parts.query or parts.fragment:
        raise InputError(
            f"A SmartScope address must have no query. Got {_without_secrets(address)} instead. "
            f"Remedy: leave it out; the token comes from a file or the variable {TOKEN_VARIABLE}."
        )
    if parts.scheme == "http" and not allow_http and not _is_this_computer(parts.hostname):
        raise NotEncryptedError(
            f"A token must travel encrypted. Got http to {parts.hostname} instead. Remedy: use https, or a tunnel "
            "to http://localhost."
        )
    return _origin(parts)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise InputError(
            f"An address must be written https://HOST. Got {_without_secrets(address)} instead."
        ) from None
    if any(character.isspace() or not character.isprintable() for character in address):
        raise InputError(f"An address must be one word. Got {_without_secrets(address)} instead.")
    return parts


def _without_secrets(address: str) -> str:
    """The address as it may be shown: a user's name, a password and a query may be secret."""
    plain = _SECRET.sub("", address)
    return shown(plain) + ("" if plain == address else " and more that is not shown here")


def _origin(parts: SplitResult) -> str:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _is_this_computer(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
