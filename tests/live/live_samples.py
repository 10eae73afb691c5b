"""Vendor folders for tests of a running session."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_DATA = Path(__file__).resolve().parents[1] / "formats" / "data"
_GENERATOR = Path(__file__).resolve().parents[2] / "benchmarks" / "formats_data.py"


def epu_session(folder):
    """A small EPU session, some of whose holes are imaged."""
    if "formats_data" not in sys.modules:
        spec = importlib.util.spec_from_file_location("formats_data", _GENERATOR)
        sys.modules["formats_data"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["formats_data"])
    sys.modules["formats_data"].write_epu_session(folder, 12, shots=1, holes_along_square=6, seed=1)


def serialem_session(folder):
    """A navigator after four of its chosen items were acquired, and the images' metadata with dots in their names."""
    folder.mkdir()
    text = (_DATA / "serialem" / "made_by_hand_two_squares.nav").read_bytes().decode()
    frames = folder / "frames"
    frames.mkdir()
    for number, label in enumerate(("12", "13", "27", "28")):
        head, item, rest = text.partition(f"[Item = {label}]")
        text = head + item + rest.replace("Acquire = 1", "Acquire = 0", 1)
        place = next(line for line in rest.splitlines() if line.startswith("StageXYZ = ")).split()[2:4]
        name = f"2021-10-08_07.39.0{number}_m_000{number}"
        lines = [
            "T = SerialEM: K3        08-Oct-2021  07:38:24",
            "",
            "[FrameSet = 0]",
            f"StagePosition = {place[0]} {place[1]}",
            f"SubFramePath = X:\\example\\frames\\{name}.tif",
            f"DateTime = 08-Oct-2021  07:3{number}:00",
            f"NavigatorLabel = {label}",
        ]
        (frames / f"{name}.tif.mdoc").write_text("\r\n".join(lines) + "\r\n", newline="")
        (frames / f"{name}.tif").write_bytes(b"II*\0")
    (folder / "grid1.nav").write_text(text, newline="")
