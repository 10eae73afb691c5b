"""Vendor folders for tests of a running session."""

from __future__ import annotations

from pathlib import Path

from epu_samples import formats_data

_DATA = Path(__file__).resolve().parents[1] / "formats" / "data"


def epu_session(folder):
    """A small EPU session, some of whose holes are imaged."""
    formats_data.write_epu_session(folder, 12, shots=1, holes_along_square=6, seed=1)


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
