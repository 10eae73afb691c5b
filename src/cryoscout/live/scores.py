"""What sources say of the images of holes, one number for each hole: ice, motion, defocus, and the like.

Ice and defocus are columns of the runs; motion is what the tables say beside them, as text (`FIELDS`): RELION's
`rlnAccumMotion*` ("Accumulated global motion", angstrom, RELION's `src/metadata_label.h`) and cryoSPARC Live's
`total_motion_dist`, whose unit its documentation does not say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.session.model import Session
from cryoscout.session.tables import CTF_COLUMNS

FIELDS = {
    "rlnAccumMotionTotal": "motion_total_angstrom",
    "rlnAccumMotionEarly": "motion_early_angstrom",
    "rlnAccumMotionLate": "motion_late_angstrom",
    "total_motion_dist": "motion_total",
}
"""Last part of a field's name -> what it is called here."""


def score_names(session: Session) -> list[str]:
    """Names of the scores that any hole has."""
    taken = session.ctf_runs["taken"].to_numpy(dtype=bool)
    return [name for name, values in _of_runs(session) if np.isfinite(values[taken]).any()]


def hole_scores(session: Session) -> dict[str, NDArray[np.float64]]:
    """Name -> (n,) mean over the exposures of each hole, NaN where none has it; only those that any hole has."""
    found: dict[str, NDArray[np.float64]] = {}
    if session.ctf_runs.empty:
        return found
    taken = session.ctf_runs["taken"].to_numpy(dtype=bool)
    row = pd.Index(session.exposures["exposure_id"]).get_indexer(pd.Index(session.ctf_runs["exposure_id"]))
    holes = pd.Index(session.holes["hole_id"]).get_indexer(pd.Index(session.exposures["hole_id"]))
    places = holes[row]
    for name, values in _of_runs(session):
        known = np.isfinite(values) & taken
        if not known.any():
            continue
        total = np.bincount(places[known], values[known], session.n_holes)
        count = np.bincount(places[known], minlength=session.n_holes)
        found[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _of_runs(session: Session) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """(name, (r,) value of each CTF run, NaN where it has none)."""
    runs = session.ctf_runs
    for name in CTF_COLUMNS:
        yield name, runs[name].to_numpy(dtype=np.float64)
    texts = runs["fields"].fillna("").tolist()
    said: dict[str, NDArray[np.float64]] = {}
    for at, text in enumerate(texts):
        if not any(each in text for each in FIELDS):
            continue
        for field, value in json.loads(text).items():
            called = FIELDS.get(str(field).rsplit("/", 1)[-1])
            if called is not None:
                said.setdefault(called, np.full(len(texts), np.nan))[at] = _number(value)
    yield from said.items()


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return float("nan")
