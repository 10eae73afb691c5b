"""The rules of the table `ctf_runs`: every CTF result that was read of an exposure, and which one counts.

A run is one result of one exposure as one file gives it. Its resolution stands as written, NaN where that was inf: a
failed fit, as 100 angstrom and more are. Of the runs of an exposure one may be taken: its result is that of the
exposure. None is taken where the result was recorded while the session ran, or stored by a version that kept no runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.errors import DataError
from cryoscout.core.units import FAILED_FIT_ANGSTROM


def has_failed(ctf_max_res_angstrom: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether a run's fit failed: NaN (written as inf), or 100 angstrom and more."""
    return ~(ctf_max_res_angstrom < FAILED_FIT_ANGSTROM)


def check_ctf_runs(runs: pd.DataFrame, exposures: pd.DataFrame, place: NDArray[np.int64]) -> None:
    """Raise DataError for a run twice, a resolution that is none, or a run that is taken and is not the result.

    runs, exposures : tables as in Session     place : (runs,) row of each run's exposure
    """
    if runs.empty:
        return
    resolution = runs["ctf_max_res_angstrom"].to_numpy()
    taken = runs["taken"].to_numpy()
    outcome = exposures["outcome"].to_numpy(dtype=object)[place]
    result = exposures["ctf_max_res_angstrom"].to_numpy()[place]
    failed = has_failed(resolution)
    agrees = np.where(failed, outcome == "failed", (outcome == "measured") & (result == resolution))
    number = runs["run"].to_numpy()
    for bad, rule in (
        ((number < 1) | runs.duplicated(["exposure_id", "run"]).to_numpy(), "numbered from 1, each number once"),
        (resolution <= 0, "of a resolution above 0 angstrom"),
        (taken & runs[taken].duplicated("exposure_id").reindex(runs.index, fill_value=False).to_numpy(),
         "taken once for an exposure"),
        (taken & ~agrees, "the result of its exposure where it is taken"),
    ):  # fmt: skip
        if bad.any():
            row = runs.iloc[int(np.flatnonzero(bad)[0])]
            raise DataError(
                f"A CTF run must be {rule}. Got run {row['run']} of {row['exposure_id']!r} "
                f"({row['ctf_max_res_angstrom']:g} angstrom) instead ({int(bad.sum())} such rows)."
            )
