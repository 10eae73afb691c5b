"""The sockets: every client gets each advice and a beat each second; one that falls behind is told to fetch anew."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from cryoscout.live.running import Moment

HEARTBEAT_S = 1.0
QUEUE = 8
"""Messages that wait for a slow client before it is told to fetch anew."""
MOST_CLIENTS = 100
SLOW_S = 10.0
"""A client that takes one message so slowly is let go."""
Json = dict[str, Any]


@dataclass(eq=False)
class Client:
    """One socket."""

    session: str
    queue: asyncio.Queue[Json] = field(default_factory=lambda: asyncio.Queue(QUEUE))

    def put(self, message: Json, anew: Json) -> None:
        """Queue a message; where there is no room, all that waits is replaced by the word to fetch anew."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(anew)


class Hub:
    """All sockets of a server."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop in which the sockets live."""
        self._loop = loop

    def publish(self, moment: Moment, session: str) -> None:
        """Send an advice to the clients of a session; from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed() or not self._clients:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._spread, advice_message(moment), session)

    def _spread(self, message: Json, session: str) -> None:
        anew = {"type": "fetch anew", "run_id": message["run_id"], "revision": message["revision"]}
        for client in self._clients:
            if client.session == session:
                client.put(message, anew)

    async def serve(self, socket: WebSocket, session: str, newest: Callable[[], Moment]) -> None:
        """Serve one client until it goes."""
        if len(self._clients) >= MOST_CLIENTS:
            await socket.close(1013, "too many clients")
            return
        await socket.accept()
        client = Client(session)
        self._clients.add(client)
        reader = asyncio.create_task(_until_gone(socket))
        try:
            await asyncio.wait_for(socket.send_json(advice_message(newest())), SLOW_S)
            while not reader.done():
                beat = asyncio.create_task(client.queue.get())
                done, _ = await asyncio.wait(
                    {beat, reader}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
                )
                if beat in done:
                    await asyncio.wait_for(socket.send_json(beat.result()), SLOW_S)
                    continue
                beat.cancel()
                if reader not in done:
                    now = newest()
                    message = {
                        "type": "beat",
                        "run_id": now.run_id,
                        "revision": now.revision,
                        "at": time.time(),
                    }
                    await asyncio.wait_for(socket.send_json(message), SLOW_S)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # it went away, or takes nothing: it comes back and fetches anew
        finally:
            self._clients.discard(client)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()


def advice_message(moment: Moment) -> Json:
    """What a client gets of an advice."""
    return {
        "type": "advice",
        "run_id": moment.run_id,
        "revision": moment.revision,
        "at": time.time(),  # a browser knows from the first message whether its clock is wrong
        "advice": moment.content,
    }


async def _until_gone(socket: WebSocket) -> None:
    """Read until the client goes; what it says has no effect."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
