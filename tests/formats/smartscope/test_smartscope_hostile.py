"""A server that means harm holds nobody, fills no memory, and makes no error but our own: raw bytes over a socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import CryoscoutError, FileFormatError, ServiceError
from cryoscout.formats.smartscope import rest
from cryoscout.formats.smartscope.rest import SmartScopeClient
from cryoscout.formats.smartscope.selecting import select_holes
from cryoscout.formats.smartscope.server_session import list_sessions, read_session
from examples import share
from smartscope_server import TOKEN

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Address of a server that reads a request and lets `answer` say what it likes."""
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                threading.Thread(target=respond, args=(client,), daemon=True).start()

        def respond(client: socket.socket) -> None:
            with client:
                try:
                    client.recv(65536)
                    answer(client)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        # Wakes accept where closing alone does not.
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for client in clients:
        client.close()  # one that says nothing would never notice, and sleep on through the tests after this


def endless(start: bytes, piece: bytes, pause_s: float = 0.02) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        client.sendall(start)
        while True:
            client.sendall(piece)
            time.sleep(pause_s)

    return answer


HOLDING = {
    "a header, byte by byte": endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "a status line, byte by byte": endless(b"HTTP/1.1 200 ", b"a"),
    "100 Continue for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue for ever, as fast as it can": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0),
    "the size of a chunk, byte by byte": endless(CHUNKED, b"0"),
    "an extension of a chunk, byte by byte": endless(CHUNKED + b"1;", b"a"),
    "trailers for ever": endless(CHUNKED + b"0\r\n", b"X-A: 1\r\n"),
    "a body, byte by byte": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"1"),
    "nothing": endless(b"", b""),
}


@pytest.mark.parametrize("what", HOLDING)
def test_a_server_cannot_hold_the_client(what):
    with serving(HOLDING[what]) as address:
        client = SmartScopeClient(address, TOKEN, timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(ServiceError):
            list_sessions(client)
        # Generous, for busy machines: without a deadline around it this never ends.
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        CHUNKED + b"400\r\n",
        CHUNKED + b"e\r\n",
    ],
)
def test_a_body_that_ends_before_its_length_is_cut_and_not_whole(start):
    with serving(lambda client: client.sendall(start + b'{"results":[]}')) as address:
        client = SmartScopeClient(address, TOKEN, timeout_s=20)
        with pytest.raises(ServiceError, match=r"must answer whole\. Got "):
            list_sessions(client)


def page(results: object, following: object = None) -> bytes:
    return json.dumps({"results": results, "next": following}).encode()


def with_answers(monkeypatch: pytest.MonkeyPatch, body: Callable[[str], bytes]) -> SmartScopeClient:
    """A client whose answers come from a function of the address; they are counted as those of a server."""

    def ask(request, _trusted, _limit_s, count):
        content = body(request.address)
        count(len(content))
        return content

    monkeypatch.setattr(rest, "ask", ask)
    return SmartScopeClient("http://localhost:1", TOKEN)


def test_pages_of_new_records_for_ever_end_at_a_number_and_at_a_size(monkeypatch):
    pages = iter(range(10**9))

    def body(_: str) -> bytes:
        number = next(pages)
        return page(
            [{"session_id": f"s{number}-{n}"} for n in range(100)], f"http://localhost:1/api/?page={number}"
        )

    monkeypatch.setattr(rest, "MOST_RECORDS", 5000)
    with pytest.raises(FileFormatError, match=r"at most 5,000 records"):
        list_sessions(with_answers(monkeypatch, body))
    monkeypatch.setattr(rest, "MOST_RECORDS", 10**9)
    monkeypatch.setattr(rest, "LARGEST_IMPORT_BYTES", 300_000)
    with pytest.raises(FileFormatError, match=r"all answers must be at most 300,000 bytes"):
        list_sessions(with_answers(monkeypatch, body))


@pytest.mark.parametrize(
    "following", ["/ä", "\u202e", "/\N{MICROSCOPE}", "/%zz", "?" + "a" * 70_000, "/a b", "//x", ":1/"]
)
def test_a_next_page_at_an_odd_address_is_asked_for_or_refused(following):
    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + page([], address + following))

    with serving(answer) as address, pytest.raises(CryoscoutError):
        list_sessions(SmartScopeClient(address, TOKEN, timeout_s=20))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["run7", "G1", "S1", "H1", "M1", "1e999", "2024-01-01T00:00:00Z", "\x1b[31m", "=1+1", "\ud800"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
KEYS = (
    *(
        "session_id",
        "grid_id",
        "square_id",
        "hole_id",
        "hm_id",
        "name",
        "number",
        "status",
        "selected",
        "bis_group",
    ),
    *(
        "bis_type",
        "finders",
        "targets",
        "completion_time",
        "ctffit",
        "defocus",
        "is_x",
        "is_y",
        "date",
        "classifiers",
    ),
)
GOOD = {
    "session_id": "run7",
    "grid_id": "G1",
    "square_id": "S1",
    "hole_id": "H1",
    "hm_id": "M1",
    "name": "a",
    "number": 1,
}


@settings(max_examples=share(100, otherwise=200))
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
    other=VALUES,
    following=st.none() | VALUES,
    permissive=st.booleans(),
)
def test_records_of_any_shape_are_read_or_refused(changes, other, following, permissive):
    with pytest.MonkeyPatch.context() as monkeypatch:
        client = with_answers(
            monkeypatch,
            lambda address: page(
                [{**GOOD, **changes}, other] if other is not None else [{**GOOD, **changes}], following
            ),
        )
        for step in (
            lambda: read_session(client, "run7", permissive),
            lambda: select_holes(client, ["G1"], ["H1"]),
            lambda: list_sessions(client),
        ):
            try:
                step()
            except CryoscoutError:
                continue


@settings(max_examples=share(40))
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.binary(max_size=12)), max_size=4),
    chunked=st.booleans(),
)
def test_damaged_answers_are_read_or_refused(changes, chunked):
    content = page([GOOD])
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
    whole = (
        CHUNKED + body
        if chunked
        else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
    )
    for place, length, put in changes:
        at = int(place * len(whole))
        whole = whole[:at] + put + whole[at + length :]
    with serving(lambda client: client.sendall(whole)) as address:
        try:
            list_sessions(SmartScopeClient(address, TOKEN, timeout_s=1.0))
        except CryoscoutError:
            return
