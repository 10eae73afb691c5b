"""The sample files of EPU and the generator of large sessions, for the tests of its reader."""

import gzip
import importlib.util
import sys
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "epu"
SQUARE = gzip.decompress((DATA / "GridSquare_4590776.dm.gz").read_bytes()).decode()
ATLAS = gzip.decompress((DATA / "Atlas.dm.gz").read_bytes()).decode()

_GENERATOR = Path(__file__).resolve().parents[3] / "benchmarks" / "formats_data.py"


def _generator():
    if "formats_data" not in sys.modules:
        spec = importlib.util.spec_from_file_location("formats_data", _GENERATOR)
        sys.modules["formats_data"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["formats_data"])
    return sys.modules["formats_data"]


formats_data = _generator()
"""benchmarks/formats_data.py, which is no package."""


def short_square(holes=3):
    """The real square with its first targets alone; they refer to elements of the first."""
    end = "</b:KeyValuePairOfintTargetLocationXmlBpEWF4JT>"
    pieces = SQUARE.split(end)
    return end.join(pieces[:holes]) + end + pieces[-1]


def short_atlas():
    """The real atlas with its first tile alone."""
    end = "</TileXml>"
    return ATLAS[: ATLAS.index(end)] + ATLAS[ATLAS.rindex(end) :]
