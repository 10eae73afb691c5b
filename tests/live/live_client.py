"""A client of an ASGI application without a network: requests by httpx, sockets by the protocol itself."""

from __future__ import annotations

import asyncio
import json

import httpx

HOST = "127.0.0.1:8321"


class Client:
    """Sends as a script does; headers of a browser can be given."""

    def __init__(self, app, token, host=HOST):
        self.app, self.token, self.host = app, token, host

    def ask(self, method, path, *, headers=None, token=True, follow=False, **more):
        async def exchange():
            transport = httpx.ASGITransport(self.app)
            given = {"Host": self.host, **(headers or {})}
            if token:
                given["Authorization"] = f"Bearer {self.token}"
            async with httpx.AsyncClient(
                transport=transport, base_url=f"http://{HOST}", follow_redirects=follow, trust_env=False
            ) as client:
                return await client.request(method, path, headers=given, **more)

        return asyncio.run(exchange())

    def get(self, what, **more):
        answer = self.ask("GET", f"/api/v1/{what}", **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, what, body, expect=200, **more):
        answer = self.ask("POST", f"/api/v1/{what}", json=body, **more)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def listen(self, drive, *, headers=(), path="/api/v1/socket", query=b"", token=True):
        """Open a socket, let `drive(messages, said)` run in a thread of the loop, and return what it returns.

        drive : a coroutine function given an async function that gives the next message as JSON
        Returns ("closed", code) where the socket is refused.
        """

        async def run():
            inbox, outbox = asyncio.Queue(), asyncio.Queue()
            given = [(b"host", self.host.encode()), *headers]
            if token:
                given.append((b"authorization", f"Bearer {self.token}".encode()))
            scope = {
                "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws",
                "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "",
                "headers": given, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8321), "subprotocols": [],
            }  # fmt: skip
            await inbox.put({"type": "websocket.connect"})
            self_loop = asyncio.get_running_loop()
            hub = _hub_of(self.app)
            if hub is not None:
                hub.bind(self_loop)
            serving = asyncio.create_task(self.app(scope, inbox.get, outbox.put))
            first = await asyncio.wait_for(outbox.get(), 10)
            if first["type"] == "websocket.close":
                await serving
                return "closed", first["code"]

            async def message():
                got = await asyncio.wait_for(outbox.get(), 20)
                return json.loads(got["text"]) if got["type"] == "websocket.send" else got

            try:
                return await drive(message)
            finally:
                await inbox.put({"type": "websocket.disconnect", "code": 1000})
                await asyncio.wait_for(serving, 10)

        return asyncio.run(run())


def _hub_of(guard):
    for route in guard.app.routes:
        if getattr(route, "path", "") == "/api/v1/socket":
            for cell in route.endpoint.__closure__ or ():
                hub = getattr(cell.cell_contents, "hub", None)
                if hub is not None:
                    return hub
    return None
