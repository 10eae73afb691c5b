"""CTF results into a stored session without the rest of it: the rules of `assemble_ctf` on their exposures alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from cryoscout.formats.records import SourceRecords
from cryoscout.intake.assemble_ctf import with_results
from cryoscout.intake.join_rows import Payload
from cryoscout.session.store_events import columns_of_frame, row_chunks
from cryoscout.session.stored_rows import StoredRows
from cryoscout.session.tables import typed_table

_RESULT = ("exposure_id", "outcome", "ctf_max_res_angstrom")
_HAS_RESULT = ("measured", "failed")


def joined_results(
    sources: Sequence[SourceRecords],
    exposure_ids: Collection[str],
    stored: StoredRows,
    pending: Collection[str],
) -> tuple[list[Payload], list[str]]:
    """What results add to the stored exposures of these ids, and to new ones: payloads of events, and notes.

    pending : ids of exposures that the same transaction adds, without a result yet
    """
    before = stored.frame("exposures", "exposure_id", list(exposure_ids))[list(_RESULT)]
    added = pd.DataFrame(
        {"exposure_id": list(pending), "outcome": "pending", "ctf_max_res_angstrom": float("nan")}
    )
    exposures = pd.concat([part for part in (before, added) if len(part)] or [before], ignore_index=True)
    runs = stored.frame("ctf_runs", "exposure_id", list(exposure_ids))
    found = with_results(exposures, sources, runs)
    new_runs = typed_table("ctf_runs", found.runs.iloc[len(runs) :])
    payloads: list[Payload] = [
        {"part": "rows", "table": "ctf_runs", "columns": columns}
        for columns in row_chunks(columns_of_frame("ctf_runs", new_runs))
    ]
    now = found.exposures
    changed = (now["outcome"] != exposures["outcome"]) | (
        now["ctf_max_res_angstrom"] != exposures["ctf_max_res_angstrom"]
    )
    changed &= now["outcome"].isin(_HAS_RESULT)
    # NaN differs from itself: a failed fit that stays one has not changed.
    changed &= ~((now["outcome"] == "failed") & (exposures["outcome"] == "failed"))
    had_one = exposures["outcome"].isin(_HAS_RESULT)
    for part, which in (("outcomes", changed & ~had_one), ("better", changed & had_one)):
        columns = columns_of_frame("exposures", now[which], _RESULT)
        payloads += [{"part": part, "columns": chunk} for chunk in row_chunks(columns)]
    taken_now = found.runs["taken"].iloc[: len(runs)].to_numpy()
    others = set(runs.loc[runs["taken"].to_numpy() != taken_now, "exposure_id"].tolist())
    taken = found.runs[found.runs["taken"].astype(bool) & found.runs["exposure_id"].isin(others)]
    columns = columns_of_frame("ctf_runs", taken, ("exposure_id", "run"))
    payloads += [{"part": "taken", "columns": chunk} for chunk in row_chunks(columns)]
    return payloads, found.notes
