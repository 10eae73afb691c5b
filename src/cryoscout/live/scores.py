"""What sources say of the images of holes, one number for each hole: ice, motion, defocus, and the like."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.session.model import Session
from cryoscout.session.tables import CTF_COLUMNS


def hole_scores(session: Session) -> dict[str, NDArray[np.float64]]:
    """Name -> (n,) mean over the exposures of each hole, NaN where none has it; only those that any hole has."""
    found: dict[str, NDArray[np.float64]] = {}
    if session.ctf_runs.empty:
        return found
    exposures = session.exposures_with_ctf()
    places = pd.Index(session.holes["hole_id"]).get_indexer(pd.Index(exposures["hole_id"]))
    for name in CTF_COLUMNS:
        values = exposures[name].to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        if not known.any():
            continue
        total = np.bincount(places[known], values[known], session.n_holes)
        count = np.bincount(places[known], minlength=session.n_holes)
        found[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found
