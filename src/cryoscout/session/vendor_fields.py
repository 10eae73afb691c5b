"""What a vendor's files say of a record beyond the tables of a session, as text by field name, packed small.

A large session has more than a hundred fields for each of fifty thousand images, and nearly all of them are the same in
every image. So a record is one row of the table `vendor_fields` with one JSON object of the fields in which it differs,
and what is common to many records is one row more, which they name. A row for each field would be millions of rows;
compressed text would be small too, but nobody could search it in the database.

    record_id  source, reader      shared        fields
    ""         ""                  "9f2c..."     {"CustomData/PhasePlateUsed": "false", ...}: a set of shared fields
    "e1"       of what was read    "9f2c..."     {"CustomData/Dose": "3.9e+21", "optics/Notes": null}: over that set
    "e2"       of what was read    ""            {"Label": "7"}: alone

null says that the record has no such field although the set has it. A record may have several rows, one for each
reading that found something new: the later ones add to the earlier ones, field by field. Ids are those of squares,
holes and exposures, or of what has no table (an acquisition area, an optics group), as the reader names them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from cryoscout.core.errors import DataError
from cryoscout.session.tables import TABLES, empty_table, typed_table

SHARED_BY_MORE_THAN = 0.5
"""A value belongs to the shared set when more than this share of the records has it."""
_SAMPLE = 200
_LEAST_RECORDS = 3


class VendorFields(Mapping[str, str]):
    """Fields of one record over a set of fields that many records share, held once for all of them."""

    __slots__ = ("own", "shared")

    def __init__(self, fields: Mapping[str, str], shared: Mapping[str, str]) -> None:
        """The fields of a record, of which only the difference to `shared` is kept; both in any order."""
        self.shared = shared
        own: dict[str, str | None] = {name: text for name, text in fields.items() if shared.get(name) != text}
        if len(fields) - len(own) < len(shared):
            own |= {name: None for name in shared if name not in fields}
        self.own = own
        """What differs; None for a shared field that the record does not have."""

    def with_more(self, fields: Mapping[str, str]) -> VendorFields:
        """The same record with more fields; what it says of them already stays."""
        more = VendorFields.__new__(VendorFields)
        more.shared = self.shared
        more.own = self.own | {name: text for name, text in fields.items() if name not in self}
        return more

    def __getitem__(self, name: str) -> str:
        text = self.own[name] if name in self.own else self.shared[name]
        if text is None:
            raise KeyError(name)
        return text

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self.shared if name not in self.own)
        yield from (name for name, text in self.own.items() if text is not None)

    def __len__(self) -> int:
        gone = sum(text is None for text in self.own.values())
        return len(self.shared) - gone + sum(name not in self.shared for name in self.own)


def packed(
    records: Mapping[str, Mapping[str, str]], source: str, reader: str, before: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Rows of `vendor_fields` for records of one kind, to be added below `before`.

    records : id -> fields; records without any are left out     source, reader : of every row
    before : the rows that are there already, so that no shared set stands twice
    Records that are VendorFields keep the set that they share; of others the most common values are one.
    """
    filled = {record_id: fields for record_id, fields in records.items() if fields}
    shared = _common([fields for fields in filled.values() if not isinstance(fields, VendorFields)])
    keys: dict[int, str] = {}
    known = set() if before is None else set(before.loc[before["record_id"] == "", "shared"])
    rows: list[tuple[str, str, str, str, str]] = []
    for record_id, fields in filled.items():
        layered = fields if isinstance(fields, VendorFields) else VendorFields(fields, shared)
        key = keys.get(id(layered.shared))
        if key is None:
            text = _json(layered.shared)
            # Named by content: the same set in a later import has the same name.
            key = hashlib.sha256(text.encode()).hexdigest()[:16] if layered.shared else ""
            keys[id(layered.shared)] = key
            if key and key not in known:
                known.add(key)
                rows.append(("", "", "", key, text))
        rows.append((record_id, source, reader, key, _json(layered.own)))
    if not rows:
        return empty_table("vendor_fields")
    return typed_table("vendor_fields", pd.DataFrame(rows, columns=list(TABLES["vendor_fields"])))


def unpacked(
    rows: pd.DataFrame, record_ids: Sequence[str] | None = None
) -> dict[tuple[str, str], dict[str, str]]:
    """(reader, record id) -> fields, of the table `vendor_fields`; of some records alone when named.

    Raises DataError for a row that cannot be read.
    """
    texts = rows.loc[rows["record_id"] == "", ["shared", "fields"]]
    sets: dict[str, dict[str, str]] = {"": {}}
    for key, text in zip(texts["shared"], texts["fields"], strict=True):
        sets[key] = {name: value for name, value in _object(text).items() if value is not None}
    wanted = rows["record_id"] != ""
    if record_ids is not None:
        wanted &= rows["record_id"].isin(record_ids)
    found: dict[tuple[str, str], dict[str, str]] = {}
    of_record = rows.loc[wanted, ["reader", "record_id", "shared", "fields"]]
    for reader, record_id, key, text in of_record.itertuples(index=False, name=None):
        if key not in sets:
            raise DataError(
                f"The shared fields of a record must be in the table. Got none named {key!r} for {record_id!r} instead."
            )
        own = _object(text)
        fields = found.setdefault((reader, record_id), {})
        fields.update((name, value) for name, value in sets[key].items() if name not in own)
        fields.update((name, value) for name, value in own.items() if value is not None)
    return found


def _common(records: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The values that most records have. A sample tells them: another set costs room, and nothing else."""
    if len(records) < _LEAST_RECORDS:
        return {}
    sample = records[:: max(1, len(records) // _SAMPLE)]
    values = Counter(pair for fields in sample for pair in fields.items())
    return {name: text for (name, text), count in values.items() if count > SHARED_BY_MORE_THAN * len(sample)}


def _json(fields: Mapping[str, str | None]) -> str:
    return json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> dict[str, str | None]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise DataError(f"vendor_fields.fields must be a JSON object. Got {text[:60]!r} instead.")
    return fields
