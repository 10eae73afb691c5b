"""What a simulated session of tables looks like: every number with unit, range and effect."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cryoscout.core.settings import Settings
from cryoscout.routing.time_model import PRESETS, Minutes, TimeModel

Count = Annotated[int, Field(ge=1)]
Mean = Annotated[float, Field(ge=1.0, allow_inf_nan=False)]
Spread = Annotated[float, Field(ge=0.0, le=3.0, allow_inf_nan=False)]
EffectSd = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
Length = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class VisitSettings(Settings):
    """How the simulated microscope visits holes."""

    shots: Count = 1
    """Exposures per hole."""
    time_model: TimeModel = PRESETS["cryorl"]
    time_jitter_sd: Annotated[float, Field(ge=0.0, le=2.0)] = 0.05
    """Standard deviation of the natural logarithm of a step's time; the median step is the time model's."""
    pause_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Share of visits before which the microscope pauses (refill, night)."""
    pause_mean_min: Minutes = 60.0
    """Mean of the exponential length of a pause."""


class SimulationSettings(VisitSettings):
    """One kind of simulated session. The defaults are close to the Y1 session."""

    holes: Count = 3538
    """Number of holes; exact."""
    holes_per_patch: Mean = 20.45
    """Mean; the number of patches is holes over this, rounded."""
    patches_per_square: Mean = 6.92
    squares_per_grid: Mean = 1.5625
    holes_per_patch_spread: Spread = 0.16
    """Standard deviation over mean of the holes of a patch; 0 shares them out evenly."""
    patches_per_square_spread: Spread = 0.38
    squares_per_grid_spread: Spread = 0.4

    hole_pitch_um: Length = 2.0
    """Between neighbouring holes of a patch."""
    square_pitch_um: Length = 85.0
    """Between neighbouring squares (85 um: 300 mesh); widened where patches need more room."""

    share_good: Share = 0.379
    """Expected share of good exposures."""
    hole_effect_sd: EffectSd = 0.3
    """Standard deviations of additive effects on the logit of being good, independent per hole, patch, ..."""
    patch_effect_sd: EffectSd = 1.22
    square_effect_sd: EffectSd = 0.65
    grid_effect_sd: EffectSd = 1.3
    field_sd: EffectSd = 0.7
    """Of the smooth field over the stage coordinates of a grid: neighbouring holes and patches resemble."""
    field_length_um: Length = 30.0
    """Distance over which the field's correlation falls to exp(-1/2)."""

    classifier_accuracy: Annotated[float, Field(ge=0.5, le=0.999)] = 0.885
    """Share of holes whose score is on the right side of 0.5, equal among good and bad ones."""
    classifier_overconfidence: Annotated[float, Field(gt=0.0, le=100.0)] = 1.8
    """Factor on the logit of the score; 1 is calibrated where half of the holes are good, above too sure."""

    atlas_brightness_correlation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How far the brightness of a square on the atlas follows its ice: correlation with the square's mean true logit,
    where the square is no exception. 0: the atlas shows nothing of the ice."""
    atlas_exceptions_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of squares whose brightness says nothing of their ice (a fold, a tear, contamination above the film)."""
    atlas_brightness_sd: Annotated[float, Field(ge=0.0, le=1.0)] = 0.15
    """Standard deviation of the brightness among the squares of a grid, relative to its mean."""
    atlas_area_noise_sd: Annotated[float, Field(ge=0.0, le=2.0)] = 0.2
    """Standard deviation of the natural logarithm of a square's area beside that of its number of patches."""

    failed_fit_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0147
    """Share of exposures without a CTF fit; never good, so it must fit into 1 - share_good."""

    @model_validator(mode="after")
    def _failed_fits_are_bad(self) -> Self:
        if self.failed_fit_share > 1 - self.share_good:
            raise ValueError(
                f"failed_fit_share must be at most 1 - share_good = {1 - self.share_good:.3f}. "
                f"Got {self.failed_fit_share} instead."
            )
        return self

    @property
    def patches(self) -> int:
        """Number of patches."""
        return max(1, round(self.holes / self.holes_per_patch))

    @property
    def squares(self) -> int:
        """Number of squares."""
        return max(1, round(self.patches / self.patches_per_square))

    @property
    def grids(self) -> int:
        """Number of grids."""
        return max(1, round(self.squares / self.squares_per_grid))
