"""Two tokens, operator and viewer, in a file that only its owner may read, and the sessions of browsers."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryoscout.core.errors import InputError
from cryoscout.core.new_files import whole_file

Role = Literal["operator", "viewer"]
MOST_BROWSERS = 200
LASTS_S = 7 * 24 * 3600.0
TOKENS_FILE = "serve-tokens.json"


@dataclass(frozen=True)
class Tokens:
    """Whoever has one may do what it is for."""

    operator: str = field(repr=False)
    viewer: str = field(repr=False)

    def role_of(self, token: str) -> Role | None:
        """What a token is for; compared in constant time, None for any other."""
        given = token.encode("utf-8", "surrogatepass")
        is_operator = hmac.compare_digest(given, self.operator.encode())
        is_viewer = hmac.compare_digest(given, self.viewer.encode())
        return "operator" if is_operator else "viewer" if is_viewer else None


def tokens_of(path: Path) -> Tokens:
    """The tokens of a file, which is made where it is not there. Raises InputError where others may read it."""
    if not path.exists():
        made = {"operator": secrets.token_urlsafe(24), "viewer": secrets.token_urlsafe(24)}
        with whole_file(path) as unfinished:
            unfinished.chmod(0o600)
            unfinished.write_text(json.dumps(made) + "\n", encoding="utf-8")
    mode = path.stat().st_mode
    if os.name != "nt" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"The file of the tokens must be readable by its owner alone. Got mode {stat.S_IMODE(mode):o} of {path} "
            f"instead. Remedy: chmod 600 {path}, or remove it: new tokens are made."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        operator, viewer = str(content["operator"]), str(content["viewer"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"The file of the tokens must be JSON with operator and viewer. Got something else in {path} instead. "
            "Remedy: remove it; new tokens are made."
        ) from None
    if min(len(operator), len(viewer)) < 16 or operator == viewer:
        raise InputError(
            f"Tokens must be two, of 16 characters or more. Got others in {path} instead. Remedy: remove the file; "
            "new tokens are made."
        )
    return Tokens(operator, viewer)


class Browsers:
    """Opaque ids of browsers that came with a token; kept as digests, oldest forgotten first."""

    def __init__(self) -> None:
        self._roles: OrderedDict[bytes, tuple[Role, float]] = OrderedDict()

    def admit(self, role: Role) -> str:
        """A new id for a browser."""
        opaque = secrets.token_urlsafe(32)
        self._roles[_digest(opaque)] = (role, time.monotonic() + LASTS_S)
        while len(self._roles) > MOST_BROWSERS:
            self._roles.popitem(last=False)
        return opaque

    def role_of(self, opaque: str) -> Role | None:
        """What a browser may do; None for an id that was not given out, or has ended."""
        found = self._roles.get(_digest(opaque))
        return found[0] if found is not None and found[1] > time.monotonic() else None


def _digest(opaque: str) -> bytes:
    return hashlib.sha256(opaque.encode("utf-8", "surrogatepass")).digest()
