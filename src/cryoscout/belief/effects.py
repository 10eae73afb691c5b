"""Patch, square and grid effects on the logit scale."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cryoscout.core.settings import Settings

Variance = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class EffectVariances(Settings):
    """Prior variances (logit squared) of the additive effects shared by the holes of a patch, square, grid."""

    patch: Variance
    square: Variance
    grid: Variance


Y1_EFFECTS = EffectVariances(patch=0.5, square=0.2, grid=0.1)
"""As fitted on the training split of the Y1 session."""
