"""What the operator of a server asks for, checked once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from cryoscout.advice.running import CalmSettings
from cryoscout.core.settings import Settings
from cryoscout.core.units import LEAST_THRESHOLD_ANGSTROM, MOST_THRESHOLD_ANGSTROM

HORIZON_MIN = 480.0
"""Minutes that are planned ahead where nobody said when the session ends."""


class LiveSettings(Settings):
    """How one session is advised."""

    policy: str | None = None
    """A policy, policy@prediction, or a trained policy's file; None: `explore` while something was not looked at yet
    and looks are charged, else `adaptive`."""
    looks: Literal["free", "charged"] = "charged"
    """`free`: nothing is looked at, only what is seen is planned."""
    prediction: str | None = None
    threshold_angstrom: (
        Annotated[float, Field(ge=LEAST_THRESHOLD_ANGSTROM, le=MOST_THRESHOLD_ANGSTROM)] | None
    ) = None
    """None: the session's; an override of the operator goes before it."""
    time_model: str | None = None
    minutes_per_exposure: float | None = None
    loaded: str | None = None
    """Id of the grid that is in the microscope until an exposure says it; None: as for a plan."""
    budget_min: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Minutes from the first start of the server; None: HORIZON_MIN ahead, always."""
    until: datetime | None = None
    """The microscope's time of the end, naive; goes before budget_min."""
    calm: CalmSettings = CalmSettings()
    clock_scale: Annotated[float, Field(ge=0.0)] = 1.0
    """Microscope seconds in one of ours: 1, or the speed of a replay; 0 for a replay without waiting."""
    also_unchosen: bool = False
    seed: int = 0
