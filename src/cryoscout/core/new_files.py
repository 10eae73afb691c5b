"""New files: never over one that is there unasked, and numbers that JSON has words for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoscout.core.errors import InputError


def finite(value: Any) -> Any:
    """The value with every float that is not finite replaced by None, in mappings and sequences too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(part) for part in value]
    return value


def check_new_file(path: Path, force: bool) -> None:
    """Refuse an output that exists, unless forced, and one whose folder does not exist.

    Raises InputError. Called before the work starts, so that nothing is computed in vain.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"The output's folder must exist. Got {path.parent} instead. Remedy: make it, or give another "
            "-o FILE."
        )
    if path.is_dir():
        raise InputError(
            f"The output must be a file. Got the folder {path} instead. Remedy: give another -o FILE."
        )
    if path.exists() and not force:
        raise InputError(
            f"The output must be a new file. Got {path}, which exists, instead. Remedy: add --force to "
            "overwrite it."
        )
