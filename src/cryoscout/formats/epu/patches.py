"""Patches of an EPU session: which holes share a stage position, so that going from one to the next is an image shift.

EPU does not write its clusters down. Of what is imaged, the stage position in the exposures tells them; of the rest,
the session's clustering radius stands in.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.formats.clusters import cluster_positions

STAGE_TOLERANCE_UM = 0.5
"""How far the stage may drift within one cluster; holes are more than 1 um apart."""


def image_shift_runs(
    exposures: pd.DataFrame, tolerance_um: float = STAGE_TOLERANCE_UM
) -> NDArray[np.object_]:
    """Label of the run of each exposure: consecutive in time, in one square, at one stage position.

    exposures : exposure_id, hole_id, square_id, started_at, stage_x_um, stage_y_um
    tolerance_um : how far an exposure's stage position may lie from that of the run's first
    Returns (n,) str in the order of the rows: `<square>_run_<hole>`, named after the hole of the run's first exposure
    so that exposures added later change no label before them; `_2`, `_3`, ... for further runs that start at the
    same hole; "" for an exposure without time or stage position, which does not end a run either.
    """
    labels = np.full(len(exposures), "", dtype=np.object_)
    stage_um = exposures[["stage_x_um", "stage_y_um"]].to_numpy(dtype=np.float64)
    times = exposures["started_at"].to_numpy(dtype="datetime64[ns]")
    known = np.isfinite(stage_um).all(axis=1) & ~np.isnat(times)
    ids, holes, squares = (exposures[name].tolist() for name in ("exposure_id", "hole_id", "square_id"))
    in_order = sorted(np.flatnonzero(known).tolist(), key=lambda row: (times[row], ids[row]))
    x_um, y_um = stage_um[:, 0].tolist(), stage_um[:, 1].tolist()
    runs = ImageShiftRuns(tolerance_um)
    for row in in_order:
        labels[row] = runs.label_of_next(squares[row], holes[row] or ids[row], x_um[row], y_um[row])
    return labels


class ImageShiftRuns:
    """The runs of exposures that are told one after the other, in the order of their times."""

    def __init__(self, tolerance_um: float = STAGE_TOLERANCE_UM) -> None:
        """tolerance_um : as in `image_shift_runs`."""
        self._tolerance_um = tolerance_um
        self._first: tuple[str, float, float] | None = None
        self._begun: Counter[str] = Counter()
        self._label = ""

    def label_of_next(self, square_id: str, hole_id: str, x_um: float, y_um: float) -> str:
        """Label of the run of the next exposure, whose stage position is x_um, y_um (finite)."""
        first = self._first
        if (
            first is None
            or square_id != first[0]
            or math.hypot(x_um - first[1], y_um - first[2]) > self._tolerance_um
        ):
            self._first = (square_id, x_um, y_um)
            name = f"{square_id}_run_{hole_id}"
            self._begun[name] += 1
            self._label = name if self._begun[name] == 1 else f"{name}_{self._begun[name]}"
        return self._label

    def copy(self) -> ImageShiftRuns:
        """The same runs so far, to go on from twice."""
        other = ImageShiftRuns(self._tolerance_um)
        other._first, other._begun, other._label = self._first, self._begun.copy(), self._label
        return other


def runs_of_holes(exposures: pd.DataFrame, labels: NDArray[np.object_]) -> dict[str, str]:
    """Hole id -> label of the run of its first exposure; holes without a label are left out."""
    rows = exposures.assign(label=labels)
    rows = rows[(rows["label"] != "") & (rows["hole_id"] != "")].sort_values(
        ["started_at", "exposure_id"], kind="stable"
    )
    rows = rows.drop_duplicates("hole_id")
    return dict(zip(rows["hole_id"], rows["label"], strict=True))


def patch_ids(
    holes: pd.DataFrame, runs: Mapping[str, str], clusters: bool | None, radius_um: float | None
) -> list[str]:
    """Patch of each hole: its run where it is imaged, else a cluster of the square's holes.

    holes : hole_id, square_id, x_um, y_um     runs : hole id -> label of its run
    clusters : whether the session images clusters of holes; where not, each hole is a patch; None unknown
    radius_um : of a cluster; None unknown
    Returns (n,): `<square>_cluster_<first hole by id>`, `<square>_hole_<hole>` where a hole is alone, "" where the
    radius is unknown. Clusters are made of all holes of the square, imaged or not: imaging one changes no other's.
    """
    hole_ids, square_ids = holes["hole_id"].tolist(), holes["square_id"].tolist()
    patches = [f"{square}_hole_{hole}" for square, hole in zip(square_ids, hole_ids, strict=True)]
    if clusters is not False:
        if radius_um is None:
            patches = [""] * len(hole_ids)
        else:
            for square, rows in holes.groupby("square_id", sort=False).indices.items():
                inside = holes.iloc[rows]
                labels = cluster_positions(inside["x_um"], inside["y_um"], radius_um)
                for members in _members(labels):
                    named = min((hole_ids[rows[member]] for member in members), key=_by_number)
                    for member in members:
                        patches[rows[member]] = f"{square}_cluster_{named}"
    return [runs.get(hole, patch) for hole, patch in zip(hole_ids, patches, strict=True)]


def _members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each cluster; rows without one (-1) are left out."""
    order = np.argsort(labels, kind="stable")
    borders = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    return [order[start:end] for start, end in itertools.pairwise(borders)]


def _by_number(hole_id: str) -> tuple[int, str]:
    return len(hole_id), hole_id
