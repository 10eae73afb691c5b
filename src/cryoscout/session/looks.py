"""Which squares and patches of a session were looked at: what a plan may know of the others is that they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.session.vendor_fields import unpacked

if TYPE_CHECKING:
    from cryoscout.session.model import Session


LOOK_LEVEL, LOOK_AT = "look level", "look at"
"""Vendor fields of images of places that no table of the session has, because nothing was imaged below them."""
SAYS_LOOKS_ELSEWHERE = "leginon"
"""The reader that writes them: its tables name places by what was imaged below them."""


def looks_elsewhere(session: Session) -> pd.DataFrame:
    """Columns level ("patch", "square" or "grid") and looked_at, of looks at places that the session's tables lack."""
    own = {*session.squares["square_id"], *session.patches["patch_id"]}
    of_reader = session.vendor_fields["reader"].isin([SAYS_LOOKS_ELSEWHERE, ""])  # "": what records share
    found = [
        (fields[LOOK_LEVEL], fields[LOOK_AT])
        for (_, record), fields in unpacked(session.vendor_fields[of_reader]).items()
        if LOOK_AT in fields and record not in own
    ]
    looks = pd.DataFrame(found, columns=["level", "looked_at"])
    return looks.assign(looked_at=looks["looked_at"].astype("datetime64[ns]"))


def squares_looked_at(session: Session) -> NDArray[np.bool_]:
    """(S,) bool: a square that is said to be looked at, or that has a patch; a file that says nothing means not yet."""
    return _looked(session.squares["looked"], session.tree().square_of_patch)


def patches_looked_at(session: Session) -> NDArray[np.bool_]:
    """(P,) bool: a patch that is said to be looked at, or that has a hole."""
    return _looked(session.patches["looked"], session.tree().patch_of_hole)


def _looked(said: pd.Series[Any], parent_of_child: NDArray[np.int32]) -> NDArray[np.bool_]:
    has_children = np.bincount(parent_of_child, minlength=len(said)) > 0
    return np.asarray(said.fillna(False).to_numpy(dtype=bool) | has_children)


def has_unseen_places(session: Session) -> bool:
    """Whether a square or patch was not looked at yet."""
    return not (squares_looked_at(session).all() and patches_looked_at(session).all())


def atlas_features(session: Session) -> NDArray[np.float64]:
    """(S, 2) log area and brightness of every square, standardised within its grid; NaN where the atlas says nothing.

    Within the grid, because brightness depends on the exposure of its atlas. A grid with one value says nothing.
    """
    squares = session.squares
    area = squares["area_um2"].to_numpy(dtype=np.float64)
    raw = np.stack(
        [np.log(np.where(area > 0, area, np.nan)), squares["brightness"].to_numpy(dtype=np.float64)], axis=1
    )
    grid = session.tree().grid_of_square
    standardised = np.full(raw.shape, np.nan)
    for each in np.unique(grid):
        rows = np.flatnonzero(grid == each)
        for column in range(raw.shape[1]):
            values = raw[rows, column]
            known = np.isfinite(values)
            spread = float(values[known].std()) if known.sum() > 1 else 0.0
            if spread > 0:
                standardised[rows[known], column] = (values[known] - values[known].mean()) / spread
    return standardised


def square_room(session: Session) -> NDArray[np.float64]:
    """(S,) area of every square over the median of its grid: as many patches fit, of the usual number; NaN unknown."""
    area = session.squares["area_um2"].to_numpy(dtype=np.float64)
    area = np.where(area > 0, area, np.nan)
    grid = session.tree().grid_of_square
    room = np.full(len(area), np.nan)
    for each in np.unique(grid[np.isfinite(area)]):
        rows = np.flatnonzero((grid == each) & np.isfinite(area))
        room[rows] = area[rows] / np.median(area[rows])
    return room


def notes_on_looks(session: Session) -> tuple[str, ...]:
    """What the looks of a session say that cannot be, or that is worth knowing; nothing is left out for it."""
    squares, patches, tree = session.squares, session.patches, session.tree()
    notes = []
    looked, has_patches = squares["looked"], np.bincount(tree.square_of_patch, minlength=len(squares)) > 0
    of_patch = np.bincount(tree.patch_of_hole, minlength=len(patches)) > 0
    for table, id_column, said, has in (
        (squares, "square_id", looked, has_patches),
        (patches, "patch_id", patches["looked"], of_patch),
    ):
        what, inside = ("squares", "patches") if id_column == "square_id" else ("patches", "holes")
        unsaid = (said == False).fillna(False).to_numpy(dtype=bool) & has  # noqa: E712  # NA is neither
        if unsaid.any():
            notes.append(
                f"{counted(int(unsaid.sum()), what, 'have')} {inside} without a look, such as "
                f"{table[id_column][unsaid].iloc[0]}: taken as looked at"
            )
        empty = said.fillna(False).to_numpy(dtype=bool) & ~has
        if empty.any():
            notes.append(
                f"{counted(int(empty.sum()), what)} showed no {inside} when looked at, such as "
                f"{table[id_column][empty].iloc[0]}: nothing is planned there"
            )
    parent_at = squares["looked_at"].to_numpy()[tree.square_of_patch]
    early = (patches["looked_at"].to_numpy() < parent_at).nonzero()[0]
    if len(early):
        whose = "its" if len(early) == 1 else "their"
        notes.append(
            f"{counted(len(early), 'patches', 'were')} looked at before {whose} square, such as "
            f"{patches['patch_id'].iloc[early[0]]}: the times stand as they are"
        )
    return tuple(notes)
