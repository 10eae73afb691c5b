"""What clients may send: strict models. A boolean is no number, nothing unknown is taken, there is no NaN."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cryoscout.core.units import LEAST_THRESHOLD_ANGSTROM, MOST_THRESHOLD_ANGSTROM

LARGEST_ANGSTROM = 1e6

Author = Annotated[
    str,
    Field(
        min_length=1,
        max_length=40,
        pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
        description="Who says it, 1 to 40 characters; a script names itself. A signature, not a proof.",
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\x00]*$")]
Revision = Annotated[int, Field(ge=0, le=2**53, description="The newest revision that the sender has seen.")]
# A time is text in JSON, so it alone is not strict. It is the microscope's: without a zone.
MicroscopeTime = Annotated[datetime, Field(strict=False)]


class Sent(BaseModel):
    """Base of every body."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    author: Author


class OutcomeSent(Sent):
    """The result of one exposure. Sending it again changes nothing."""

    exposure_id: Text | None = None
    hole_id: Text | None = None
    """Where the exposure is not known yet: it is then recorded as taken."""
    shot: Annotated[int, Field(ge=1, le=1000)] = 1
    started_at: MicroscopeTime | None = None
    ctf_max_res_angstrom: Annotated[float, Field(gt=0.0, le=LARGEST_ANGSTROM)] | None = None
    failed: bool = False
    """The fit failed: no resolution is to come."""


class OverrideSent(Sent):
    """What an operator says against the plan."""

    revision: Revision
    kind: Literal["pin", "ban", "skip", "order", "pause", "resume", "budget", "threshold", "target", "undo"]
    hole_id: Text | None = None
    square_id: Text | None = None
    hole_ids: Annotated[list[Text], Field(max_length=1000)] | None = None
    square_ids: Annotated[list[Text], Field(max_length=1000)] | None = None
    budget_min: Annotated[float, Field(ge=0.0, le=1e6)] | None = None
    end_at: MicroscopeTime | None = None
    threshold_angstrom: (
        Annotated[float, Field(ge=LEAST_THRESHOLD_ANGSTROM, le=MOST_THRESHOLD_ANGSTROM)] | None
    ) = None
    good: Annotated[int, Field(ge=1, le=10**9)] | None = None
    by: MicroscopeTime | None = None
    of: Literal["pin", "ban", "skip", "order", "budget", "threshold", "target"] | None = None
    note: Annotated[str, Field(max_length=2000)] | None = None

    def payload(self) -> dict[str, Any]:
        """The payload of the event: what was said, without what was not."""
        return self.model_dump(mode="json", exclude={"revision"}, exclude_none=True)


class UndoSent(Sent):
    """Take one of the last 20 actions back, by its event."""

    revision: Revision
    event: Annotated[int, Field(ge=1, le=2**53)]


class NoteSent(Sent):
    """Something for people: a remark, or what the microscope did meanwhile."""

    text: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
    kind: Literal["note", "nitrogen", "zero-loss", "focus", "look", "other pause"] = "note"
    minutes: Annotated[float, Field(ge=0.0, le=1e5)] | None = None
    hole_id: Text | None = None
    square_id: Text | None = None
    key: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z-]+$")] | None = None
    """The sender's own: a note with a key that was recorded is not recorded again."""


class WhatIfSent(Sent):
    """Overrides to try; nothing is changed."""

    overrides: Annotated[list[OverrideSent], Field(max_length=50)]


class ModeSent(Sent):
    """How the advice reaches the microscope: watch, suggest (files), send (armed, with an end)."""

    mode: Literal["watch", "suggest", "send"]
    minutes: Annotated[float, Field(gt=0.0, le=1440.0)] | None = None
    """Of mode send: how long it is armed."""
