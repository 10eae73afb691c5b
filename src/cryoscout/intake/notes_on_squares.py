"""What is to be known of the squares of an import: which have no holes, and what differs from what was said before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted

SAME_PLACE_UM = 0.01
"""Files write positions to the nanometre or so; what differs by less is rounding."""


def notes_on_squares(
    said: Sequence[pd.DataFrame],
    patches: pd.DataFrame,
    holes: pd.DataFrame,
    known: pd.DataFrame,
    stored: pd.DataFrame | None,
) -> list[str]:
    """Notes for the join report.

    said : squares of each source, as read     patches : that the sources name themselves
    holes : of all sources, with their patches and squares
    known : square_id and patch_id of the holes that are stored
    stored : squares of the session that is extended, None without
    """
    notes = []
    squares = pd.concat(said, ignore_index=True) if said else pd.DataFrame({"square_id": []})
    ids = pd.Index(squares["square_id"].unique())
    empty = ids[~ids.isin(holes["square_id"]) & ~ids.isin(known["square_id"])]
    if len(empty):
        notes.append(f"{counted(len(empty), 'squares', 'are')} known of, without holes yet")
    bare = ~patches["patch_id"].isin(holes["patch_id"]) & ~patches["patch_id"].isin(known["patch_id"])
    if bare.any():
        notes.append(f"{counted(int(bare.sum()), 'patches', 'are')} known of, without holes yet")
    if not len(squares):
        return notes
    if stored is not None:
        notes += _elsewhere(stored, squares, "than in the session: the stored positions stay")
        notes += _not_looked_at(stored, squares)
    first = squares.drop_duplicates("square_id")
    rest = squares.drop(index=first.index)
    return notes + _elsewhere(first, rest, "in a second file than in the first: the first positions count")


def _elsewhere(before: pd.DataFrame, now: pd.DataFrame, told: str) -> list[str]:
    """Squares of which another position is said now."""
    both = before[["square_id", "x_um", "y_um"]].merge(
        now[["square_id", "x_um", "y_um"]], on="square_id", suffixes=("_before", "")
    )
    moved_um = [(both[name] - both[f"{name}_before"]).to_numpy(dtype=np.float64) for name in ("x_um", "y_um")]
    apart_um = np.hypot(*moved_um)
    rows: NDArray[np.intp] = np.flatnonzero(apart_um > SAME_PLACE_UM)
    if not len(rows):
        return []
    farthest = both.iloc[int(rows[np.argmax(apart_um[rows])])]
    count = both["square_id"].iloc[rows].nunique()
    return [
        f"{counted(count, 'squares', 'stand')} elsewhere {told} (farthest: {farthest['square_id']}, "
        f"{farthest['x_um_before']:.2f}, {farthest['y_um_before']:.2f} um before and "
        f"{farthest['x_um']:.2f}, {farthest['y_um']:.2f} um now)"
    ]


def _not_looked_at(before: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """Squares that were looked at, and are said not to have been now."""
    if "looked" not in now:
        return []
    unsaid = now.loc[now["looked"].eq(False).fillna(False), "square_id"]
    looked = before.loc[before["looked"].eq(True).fillna(False), "square_id"]
    both = looked[looked.isin(unsaid)]
    if both.empty:
        return []
    return [
        f"{counted(len(both), 'squares', 'were')} looked at before and by this import not, such as {both.iloc[0]}: "
        "still taken as looked at"
    ]


def note_on_other_grids(squares: pd.DataFrame, stored: pd.DataFrame) -> str:
    """Of squares of a site's own table that are in another grid than the stored ones of their names."""
    first = squares.iloc[0]
    before = stored.loc[stored["square_id"] == first["square_id"], "grid_id"].iloc[0]
    return (
        f"{counted(len(squares), 'squares', 'are')} of another grid in a file than in the session, such as "
        f"{first['square_id']} of {first['grid_id']}, here of {before}: nothing of them is taken. If that is another "
        "grid, import it as a session of its own, or name its squares GRID/SQUARE"
    )
