"""The named augmentations: which changes leave the class of an image alone differs from problem to problem.

Needs no torch; what each change does stands in `augment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from cryoscout.core.errors import InputError, UnknownNameError

Change = Literal[
    "turns", "rotation", "scale", "shear", "blur", "contrast", "brightness", "noise", "cut-out"
]  # fmt: skip
"""`turns`: flips and quarter turns, in weak changes too; the others are in strong ones only. Shifts are in all."""

EVERY_CHANGE: frozenset[Change] = frozenset(get_args(Change))
LEFT_OUT_ALONE: tuple[Change, ...] = ("contrast", "scale", "shear", "brightness")

AUGMENTATIONS: Mapping[str, frozenset[Change]] = {
    # Ice and defocus change a hole's look, and a hole has no upright.
    "hole": EVERY_CHANGE,
    # What EPU calls a square is how large and how bright it is.
    "square": EVERY_CHANGE - frozenset(LEFT_OUT_ALONE),
    # For images with an upright, such as digits: a 6 is not a 9.
    "plain": EVERY_CHANGE - {"turns", "rotation"},
    **{f"hole-without-{change}": EVERY_CHANGE - {change} for change in LEFT_OUT_ALONE},
}
"""Name -> the changes it has. `hole-without-...` are there to ask what one change is worth."""

OWN = "own:"
"""Before the name of a function that a caller gave."""


def check_augmentation(name: str) -> str:
    """The name, if it is one of AUGMENTATIONS or that of an own one. Raises UnknownNameError with the nearest."""
    if name not in AUGMENTATIONS and not name.startswith(OWN):
        raise UnknownNameError("The augmentation", name, AUGMENTATIONS)
    return name


def name_of_own(function: Any) -> str:
    """What a caller's function is called in settings and checkpoints: `own:MODULE.FUNCTION`.

    A checkpoint knows an own augmentation by this name alone: change the name when the function changes.
    Raises InputError for a function without a name of its own, as a lambda or a partial.
    """
    name = getattr(function, "__qualname__", "")
    if not name or "<lambda>" in name:
        raise InputError(
            f"An own augmentation must have a name, by which its checkpoint knows it. Got {function!r} instead. "
            "Remedy: a function made with def."
        )
    return f"{OWN}{function.__module__}.{name}"
