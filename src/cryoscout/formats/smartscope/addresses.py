"""Addresses of SmartScope servers: which may be asked, and how one is shown without what is secret in it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from cryoscout.core.errors import InputError
from cryoscout.formats.ctf.records import shown

TOKEN_VARIABLE = "CRYOSCOUT_SMARTSCOPE_TOKEN"  # noqa: S105
"""Of the environment; where no file with a token is given."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"(?<=://).*@|[?#].*", re.DOTALL)


class NotEncryptedError(InputError):
    """The address would carry the token unencrypted to another computer."""


def is_address(text: str) -> bool:
    """Whether what a user names is an address of a server, and not a path; it need not be a good one."""
    return _ADDRESS.match(text) is not None


def checked_origin(address: str, allow_http: bool) -> str:
    """scheme://host:port of a server's address. Raises InputError, NotEncryptedError among them."""
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


def is_of_origin(address: str, origin: str) -> bool:
    """Whether an address is on a server."""
    try:
        return _origin(_split(address)) == origin
    except InputError:
        return False
