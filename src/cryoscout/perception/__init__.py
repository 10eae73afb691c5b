"""Perception: hole images in, probabilities out. Names that need torch are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cryoscout.core.errors import InputError

if TYPE_CHECKING:
    from cryoscout.perception.classifier import Classifier
    from cryoscout.perception.fitting import fit, fit_ctf

__all__ = ["Classifier", "fit", "fit_ctf"]

_HOMES = {
    "Classifier": "cryoscout.perception.classifier",
    "fit": "cryoscout.perception.fitting",
    "fit_ctf": "cryoscout.perception.fitting",
}


def __getattr__(name: str) -> object:
    """The public names, imported when first asked for. Raises InputError with the remedy where torch is missing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            'Training on images must have torch. Got none installed instead. Remedy: pip install "cryoscout[learn]".'
        ) from None
    return getattr(module, name)
