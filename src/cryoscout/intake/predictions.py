"""Own probabilities and scores of holes, from a site's table into a session, whatever format that was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.belief.raw_scores import fit_raw_scores
from cryoscout.core.counting import counted
from cryoscout.core.errors import DataError, InputError
from cryoscout.formats.own.columns import ColumnMap
from cryoscout.formats.own.scores import ScoreTable, names_predictions, read_scores
from cryoscout.formats.registry import format_of
from cryoscout.formats.serialem.patterns import item_of_hole
from cryoscout.intake.predicted_holes import holes_predicted
from cryoscout.intake.read import ReadOptions
from cryoscout.intake.said_before import map_for, options_of
from cryoscout.session.joins import JoinReport
from cryoscout.session.model import OWN_PREDICTIONS as OWN
from cryoscout.session.model import Session
from cryoscout.session.store import SessionStore

_OWN_TABLES = frozenset(("generic", "generic-squares"))


@dataclass(frozen=True)
class OwnPredictions:
    """What one table predicts of a session's holes."""

    rows: pd.DataFrame
    """hole_id, model_id, threshold_angstrom, p_good of every hole."""
    provenance: pd.DataFrame
    report: JoinReport
    left_out: int
    notes: tuple[str, ...]


def refuse_columns_of_no_table(paths: Sequence[Path], column_map: ColumnMap | Path | None) -> None:
    """Raise InputError where it is said what columns mean and no path is a table of somebody's own, which has them."""
    if column_map is None:
        return
    formats = {path: format_of(path, column_map).name for path in paths}
    if not _OWN_TABLES.isdisjoint(formats.values()):
        return
    got = ", ".join(f"{path.name} ({name})" for path, name in formats.items()) or "none"
    raise InputError(
        "What columns mean (--column, --mapping, --position-unit) must be said of a table of your own. Got "
        f"{got} instead. Remedy: name that table too, or leave the option out."
    )


def tables_of_predictions(
    paths: Sequence[Path], column_map: ColumnMap | Path | None
) -> tuple[list[Path], list[Path]]:
    """The paths that are tables with predictions, and those that say places or results.

    A table that is all there is says both. Raises the errors of `format_of` and of a map that names what is not there.
    """
    if column_map is None or not names_predictions(column_map):
        return [], list(paths)
    tables = [path for path in paths if format_of(path, column_map).name == "generic"]
    others = [path for path in paths if path not in tables]
    return tables, others or tables


def own_predictions(
    session: Session,
    paths: Sequence[Path],
    column_map: ColumnMap | Path,
    permissive: bool,
    model_id: str | None,
) -> list[OwnPredictions]:
    """The probabilities that tables give the holes of a session, at its threshold.

    model_id : of the only table; None takes the name of each file
    Raises the errors of `read_scores` and `fit_raw_scores`, and DataError where nothing joins, several tables would be
    one model, or the session refuses the model.
    """
    if model_id is not None and len(paths) > 1:
        raise DataError(
            f"A model id must be of one table. Got {len(paths)} tables for {model_id!r} instead. "
            "Remedy: import them one by one."
        )
    found = []
    for path in paths:
        options = options_of(ReadOptions(column_map=column_map), session.info.reading)
        table = read_scores(path, map_for(path, options) or column_map, permissive)
        name = model_id or path.stem
        p_good, report, notes = p_good_of(session, table)
        rows = {
            "hole_id": session.holes["hole_id"],
            "model_id": name,
            "threshold_angstrom": session.info.threshold_angstrom,
            "p_good": p_good,
        }
        provenance = {
            "table": ["predictions"],
            "field": [name],
            "file": [path.name],
            "reader": [OWN[table.kind]],
        }
        found.append(
            OwnPredictions(
                pd.DataFrame(rows),
                pd.DataFrame(provenance),
                report,
                len(table.deviations),
                (*table.notes, *notes),
            )
        )
    return found


def with_own_predictions(session: Session, found: Sequence[OwnPredictions]) -> Session:
    """The session with the predictions, and with what they came from."""
    for each in found:
        session = session.with_predictions(each.rows)
        session = replace(session, provenance=_with_rows(session.provenance, each.provenance))
    return session


def add_own_predictions(
    location: Path | str,
    paths: Sequence[Path],
    column_map: ColumnMap | Path,
    permissive: bool,
    model_id: str | None,
) -> tuple[Session, list[OwnPredictions]]:
    """The same into a stored session: new rows beside the earlier ones, of which the newest are read."""
    with SessionStore.open(location) as store:
        found = own_predictions(store.load(), paths, column_map, permissive, model_id)
        for each in found:
            store.add_predictions(each.rows)

            def extend(now: Session, rows: pd.DataFrame = each.provenance) -> Session:
                return replace(now, provenance=_with_rows(now.provenance, rows))

            store.save_update(extend, each.report.what)
        return store.load(), found


def _with_rows(provenance: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    known = set(provenance.itertuples(index=False, name=None))
    new = [row not in known for row in rows.itertuples(index=False, name=None)]
    return pd.concat([provenance, rows[new]], ignore_index=True)


def p_good_of(session: Session, table: ScoreTable) -> tuple[NDArray[np.float64], JoinReport, tuple[str, ...]]:
    """p_good of every hole, (n,), how the names joined, and notes.

    Scores become probabilities through the session's results at its threshold. Holes without a value get the mean.
    """
    value, report, notes = _by_hole(session, table)
    if session.info.format == "serialem":
        value = _of_their_items(value, session.holes["hole_id"].tolist())
    given = np.isfinite(value)
    p_good = value
    if table.kind == "score":
        threshold = session.info.threshold_angstrom
        fit = fit_raw_scores(value, np.nan_to_num(session.good_by_hole(threshold)), session.results_by_hole())
        p_good = fit.apply(value)
        notes.append(
            f"scores became probabilities through {counted(fit.n_results, 'results')}: {fit.in_words}; import the "
            "table again when many more results have come"
        )
    if not given.all():
        mean = float(p_good[given].mean())
        notes.append(
            f"{counted(int((~given).sum()), 'holes', 'have')} no value: the mean of the others, {mean:.2f}, is taken"
        )
        p_good = np.where(given, p_good, mean)
    return p_good, report, tuple(notes)


def _of_their_items(value: NDArray[np.float64], hole_ids: Sequence[str]) -> NDArray[np.float64]:
    """The values with those of items for the further holes of their patterns that have none."""
    row = {hole_id: place for place, hole_id in enumerate(hole_ids)}
    items = [row[item_of_hole(hole_id, row)] for hole_id in hole_ids]
    return np.where(np.isfinite(value), value, value[items])


def _by_hole(session: Session, table: ScoreTable) -> tuple[NDArray[np.float64], JoinReport, list[str]]:
    """The value of each hole, (n,), NaN without one; of several images of a hole their mean."""
    place, report, notes = holes_predicted(session, table)
    known = place >= 0
    total = np.bincount(place[known], weights=np.array(table.values)[known], minlength=session.n_holes)
    count = np.bincount(place[known], minlength=session.n_holes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), report, notes
