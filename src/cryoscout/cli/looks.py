"""The option --looks of plan, replay, report and serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cryoscout.core.errors import UnknownNameError

if TYPE_CHECKING:
    from cryoscout.advice.setting import Looks

_KNOWN = ("charged", "free")


def looks_of(text: str) -> Looks:
    """The option's value. Raises UnknownNameError for another."""
    if text not in _KNOWN:
        raise UnknownNameError("--looks", text, _KNOWN)
    return cast("Looks", text)
