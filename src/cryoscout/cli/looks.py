"""The option --looks of plan, replay, report and serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cryoscout.core.errors import UnknownNameError

if TYPE_CHECKING:
    from cryoscout.advice.setting import Looks
    from cryoscout.session.model import Session

_KNOWN = ("charged", "free")


def looks_of(text: str) -> Looks:
    """The option's value. Raises UnknownNameError for another."""
    if text not in _KNOWN:
        raise UnknownNameError("--looks", text, _KNOWN)
    return cast("Looks", text)


def looks_or_default(text: str | None, session: Session) -> Looks:
    """The option's value; None: charged where the session has something that was not looked at yet."""
    from cryoscout.session.looks import has_unseen_places

    if text is None:
        return "charged" if has_unseen_places(session) else "free"
    return looks_of(text)
