"""CTF results into a stored session without the rest of it: the rules of `assemble_ctf` on their exposures alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cryoscout.formats.records import SourceRecords
from cryoscout.intake.assemble_ctf import with_results
from cryoscout.intake.join_rows import Payload
from cryoscout.session.store_events import columns_of_frame, row_chunks
from cryoscout.session.stored_rows import StoredRows
from cryoscout.session.tables import typed_table

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
    rows = stored.where("exposures", "exposure_id", exposure_ids)
    before = [(row["exposure_id"], row["outcome"], row["ctf_max_res_angstrom"]) for row in rows]
    before += [(exposure_id, "pending", None) for exposure_id in pending]
    ids, outcomes, resolutions = map(list, zip(*before, strict=True))
    exposures = pd.DataFrame(
        {
            "exposure_id": pd.Series(ids, dtype="str"),
            "outcome": pd.Series(outcomes, dtype="str"),
            "ctf_max_res_angstrom": np.array(resolutions, dtype=np.float64),
        }
    )
    runs = stored.frame("ctf_runs", "exposure_id", exposure_ids)
    found = with_results(exposures, sources, runs)
    payloads: list[Payload] = []
    if len(found.runs) > len(runs):
        new = columns_of_frame("ctf_runs", typed_table("ctf_runs", found.runs.iloc[len(runs) :]))
        payloads += [{"part": "rows", "table": "ctf_runs", "columns": columns} for columns in row_chunks(new)]
    now = [
        (exposure_id, outcome, None if math.isnan(resolution) else resolution)
        for exposure_id, outcome, resolution in zip(
            ids,
            found.exposures["outcome"].tolist(),
            found.exposures["ctf_max_res_angstrom"].tolist(),
            strict=True,
        )
    ]
    changed = [(was[1] in _HAS_RESULT, row) for was, row in zip(before, now, strict=True) if row != was]
    names = ("exposure_id", "outcome", "ctf_max_res_angstrom")
    for part, is_better in (("outcomes", False), ("better", True)):
        payloads += _chunks(part, names, [row for had_one, row in changed if had_one == is_better])
    taken = found.runs["taken"].tolist()
    was_taken = runs["taken"].tolist()
    of, number = found.runs["exposure_id"].tolist(), found.runs["run"].tolist()
    others = {of[row] for row, was in enumerate(was_taken) if was != taken[row]}
    counts = [(of[row], number[row]) for row in range(len(of)) if taken[row] and of[row] in others]
    return payloads + _chunks("taken", ("exposure_id", "run"), counts), found.notes


def _chunks(part: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Payload]:
    if not rows:
        return []
    columns = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return [{"part": part, "columns": chunk} for chunk in row_chunks(columns)]
