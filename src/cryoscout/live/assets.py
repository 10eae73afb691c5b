"""The pages and their parts, read from the package once; no path of a client is opened."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Name of each file of the page -> its content and media type."""
    found = {}
    for each in files("cryoscout.live").joinpath("page").iterdir():
        kind = next((kind for end, kind in KINDS.items() if each.name.endswith(end)), None)
        if kind is not None:
            found[each.name] = (each.read_bytes(), kind)
    return found


def asset_routes(pages: Mapping[str, str]) -> list[Route]:
    """Routes of every part, under page/, and of pages.     pages : file -> its path"""

    def serving(name: str, path: str) -> Route:
        content, kind = assets()[name]

        async def answer(request: Request) -> Response:
            return Response(content, media_type=kind)

        return Route(path, answer, include_in_schema=False)

    parts = [serving(name, f"/page/{name}") for name in assets() if not name.endswith(".html")]
    return [*parts, *(serving(name, path) for name, path in pages.items())]
