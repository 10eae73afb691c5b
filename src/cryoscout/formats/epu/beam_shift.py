"""Beam shift of EPU's exposures as um on the stage: the file gives it no unit, so a session calibrates its own.

Where the GridSquare files tell where the holes are, each exposure is one measurement of the map:

    hole - stage = matrix @ beam_shift + offset of the run + offset of the shot

The offset of a run (exposures at one stage position) takes up what the targeting of its square was wrong by, that of
a shot (acquisition area) where in the hole it is taken; neither is known beforehand. `matrix` (2, 2) depends on the
optics, so every preset (magnification and probe mode) has its own. Zero beam shift is the stage position itself.

The real session of EPU 3.9 in the tests has too few exposures for a fit. It agrees with the model: a mirrored rotation
of 26 um per unit, taken from two shots of one hole, puts its two holes, 3.8 and 10.9 um from the stage position,
within 0.1 um of points of one lattice with its hole spacing, whose direction is not known there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError

FARTHEST_UM = 100.0
"""No image shift reaches farther from its stage position; a hole that seems to is another one."""
HOLES_NEEDED = 6
"""Holes that a fit needs beyond the first of each run: 2 determine the matrix, the rest tell how well."""
WORST_RESIDUAL_UM = 0.5
"""A fit that misses holes by more cannot tell a hole from its neighbour: they are more than 1 um apart."""
WORST_SHARE = 0.25
"""Of the distances within a run that a fit may leave unexplained; beyond it the beam shift says nothing of them."""
FLATTEST = 0.05
"""Smallest spread of the beam shift over its largest: holes along one line determine only half of the map."""

_FARTHEST_IN_MEDIANS = 30.0
"""A beam shift so many times the usual length is none."""
_MOST_AREAS = 32
"""Shots of a hole that get their own offset; a template has up to about 20."""
_ITERATIONS = 30
_TUKEY_SCALES = 4.685
"""Tukey's biweight: residuals of so many scales count nothing."""
_MEDIAN_OF_DISTANCE = 1.1774
"""Median distance of a round normal error over its standard deviation along one axis."""
_SMALLEST_SCALE_UM = 1e-3
"""The stage is written to about 1 nm; a closer fit is luck."""


class BeamShift(NamedTuple):
    """Beam shift of one exposure as written, and the optics it was made with."""

    x: float
    y: float
    preset: str


@dataclass(frozen=True)
class BeamShiftMap:
    """The fitted map of one preset; offsets are x and y, um."""

    matrix_um: NDArray[np.float64]  # (2, 2) um on the stage per unit: stage shift = matrix_um @ beam shift
    run_offsets_um: Mapping[str, tuple[float, float]]
    area_offsets_um: Mapping[str, tuple[float, float]]  # their mean is 0
    usual_offset_um: tuple[float, float]  # median of the runs, for holes of other runs
    residual_um: float  # root mean square distance of a hole from where the map puts it, outliers left out
    n_holes: int  # that it was fitted to
    n_outliers: int  # exposures that count nothing in the fit

    @property
    def um_per_unit(self) -> float:
        """Geometric mean of the two scales of the map."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix_um))))


@dataclass(frozen=True)
class Placed:
    """Tables of a source with what the beam shift told, and notes for the join report."""

    exposures: pd.DataFrame
    holes: pd.DataFrame
    notes: list[str]


def placed_by_beam_shift(
    exposures: pd.DataFrame,
    holes: pd.DataFrame,
    runs: NDArray[np.object_],
    beam_shifts: Mapping[str, BeamShift],
    targets_um: Mapping[str, tuple[float, float]],
) -> Placed:
    """Place every exposure inside its patch, and holes without a position of their own by their exposures.

    exposures : EXPOSURE_COLUMNS     holes : HOLE_COLUMNS     runs : (n,) run of each exposure, "" for none
    beam_shifts : by exposure id; exposures without one stay as they are
    targets_um : stage position, x and y, of the holes that the GridSquare files tell, by hole id
    Where the map of a preset cannot be fitted, only zero beam shifts are placed, and a note says why.
    """
    shift, preset = _beam_shifts(exposures, beam_shifts)
    stage_um = exposures[["stage_x_um", "stage_y_um"]].to_numpy(dtype=np.float64)
    hole, area = (exposures[name].to_numpy(dtype=np.object_) for name in ("hole_id", "shot_key"))
    nowhere = (np.nan, np.nan)
    offset_um = np.array([targets_um.get(each, nowhere) for each in hole]).reshape(-1, 2) - stage_um
    shift_um = np.where((shift == 0.0).all(axis=1)[:, None], 0.0, exposures[["shift_x_um", "shift_y_um"]])
    hole_um = np.full_like(stage_um, np.nan)
    notes = []
    for name in sorted(set(preset[(shift != 0.0).any(axis=1)]) - {""}):
        rows = np.flatnonzero(preset == name)
        try:
            found = fit_beam_shift(shift[rows], offset_um[rows], runs[rows], area[rows], hole[rows])
        except DataError as error:
            notes.append(
                f"beam shift ({name}) of {counted(len(rows), 'exposures')} has no length here, so that they are not "
                f"placed inside their patches: {error}"
            )
            continue
        shift_um[rows] = shift[rows] @ found.matrix_um.T
        hole_um[rows] = stage_um[rows] + shift_um[rows] + _offsets_um(found, runs[rows], area[rows])
        notes.append(
            f"beam shift ({name}): {found.um_per_unit:.3g} um per unit by {counted(found.n_holes, 'holes')} of known "
            f"position, residual {found.residual_um:.2g} um, {found.n_outliers} of {len(rows)} exposures outliers"
        )
    exposures = exposures.assign(shift_x_um=shift_um[:, 0], shift_y_um=shift_um[:, 1])
    holes, more = _placed_holes(holes, hole[preset != ""], hole_um[preset != ""])
    return Placed(exposures, holes, notes + more)


def _beam_shifts(
    exposures: pd.DataFrame, beam_shifts: Mapping[str, BeamShift]
) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Beam shift (n, 2), NaN unknown, and preset (n,), "" unknown, of each exposure."""
    unknown = BeamShift(np.nan, np.nan, "")
    found = [beam_shifts.get(each, unknown) for each in exposures["exposure_id"]]
    shift = np.array([(each.x, each.y) for each in found], dtype=np.float64).reshape(-1, 2)
    return shift, np.array([each.preset for each in found], dtype=np.object_)


def _offsets_um(
    found: BeamShiftMap, runs: NDArray[np.object_], areas: NDArray[np.object_]
) -> NDArray[np.float64]:
    """Offset of each exposure (n, 2): of its run, else the usual one; of its area, else none."""
    of_run = [found.run_offsets_um.get(run, found.usual_offset_um) for run in runs]
    of_area = [found.area_offsets_um.get(area, (0.0, 0.0)) for area in areas]
    run_um, area_um = (np.array(each, dtype=np.float64).reshape(-1, 2) for each in (of_run, of_area))
    return run_um + area_um


def _placed_holes(
    holes: pd.DataFrame, hole: NDArray[np.object_], hole_um: NDArray[np.float64]
) -> tuple[pd.DataFrame, list[str]]:
    """Holes without a position at the median of what their exposures (n,), (n, 2) say of it; notes."""
    lacking = (holes["x_um"].isna() | holes["y_um"].isna()) & holes["hole_id"].isin(set(hole))
    if not lacking.any():
        return holes, []
    said = pd.DataFrame({"hole_id": hole, "x_um": hole_um[:, 0], "y_um": hole_um[:, 1]})
    median = said.groupby("hole_id")[["x_um", "y_um"]].median().reindex(holes["hole_id"])
    holes = holes.assign(
        x_um=np.where(lacking, median["x_um"], holes["x_um"]),
        y_um=np.where(lacking, median["y_um"], holes["y_um"]),
    )
    unplaced = int((lacking & holes["x_um"].isna()).sum())
    placed = int(lacking.sum()) - unplaced
    notes = []
    if placed:
        notes.append(
            f"{counted(placed, 'holes')} without an own position {agreed(placed, 'were')} placed by the beam shift"
        )
    if unplaced:
        notes.append(
            f"{counted(unplaced, 'holes')} without an own position {agreed(unplaced, 'are')} not placed inside the "
            "patch"
        )
    return holes, notes


def fit_beam_shift(
    beam_shift: NDArray[np.float64],
    offset_um: NDArray[np.float64],
    run: NDArray[np.object_],
    area: NDArray[np.object_],
    hole: NDArray[np.object_],
) -> BeamShiftMap:
    """Fit the map of one preset by robust least squares.

    beam_shift : (n, 2) x and y of each exposure, in any unit, NaN unknown
    offset_um : (n, 2) known position of its hole less the stage position of the exposure itself (so that a drift that
        the stage reports does not count), x and y on the stage, NaN unknown
    run, area, hole : (n,) str; run "" where there is none
    Exposures that cannot help are left out: without a run, of the only hole of their run, farther than FARTHEST_UM.
    Raises DataError where there are fewer than HOLES_NEEDED holes beyond the first of each run, where they lie along
    one line, and where the fit misses them by more than WORST_RESIDUAL_UM or WORST_SHARE of their distances.
    Method: least squares within runs, reweighted, first towards the least sum of distances, then Tukey's biweight.
    """
    used = _usable(beam_shift, offset_um, run, area, hole)
    n_holes, n_runs = len(set(hole[used])), len(set(run[used]))
    if n_holes - n_runs < HOLES_NEEDED:
        raise DataError(
            f"A fit must have {HOLES_NEEDED} holes of known position beside others at one stage position. "
            f"Got {max(n_holes - n_runs, 0)} instead."
        )
    unit = _usual_length(beam_shift[used])
    rows = _Rows.of(beam_shift[used] / unit, offset_um[used], run[used], area[used])
    flatness = rows.flatness()
    if flatness < FLATTEST:
        raise DataError(
            f"The beam shift must vary along two directions. Got {flatness:.2g} of the larger spread along the "
            f"smaller, under {FLATTEST:g}, instead."
        )
    matrix_um, area_um, weights = rows.fit()
    left_um = rows.offset_um - rows.beam_shift @ matrix_um.T - area_um[rows.area]
    run_um = rows.means(left_um, weights)
    kept = weights > 0
    distance_um = np.hypot(*(left_um - run_um[rows.run]).T)[kept]
    # The shots of a hole share its error: holes are counted, not exposures.
    residual_um = float(np.sqrt(np.mean(distance_um**2) * n_holes / (n_holes - n_runs - 2)))
    worst_um = min(WORST_RESIDUAL_UM, WORST_SHARE * rows.spread_um(kept))
    if not residual_um <= worst_um:
        raise DataError(
            f"A fit must find the holes within {worst_um:.2g} um. Got {residual_um:.2g} um instead."
        )
    sound = np.isfinite(run_um).all(axis=1)
    usual_um = np.median(run_um[sound], axis=0)
    return BeamShiftMap(
        matrix_um=matrix_um / unit,
        run_offsets_um=_by_name(rows.runs[sound], run_um[sound]),
        area_offsets_um=_by_name(rows.areas, area_um),
        usual_offset_um=(float(usual_um[0]), float(usual_um[1])),
        residual_um=residual_um,
        n_holes=n_holes,
        n_outliers=int((~kept).sum()),
    )


def _usable(
    beam_shift: NDArray[np.float64],
    offset_um: NDArray[np.float64],
    run: NDArray[np.object_],
    area: NDArray[np.object_],
    hole: NDArray[np.object_],
) -> NDArray[np.bool_]:
    """Which exposures (n,) have everything, are of a usual shot and in a run of two holes or more."""
    used = np.isfinite(beam_shift).all(axis=1) & (run != "")
    used &= (np.abs(offset_um) <= FARTHEST_UM).all(axis=1)
    if used.any():
        farthest = _FARTHEST_IN_MEDIANS * _usual_length(beam_shift[used])
        used &= (np.abs(beam_shift) <= farthest).all(axis=1)
    areas = pd.Series(area)
    used &= areas.isin(areas[used].value_counts().index[:_MOST_AREAS]).to_numpy()
    holes = pd.Series(hole[used]).groupby(run[used]).nunique()
    several = pd.Series(run).isin(holes.index[holes > 1])
    return np.asarray(used & several.to_numpy(), dtype=np.bool_)


def _usual_length(beam_shift: NDArray[np.float64]) -> float:
    """Median of the beam shifts that are not zero; 1 where all are."""
    length = np.abs(beam_shift).max(axis=1)
    return float(np.median(length[length > 0])) if length.any() else 1.0


def _by_name(names: NDArray[np.object_], offsets_um: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    return {str(name): (x, y) for name, (x, y) in zip(names, offsets_um.tolist(), strict=True)}


@dataclass(frozen=True)
class _Rows:
    """The exposures that a map is fitted to."""

    beam_shift: NDArray[np.float64]  # (n, 2) in units of the usual length
    offset_um: NDArray[np.float64]  # (n, 2)
    run: NDArray[np.intp]  # (n,) index into runs
    runs: NDArray[np.object_]
    area: NDArray[np.intp]  # (n,) index into areas
    areas: NDArray[np.object_]

    @classmethod
    def of(
        cls,
        beam_shift: NDArray[np.float64],
        offset_um: NDArray[np.float64],
        run: NDArray[np.object_],
        area: NDArray[np.object_],
    ) -> _Rows:
        runs, run_index = np.unique(run.astype(str), return_inverse=True)
        areas, area_index = np.unique(area.astype(str), return_inverse=True)
        return cls(
            beam_shift, offset_um, run_index, runs.astype(np.object_), area_index, areas.astype(np.object_)
        )

    def means(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted mean of values (n, k) in each run: (runs, k), NaN where nothing has weight."""
        size = len(self.runs)
        total = np.bincount(self.run, weights, size)
        sums = [np.bincount(self.run, weights * column, size) for column in values.T]
        return np.stack(sums, axis=1) / np.where(total > 0, total, np.nan)[:, None]

    def within(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (n, k) less the mean of their run; 0 where the run has no weight."""
        return np.nan_to_num(values - self.means(values, weights)[self.run])

    def shots(self) -> NDArray[np.float64]:
        """(n, areas), 1 in the column of the exposure's area."""
        return np.eye(len(self.areas))[self.area]

    def flatness(self) -> float:
        """Smaller over larger spread of the beam shift between holes of a run, shots apart; 0 without any."""
        ones = np.ones(len(self.run))
        shift, shots = self.within(self.beam_shift, ones), self.within(self.shots(), ones)
        between = shift - shots @ np.linalg.lstsq(shots, shift)[0]
        larger, smaller = np.linalg.svd(between, compute_uv=False)
        return float(smaller / larger) if larger > 0 else 0.0

    def spread_um(self, kept: NDArray[np.bool_]) -> float:
        """Root mean square distance of the holes from the mean of their run."""
        apart_um = self.within(self.offset_um, kept.astype(np.float64))[kept]
        return float(np.sqrt(np.mean((apart_um**2).sum(axis=1))))

    def fit(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Matrix (2, 2) in um per unit here, offset of each area (areas, 2) with mean 0, weights (n,)."""
        design = np.concatenate([self.beam_shift, self.shots()], axis=1)
        weights = np.ones(len(design))
        for iteration in range(_ITERATIONS):
            inside, target_um = self.within(design, weights), self.within(self.offset_um, weights)
            weighted = inside * weights[:, None]
            # Offsets of areas are known but for a constant: the shortest solution is as good as any.
            solution = np.linalg.lstsq(weighted.T @ inside, weighted.T @ target_um, rcond=1e-10)[0]
            distance_um = np.hypot(*(target_um - inside @ solution).T)
            scale_um = max(float(np.median(distance_um)) / _MEDIAN_OF_DISTANCE, _SMALLEST_SCALE_UM)
            if iteration < _ITERATIONS // 2:
                weights = scale_um / np.maximum(distance_um, 0.1 * scale_um)
            elif iteration < _ITERATIONS - 1:
                weights = np.maximum(1.0 - (distance_um / (_TUKEY_SCALES * scale_um)) ** 2, 0.0) ** 2
        areas = solution[2:]
        return np.asarray(solution[:2].T, dtype=np.float64), areas - areas.mean(axis=0), weights
