"""SmartScope over its REST interface: one server, asked page by page, within limits of time and size.

The token goes into the header `Authorization: Token ...`, to the address that the user gave and to no other: https, or
http on this computer (elsewhere only when the user says so); redirections are refused and `next` is followed on the
same origin only. Each answer has a deadline and a size, and all together have them too (see `exchange`). Lists are
pages of 10 or more records: {"results": [...], "next": address or null}. What is asked for: `server_session`; what is
sent: `selecting`.
Specification: NIEHS/SmartScope, `Smartscope/server/api/` urls.py, viewsets.py, views.py, pagination.py.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from cryoscout.core.errors import FileFormatError, InputError, ServiceError
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.smartscope.addresses import TOKEN_VARIABLE, checked_origin, is_of_origin
from cryoscout.formats.smartscope.exchange import NOT_SMARTSCOPE, Request, ask
from cryoscout.formats.text.findings import read_text
from cryoscout.formats.text.json_values import JsonValue, parse_json

LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
"""A page of 1,000 records takes about 1 MB, a square with its 300 holes 0.3 MB."""
LARGEST_IMPORT_BYTES = 512 * 1024 * 1024
"""Of all answers to one client together; a record takes about 1 kB."""
MOST_RECORDS = 300_000
"""Of all lists to one client together."""
MOST_PAGES = 100_000
PAGE_SIZE = 1000
TIMEOUT_S = 30.0
TIMEOUTS_OF_ALL = 120
"""All answers to one client together may take this many times the limit of one: an hour, by default."""
_LARGEST_TOKEN_BYTES = 1024

JsonRecord = dict[str, JsonValue]


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
        self.origin = checked_origin(address, allow_http)
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
        if not isinstance(value, str) or not is_of_origin(value, self.origin):
            raise FileFormatError(
                address,
                None,
                f"`next` must be an address on {self.origin}. Got {shown(str(value))} instead. "
                "Remedy: use the address under which the server knows itself.",
            )
        return value

    def request(self, method: str, address: str, body: Mapping[str, JsonValue] | None = None) -> JsonValue:
        """The JSON answer to one request to this server. Raises as `records`."""
        if not is_of_origin(address, self.origin):
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
        """The certificates of this computer, or those that SSL_CERT_FILE names; of a server without any, none."""
        if not self.origin.startswith("https:"):
            return ssl.SSLContext(
                ssl.PROTOCOL_TLS_CLIENT
            )  # certificates without a use are not read, which takes a while
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


def identifier(record: JsonRecord, key: str, client: SmartScopeClient) -> str:
    """The id of a record. Raises FileFormatError where it has none."""
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise FileFormatError(
            client.api, None, f"a record must have {key}, a text. Got {shown(str(value))} instead."
        )
    return value
