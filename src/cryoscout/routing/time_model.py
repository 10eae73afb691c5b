"""How many minutes a visit takes, from the four tiers every published model of the microscope shares."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.core.settings import Settings
from cryoscout.core.units import TIER_NAMES

ROUNDING_MIN = 1e-6
"""Slack of every comparison with a budget: sums of tiers miss their exact value by less (3 * 1.1 > 3.3 in floats)."""

SHORTEST_MIN, LONGEST_MIN = 0.001, 100_000.0
"""Of a visit or look that a user may say: far outside what microscopes do, and what planning can count in."""

Minutes = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class TimeModel(Settings):
    """Minutes from the start of one visit to the start of the next.

    The four tiers are the minutes of a visit whose predecessor was in the same patch / another patch of the
    same square / another square of the same grid / another grid. They must not decrease.
    Source of the presets: see PRESETS.
    """

    name: str
    same_patch_min: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    new_patch_min: Minutes
    new_square_min: Minutes
    new_grid_min: Minutes
    per_square_overhead_min: Minutes = 0.0
    """Added on every entry of a square (an image of the square, a z height, ...)."""
    extra_shot_min: Minutes = 0.0
    """Added for every shot of a hole beyond the first."""
    setup_min: Minutes = 0.0
    """Taken from the budget once, before the first visit."""
    pauses_per_min: Minutes = 0.0
    """Minutes of pauses (refills, alignment, focusing) that come with each minute of visits, as fitted. No visit has
    them: a plan sets them aside (`visits_min`), a replay, which compares equal minutes of visits, does not."""
    patch_look_min: Minutes | None = None
    """Minutes of a look at a patch (its image), with the move to it from another patch of its square. None: the look
    is free, and takes what the tiers say of the move alone."""
    square_look_min: Minutes | None = None
    """Minutes of a look at a square, with the move to it from another square of its grid. None: as for a patch."""

    @model_validator(mode="after")
    def _tiers_do_not_decrease(self) -> Self:
        tiers = (self.same_patch_min, self.new_patch_min, self.new_square_min, self.new_grid_min)
        if any(later < earlier for earlier, later in pairwise(tiers)):
            raise ValueError(f"tiers must not decrease from same patch to new grid. Got {tiers} instead.")
        return self

    def visits_min(self, budget_min: float) -> float:
        """What of a budget is left for visits when the pauses that come with them are set aside, minutes."""
        return budget_min / (1.0 + self.pauses_per_min)

    def tiers_min(self, shots: int = 1) -> NDArray[np.float64]:
        """Minutes of a visit by tier, overheads included: (4,) float64, [same patch, patch, square, grid]."""
        extra = self.extra_shot_min * (shots - 1)
        return np.array(
            [
                self.same_patch_min + extra,
                self.new_patch_min + extra,
                self.new_square_min + self.per_square_overhead_min + extra,
                self.new_grid_min + self.per_square_overhead_min + extra,
            ]
        )

    def patch_look_by_tier_min(self, shots: int = 1) -> NDArray[np.float64]:
        """Minutes of a look at a patch by how far it is, (4,) float64, [at it, patch, square, grid].

        A look moves the stage there: a visit of the patch right after it is one of the same patch. Its minutes hold
        the move within the square; what is farther costs what the tiers say beyond. A free look is the move alone.
        """
        tiers = self.tiers_min(shots)
        if self.patch_look_min is None:
            return np.asarray(tiers - tiers[0])
        return np.asarray(self.patch_look_min + np.maximum(tiers - tiers[1], 0.0))

    def square_look_by_tier_min(self, shots: int = 1) -> NDArray[np.float64]:
        """Minutes of a look at a square, (4,) float64, [-, over it, square, grid]; see `patch_look_by_tier_min`."""
        tiers = self.tiers_min(shots)
        if self.square_look_min is None:
            return np.asarray(np.maximum(tiers - tiers[1], 0.0))
        return np.asarray(self.square_look_min + np.maximum(tiers - tiers[2], 0.0))


def _preset(name: str, *tiers: float, looks: tuple[float, float] | None = None) -> TimeModel:
    return TimeModel(
        name=name,
        same_patch_min=tiers[0],
        new_patch_min=tiers[1],
        new_square_min=tiers[2],
        new_grid_min=tiers[3],
        patch_look_min=None if looks is None else looks[0],
        square_look_min=None if looks is None else looks[1],
    )


PRESETS: dict[str, TimeModel] = {
    "cryorl": _preset("cryorl", 2, 5, 10, 20),
    "cryorl-printed": _preset("cryorl-printed", 2, 3, 5, 10),
    "cryorl-code": _preset("cryorl-code", 1, 2, 6, 8),
    "y1-looks-as-sketched": _preset("y1-looks-as-sketched", 1.52, 3.08, 3.08, 3.22, looks=(1.4, 3.3)),
}
"""`cryorl`: what the CryoRL paper's Table 2 was measured with (the printed numbers as increments, and the first
public release of its code); `cryorl-printed`: section 4.2 of the paper as printed; `cryorl-code`: later release."""


def time_model_named(name: str) -> TimeModel:
    """The preset of that name, or the model of four numbers by commas, minutes of the four tiers, such as 0.5,1,2,8.

    With six, the last two are minutes of a look at a patch and at a square. Raises UnknownNameError with the nearest
    name; InputError for numbers that are not so many, outside SHORTEST_MIN to LONGEST_MIN, or decrease.
    """
    if "," in name or _is_number(name):
        return _own_tiers(name)
    try:
        return PRESETS[name]
    except KeyError:
        raise UnknownNameError("The time model", name, [*PRESETS, "fitted"]) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _own_tiers(text: str) -> TimeModel:
    parts = [part.strip() for part in text.split(",")]
    minutes = [float(part) for part in parts if _is_number(part)]
    tiers, looks = minutes[: len(TIER_NAMES)], minutes[len(TIER_NAMES) :]
    if (
        len(parts) not in (len(TIER_NAMES), len(TIER_NAMES) + 2)
        or len(minutes) != len(parts)
        or not all(np.isfinite(minutes))
        or tiers[0] < SHORTEST_MIN
        or max(minutes) > LONGEST_MIN
        or any(later < earlier for earlier, later in pairwise(tiers))
        or any(each < 0 for each in looks)
    ):
        raise InputError(
            f"A time model of your own must be four numbers above 0 that do not decrease: minutes of a visit in the "
            f"{', '.join(TIER_NAMES)}, {SHORTEST_MIN:g} to {LONGEST_MIN:,.0f}; and, where looks are charged, minutes "
            f"of a look at a patch and at a square, 0 or more. Got {text!r} instead. "
            "Remedy: for example --time-model 0.5,1,2,8, or 0.5,1,2,8,0.5,2."
        )
    name = "/".join(f"{value:g}" for value in minutes)
    return _preset(name, *tiers, looks=(looks[0], looks[1]) if looks else None)


def with_minutes_per_exposure(model: TimeModel, minutes: float) -> TimeModel:
    """The model where every exposure takes so many minutes; what a move adds to a visit stays.

    A visit in the same patch then takes shots * minutes. Raises InputError for minutes outside SHORTEST_MIN to
    LONGEST_MIN.
    """
    if not SHORTEST_MIN <= minutes <= LONGEST_MIN:
        raise InputError(
            f"The minutes of an exposure must be {SHORTEST_MIN:g} to {LONGEST_MIN:,.0f}. "
            f"Got {minutes!r} instead. "
            "Remedy: for example --minutes-per-exposure 0.6."
        )
    moves_min = (
        model.tiers_min()[1:]
        - model.same_patch_min
        - np.array([0.0, 1.0, 1.0]) * (model.per_square_overhead_min)
    )
    return model.model_copy(
        update={
            "name": f"{model.name}, {minutes:g} min an exposure",
            "same_patch_min": float(minutes),
            "new_patch_min": float(minutes + moves_min[0]),
            "new_square_min": float(minutes + moves_min[1]),
            "new_grid_min": float(minutes + moves_min[2]),
            "extra_shot_min": float(minutes),
        }
    )


def check_budget_min(budget_min: float) -> float:
    """Return the budget, or raise InputError when it is not a positive number of minutes."""
    if not (np.isfinite(budget_min) and budget_min > 0):
        raise InputError(
            f"The budget must be a positive number of minutes. Got {budget_min!r} instead. "
            "Remedy: give the microscope time that is left, for example --budget-min 480."
        )
    return float(budget_min)
