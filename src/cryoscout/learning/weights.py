"""A trained policy on disk: weights as safetensors, settings as JSON in the same file. Needs no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cryoscout import __version__
from cryoscout.core.errors import InputError
from cryoscout.learning.settings import LearnSettings

FORMAT_VERSION = 1
POLICY_FILE = "policy.safetensors"
"""The trained policy in the folder of a training."""

_KEY = "cryoscout"
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class PolicyFile:
    """What one file of a trained policy holds."""

    settings: LearnSettings
    weights: dict[str, NDArray[np.generic]]
    notes: dict[str, Any]
    """What it was trained on and how it did: for people, but for `prediction`, the one it was trained with."""


def write_safely(arrays: Arrays, header: Mapping[str, Any], path: Path) -> None:
    """Write arrays and a JSON header as one safetensors file, complete or not at all."""
    from safetensors.numpy import save

    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = save(
        whole,
        metadata={
            _KEY: json.dumps({"format": FORMAT_VERSION, "cryoscout": __version__, **header}, sort_keys=True)
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_safely(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
    """Arrays and JSON header of a file. Raises InputError when it is not one of ours or from a newer version."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(
            f"A trained policy must be a .safetensors file. Got {str(path)!r} instead: no such file."
        )
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()} if _KEY in metadata else {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path} must be a whole safetensors file. Got {error} instead. Remedy: copy or train it again."
        ) from None
    try:
        header = json.loads(metadata[_KEY])
        version = int(header["format"])
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"{path} must be a file written by cryoscout. Got a safetensors file without its settings instead. "
            "Remedy: train with `cryoscout learn`."
        ) from None
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} must be of format {FORMAT_VERSION} or older. Got {version}, written by cryoscout "
            f"{header.get('cryoscout')} instead. Remedy: use that version or a newer one."
        )
    return arrays, header


def write_policy(path: Path, settings: LearnSettings, weights: Arrays, notes: Mapping[str, Any]) -> None:
    """Write a trained policy."""
    write_safely(
        weights, {"kind": "policy", "settings": settings.model_dump(mode="json"), "notes": dict(notes)}, path
    )


def read_policy(path: Path) -> PolicyFile:
    """Read a trained policy. Raises InputError with the remedy when it cannot be used."""
    weights, header = read_safely(path)
    if header.get("kind") != "policy":
        raise InputError(
            f"{path} must be a trained policy. Got a {header.get('kind', 'file of another kind')} instead. "
            "Remedy: name the policy.safetensors beside it."
        )
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
