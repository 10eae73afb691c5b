"""Which shot of its hole each exposure is; an image of a shot that was taken before is that shot, not a further one.

What tells the shots of a hole apart: the acquisition area in EPU's names, the position of a MultiShot pattern in
SerialEM's metadata, the number of a SmartScope image. Elsewhere every image of a hole is a shot of its own. The image
that was there first stands for the shot; a later one is kept as a record and its CTF results are further runs of the
shot, of which the best counts. Every hole has as many shots as the hole with most of them: none is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoscout.core.counting import counted
from cryoscout.formats.records import SourceRecords
from cryoscout.session.live_exposures import renamed, shots_of_vendor_exposures, with_vendor_ids
from cryoscout.session.tables import with_gaps_filled
from cryoscout.session.vendor_fields import unpacked

SAME_SHOT_AS = "same_shot_as"
"""Vendor field of an image that is of a shot that was taken before: the exposure that stands for it."""
_KEYED_FORMATS = ("serialem", "smartscope")
"""Whose readers know the shot; EPU's names say it themselves, a table's running numbers mean nothing."""
_EPU_AREA = re.compile(r"FoilHole_[0-9]+_Data_([0-9]+)_")


@dataclass
class Shots:
    """The exposures as shots of their holes."""

    rows: pd.DataFrame
    """Stored and new exposures, `is_new`, and `shot` from 1."""
    shots: int
    """Per hole."""
    again: dict[str, str]
    """Image of a shot that was taken before -> the exposure that stands for the shot; those of earlier imports too."""
    new_ids: dict[str, str]
    """Of shots that were recorded live: their id -> the vendor's."""
    notes: list[str] = field(default_factory=list)


def shot_key_of(exposure_id: str) -> str:
    """The acquisition area in EPU's name of an exposure: which shot of its hole it is, whatever source names it."""
    found = _EPU_AREA.match(exposure_id)
    return "" if found is None else found[1]


def as_shots(
    before: pd.DataFrame,
    new: pd.DataFrame,
    found: pd.DataFrame,
    chosen: Sequence[SourceRecords],
    stored_shots: int,
    stored_fields: pd.DataFrame,
) -> Shots:
    """The shot of each exposure.

    before : `exposures` of the stored session     new : of the sources, each of a hole, with an outcome
    found : all exposures of the sources, which fill gaps of the stored ones; with `shot_key`
    stored_fields : `vendor_fields` of the stored session
    """
    keys, known_again = _known_keys(found, chosen, stored_fields)
    new = new[~new["exposure_id"].isin(known_again)]
    rows = _below(before.assign(is_new=False), new.assign(is_new=True, shot=0))
    shot_key = [shot_key_of(each) or keys.get(each, "") for each in rows["exposure_id"]]
    rows = rows.assign(shot_key=shot_key)
    rows = rows.sort_values(["is_new", "started_at", "exposure_id"], kind="stable")
    is_again = (rows["shot_key"] != "") & rows.duplicated(["hole_id", "shot_key"]) & rows["is_new"]
    again = _standing(rows, is_again.to_numpy())
    notes = []
    if again:
        first = next(iter(again))
        notes.append(
            f"{counted(len(again), 'images', 'are')} of a shot that was taken before, such as {first} (of "
            f"{again[first]}): each is one shot, and of the results of both the best counts"
        )
    rows = rows[~is_again].reset_index(drop=True)
    new = rows[rows["is_new"]]
    new = new.assign(shot=shots_of_vendor_exposures(before, new))
    key = ["exposure_id", "hole_id", "shot"]
    new_ids = with_vendor_ids(before[key], new[key])
    before = with_gaps_filled("exposures", renamed(before, new_ids), found)
    new = new[~new["exposure_id"].isin(before["exposure_id"])]
    rows = _below(before.assign(is_new=False), new)
    declared = max([*(source.shots or 1 for source in chosen), stored_shots])
    shots, more = _shots_per_hole(rows, declared)
    return Shots(
        rows, shots, known_again | again, new_ids, _note_on_other_shots(chosen, shots) + notes + more
    )


def with_shots_again(source: SourceRecords, again: Mapping[str, str]) -> SourceRecords:
    """The source with a field that says of which exposure its images of shots taken before are further ones."""
    if source.format not in _KEYED_FORMATS:
        return source
    own = set(source.exposures["exposure_id"])
    said = {
        each: {**source.extra.get(each, {}), SAME_SHOT_AS: of} for each, of in again.items() if each in own
    }
    return replace(source, extra={**source.extra, **said}) if said else source


def _known_keys(
    found: pd.DataFrame, chosen: Sequence[SourceRecords], stored_fields: pd.DataFrame
) -> tuple[dict[str, str], dict[str, str]]:
    """Shot key of each exposure whose reader knows it, and the stored images of shots that were taken before."""
    keys: dict[str, str] = {}
    again: dict[str, str] = {}
    if not any(source.format in _KEYED_FORMATS for source in chosen) and stored_fields.empty:
        return keys, again
    if stored_fields["reader"].isin(_KEYED_FORMATS).any():
        for (reader, record_id), fields in unpacked(stored_fields).items():
            if reader in _KEYED_FORMATS and fields.get("shot_key"):
                keys[record_id] = fields["shot_key"]
            if reader in _KEYED_FORMATS and fields.get(SAME_SHOT_AS):
                again[record_id] = fields[SAME_SHOT_AS]
    if any(source.format in _KEYED_FORMATS for source in chosen):
        keys |= dict(zip(found["exposure_id"].tolist(), found["shot_key"].tolist(), strict=True))
    return keys, again


def _standing(rows: pd.DataFrame, is_again: NDArray[np.bool_]) -> dict[str, str]:
    """Image of a shot taken before -> the exposure that stands for it."""
    if not is_again.any():
        return {}
    key = ["hole_id", "shot_key"]
    first = rows[~is_again].drop_duplicates(key)[[*key, "exposure_id"]]
    both = rows[is_again][["exposure_id", *key]].merge(first, on=key, suffixes=("", "_first"))
    return dict(zip(both["exposure_id"], both["exposure_id_first"], strict=True))


def _note_on_other_shots(chosen: Sequence[SourceRecords], shots: int) -> list[str]:
    """That sessions which are put together image their holes with other numbers of exposures."""
    of_source: dict[str, int] = {}
    for source in chosen:
        by_hole = source.exposures[source.exposures["hole_id"] != ""].groupby("hole_id").size()
        number = source.shots or (int(by_hole.max()) if len(by_hole) else None)
        # Several own tables are parts of one session.
        if number is not None and len(source.squares) and source.format != "generic":
            of_source[source.path.name] = number
    if len(set(of_source.values())) < 2:
        return []
    told = ", ".join(f"{name} {number}" for name, number in of_source.items())
    return [
        f"exposures per hole differ ({told}): a session has one number for all holes, here {shots}, so that minutes "
        "and good micrographs of those with fewer are reckoned too high. Remedy: import each into a session of its own"
    ]


def _shots_per_hole(rows: pd.DataFrame, declared: int) -> tuple[int, list[str]]:
    """What is declared or the most of any hole, whichever is more; and a note where it is far from usual."""
    of_hole = rows.groupby("hole_id").size()
    most = max(int(of_hole.max()) if len(of_hole) else 1, 1)
    if most <= declared:
        return declared, []
    counts = of_hole.value_counts()
    usual = int(counts[counts == counts.max()].index.max())
    if usual == most:
        return most, []
    return most, [
        f"hole {of_hole.idxmax()} has {counted(most, 'exposures')}, most imaged holes have {usual}: the plan reckons "
        f"with {most} shots for every hole"
    ]


def _below(before: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    filled = [frame for frame in (before, new) if len(frame)] or [before]
    return pd.concat(filled, ignore_index=True)
