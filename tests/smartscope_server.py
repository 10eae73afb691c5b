"""A server on this computer that speaks the published shapes of SmartScope's REST interface."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

TOKEN = "0123456789abcdef"  # noqa: S105


@cache
def parsed(export: Path) -> dict[str, list[dict[str, object]]]:
    """A grid as SmartScope exports it."""
    return yaml.load(export.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506


class Server:
    """The published lists of one session run7 with one grid, and what was asked of them."""

    def __init__(self, export: Path) -> None:
        grid = deepcopy(parsed(export))
        self.detailed = grid["atlas"][0]["targets"]
        self.lists = {"grids": [{"grid_id": "G1", "name": "grid1", "session_id": "run7"}]}
        self.lists["sessions"] = [
            {"session_id": "run6", "session": "old", "date": "20231231"},
            {"session_id": "run7", "session": "new", "date": "20240105"},
        ]
        self.lists["squares"] = [
            {"square_id": f"S{s['number']}", "grid_id": "G1", **bare(s)} for s in self.detailed
        ]
        self.lists["holes"] = [
            {
                "hole_id": f"H{s['number']}-{h['number']}",
                "square_id": f"S{s['number']}",
                "grid_id": "G1",
                **bare(h),
            }
            for s in self.detailed
            for h in s["targets"]
        ]
        self.lists["highmag"] = [
            {
                "hm_id": f"M{m['number']}",
                "hole_id": f"H{s['number']}-{h['number']}",
                "grid_id": "G1",
                **bare(m),
            }
            for s in self.detailed
            for h in s["targets"]
            for m in h["targets"]
        ]
        self.has_detailed = True
        self.bodies: list[dict[str, object]] = []
        self.tokens: list[str | None] = []
        self.answer: tuple[int, bytes] | None = None
        """Instead of all others."""
        self.patch_answer: dict[str, object] = {"success": True}
        self.next: str | None = None
        """Instead of the next page."""
        self.drip_s = 0.0
        """Between the bytes of the body."""
        self.header_drip_s = 0.0
        """Between the lines of a header that has no end."""
        self.left_out_bytes = 0
        """Of the end of the body, though its length is told in full."""
        self.headers: dict[str, str] = {}
        self.asked_with: list[dict[str, str]] = []
        self.location: str | None = None
        self.address = ""

    def list_page(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        collection = path.removeprefix("/api/").strip("/")
        if collection == "squares/detailed":
            rows = self.detailed if self.has_detailed else None
        else:
            rows = self.lists.get(collection)
        if rows is None:
            return 404, b'{"detail": "Not found."}'
        if "session_id" in query:
            (wanted,) = query["session_id"]
            if wanted not in [session["session_id"] for session in self.lists["sessions"]]:
                return 400, b'{"session_id": ["Select a valid choice."]}'
            rows = [row for row in rows if row["session_id"] == wanted]
        size, page = 5, int(query.get("page", ["1"])[0])
        kept = rows[(page - 1) * size : page * size]
        more = f"{self.address}{path}?page={page + 1}" if page * size < len(rows) else None
        return 200, json.dumps({"count": len(rows), "next": self.next or more, "results": kept}).encode()

    def select(self, body: dict[str, object]) -> None:
        self.bodies.append(body)
        ids = body["ids"]
        assert isinstance(ids, list)
        for hole in self.lists["holes"]:
            if hole["hole_id"] in ids:
                hole.update(selected=True, status="queued")


def bare(record):
    left_out = ("targets", "finders", "selectors", "classifiers")
    return {key: value for key, value in record.items() if key not in left_out}


@contextmanager
def running(export: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server with the grid of an export, until the block ends.     certificate : it and its key, for https"""
    state = Server(export)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.respond(*state.list_page(parts.path, parse_qs(parts.query)))

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/api/updatetargets/"
            if state.answer is None:
                state.select(body)
            self.respond(200, json.dumps(state.patch_answer).encode())

        def respond(self, code: int, content: bytes) -> None:
            state.tokens.append(self.headers["Authorization"])
            state.asked_with.append({name.lower(): value for name, value in self.headers.items()})
            if self.headers["Authorization"] != f"Token {TOKEN}":
                code, content = 401, b'{"detail": "Invalid token."}'
            code, content = state.answer or (code, content)
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            if state.location:
                self.send_header("Location", state.location)
            for name, value in state.headers.items():
                self.send_header(name, value)
            try:
                while state.header_drip_s:
                    self.flush_headers()
                    time.sleep(state.header_drip_s)
                    self.send_header("X-More", "1")
                self.end_headers()
                content = content[: len(content) - state.left_out_bytes]
                for start in range(0, len(content), 1 if state.drip_s else len(content)):
                    self.wfile.write(content[start : start + (1 if state.drip_s else len(content))])
                    self.wfile.flush()
                    time.sleep(state.drip_s)
            except OSError:
                return  # the client went away, as it should

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # The handshake belongs to the thread of the request.
        web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    web.handle_error = lambda *_: None  # a client that went away
    scheme, host = ("http", "127.0.0.1") if certificate is None else ("https", "localhost")
    state.address = f"{scheme}://{host}:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
