"""One request to a SmartScope server and its whole answer: in time, to that server only, and nothing else on the way.

The deadline runs from the look-up of the name to the last byte; httpx limits each step only, so that a byte now and
then, in the headers too, could last for ever. No proxy, which would be one more computer that sees the token, no cookie
and nothing else of the environment has a part; a redirection is an answer like any other; certificates are checked.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryoscout.core.errors import CryoscoutError, InputError, ServiceError
from cryoscout.formats.ctf.records import shown

# httpx is imported where a server is asked: most imports are of files.
if TYPE_CHECKING:
    import httpx

NOT_SMARTSCOPE = (
    "Remedy: give the address under which SmartScope itself answers, with its path where it has one."
)


class NotThereError(ServiceError):
    """The server does not have this address (404)."""


class BadRequestError(ServiceError):
    """The server does not take this request (400), such as a filter by an id that it does not have."""


@dataclass(frozen=True)
class Request:
    """What is asked, and of whom."""

    method: str
    address: str
    origin: str
    """scheme://host:port that the token is for."""
    token: str = field(repr=False)
    content: bytes | None
    """A JSON body."""


def ask(request: Request, trusted: ssl.SSLContext, limit_s: float, count: Callable[[int], None]) -> bytes:
    """The body of the answer.

    trusted : whose certificates are good     limit_s : for all of it
    count : told the bytes of each piece as it comes; what it raises ends the answer
    Raises TimeoutError when it takes longer; ServiceError where the server is not reached, does not answer whole or
    refuses, NotThereError and BadRequestError among them; InputError for an address that is not of the origin.
    """
    import httpx
    from anyio.from_thread import start_blocking_portal

    try:
        # The loop has a thread of its own: the caller, such as a notebook, may be running one.
        with start_blocking_portal() as portal:
            return portal.call(_exchange, request, trusted, limit_s, count)
    except httpx.ConnectError as error:
        raise _unreachable(error, request.origin) from None
    except (CryoscoutError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001
        # httpx's own, and whatever else the bytes of a server, or an address of its, end in.
        raise _not_whole(type(error).__name__, request.origin) from None


async def _exchange(
    request: Request, trusted: ssl.SSLContext, limit_s: float, count: Callable[[int], None]
) -> bytes:
    import anyio
    import httpx

    # What is packed could unpack to far more than was allowed.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "cryoscout"}
    headers["Authorization"] = f"Token {request.token}"
    if request.content is not None:
        headers["Content-Type"] = "application/json"
    # Asked of the very object that is sent: another reader of addresses may take another part for the host.
    url, own = httpx.URL(request.address), httpx.URL(request.origin)
    if (url.scheme, url.raw_host, url.port, url.userinfo) != (own.scheme, own.raw_host, own.port, b""):
        raise InputError(f"A request must go to {request.origin}. Got {shown(request.address)} instead.")
    with anyio.fail_after(limit_s):
        async with (
            httpx.AsyncClient(
                verify=trusted,
                trust_env=False,
                follow_redirects=False,
                timeout=None,  # noqa: S113 : the deadline is around it
            ) as client,
            client.stream(request.method, url, content=request.content, headers=headers) as answer,
        ):
            if not answer.is_success:
                raise _refused(answer.status_code, request.address)
            return await _whole(answer, request.origin, count)


async def _whole(answer: httpx.Response, origin: str, count: Callable[[int], None]) -> bytes:
    import httpx

    content = bytearray()
    try:
        async for piece in answer.aiter_raw():
            count(len(piece))
            content += piece
    except httpx.RemoteProtocolError:
        # Less than the Content-Length, or chunks without their end.
        raise _not_whole(f"its end too early, after {len(content):,} bytes,", origin) from None
    return bytes(content)


def _not_whole(got: str, origin: str) -> ServiceError:
    return ServiceError(
        f"The SmartScope server must answer whole. Got {got} at {origin} instead. Remedy: try again."
    )


def _unreachable(error: BaseException, origin: str) -> ServiceError:
    # The first cause is what the system said; the others say where it was met.
    reason = error
    while not isinstance(reason, ssl.SSLCertVerificationError):
        cause = reason.__cause__ or reason.__context__
        if cause is None:
            break
        reason = cause
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ServiceError(
            f"The SmartScope server must have a certificate that this computer trusts. Got {reason.verify_message} "
            f"at {origin} instead. Remedy: name the file of your site's certificates in the variable SSL_CERT_FILE."
        )
    return ServiceError(
        f"The SmartScope server must be reachable. Got {reason} at {origin} instead. "
        "Remedy: check the address and the network."
    )


def _refused(code: int, address: str) -> ServiceError:
    if code == 404:
        return NotThereError(
            f"The SmartScope server must have {address}. Got 404 (not found) instead. {NOT_SMARTSCOPE}"
        )
    if code == 400:
        return BadRequestError(
            f"The SmartScope server must take the request. Got 400 (bad request) at {address} instead. "
            "Remedy: check the ids, and that the server's version is supported."
        )
    if code in (401, 403):
        return ServiceError(
            f"The SmartScope server must accept the token. Got {code} at {address} instead. Remedy: check the token "
            "and that its user may see the session."
        )
    if 300 <= code < 400:
        return ServiceError(
            f"The SmartScope server must answer at its address. Got a redirection ({code}) from {address} instead. "
            "The token was not sent on. Remedy: give the address that it leads to; where that is a page to log in, "
            "check the token."
        )
    return ServiceError(
        f"The SmartScope server must answer. Got status {code} at {address} instead. Remedy: try again later."
    )
