"""What sources say beyond the tables of a session, as rows of its table `vendor_fields`.

That is `SourceRecords.extra`, columns of a reader's tables that no source shares (a site's own), and what only readers
need: which shot of its hole an exposure is, where its name does not say it, and its image shift. Of a later import the
fields are kept that are new or others than before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cryoscout.core.names import name_of_source
from cryoscout.formats.records import (
    EXPOSURE_COLUMNS,
    HOLE_COLUMNS,
    LOOK_COLUMNS,
    SQUARE_COLUMNS,
    SourceRecords,
)
from cryoscout.session.vendor_fields import VendorFields, packed, unpacked

NO_ID = "(no id)"
"""The id of a record whose source gives it none."""
_ONLY_READERS_NEED = ("shot_key", "shift_x_um", "shift_y_um")
_LEVELS = (
    ("squares", "square_id", (*SQUARE_COLUMNS, *LOOK_COLUMNS)),
    ("holes", "hole_id", HOLE_COLUMNS),
    ("exposures", "exposure_id", EXPOSURE_COLUMNS),
)


def vendor_fields(sources: Sequence[SourceRecords], stored: pd.DataFrame) -> pd.DataFrame:
    """The stored rows and, below them, what the sources say that these do not.     stored : as in Session"""
    table = stored
    for source in sources:
        records = _records(source)
        if len(table) and records:
            known = unpacked(table, list(records))
            records = {
                record_id: not_known(fields, known.get((source.format, record_id)))
                for record_id, fields in records.items()
            }
        # Records of one level resemble each other: they share more than all of them together.
        for level in _by_level(records, source):
            rows = packed(level, name_of_source(source.path), source.format, table)
            parts = [part for part in (table, rows) if len(part)]
            table = pd.concat(parts, ignore_index=True) if parts else table
    return table


def _records(source: SourceRecords) -> dict[str, Mapping[str, str]]:
    """Every record of a source by its id, with all that has no place in the tables."""
    records = {record_id or NO_ID: fields for record_id, fields in source.extra.items()}
    for table, id_column, columns in _LEVELS:
        frame = getattr(source, table)
        further = [column for column in frame.columns if column not in columns]
        further += [column for column in _ONLY_READERS_NEED if column in frame]
        filled = {column: texts for column in further if any(texts := _texts(frame[column]))}
        if "shot_key" in filled:
            ids = frame[id_column]
            filled["shot_key"] = [
                "" if f"_{key}_" in exposure_id else key
                for exposure_id, key in zip(ids, filled["shot_key"], strict=True)
            ]
        for record_id, *texts in zip(frame[id_column], *filled.values(), strict=True):
            fields = {str(column): text for column, text in zip(filled, texts, strict=True) if text}
            if fields:
                records[record_id] = _with_more(records.get(record_id), fields)
    return records


def _texts(values: pd.Series[str]) -> list[str]:
    """The values as text, "" for a missing one."""
    return [
        "" if is_missing else value if isinstance(value, str) else repr(value)
        for value, is_missing in zip(values.tolist(), values.isna().tolist(), strict=True)
    ]


def _with_more(fields: Mapping[str, str] | None, more: dict[str, str]) -> Mapping[str, str]:
    if fields is None:
        return more
    return fields.with_more(more) if isinstance(fields, VendorFields) else {**more, **fields}


def not_known(fields: Mapping[str, str], known: Mapping[str, str] | None) -> Mapping[str, str]:
    """The fields of a record that are new or others than before.     known : None for a record without any"""
    if known is None:
        return fields
    return {name: text for name, text in fields.items() if known.get(name) != text}


def _by_level(
    records: Mapping[str, Mapping[str, str]], source: SourceRecords
) -> list[dict[str, Mapping[str, str]]]:
    left = dict(records)
    levels = []
    for table, id_column, _ in _LEVELS:
        ids = dict.fromkeys(getattr(source, table)[id_column])
        levels.append({record_id: left.pop(record_id) for record_id in ids if record_id in left})
    return [*levels, left]
