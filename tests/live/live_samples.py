"""Vendor folders for tests of a running session."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_GENERATOR = Path(__file__).resolve().parents[2] / "benchmarks" / "formats_data.py"


def epu_session(folder):
    """A small EPU session, some of whose holes are imaged."""
    if "formats_data" not in sys.modules:
        spec = importlib.util.spec_from_file_location("formats_data", _GENERATOR)
        sys.modules["formats_data"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["formats_data"])
    sys.modules["formats_data"].write_epu_session(folder, 12, shots=1, holes_along_square=6, seed=1)
