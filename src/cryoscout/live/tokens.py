"""Two tokens, operator and viewer, in a file that only its owner may read, and the sessions of browsers."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryoscout.core.errors import InputError
from cryoscout.core.new_files import whole_file

Role = Literal["operator", "viewer"]
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
    """Ids of browsers that came with a token: random, with their role and end, signed.

    Nothing is kept, so that a page outlives a restart of the server; the key comes from the operator's token, so that
    new tokens end every id, and who has the viewer's alone can sign none.
    """

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(b"cryoscout browsers\0" + tokens.operator.encode()).digest()
        self._clock = clock

    def admit(self, role: Role) -> str:
        """A new id for a browser."""
        said = f"{secrets.token_urlsafe(24)}.{role}.{int(self._clock() + LASTS_S)}"
        return f"{said}.{self._signature(said)}"

    def role_of(self, opaque: str) -> Role | None:
        """What a browser may do; None for an id that was not given out, or has ended."""
        said, _, signature = opaque.rpartition(".")
        given = signature.encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self._signature(said).encode()):
            return None
        _, role, ends = said.split(".")
        if self._clock() > int(ends):
            return None
        return "operator" if role == "operator" else "viewer"

    def _signature(self, said: str) -> str:
        return hmac.new(self._key, said.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
