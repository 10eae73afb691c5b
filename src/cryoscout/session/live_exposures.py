"""Shots that were recorded while the session ran, before the vendor's name of the image was known.

What tells an exposure apart is its hole and its shot. Until the vendor's id is known it is called HOLE#SHOT, and under
that name it is found later too; an import that brings the vendor's id for the shot gives it that id.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def live_exposure_id(hole_id: str, shot: int) -> str:
    """The id of a shot that no vendor has named yet."""
    return f"{hole_id}#{shot}"


def shot_of_live_id(exposure_id: str) -> tuple[str, int] | None:
    """(hole id, shot) of an id of that form; None for any other."""
    hole_id, _, shot = exposure_id.rpartition("#")
    return (hole_id, int(shot)) if hole_id and shot.isascii() and shot.isdigit() else None


def is_live(exposures: pd.DataFrame) -> pd.Series[bool]:
    """Which rows no vendor has named yet.     exposures : exposure_id, hole_id, shot"""
    ids = exposures["hole_id"].astype("str") + "#" + exposures["shot"].astype("str")
    return exposures["exposure_id"] == ids


def shots_of_vendor_exposures(before: pd.DataFrame, new: pd.DataFrame) -> pd.Series[int]:
    """The shot of each new exposure; of a hole with live ones it is theirs as far as there are enough.

    before : exposure_id, hole_id, shot of what is stored     new : hole_id, in the order of time
    Every image that was recorded live is one of the vendor's. So the images of a hole take, in the order of time, the
    shots recorded live and, where there are more, the lowest shots that are free; without live ones they go on behind
    the last shot.
    """
    last = new["hole_id"].map(before.groupby("hole_id")["shot"].max()).fillna(0).astype("int64")
    shots = last + new.groupby("hole_id").cumcount() + 1
    live = before[is_live(before)]
    if live.empty:
        return shots
    of_hole = dict(before.groupby("hole_id")["shot"].apply(list))
    live_of_hole = dict(live.groupby("hole_id")["shot"].apply(list))
    is_open = new["hole_id"].isin(live["hole_id"]).to_numpy()
    given = shots.to_numpy(copy=True)
    for hole_id, places in new.assign(place=np.arange(len(new)))[is_open].groupby("hole_id")["place"]:
        rows, recorded = places.to_numpy(), sorted(live_of_hole[hole_id])
        taken = of_hole[hole_id]
        free = np.setdiff1d(np.arange(1, len(taken) + len(rows) + 1), taken)
        more = max(0, len(rows) - len(recorded))
        given[rows] = sorted([*recorded[: len(rows)], *free[:more].tolist()])
    return pd.Series(given, index=new.index)


def with_vendor_ids(before: pd.DataFrame, new: pd.DataFrame) -> dict[str, str]:
    """Live id -> vendor's id, for the stored exposures whose shots the new ones are.

    before : exposure_id, hole_id, shot of what is stored     new : the same, each hole and shot once
    """
    both = before[is_live(before)].merge(new, on=["hole_id", "shot"], suffixes=("", "_new"))
    differs = both["exposure_id"] != both["exposure_id_new"]
    return dict(zip(both.loc[differs, "exposure_id"], both.loc[differs, "exposure_id_new"], strict=True))


def renamed(frame: pd.DataFrame, new_ids: dict[str, str]) -> pd.DataFrame:
    """The table, `exposures` or `ctf_runs`, with exposures that have new ids under these."""
    if not new_ids or frame.empty:
        return frame
    return frame.assign(exposure_id=frame["exposure_id"].replace(new_ids).astype("str"))
