"""Real files and what is made from them that tests of `cryoscout import` share."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "formats" / "data"
SMARTEM = DATA / "epu" / "smartem_example"
HARVEST = DATA / "epu" / "harvest_session"
NAV = DATA / "serialem" / "made_by_hand_two_squares.nav"
EXPOSURES = sorted(path.stem for path in SMARTEM.rglob("FoilHole_*_Data_*.xml"))


def content(folder):
    return {
        path.relative_to(folder): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }
