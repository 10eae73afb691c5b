"""Who may talk to the server: a plain ASGI guard around everything, http and websocket alike.

Host against a list (a page of another name that resolves here is refused), Origin with its port on every write and on
the socket (browsers do not keep ports apart in cookies), a token or a browser's own id for everything but the health of
the process, the size of every body, and headers that let the page load nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cryoscout.live.tokens import Browsers, Role, Tokens

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY_BYTES = 64 * 1024
BODY_LIMIT_S = 20.0
_TOO_LARGE = f"A body must be of {LARGEST_BODY_BYTES} bytes at most. Got more instead."
READS = frozenset(("GET", "HEAD", "OPTIONS"))
ROLE = "cryoscout.role"
"""Key of the scope that holds what the caller may do."""

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


@dataclass
class Guard:
    """Wraps an ASGI app.

    hosts : what Host may be, with port     origins : what Origin may be, scheme://host:port
    cookie : its name, with the port in it     secure : whether the cookie is for https alone
    """

    app: App
    tokens: Tokens
    hosts: frozenset[str]
    origins: frozenset[str]
    cookie: str
    root_path: str = ""
    secure: bool = False
    browsers: Browsers = field(init=False)

    def __post_init__(self) -> None:
        self.browsers = Browsers(self.tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = _headers_of(scope)
        problem, role = self._judged(scope, headers)
        if problem is not None:
            await _refuse(scope, receive, send, *problem)
            return
        if scope["type"] == "http" and (where := self._without_token(scope)) is not None:
            await self._redirect(where, str(role), send)
            return
        scope[ROLE] = role
        if scope["type"] == "http" and scope["method"] not in READS:
            try:
                body = await _whole_body(receive)
            except TimeoutError:
                await _refuse(
                    scope, receive, send, 408, "Body", "A body must end. Got one that does not instead."
                )
                return
            if body is None:
                await _refuse(scope, receive, send, 413, "Body", _TOO_LARGE)
                return
            receive = _given_again(body, receive)
        await self.app(scope, receive, _with_headers(send))

    def _judged(
        self, scope: Scope, headers: dict[str, list[str]]
    ) -> tuple[tuple[int, str, str] | None, Role | None]:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            said = hosts[0][:80] if hosts else "nothing"
            return (
                421,
                "Host",
                f"Host must be one of {', '.join(sorted(self.hosts))}. Got {said!r} instead. Remedy: use that address, "
                "or start the server with --public-url.",
            ), None
        is_write = scope["type"] == "websocket" or scope["method"] not in READS
        origins = headers.get("origin", [])
        if is_write and any(each.lower() not in self.origins for each in origins):
            return (
                403,
                "Origin",
                f"A write must come from this server's own page. Got one of {origins[0][:80]!r} instead.",
            ), None
        role, by_cookie = self._role_of(scope, headers)
        if role is None:
            return (
                401,
                "Token",
                "A request must carry a token of this server. Got none that it knows instead. Remedy: open the address "
                "that `cryoscout serve` printed, or send Authorization: Bearer TOKEN.",
            ), None
        if is_write and by_cookie and not origins:
            return (403, "Origin", "A write of a browser must say its Origin. Got none instead."), None
        if scope["type"] == "http" and is_write and role != "operator":
            return (403, "Viewer", "A write must carry the operator's token. Got the viewer's instead."), None
        length = headers.get("content-length", ["0"])[0]
        if (
            scope["type"] == "http"
            and length.isascii()
            and length.isdigit()
            and int(length) > LARGEST_BODY_BYTES
        ):
            return (
                413,
                "Body",
                f"A body must be of {LARGEST_BODY_BYTES} bytes at most. Got {length} instead.",
            ), None
        return None, role

    def _role_of(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[Role | None, bool]:
        """What the caller may do, and whether a cookie says so."""
        for given in headers.get("authorization", []):
            kind, _, token = given.partition(" ")
            if kind.lower() == "bearer":
                return self.tokens.role_of(token.strip()), False
        if scope["type"] == "http" and scope["method"] in READS:
            for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
                if name == "token":
                    return self.tokens.role_of(value), False
        for line in headers.get("cookie", []):
            try:
                jar = SimpleCookie(line)
            except CookieError:
                continue
            if self.cookie in jar:
                role = self.browsers.role_of(jar[self.cookie].value)
                if role is not None:
                    return role, True
        return None, False

    def _without_token(self, scope: Scope) -> str | None:
        """The address without its token, where it had one."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] not in READS or not any(name == "token" for name, _ in pairs):
            return None
        kept = urlencode([(name, value) for name, value in pairs if name != "token"])
        # A path of two slashes at its beginning would be another host.
        path = "/" + _raw_path(scope).lstrip("/\\")
        return f"{self.root_path}{path}" + (f"?{kept}" if kept else "")

    async def _redirect(self, where: str, role: str, send: Send) -> None:
        opaque = self.browsers.admit("operator" if role == "operator" else "viewer")
        cookie = f"{self.cookie}={opaque}; Path={self.root_path or '/'}; HttpOnly; SameSite=Strict"
        cookie += "; Secure" if self.secure else ""
        headers = [
            (b"location", where.encode("latin-1", "replace")),
            (b"set-cookie", cookie.encode()),
            *_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path") or scope["path"].encode("utf-8")
    path = bytes(raw).decode("latin-1").partition("?")[0]
    root = scope.get("root_path", "")
    return path.removeprefix(root) if root else path


def _headers_of(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def allowed_hosts(bind: str, port: int, public_url: str | None) -> tuple[frozenset[str], frozenset[str]]:
    """(Host values, Origin values) that are this server's own.     public_url : scheme://host[:port] or None"""
    names: Iterable[str] = ("127.0.0.1", "localhost", "[::1]")
    names = dict.fromkeys([*names, f"[{bind}]" if ":" in bind else bind])
    hosts = {f"{name}:{port}" for name in names if name not in ("0.0.0.0", "[::]")}  # noqa: S104
    origins = {f"http://{host}" for host in hosts}
    if public_url is not None:
        scheme, _, rest = public_url.partition("://")
        host = rest.split("/")[0].lower()
        hosts.add(host)
        origins.add(f"{scheme.lower()}://{host}")
    return frozenset(hosts), frozenset(origins)


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, None where it is too large. Raises TimeoutError for one that does not end."""
    body = bytearray()
    while True:
        message = await asyncio.wait_for(receive(), BODY_LIMIT_S)
        if message["type"] != "http.request":
            return bytes(body)  # it went away
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _given_again(body: bytes, receive: Receive) -> Receive:
    waits = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waits.pop() if waits else await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            more = [pair for pair in _HEADERS if pair[0] not in given]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sent


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, title: str, detail: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status % 1000, "reason": title})
        return
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
