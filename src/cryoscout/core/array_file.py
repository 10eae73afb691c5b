"""Arrays and a JSON header in one safetensors file, written whole or not at all. Needs no torch, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscout import __version__
from cryoscout.core.errors import InputError
from cryoscout.core.new_files import write_whole

FORMAT_VERSION = 1
_KEY = "cryoscout"
Arrays = Mapping[str, NDArray[np.generic]]


def write_arrays(arrays: Arrays, header: Mapping[str, Any], path: Path) -> None:
    """Write arrays and a header with a `kind`; the file that stood there stays until the new one is complete."""
    from safetensors.numpy import save

    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT_VERSION, "cryoscout": __version__, **header}, sort_keys=True)
    content = save(whole, metadata={_KEY: text})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def read_arrays(
    path: Path, kind: str, remedy: str = "name the right file"
) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
    """Arrays and header of a file of one kind.

    remedy : what to do about a file of another kind
    Raises InputError when it is missing, damaged, not written by `write_arrays`, of another kind or from a newer
    version.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise InputError(f"A {kind} must be a .safetensors file. Got {str(path)!r} instead: no such file.")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            # Other people's arrays are not read: they may be of types numpy does not know.
            arrays = {name: file.get_tensor(name) for name in file.keys()} if _KEY in metadata else {}  # noqa: SIM118
    except Exception as error:  # noqa: BLE001
        # SafetensorError, but for arrays of a type or size that numpy has not: whatever it then raises means the file.
        what = str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(
            f"{path} must be a whole safetensors file. Got {what} instead. Remedy: copy or train it again."
        ) from None
    header = _header(metadata.get(_KEY, ""))
    if header is None:
        raise InputError(
            f"{path} must be a file written by cryoscout. Got a safetensors file without its settings instead. "
            "Remedy: train it again."
        )
    version, found = header["format"], header["kind"]
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} must be of format {FORMAT_VERSION} or older. Got {version}, written by cryoscout "
            f"{header.get('cryoscout')} instead. Remedy: use that version or a newer one."
        )
    if found != kind:
        raise InputError(f"{path} must be a {kind}. Got a {found} instead. Remedy: {remedy}.")
    return arrays, header


def _header(text: str) -> dict[str, Any] | None:
    """The header that `write_arrays` wrote; None where the text is another."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    is_ours = type(header.get("format")) is int and isinstance(header.get("kind"), str)
    return header if is_ours else None
