"""The one model of a data-collection session that every vendor's files are read into.

A session is a tree (grid > square > patch > hole) with exposures, predictions and the provenance of each
field; the tables are pandas, the ids are the vendor's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from cryoscout.core.errors import DataError, InputError, UnknownNameError
from cryoscout.core.hole_tree import HoleTree
from cryoscout.core.settings import Settings
from cryoscout.core.units import (
    GOOD_THRESHOLD_ANGSTROM,
    LEAST_THRESHOLD_ANGSTROM,
    MOST_THRESHOLD_ANGSTROM,
    is_failed_fit,
)
from cryoscout.session.ctf_runs import check_ctf_runs
from cryoscout.session.overrides import Overrides
from cryoscout.session.recorded_order import NUMBERED_IN_ORDER, RecordedOrder, recorded_order_of
from cryoscout.session.tables import CTF_COLUMNS, OPTIONAL_COLUMNS, TABLES, empty_table, typed_table
from cryoscout.session.vendor_fields import unpacked

Outcome = Literal["measured", "failed", "pending", "none"]

OUTCOMES: tuple[str, ...] = ("measured", "failed", "pending", "none")
"""`measured`: it has a CTF resolution; `failed`: imaged, no fit, not good; `pending`: imaged, no result yet;
`none`: not imaged."""

OWN_PREDICTIONS = {"p_good": "own p_good", "score": "own score"}
"""Readers that `provenance` has of a site's own predictions, the model's id as field: these are used as they are."""

_IDS = {
    "grids": "grid_id",
    "squares": "square_id",
    "patches": "patch_id",
    "holes": "hole_id",
    "exposures": "exposure_id",
}
_PARENTS = (
    ("squares", "grid_id", "grids"),
    ("patches", "square_id", "squares"),
    ("holes", "patch_id", "patches"),
    ("exposures", "hole_id", "holes"),
    ("ctf_runs", "exposure_id", "exposures"),
    ("predictions", "hole_id", "holes"),
)


class Reading(Settings):
    """How the operator said that the session's files are to be read: later ones are read alike."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Of own tables: meaning -> header."""
    position_unit: Literal["um", "px"] | None = None
    """Of x and y of own tables."""
    presets: tuple[str, ...] | None = None
    """Of Leginon's exposures."""
    patch_radius_um: float | None = None
    """Of patches of holes that no file puts into one."""


class SessionInfo(Settings):
    """What is said about a session as a whole."""

    format: str
    """The format it was read from: 'leginon', 'epu', 'serialem', 'simulated', ..."""
    built_in: bool = False
    """Shipped with cryoscout: planned as new, at the published times."""
    shots: Annotated[int, Field(ge=1)] = 1
    """Exposures per hole, constant within a session."""
    default_time_model: Literal["cryorl", "fitted"] = "fitted"
    """`cryorl` for built-in and simulated sessions and where times are missing."""
    threshold_angstrom: Annotated[float, Field(ge=LEAST_THRESHOLD_ANGSTROM, le=MOST_THRESHOLD_ANGSTROM)] = (
        GOOD_THRESHOLD_ANGSTROM
    )
    """A micrograph is good when its CTF resolution is at or below this (angstrom)."""
    description: str = ""
    origin: str = ""
    """Where the data comes from, for people."""
    licence: str = ""
    dataset: str = ""
    """The published dataset the holes belong to; sessions of one dataset share its split and its models."""
    split: str = ""
    """The part of the dataset: 'train', 'val', 'all', or empty where there is none."""
    refused_models: dict[str, str] = Field(default_factory=dict)
    """Model id -> why its predictions must never stand in this session."""
    reading: Reading = Field(default_factory=Reading)
    """How its files are read."""


@dataclass(frozen=True, eq=False)
class Session:
    """One session. Tables are not to be changed in place; every change makes a new Session.

    name : of the session, for people and folder names
    grids : grid_id     squares : square_id, grid_id, x_um and y_um     patches : patch_id, square_id
    holes : hole_id, patch_id, x_px and y_px (position on the parent image in its pixels, as the vendor wrote it:
        from the centre of the patch image for Leginon; NaN where unknown), image_row (row in the patch's image
        array, NA without an image), x_um and y_um, chosen (whether the operator had chosen it; NA: not said)
    exposures : exposure_id, hole_id, shot (1..shots), started_at (naive microscope time, NaT allowed),
        outcome (one of OUTCOMES), ctf_max_res_angstrom (NaN unless measured), stage_x_um and stage_y_um (where
        the stage stood: the same for all of an image-shift cluster)
    x_um, y_um, stage_x_um, stage_y_um : stage frame, um, NaN unknown
    ctf_runs : every CTF result that was read of an exposure, not the best alone (see `ctf_runs`): exposure_id, run
        (1.. in the order they came), source (file name, "" for a result that was stored without its run), reader,
        ctf_max_res_angstrom (as written; NaN: inf), taken (it is the exposure's result), CTF_COLUMNS (NaN unknown),
        line (of the file), fields (a JSON object of all other columns, as text)
    vendor_fields : what the files say of a record beyond these tables (see `vendor_fields`, `fields_of`)
    Columns that may be left out: x_um, y_um, stage_x_um, stage_y_um, chosen, CTF_COLUMNS, line.
    predictions : hole_id, model_id, threshold_angstrom (NaN for a model that predicts a CTF resolution),
        p_good (NaN for such a model), ctf_predicted_angstrom (NaN for others), predicted_at (NaT: not known)
    provenance : table, field, file, reader
    overrides : what operators said against the plan, as it holds now (see `overrides`)

    Order: grids, squares, patches and holes by their parent's place, then by id, shorter ids first (10 after 9);
    exposures by hole and shot, ctf_runs by exposure and run. So the order of a file's lines decides nothing.
    Raises DataError when a table breaks a rule: unknown columns, ids twice, parents that do not exist, outcomes, CTF
    values or probabilities out of range, a run that is taken and is not the result, more shots than the session has,
    a refused model.
    """

    name: str
    info: SessionInfo
    grids: pd.DataFrame
    squares: pd.DataFrame
    patches: pd.DataFrame
    holes: pd.DataFrame
    exposures: pd.DataFrame = field(default_factory=lambda: empty_table("exposures"))
    predictions: pd.DataFrame = field(default_factory=lambda: empty_table("predictions"))
    provenance: pd.DataFrame = field(default_factory=lambda: empty_table("provenance"))
    ctf_runs: pd.DataFrame = field(default_factory=lambda: empty_table("ctf_runs"))
    vendor_fields: pd.DataFrame = field(default_factory=lambda: empty_table("vendor_fields"))
    overrides: Overrides = field(default_factory=Overrides)

    def __post_init__(self) -> None:
        for table in TABLES:
            object.__setattr__(self, table, typed_table(table, getattr(self, table)))
        for table, id_column in _IDS.items():
            _check_unique(table, id_column, getattr(self, table))
        _check_models(self.predictions, self.info)
        self._sort_by_id("grids", np.zeros(len(self.grids), dtype=np.int64))
        for table, column, parent in _PARENTS:
            place = _places(table, column, getattr(self, table), getattr(self, parent))
            if table in ("squares", "patches", "holes"):
                self._sort_by_id(table, place)
            elif table == "exposures":
                self._sort(table, place, self.exposures["shot"].to_numpy())
            elif table == "ctf_runs":
                runs_place = np.sort(place)
                self._sort(table, place, self.ctf_runs["run"].to_numpy())
        _check_exposures(self.exposures, self.info.shots)
        check_ctf_runs(self.ctf_runs, self.exposures, runs_place)
        _check_predictions(self.predictions)

    def _sort_by_id(self, table: str, place: NDArray[np.int64]) -> None:
        """By place, then by length of the id, then by id; a table that is in order already costs little."""
        ids = getattr(self, table)[_IDS[table]]
        lengths = ids.str.len().to_numpy(dtype=np.int64)
        texts = ids.to_numpy(dtype=object)
        before, after = (place[:-1], lengths[:-1]), (place[1:], lengths[1:])
        equal = (before[0] == after[0]) & (before[1] == after[1])
        rises = (before[0] < after[0]) | ((before[0] == after[0]) & (before[1] < after[1]))
        if not np.all(rises | (equal & (texts[:-1] <= texts[1:]))):
            order = sorted(range(len(place)), key=lambda row: (place[row], lengths[row], texts[row]))
            object.__setattr__(self, table, getattr(self, table).iloc[order].reset_index(drop=True))

    def _sort(self, table: str, place: NDArray[np.int64], then_by: NDArray[np.int64] | None = None) -> None:
        keys = (place,) if then_by is None else (then_by, place)
        order = np.lexsort(keys)
        if np.any(np.diff(order) != 1):
            object.__setattr__(self, table, getattr(self, table).iloc[order].reset_index(drop=True))

    @property
    def n_holes(self) -> int:
        """Number of holes n."""
        return len(self.holes)

    def tree(self) -> HoleTree:
        """Which patch, square and grid each hole is in, by the tables' order."""
        return HoleTree(
            _places("holes", "patch_id", self.holes, self.patches).astype(np.int32),
            _places("patches", "square_id", self.patches, self.squares).astype(np.int32),
            _places("squares", "grid_id", self.squares, self.grids).astype(np.int32),
        )

    def hole_index(self, hole_id: str) -> int:
        """Index of the hole in the tables' order. Raises InputError with the nearest id."""
        found = np.flatnonzero((self.holes["hole_id"] == hole_id).to_numpy())
        if len(found):
            return int(found[0])
        near = difflib.get_close_matches(hole_id, self.holes["hole_id"].head(5000).tolist(), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"The hole must be one of session {self.name}. Got {hole_id!r} instead.{hint}")

    def _hole_of_exposure(self) -> NDArray[np.int64]:
        return _places("exposures", "hole_id", self.exposures, self.holes)

    def _any_exposure(self, outcomes: tuple[str, ...]) -> NDArray[np.bool_]:
        chosen = self.exposures["outcome"].isin(outcomes).to_numpy()
        holes = np.zeros(self.n_holes, dtype=bool)
        holes[self._hole_of_exposure()[chosen]] = True
        return holes

    def measured_by_hole(self) -> NDArray[np.bool_]:
        """(n,) bool: at least one exposure of the hole has a result (measured or failed)."""
        return self._any_exposure(("measured", "failed"))

    def imaged_by_hole(self) -> NDArray[np.bool_]:
        """(n,) bool: at least one exposure of the hole was taken, with or without a result."""
        return self._any_exposure(("measured", "failed", "pending"))

    def good_by_hole(self, threshold_angstrom: float) -> NDArray[np.float64]:
        """(n,) good micrographs of each hole; NaN where none has a result. A failed fit is not good."""
        exposures, hole = self.exposures, self._hole_of_exposure()
        good = (exposures["ctf_max_res_angstrom"] <= threshold_angstrom).to_numpy()
        count = np.bincount(hole, weights=good, minlength=self.n_holes).astype(np.float64)
        count[~self.measured_by_hole()] = np.nan
        return count

    def good_by_majority(self, threshold_angstrom: float) -> NDArray[np.float64]:
        """(n,) 1 where at least half of a hole's results are good, 0 where fewer are, NaN where it has none.

        `good_by_hole` counts micrographs, which is what a route collects; this is the one label of a hole, which is
        what its one image can be asked for. They agree where each hole has one result.
        """
        count, results = self.good_by_hole(threshold_angstrom), self.results_by_hole()
        return np.where(results > 0, 2.0 * count >= results, np.nan).astype(np.float64)

    def results_by_hole(self) -> NDArray[np.float64]:
        """(n,) exposures of each hole that have a result (measured or failed): the shots behind `good_by_hole`."""
        has_result = self.exposures["outcome"].isin(("measured", "failed")).to_numpy()
        return np.bincount(self._hole_of_exposure()[has_result], minlength=self.n_holes).astype(np.float64)

    def chosen_holes(self) -> int | None:
        """How many holes the operator had chosen; None where no file says which."""
        chosen = self.holes["chosen"]
        return None if chosen.isna().all() else int(chosen.sum())

    def exposures_with_ctf(self) -> pd.DataFrame:
        """`exposures` and, beside them, the CTF_COLUMNS of the run that was taken; NaN where unknown or none was.

        They are looked up, not stored a second time: the run has them, and most sessions have none.
        """
        taken = self.ctf_runs[self.ctf_runs["taken"]]
        place = pd.Index(taken["exposure_id"]).get_indexer(pd.Index(self.exposures["exposure_id"]))
        columns = taken[list(CTF_COLUMNS)].reset_index(drop=True).reindex(place)
        return self.exposures.assign(**{name: columns[name].to_numpy() for name in CTF_COLUMNS})

    def fields_of(self, record_id: str) -> dict[str, str]:
        """What the files say beyond the tables of a square, a hole, an exposure or something that has no table.

        Field -> text; where several readers know the id, their fields are together, later ones first. Empty for an id
        of which nothing more is known.
        """
        together: dict[str, str] = {}
        for fields in unpacked(self.vendor_fields, [record_id]).values():
            together |= fields
        return together

    def last_imaged_hole(self) -> int | None:
        """Index of the hole whose exposure started last; None where no imaged exposure has a time."""
        imaged = (self.exposures["outcome"] != "none") & self.exposures["started_at"].notna()
        if not imaged.any():
            return None
        last = self.exposures["started_at"].where(imaged).argmax()
        return int(self._hole_of_exposure()[last])

    def recorded_order(self) -> RecordedOrder | None:
        """The holes with a result in the order they were imaged, and whether times or names say so.

        None where neither does, or no hole has a result.
        """
        numbered = self.info.format in NUMBERED_IN_ORDER
        return recorded_order_of(self.exposures, self._hole_of_exposure(), self.n_holes, numbered)

    def counts(self) -> dict[str, object]:
        """Sizes for people and JSON: of each level, exposures taken, and outcomes of all shots."""
        taken = self.exposures["outcome"].value_counts()
        outcomes = {outcome: int(taken.get(outcome, 0)) for outcome in OUTCOMES}
        exposures = sum(outcomes[outcome] for outcome in ("measured", "failed", "pending"))
        outcomes["none"] = self.n_holes * self.info.shots - exposures
        return {
            "grids": len(self.grids),
            "squares": len(self.squares),
            "patches": len(self.patches),
            "holes": self.n_holes,
            "exposures": exposures,
            "outcomes": outcomes,
        }

    def models(self) -> list[str]:
        """Ids of the models with predictions, in order of first appearance."""
        return [str(model) for model in self.predictions["model_id"].unique()]

    def prediction(self, model_id: str, threshold_angstrom: float) -> NDArray[np.float64]:
        """(n,) p_good of the model's newest predictions for this threshold.

        A model that predicts a CTF resolution gives the hard label 1 or 0 at any threshold.
        Raises UnknownNameError for a model without predictions, DataError when its p_good was made for
        another threshold or a hole has none.
        """
        rows = self.predictions[self.predictions["model_id"] == model_id]
        if rows.empty:
            raise UnknownNameError("The prediction model", model_id, self.models())
        probabilities = rows[
            np.isclose(rows["threshold_angstrom"], threshold_angstrom) & rows["p_good"].notna()
        ]
        values = pd.Series(probabilities["p_good"])
        if probabilities.empty:
            probabilities = rows[rows["ctf_predicted_angstrom"].notna()]
            values = (probabilities["ctf_predicted_angstrom"] <= threshold_angstrom).astype("float64")
        if probabilities.empty:
            made_for = ", ".join(f"{value:g}" for value in sorted(rows["threshold_angstrom"].unique()))
            raise DataError(
                f"The threshold of model {model_id!r} must be {made_for} angstrom, for which its p_good was "
                f"made. Got {threshold_angstrom:g} instead. "
                "Remedy: use that threshold, or predict the session again."
            )
        oldest_first = np.argsort(
            probabilities["predicted_at"].fillna(pd.Timestamp.min).to_numpy(), kind="stable"
        )
        p_good = np.full(self.n_holes, np.nan)
        hole = _places("predictions", "hole_id", probabilities, self.holes)
        p_good[hole[oldest_first]] = values.to_numpy()[oldest_first]
        missing = np.flatnonzero(np.isnan(p_good))
        if len(missing):
            first = ", ".join(self.holes["hole_id"].iloc[missing[:3]])
            raise DataError(
                f"Model {model_id!r} must have a prediction for every hole. Got none for {len(missing)} of "
                f"{self.n_holes} holes instead (first: {first}). Remedy: predict the session again."
            )
        return p_good

    def with_predictions(self, predictions: pd.DataFrame) -> Session:
        """A session with these prediction rows added; none is overwritten, reading takes the newest.

        Raises DataError when a hole is not of this session or the session refuses the model.
        """
        added = typed_table("predictions", predictions)
        return replace(self, predictions=pd.concat([self.predictions, added], ignore_index=True))

    def with_p_good(
        self,
        model_id: str,
        threshold_angstrom: float,
        p_good: NDArray[np.float64],
        predicted_at: pd.Timestamp | None = None,
    ) -> Session:
        """A session with a model's p_good, (n,) in the order of the holes, made for this threshold."""
        if p_good.shape != (self.n_holes,):
            raise InputError(f"p_good must have shape ({self.n_holes},). Got {p_good.shape} instead.")
        return self.with_predictions(
            pd.DataFrame(
                {
                    "hole_id": self.holes["hole_id"],
                    "model_id": model_id,
                    "threshold_angstrom": threshold_angstrom,
                    "p_good": p_good,
                    "ctf_predicted_angstrom": np.nan,
                    "predicted_at": pd.NaT if predicted_at is None else predicted_at,
                }
            )
        )

    def subset(self, hole_mask: NDArray[np.bool_], name: str) -> Session:
        """The holes of the mask, (n,) bool, with what belongs to them; levels left empty go."""
        if hole_mask.shape != (self.n_holes,) or hole_mask.dtype != np.bool_:
            raise InputError(
                f"hole_mask must be a boolean array of shape ({self.n_holes},). "
                f"Got {hole_mask.dtype} {hole_mask.shape} instead."
            )
        holes = self.holes[hole_mask]
        patches = self.patches[self.patches["patch_id"].isin(holes["patch_id"])]
        squares = self.squares[self.squares["square_id"].isin(patches["square_id"])]
        exposures = self.exposures[self.exposures["hole_id"].isin(holes["hole_id"])]
        return replace(
            self,
            name=name,
            grids=self.grids[self.grids["grid_id"].isin(squares["grid_id"])],
            squares=squares,
            patches=patches,
            holes=holes,
            exposures=exposures,
            ctf_runs=self.ctf_runs[self.ctf_runs["exposure_id"].isin(exposures["exposure_id"])],
            vendor_fields=self._fields_without(squares, holes, exposures),
            predictions=self.predictions[self.predictions["hole_id"].isin(holes["hole_id"])],
        )

    def _fields_without(
        self, squares: pd.DataFrame, holes: pd.DataFrame, exposures: pd.DataFrame
    ) -> pd.DataFrame:
        """Rows of `vendor_fields` but for squares, holes and exposures of this session that are not among these."""
        ids = self.vendor_fields["record_id"]
        gone = np.zeros(len(ids), dtype=bool)
        for table, column, kept in (
            ("squares", "square_id", squares),
            ("holes", "hole_id", holes),
            ("exposures", "exposure_id", exposures),
        ):
            gone |= (ids.isin(getattr(self, table)[column]) & ~ids.isin(kept[column])).to_numpy()
        return self.vendor_fields[~gone]


def outcome_of_ctf(ctf_max_res_angstrom: float) -> tuple[Outcome, float]:
    """(outcome, CTF to keep): inf and >= 100 angstrom are failed and keep NaN; NaN is pending."""
    if np.isnan(ctf_max_res_angstrom):
        return "pending", float("nan")
    if is_failed_fit(ctf_max_res_angstrom):
        return "failed", float("nan")
    return "measured", float(ctf_max_res_angstrom)


def session_from_holes(
    name: str,
    info: SessionInfo,
    holes: pd.DataFrame,
    exposures: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Session:
    """Build a session from a flat list of holes.

    holes : hole_id, patch_id, square_id, grid_id, x_px, y_px and, where there are images, image_row, where
        they are known, x_um, y_um and chosen; levels are ordered by id     exposures : as in Session
    tables : further tables (predictions, provenance)
    Raises DataError when a patch lies in two squares, a square in two grids, or a rule of Session is broken.
    """
    placed = [column for column in OPTIONAL_COLUMNS["holes"] if column in holes]
    squares = holes[["square_id", "grid_id"]].drop_duplicates().sort_values("square_id", kind="stable")
    patches = holes[["patch_id", "square_id"]].drop_duplicates().sort_values("patch_id", kind="stable")
    grids = holes[["grid_id"]].drop_duplicates().sort_values("grid_id", kind="stable")
    own = holes[["hole_id", "patch_id", "x_px", "y_px", *placed]].assign(
        image_row=holes["image_row"]
        if "image_row" in holes
        else pd.array([pd.NA] * len(holes), dtype="Int64")
    )
    session = Session(name, info, grids, squares, patches, own, exposures)
    further: dict[str, Any] = dict(tables or {})
    return replace(session, **further) if further else session


def session_without_rows(name: str) -> Session:
    """A session of which nothing is known yet; what comes first says its format."""
    grids, squares, patches, holes = (
        empty_table(table) for table in ("grids", "squares", "patches", "holes")
    )
    return Session(
        name, SessionInfo(format="generic"), grids, squares, patches, holes, empty_table("exposures")
    )


def _check_unique(table: str, column: str, frame: pd.DataFrame) -> None:
    twice = frame[column].duplicated()
    if twice.any():
        first = frame.loc[twice, column].iloc[0]
        raise DataError(
            f"{table}.{column} must be unique. Got {first!r} again instead ({int(twice.sum())} repeats). "
            "Remedy: remove the repeated rows from the input, or import the sessions one by one."
        )


def _places(table: str, column: str, frame: pd.DataFrame, parents: pd.DataFrame) -> NDArray[np.int64]:
    """Row of each entry's parent in the parent table, (rows,) int64."""
    place: NDArray[np.int64] = pd.Index(parents[column]).get_indexer(pd.Index(frame[column])).astype(np.int64)
    orphans = np.flatnonzero(place < 0)
    if len(orphans):
        raise DataError(
            f"{table}.{column} must name a row of its parent table. "
            f"Got {frame[column].iloc[orphans[0]]!r} in row {orphans[0]} instead ({len(orphans)} such rows)."
        )
    return place


def _refuse_rows(frame: pd.DataFrame, bad: NDArray[np.bool_], column: str, rule: str) -> None:
    """Raise DataError naming the first row of a mask, (rows,) bool; nothing when the mask is empty."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        name = frame.iloc[row, 0]
        raise DataError(
            f"{column} must be {rule}. Got {frame[column.split('.')[-1]].iloc[row]!r} for {name!r} instead "
            f"({int(bad.sum())} such rows)."
        )


def _check_exposures(exposures: pd.DataFrame, shots: int) -> None:
    outcome = exposures["outcome"]
    _refuse_rows(
        exposures, ~outcome.isin(OUTCOMES).to_numpy(), "exposures.outcome", f"one of {', '.join(OUTCOMES)}"
    )
    ctf = exposures["ctf_max_res_angstrom"].to_numpy()
    measured = (outcome == "measured").to_numpy()
    column = "exposures.ctf_max_res_angstrom"
    in_range = (ctf > 0) & (ctf < 100.0)
    _refuse_rows(
        exposures, measured & ~in_range, column, "above 0 and below 100 angstrom where it is measured"
    )
    _refuse_rows(exposures, ~measured & ~np.isnan(ctf), column, "NaN unless the outcome is 'measured'")
    shot = exposures["shot"].to_numpy()
    _refuse_rows(
        exposures, (shot < 1) | (shot > shots), "exposures.shot", f"between 1 and {shots}, the shots per hole"
    )
    twice = exposures.duplicated(["hole_id", "shot"]).to_numpy()
    _refuse_rows(exposures, twice, "exposures.shot", "given once per hole")


def _check_models(predictions: pd.DataFrame, info: SessionInfo) -> None:
    for model_id in predictions["model_id"].unique():
        if model_id in info.refused_models:
            raise DataError(
                f"Predictions must belong to the session's dataset {info.dataset!r}. "
                f"Got model {model_id!r} instead: {info.refused_models[model_id]}"
            )


def _check_predictions(predictions: pd.DataFrame) -> None:
    p_good = predictions["p_good"].to_numpy()
    ctf = predictions["ctf_predicted_angstrom"].to_numpy()
    threshold = predictions["threshold_angstrom"].to_numpy()
    _refuse_rows(predictions, (p_good < 0) | (p_good > 1), "predictions.p_good", "between 0 and 1")
    neither = np.isnan(p_good) & np.isnan(ctf)
    _refuse_rows(predictions, neither, "predictions.p_good", "given where no CTF resolution is predicted")
    unrated = ~np.isnan(p_good) & ~(threshold > 0)
    _refuse_rows(predictions, unrated, "predictions.threshold_angstrom", "above 0 wherever p_good is given")
    bad_ctf = ~np.isnan(ctf) & ~(np.isfinite(ctf) & (ctf > 0))
    _refuse_rows(predictions, bad_ctf, "predictions.ctf_predicted_angstrom", "above 0 and finite")
