"""A trained policy on disk: weights as safetensors, settings as JSON in the same file. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cryoscout.core.array_file import Arrays, read_arrays, write_arrays
from cryoscout.core.errors import InputError
from cryoscout.learning.settings import LearnSettings

POLICY_FILE = "policy.safetensors"
"""The trained policy in the folder of a training."""


@dataclass(frozen=True)
class PolicyFile:
    """What one file of a trained policy holds."""

    settings: LearnSettings
    weights: dict[str, NDArray[np.generic]]
    notes: dict[str, Any]
    """What it was trained on and how it did: for people, but for `prediction`, the one it was trained with, and what
    `seen_holes` reads."""


def write_policy(path: Path, settings: LearnSettings, weights: Arrays, notes: Mapping[str, Any]) -> None:
    """Write a trained policy."""
    write_arrays(
        weights, {"kind": "policy", "settings": settings.model_dump(mode="json"), "notes": dict(notes)}, path
    )


def read_policy(path: Path) -> PolicyFile:
    """Read a trained policy. Raises InputError with the remedy when it cannot be used."""
    weights, header = read_arrays(path, "policy", f"name the {POLICY_FILE} beside it")
    try:
        settings = LearnSettings.model_validate(header.get("settings"))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path} must have settings this version knows. Got {'.'.join(map(str, first['loc']))}: "
            f"{first['msg']} instead. Remedy: use cryoscout {header.get('cryoscout')}, or train again."
        ) from None
    notes = header.get("notes")
    return PolicyFile(settings, weights, notes if isinstance(notes, dict) else {})
