"""The places of a session from what sources say: which grid, square, patch and hole everything is in.

A hole's patch is what the reader says. Where it says none: a cluster of positions, `<square>_cluster_<first hole>`, of
the radius that the user or the source says, else of PATCH_RADIUS_UM; `<square>_square`, the whole square as one patch,
where no hole of it has a position; `<square>_unplaced` for a hole without a position among clusters. A patch's name
that several squares have is kept by the first and becomes `<square>/<patch>` in the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from cryoscout.core.counting import agreed, counted
from cryoscout.core.errors import DataError
from cryoscout.formats.clusters import PATCH_RADIUS_UM, cluster_positions, notes_on_radius
from cryoscout.formats.records import LOOK_COLUMNS, PATCH_COLUMNS, SQUARE_COLUMNS, SourceRecords
from cryoscout.intake.notes_on_squares import note_on_other_grids, notes_on_squares
from cryoscout.session.model import Session
from cryoscout.session.tables import OPTIONAL_COLUMNS, TABLES, empty_table, missing_column, with_gaps_filled

_SQUARES = (*SQUARE_COLUMNS, *LOOK_COLUMNS)
_HOLES = ("hole_id", "patch_id", "square_id", "grid_id", "x_um", "y_um", "x_px", "y_px", "chosen")
_EXPOSURES = (
    "exposure_id",
    "hole_id",
    "square_id",
    "grid_id",
    "shot_key",
    "started_at",
    "stage_x_um",
    "stage_y_um",
)


@dataclass
class Places:
    """Tables of a session, and the exposures with the hole of each."""

    grids: pd.DataFrame
    squares: pd.DataFrame
    patches: pd.DataFrame
    holes: pd.DataFrame
    exposures: pd.DataFrame
    """exposure_id, hole_id ("" unknown), shot_key, started_at, stage_x_um, stage_y_um; those of the sources alone."""
    n_new_holes: int
    shares_with_stored: bool
    """Whether a square or hole of the sources is one of the stored session."""
    notes: list[str] = field(default_factory=list)


def places_of_sources(
    chosen: Sequence[SourceRecords],
    stored: Session | None,
    cluster_radius_um: float | None,
    radius_is_new: bool = True,
) -> Places:
    """The places that sources of one format say, added to those of a stored session.

    Stored holes stay as they are, but for one of which it is known only now where the stage stood when it was imaged:
    it comes into the patch it was imaged in. Missing positions are filled, and a square that was not looked at before
    may be now. What holes are chosen is what the file says
    now, but an imaged hole stays chosen: programs take their mark off what is done. Raises DataError where an id stands
    for two places.
    """
    chosen = _with_own_grids(chosen)
    patches = _merged(
        [source.patches for source in chosen], PATCH_COLUMNS, "patch_id", ["square_id", "grid_id"]
    )
    squares = _merged([source.squares for source in chosen], _SQUARES, "square_id", ["grid_id"])
    squares = _with_squares_of(patches, squares)
    holes = _merged([source.holes for source in chosen], _HOLES, "hole_id", ["square_id", "grid_id"])
    exposures = _merged([source.exposures for source in chosen], _EXPOSURES, "exposure_id", ["hole_id"])
    notes: list[str] = []
    exposures = _own_holes(exposures, holes, stored, notes)
    known = _flat(stored)
    holes = _with_holes_of_exposures(holes, exposures, known, notes)
    otherwise = _grid_otherwise(chosen, known, stored)
    if stored is not None and stored.info.format == "generic":
        is_foreign = _of_another_grid(squares, stored.squares)
        if is_foreign.any():
            notes.append(note_on_other_grids(squares[is_foreign], stored.squares))
            squares = squares[~is_foreign].reset_index(drop=True)
    holes = _in_grids(holes, squares, known, stored, otherwise, notes)
    shares = bool(
        holes["hole_id"].isin(known["hole_id"]).any()
        or holes["square_id"].isin(known["square_id"]).any()
        or (stored is not None and squares["square_id"].isin(stored.squares["square_id"]).any())
        or exposures["hole_id"].isin(known["hole_id"]).any()
    )
    given = holes["patch_id"] != ""
    if cluster_radius_um is not None and radius_is_new:
        notes += notes_on_radius(holes, known, chosen[0].format)
    telling = next((each for each in chosen if each.cluster_radius_um), None)
    radius_um = cluster_radius_um or (None if telling is None else telling.cluster_radius_um)
    said_by = "" if radius_um else ", which no file says: --patch-radius-um says another"
    if cluster_radius_um is None and telling is not None and len(chosen) > 1:
        said_by = f", as {telling.path.name} says"
    stored_ids = frozenset(known["hole_id"])
    holes = holes.assign(patch_id=_patches(holes, radius_um or PATCH_RADIUS_UM, said_by, stored_ids, notes))
    _refuse_patches_of_two_squares(patches, stored)
    named = patches if stored is None else pd.concat([stored.patches, patches], ignore_index=True)
    holes = holes.assign(patch_id=_told_apart(holes, named))
    is_new = ~holes["hole_id"].isin(known["hole_id"])
    moved = _moved(holes[given & ~is_new], exposures, stored)
    before, emptied = _stored_holes(stored, moved)
    before = _chosen_now(with_gaps_filled("holes", before, holes), holes, exposures, stored)
    new = holes[is_new].assign(image_row=pd.array([pd.NA] * int(is_new.sum()), dtype="Int64"))
    used = pd.concat([holes[is_new], holes[holes["hole_id"].isin(moved["hole_id"])]])
    all_squares = _extended("squares", stored, _placed_squares(used, squares, otherwise), "square_id")
    all_patches = _extended("patches", stored, _joined_rows([_of_holes(used), patches]), "patch_id", emptied)
    return Places(
        # Of the squares as they are kept: one that is stored stays in its grid, whatever a later file calls that.
        grids=_extended("grids", stored, all_squares, "grid_id"),
        squares=with_gaps_filled("squares", all_squares, squares),
        patches=with_gaps_filled("patches", all_patches, patches),
        holes=_joined_rows([before, new[list(TABLES["holes"])]]),
        exposures=exposures,
        n_new_holes=int(is_new.sum()),
        shares_with_stored=shares,
        notes=notes
        + notes_on_squares(
            [_normal(source.squares, _SQUARES) for source in chosen if len(source.squares)],
            patches,
            holes,
            known,
            None if stored is None else stored.squares,
        ),
    )


def _of_holes(holes: pd.DataFrame) -> pd.DataFrame:
    """Patches that hold the holes, as rows of PATCH_COLUMNS: of a look at them nothing is said."""
    return _normal(holes[["patch_id", "square_id", "grid_id"]], PATCH_COLUMNS)


def _of_another_grid(squares: pd.DataFrame, stored: pd.DataFrame) -> pd.Series[bool]:
    """(k,) which squares of a site's own table name another grid than the stored ones of their names.

    Vendors' squares have ids of their own, whatever a file calls the grid.
    """
    grid_of = dict(zip(stored["square_id"], stored["grid_id"], strict=True))
    before = squares["square_id"].map(grid_of)
    return (squares["grid_id"] != "") & before.notna() & (before != squares["grid_id"])


def _refuse_patches_of_two_squares(patches: pd.DataFrame, stored: Session | None) -> None:
    """Raise DataError where a patch that a source names is in another square of the session."""
    if stored is None:
        return
    square_before = dict(zip(stored.patches["patch_id"], stored.patches["square_id"], strict=True))
    for patch, square in zip(patches["patch_id"], patches["square_id"], strict=True):
        before = square_before.get(patch, square)
        if before != square:
            raise DataError(
                f"A patch must be in one square. Got {patch!r} in {square!r} and in {before!r} instead. Remedy: "
                "patches of two squares must have names of their own, such as SQUARE/PATCH."
            )


def _with_squares_of(patches: pd.DataFrame, squares: pd.DataFrame) -> pd.DataFrame:
    """The squares and, below them, those that only patches name."""
    only = patches.loc[~patches["square_id"].isin(squares["square_id"]), ["square_id", "grid_id"]]
    if only.empty:
        return squares
    return _joined_rows(
        [squares, _normal(only.drop_duplicates("square_id").assign(x_um=np.nan, y_um=np.nan), _SQUARES)]
    )


def _merged(
    frames: Sequence[pd.DataFrame], columns: Sequence[str], id_column: str, places: list[str]
) -> pd.DataFrame:
    """One row per id with what the first source says that says anything; DataError where two places are said."""
    filled = [_normal(frame, columns) for frame in frames if len(frame)]
    if not filled:
        return _normal(pd.DataFrame(columns=list(columns)), columns)
    rows = pd.concat(filled, ignore_index=True)
    if not rows[id_column].duplicated().any():
        return rows
    texts = [column for column in columns if _kind(column) == "str"]
    rows[texts] = rows[texts].mask(rows[texts] == "")
    groups = rows.groupby(id_column, sort=False)
    for place in places:
        several = groups[place].nunique()
        if (several > 1).any():
            raise DataError(
                f"A {id_column} must stand for one place. Got {several.index[several > 1][0]!r} with several "
                f"{place} instead. Remedy: import the sessions one by one, each into a place of its own; an atlas of "
                "several sessions comes after them, with --update."
            )
    merged = groups.first().reset_index()[list(columns)]
    return merged.fillna(dict.fromkeys(texts, ""))


def _kind(column: str) -> str:
    if column in ("started_at", "looked_at"):
        return "datetime64[ns]"
    if column in ("chosen", "looked"):
        return "boolean"
    return "float64" if column.endswith(("_um", "_px", "_um2", "brightness")) else "str"


def _normal(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns with their types, "" for a missing text."""
    made = {}
    for column in columns:
        if column in LOOK_COLUMNS and column not in frame:
            made[column] = pd.Series(None, index=frame.index, dtype=pd.api.types.pandas_dtype(_kind(column)))
            continue
        values = frame[column]
        made[column] = (
            values.where(values.notna(), "").astype("str")
            if _kind(column) == "str"
            else values.astype(pd.api.types.pandas_dtype(_kind(column)))
        )
    return pd.DataFrame(made).reset_index(drop=True)


def _own_holes(
    exposures: pd.DataFrame, holes: pd.DataFrame, stored: Session | None, notes: list[str]
) -> pd.DataFrame:
    """Where no source knows holes, each exposure that names none is its own; also later, where the stored session
    began so: some of its exposures are their own holes, or all that it knows are labels of images (SerialEM)."""
    began_so = stored is None
    if stored is not None and len(stored.exposures):
        is_own = stored.exposures["hole_id"] == stored.exposures["exposure_id"]
        # Of an item of a navigator its fields are kept, of a label nothing.
        of_navigator = stored.holes["hole_id"].isin(stored.vendor_fields["record_id"])
        began_so = bool(is_own.any() or (stored.info.format == "serialem" and not of_navigator.any()))
    unnamed = exposures["hole_id"] == ""
    if not unnamed.any() or len(holes) or not began_so:
        return exposures
    notes.append(
        "no source names holes: every exposure is its own hole"
        if unnamed.all()
        else f"{counted(int(unnamed.sum()), 'exposures', 'name')} no hole, nor does any source: each is its own hole"
    )
    return exposures.assign(hole_id=exposures["hole_id"].mask(unnamed, exposures["exposure_id"]))


def _flat(stored: Session | None) -> pd.DataFrame:
    """hole_id, patch_id, square_id, grid_id of a stored session."""
    if stored is None:
        return pd.DataFrame(
            dict.fromkeys(("hole_id", "patch_id", "square_id", "grid_id"), pd.Series([], dtype="str"))
        )
    flat = stored.holes[["hole_id", "patch_id"]].merge(stored.patches, on="patch_id", how="left")
    return flat.merge(stored.squares[["square_id", "grid_id"]], on="square_id", how="left")


def _with_holes_of_exposures(
    holes: pd.DataFrame, exposures: pd.DataFrame, known: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Holes that only exposures name, at the stage position of the first one."""
    is_there = exposures["hole_id"].isin(holes["hole_id"]) | exposures["hole_id"].isin(known["hole_id"])
    only = exposures[~is_there & (exposures["hole_id"] != "")].drop_duplicates("hole_id")
    if only.empty:
        return holes
    if only["stage_x_um"].notna().any():
        notes.append(
            f"{counted(len(only), 'holes')} that only exposures name {agreed(len(only), 'have')} the stage position "
            "of the first one"
        )
    made = only.rename(columns={"stage_x_um": "x_um", "stage_y_um": "y_um"}).assign(
        patch_id="", x_px=np.nan, y_px=np.nan, chosen=pd.array([pd.NA] * len(only), dtype="boolean")
    )
    return _joined_rows([holes, made[list(_HOLES)]])


def _with_own_grids(chosen: Sequence[SourceRecords]) -> Sequence[SourceRecords]:
    """EPU sessions that say no grid, each with its own name for it: an EPU session is of one grid."""
    if len(chosen) < 2 or chosen[0].format != "epu":
        return chosen
    named, taken = [], set()
    for source in chosen:
        name = grid = _name_of(source)
        number = 1
        while grid in taken:
            number += 1
            grid = f"{name}_{number}"
        taken.add(grid)
        tables = {
            table: (frame := getattr(source, table)).assign(
                grid_id=frame["grid_id"].where(frame["grid_id"].fillna("") != "", grid)
            )
            for table in ("squares", "holes", "exposures")
        }
        named.append(replace(source, **tables))
    return named


def _name_of(source: SourceRecords) -> str:
    return source.session_name or source.path.resolve().stem


def _grid_otherwise(chosen: Sequence[SourceRecords], known: pd.DataFrame, stored: Session | None) -> str:
    """The grid of what names none: the only stored one that has holes, or the only one, else the session's name."""
    for grids in (known["grid_id"], known["grid_id"] if stored is None else stored.grids["grid_id"]):
        if grids.nunique() == 1:
            return str(grids.iloc[0])
    return next(map(_name_of, chosen), "") or "grid"


def _in_grids(
    holes: pd.DataFrame,
    squares: pd.DataFrame,
    known: pd.DataFrame,
    stored: Session | None,
    otherwise: str,
    notes: list[str],
) -> pd.DataFrame:
    """Square and grid of every hole, as stored where they are stored."""
    stored_square = dict(zip(known["hole_id"], known["square_id"], strict=True))
    square = _looked_up(holes["hole_id"], stored_square, holes["square_id"])
    grid = holes["grid_id"].mask(holes["grid_id"] == "", otherwise)
    nameless = square == ""
    if nameless.any():
        square = square.mask(nameless, grid + "_square")
        notes.append(
            f"{counted(int(nameless.sum()), 'holes', 'name')} no square: put into one square of the grid"
        )
    # The first that names a grid decides: stored session, table of squares, holes.
    says = pd.concat(
        [
            (known if stored is None else stored.squares)[["square_id", "grid_id"]],
            squares[["square_id", "grid_id"]],
            pd.DataFrame({"square_id": square, "grid_id": holes["grid_id"]}),
        ]
    )
    says = says[says["grid_id"] != ""].drop_duplicates("square_id")
    grid_of = dict(zip(says["square_id"], says["grid_id"], strict=True))
    return holes.assign(square_id=square, grid_id=_looked_up(square, grid_of, grid))


def _looked_up(keys: pd.Series[str], found: Mapping[str, str], otherwise: pd.Series[str]) -> pd.Series[str]:
    values = [found.get(key, other) for key, other in zip(keys, otherwise, strict=True)]
    return pd.Series(values, index=keys.index, dtype="str")


def _patches(
    holes: pd.DataFrame, radius_um: float, said_by: str, stored_ids: Set[str], notes: list[str]
) -> list[str]:
    """Patch of each hole: the reader's, else a cluster, else the square.

    said_by : what the note on clusters adds     stored_ids : of holes that keep their patch, and are in no note
    """
    patch_ids: list[str] = holes["patch_id"].tolist()
    open_rows = np.flatnonzero(holes["patch_id"] == "")
    if not len(open_rows):
        return patch_ids
    hole_ids, left = holes["hole_id"].tolist(), holes.iloc[open_rows]
    clustered = whole = 0
    for square, rows in left.groupby("square_id", sort=False).indices.items():
        inside = left.iloc[rows]
        has_position = np.isfinite(inside[["x_um", "y_um"]].to_numpy()).all(axis=1)
        if not has_position.any():
            whole += sum(hole_ids[open_rows[row]] not in stored_ids for row in rows)
            for row in rows:
                patch_ids[open_rows[row]] = f"{square}_square"
            continue
        labels = cluster_positions(inside["x_um"], inside["y_um"], radius_um)
        clustered += sum(
            label >= 0 and hole_ids[open_rows[row]] not in stored_ids
            for row, label in zip(rows, labels.tolist(), strict=True)
        )
        first: dict[int, str] = {}
        members = [(hole_ids[open_rows[row]], int(open_rows[row])) for row in rows]
        for (hole_id, row), label in sorted(
            zip(members, labels.tolist(), strict=True), key=lambda pair: _by_number(pair[0][0])
        ):
            named = f"cluster_{first.setdefault(label, hole_id)}" if label >= 0 else "unplaced"
            patch_ids[row] = f"{square}_{named}"
    if clustered:
        notes.append(
            f"{counted(clustered, 'holes')} without a patch {agreed(clustered, 'were')} put into patches of radius "
            f"{radius_um:g} um{said_by}"
        )
    if whole:
        notes.append(
            f"{counted(whole, 'holes')} without a patch and without a position in um: the square is one patch"
        )
    return patch_ids


def _by_number(hole_id: str) -> tuple[int, str]:
    return len(hole_id), hole_id


def _told_apart(holes: pd.DataFrame, named: pd.DataFrame) -> list[str]:
    """Patch ids that stand for one square each.     named : patches of the session and those that sources name"""
    first = dict(zip(named["patch_id"], named["square_id"], strict=True))
    told = []
    for patch, square in zip(holes["patch_id"].tolist(), holes["square_id"].tolist(), strict=True):
        told.append(patch if first.setdefault(patch, square) == square else f"{square}/{patch}")
    return told


def _moved(holes: pd.DataFrame, exposures: pd.DataFrame, stored: Session | None) -> pd.DataFrame:
    """hole_id, patch_id of stored holes without an image that are imaged now, or of whose exposures the stage
    position is known only now."""
    if stored is None or holes.empty:
        return holes[["hole_id", "patch_id"]].iloc[:0]
    placed_before = stored.exposures.loc[stored.exposures["stage_x_um"].notna(), "hole_id"]
    free = stored.holes[~stored.holes["hole_id"].isin(placed_before) & stored.holes["image_row"].isna()]
    imaged_before = free["hole_id"].isin(stored.exposures["hole_id"])
    placed_now = exposures.loc[exposures["stage_x_um"].notna(), "hole_id"]
    free = free[~imaged_before | free["hole_id"].isin(placed_now)]
    imaged = holes[holes["hole_id"].isin(exposures["hole_id"]) & holes["hole_id"].isin(free["hole_id"])]
    both = imaged[["hole_id", "patch_id"]].merge(
        free[["hole_id", "patch_id"]], on="hole_id", suffixes=("", "_before")
    )
    return both.loc[both["patch_id"] != both["patch_id_before"], ["hole_id", "patch_id"]]


def _stored_holes(stored: Session | None, moved: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    """The stored holes with the patches they are in now, and patches that nothing is left in."""
    if stored is None:
        return empty_table("holes"), set()
    patch = dict(zip(moved["hole_id"], moved["patch_id"], strict=True))
    now = _looked_up(stored.holes["hole_id"], patch, stored.holes["patch_id"])
    left = set(stored.holes.loc[stored.holes["hole_id"].isin(moved["hole_id"]), "patch_id"])
    return stored.holes.assign(patch_id=now), left - set(now)


def _chosen_now(
    before: pd.DataFrame, holes: pd.DataFrame, exposures: pd.DataFrame, stored: Session | None
) -> pd.DataFrame:
    """Stored holes with what is chosen now, where a source says it."""
    if stored is None:
        return before
    says = holes.loc[holes["chosen"].notna()]
    place = pd.Index(says["hole_id"]).get_indexer(pd.Index(before["hole_id"]))
    now = says["chosen"].reset_index(drop=True).reindex(place).set_axis(before.index)
    imaged = before["hole_id"].isin(exposures["hole_id"]) | before["hole_id"].isin(
        stored.exposures["hole_id"]
    )
    stays = now.isna() | (imaged & before["chosen"].fillna(False))
    return before.assign(chosen=before["chosen"].where(stays, now))


def _placed_squares(holes: pd.DataFrame, squares: pd.DataFrame, otherwise: str) -> pd.DataFrame:
    """Squares of holes and those that are known of without any, with what the tables of squares say of them.

    otherwise : grid of a square that names none
    """
    used = holes[["square_id", "grid_id"]].drop_duplicates("square_id")
    more = squares.loc[~squares["square_id"].isin(used["square_id"]), ["square_id", "grid_id"]]
    only = used["grid_id"].unique()
    more = more.assign(
        grid_id=more["grid_id"].mask(more["grid_id"] == "", only[0] if len(only) == 1 else otherwise)
    )
    said = squares[["square_id", "x_um", "y_um", *LOOK_COLUMNS]]
    return _joined_rows([used, more]).merge(said, on="square_id", how="left")


def _extended(
    table: str, stored: Session | None, rows: pd.DataFrame, id_column: str, emptied: set[str] | None = None
) -> pd.DataFrame:
    """The stored table and the new rows by id, without those that are emptied."""
    before = empty_table(table) if stored is None else getattr(stored, table)
    unsaid = [column for column in OPTIONAL_COLUMNS.get(table, ()) if column not in rows]
    rows = rows.reset_index(drop=True)
    rows = rows.assign(**{each: missing_column(TABLES[table][each], len(rows)) for each in unsaid})
    new = rows[list(TABLES[table])].drop_duplicates(id_column).sort_values(id_column, kind="stable")
    new = new[~new[id_column].isin(before[id_column])]
    # A patch that is emptied by one hole may be filled by another.
    gone = (emptied or set()) - set(rows[id_column])
    return _joined_rows([before[~before[id_column].isin(gone)], new])


def _joined_rows(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)] or [frames[0]]
    return pd.concat(filled, ignore_index=True)
