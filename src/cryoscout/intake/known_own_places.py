"""What a session and the own tables read before say of holes: their names, places and exposures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cryoscout.formats.own.scores import SaidPlace
from cryoscout.formats.records import SourceRecords
from cryoscout.intake.holes_by_name import HolesByName
from cryoscout.session.model import Session

FORMAT = "generic"
NAMED_GRIDS = ("grids", "grid_id")
"""Table and field of the provenance of a table that names its grids: else they are called as its file is."""


@dataclass
class KnownOwnPlaces:
    """What earlier tables and the session say."""

    holes: HolesByName = field(default_factory=HolesByName)
    position_um: list[tuple[float, float]] = field(default_factory=list)
    squares: dict[str, str] = field(default_factory=dict)
    """Square -> grid, "" where no file named it."""
    hole_of: dict[str, str] = field(default_factory=dict)
    """Exposure -> hole; itself where tables have no holes."""
    exposures_of: dict[str, list[str]] = field(default_factory=dict)
    place_of: dict[str, SaidPlace] = field(default_factory=dict)
    """Exposure -> grid and square, "" where no file named them."""
    told_by: dict[str, set[str]] = field(default_factory=dict)
    """File -> stored exposures that it gave a result."""
    is_stored: bool = False

    @classmethod
    def of_session(cls, session: Session) -> KnownOwnPlaces:
        """What a session says; squares and grids that were made up are places that no file named."""
        known = cls(is_stored=True)
        all_holes = HolesByName.of_session(session)
        has_named = (session.provenance["table"] == NAMED_GRIDS[0]) & (
            session.provenance["field"] == NAMED_GRIDS[1]
        )
        made_up: set[str] = set()
        if not has_named.any() and len(session.grids) == 1:
            files = session.provenance.loc[session.provenance["reader"] == FORMAT, "file"]
            made_up = {str(name).rpartition(".")[0] or str(name) for name in files} | {session.name, "grid"}
        for square, grid in zip(session.squares["square_id"], session.squares["grid_id"], strict=True):
            if square != f"{grid}_square":
                known.squares[square] = "" if grid in made_up else grid
        rows = zip(all_holes.ids, all_holes.patches, all_holes.squares, all_holes.grids, strict=True)
        for hole_id, patch, square, grid in rows:
            clustered = patch.startswith(
                tuple(f"{square}_{each}" for each in ("square", "cluster_", "unplaced"))
            )
            known.holes.add(
                hole_id,
                "" if clustered else patch,
                "" if square == f"{grid}_square" else square,
                "" if grid in made_up else grid,
            )
        for file, exposure_id in zip(
            session.ctf_runs["source"], session.ctf_runs["exposure_id"], strict=True
        ):
            known.told_by.setdefault(file, set()).add(exposure_id)
        known.position_um += zip(session.holes["x_um"], session.holes["y_um"], strict=True)
        for exposure_id, hole_id in zip(
            session.exposures["exposure_id"], session.exposures["hole_id"], strict=True
        ):
            row = known.holes.row_of[hole_id]
            known.take_exposure(
                exposure_id, hole_id, SaidPlace(known.holes.grids[row], known.holes.squares[row])
            )
        return known

    def add(self, source: SourceRecords) -> None:
        """What a table says, under the ids that it has by now."""
        for square, grid in zip(source.squares["square_id"], source.squares["grid_id"], strict=True):
            self.squares[square] = self.squares.get(square) or text_of(grid)
        columns = ["hole_id", "patch_id", "square_id", "grid_id", "x_um", "y_um"]
        for hole_id, patch, square, grid, x_um, y_um in source.holes[columns].itertuples(
            index=False, name=None
        ):
            row = self.holes.row_of.get(hole_id)
            if row is None:
                self.holes.add(hole_id, text_of(patch), text_of(square), text_of(grid))
                self.position_um.append((float(x_um), float(y_um)))
                continue
            for ids, said in (
                (self.holes.patches, patch),
                (self.holes.squares, square),
                (self.holes.grids, grid),
            ):
                ids[row] = ids[row] or text_of(said)
            if math.isnan(self.position_um[row][0]):
                self.position_um[row] = float(x_um), float(y_um)
        columns = ["exposure_id", "hole_id", "square_id", "grid_id"]
        for exposure_id, hole_id, square, grid in source.exposures[columns].itertuples(
            index=False, name=None
        ):
            self.take_exposure(
                exposure_id, text_of(hole_id) or exposure_id, SaidPlace(text_of(grid), text_of(square))
            )

    def take_exposure(self, exposure_id: str, hole_id: str, place: SaidPlace) -> None:
        """An exposure, unless it is known."""
        if exposure_id not in self.hole_of:
            self.hole_of[exposure_id] = hole_id
            self.place_of[exposure_id] = place
            self.exposures_of.setdefault(hole_id, []).append(exposure_id)

    def apart_um(self, row: int, x_um: float, y_um: float) -> float:
        """How far from a hole a position is; NaN where either is not known."""
        return math.hypot(self.position_um[row][0] - x_um, self.position_um[row][1] - y_um)


def text_of(value: object) -> str:
    """The text of a cell, "" for one without."""
    return value if isinstance(value, str) else ""
