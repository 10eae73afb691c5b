"""What the columns of a site's own table mean: by their headers, or by a map where the headers do not say it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.ctf.records import shown
from cryoscout.formats.text.findings import LONGEST_LINE, read_text

Role = Literal["grid", "square", "patch", "hole", "exposure", "x", "y", "time", "ctf", "p_good", "score"]
PositionUnit = Literal["um", "px"]
ROLES: tuple[Role, ...] = get_args(Role)
PREDICTED: tuple[Role, ...] = ("p_good", "score")
"""Columns of predictions: only where they are named (`formats/own/scores.py`), no header means them."""

_POSITION = (
    *("{}", "{}px", "{}pixel", "d{}", "{}um", "stage{}", "stage{}um", "stagepos{}", "coordinate{}"),
    *("{}coord", "{}coordinate"),
)
LIVE_RESOLUTION = ("ctffitresolution", "ctffitresolutiona", "ctffitresolutionangstrom")
"""CryoSPARC Live's, where 0 stands for a value that is not there."""
HEADER_ALIASES: dict[Role, tuple[str, ...]] = {
    "grid": ("grid", "gridid", "gridname", "atlas", "atlasid", "sample", "slot"),
    "square": ("square", "squareid", "squarename", "gridsquare", "gridsquareid"),
    "patch": ("patch", "patchid", "group", "groupid", "cluster", "clusterid", "bisgroup", "holegroup", "hl"),
    "hole": ("hole", "holeid", "holename", "foilhole", "foilholeid", "target", "targetid", "holenumber"),
    "exposure": (
        *(
            "exposure",
            "exposureid",
            "name",
            "micrograph",
            "micrographname",
            "micrographid",
            "rlnmicrographname",
        ),
        *("image", "imagename", "filename", "file", "path", "movie", "moviename", "micrographblobpath"),
    ),
    "x": tuple(pattern.format("x") for pattern in _POSITION),
    "y": tuple(pattern.format("y") for pattern in _POSITION),
    "time": (
        *(
            "time",
            "timestamp",
            "datetime",
            "startedat",
            "acquisitiontime",
            "acquisitiondatetime",
            "acquiredat",
        ),
        *("starttime", "completiontime", "date"),
    ),
    "ctf": (
        *("ctf", "ctfmaxres", "ctfmaxresangstrom", "ctfmaxresa", "ctfmaxresolution", "rlnctfmaxresolution"),
        *("maxres", "maxresolution", "maxresa", "ctfresolution", "ctfresolutionang", "ctfresolutionangstrom"),
        *("ctfres", "ctffit", "ctffittoa", "ctfstatsctffittoa", "ctfctffittoa", "resolution", "resolutiona"),
        *("resolutionangstrom", "res", *LIVE_RESOLUTION),
    ),
}
"""Role -> headers that mean it, as `plain_header` writes them."""

FALLBACKS: dict[str, Role] = {"absfilepath": "exposure"}
"""Headers that mean a role where no other column does."""

ROLE_OF: dict[str, Role] = {alias: role for role, aliases in HEADER_ALIASES.items() for alias in aliases}
"""Header -> role, without FALLBACKS."""


@dataclass(frozen=True)
class ColumnMap:
    """Which column means what, where the headers do not say it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> header as in the file (case and separators ignored)."""
    position_unit: PositionUnit | None = None


def read_column_map(path: Path) -> ColumnMap:
    """Read a column map from a TOML file (see `table`).

    Raises FileFormatError when it is not TOML or has other keys, InputError for an unknown role or unit.
    """
    try:
        content = tomllib.loads(read_text(path, LONGEST_LINE))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(
            path, None, f"a column map must be TOML. Got {shown(str(error))} instead."
        ) from None
    columns = content.get("columns", {})
    unknown = sorted(content.keys() - {"columns", "position_unit"})
    is_right = isinstance(columns, dict) and all(isinstance(header, str) for header in columns.values())
    if unknown or not is_right:
        raise FileFormatError(
            path,
            None,
            "a column map must have [columns] with texts, and position_unit. "
            f"Got {', '.join(unknown) or 'another value'} instead.",
        )
    return _checked(ColumnMap(columns, content.get("position_unit")))


def map_of(given: ColumnMap | Path | None) -> ColumnMap:
    """The column map that was given or is in a file, empty for None. Raises as `read_column_map`."""
    return read_column_map(given) if isinstance(given, Path) else _checked(given or ColumnMap())


def _checked(column_map: ColumnMap) -> ColumnMap:
    unknown = sorted(set(column_map.columns) - set(ROLES))
    if unknown:
        raise InputError(f"A role must be one of {', '.join(ROLES)}. Got {', '.join(unknown)} instead.")
    checked_unit(column_map.position_unit)
    return column_map


def checked_unit(unit: str | None) -> PositionUnit | None:
    """The unit of x and y, None where their headers say it. Raises InputError for another one."""
    if unit not in (None, "um", "px"):
        raise InputError(f"The position unit must be um or px. Got {unit!r} instead.")
    return cast("PositionUnit | None", unit)
