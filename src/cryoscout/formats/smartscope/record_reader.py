"""Values of one record of SmartScope by name, whether they came as text (YAML) or typed (JSON)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime

import pandas as pd
from pandas.api.typing import NaTType

from cryoscout.formats import limits
from cryoscout.formats.ctf.records import UM_PER_ANGSTROM, parse_number, shown
from cryoscout.formats.own.times import OneClock
from cryoscout.formats.text.findings import Findings
from cryoscout.formats.text.json_values import JsonValue
from cryoscout.formats.text.yaml_values import YamlMapping, YamlValue

STATUSES = (
    "queued",
    "started",
    "acquired",
    "processed",
    "targets_selected",
    "selected",
    "targets_picked",
    "completed",
    "skipped",
    "error",
)
NAN_IN_YAML = (".nan", ".NaN", ".NAN")
_PARTS = ("targets", "finders", "classifiers", "selectors")

Record = Mapping[str, JsonValue] | Mapping[str, YamlValue]


class RecordReader:
    """Values of one record, by name, whether they came as text (YAML) or typed (JSON)."""

    def __init__(self, record: Record, kind: str, findings: Findings) -> None:
        self.record = record
        self.line = record.line if isinstance(record, YamlMapping) else None
        name = next((self.text(key) for key in (f"{kind}_id", "hm_id", "name") if self.text(key)), "?")
        self.element = f"{kind} {name[:60] if name else name}"
        self.findings = findings

    def deviates(self, message: str) -> None:
        """Report what is wrong with the record."""
        self.findings.deviates(message, self.line, self.element)

    def text(self, key: str) -> str | None:
        """A scalar as text; None where it is null, missing, empty or no scalar."""
        value = self.record.get(key)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float)):
            return repr(value)
        return value if isinstance(value, str) and value else None

    def identifier(self, key: str, taken: Mapping[str, object]) -> str | None:
        """The record's id, or else its name; None, after reporting it, without either or where it is taken."""
        found = self.text(key) or self.text("name")
        if found is None:
            self.deviates(f"a record must have {key} or a name. Got none instead.")
        elif found in taken:
            self.deviates(f"{key} must be unique. Got {shown(found)} again instead.")
            found = None
        return found

    def status_is_known(self) -> bool:
        """Whether the status is one of SmartScope's; another one is reported."""
        status = self.text("status")
        if status is not None and status not in STATUSES:
            self.deviates(
                f"status must be null or one of {', '.join(STATUSES)}. Got {shown(status)} instead."
            )
            return False
        return True

    def flag(self, key: str) -> object:
        """True or False; NA where it is null or, after reporting it, neither."""
        text = (self.text(key) or "").lower()
        if text not in ("true", "false", ""):
            self.deviates(f"{key} must be true or false. Got {shown(text)} instead.")
        return {"true": True, "false": False}.get(text, pd.NA)

    def number(self, key: str) -> float:
        """A finite number; NaN where it is null or, after reporting it, none."""
        return self._number(key, self.text(key))

    def _number(self, key: str, text: str | None) -> float:
        if text is None:
            return math.nan
        value = parse_number(text)
        if value is None or not math.isfinite(value):
            self.deviates(f"{key} must be a finite number. Got {shown(text)} instead.")
            return math.nan
        return value

    def fitted(self, key: str) -> float:
        """As `number`, of a fit: nan is a missing value of one that failed."""
        text = self.text(key)
        return math.nan if text is not None and text in ("nan", *NAN_IN_YAML) else self.number(key)

    def moment(self, key: str, clock: OneClock) -> pd.Timestamp | NaTType:
        """A time as SmartScope writes it, on the clock of all; NaT where it is null or, after reporting it, none."""
        text = self.text(key)
        if text is None:
            return pd.NaT
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = None
        if time is None or not limits.FIRST_YEAR <= time.year <= limits.LAST_YEAR:
            self.deviates(
                f"{key} must be a time yyyy-mm-ddThh:mm:ss between {limits.FIRST_YEAR} and {limits.LAST_YEAR}. "
                f"Got {shown(text)} instead."
            )
            return pd.NaT
        return pd.Timestamp(clock.naive(time))

    def area_um2(self, atlas_pixel_angstrom: float) -> float:
        """The area of a square, which is counted in px of its atlas; NaN unknown or, after reporting it, none."""
        area_px = self.number("area")
        if area_px <= 0:
            self.deviates(f"area must be above 0 px. Got {area_px:g} instead.")
            return math.nan
        area_um2 = area_px * (atlas_pixel_angstrom * UM_PER_ANGSTROM) ** 2
        return limits.square_area_um2(area_um2, "area", self.findings, self.line, self.element)

    def grey_level(self) -> float:
        """The value of the selector by grey level; NaN where none has been at it."""
        selectors = self.record.get("selectors")
        for each in selectors if isinstance(selectors, list) else []:
            if isinstance(each, dict) and "gray" in str(each.get("method_name", "")).lower():
                return RecordReader(each, "selector", self.findings).number("value")
        return math.nan

    def position(self) -> tuple[float, float, float, float]:
        """Stage x, y (um) and image x, y (px) of the first finder, which SmartScope itself takes; NaN without one."""
        finders = self.record.get("finders")
        if finders is None or finders == []:
            return (math.nan,) * 4
        first = finders[0] if isinstance(finders, list) else None
        if not isinstance(first, dict):
            self.deviates("finders must be a list of records. Got something else instead.")
            return (math.nan,) * 4
        finder = RecordReader(first, "finder", self.findings)
        finder.line, finder.element = finder.line or self.line, self.element
        where = (self.findings, finder.line, finder.element)
        x_um, y_um = (limits.stage_um(finder.number(key), key, *where) for key in ("stage_x", "stage_y"))
        x_px, y_px = (limits.image_px(finder.number(key), key, *where) for key in ("x", "y"))
        return x_um, y_um, x_px, y_px

    def rest(self, own_id: str) -> dict[str, str]:
        """Every scalar of the record, and labels of classifiers and selectors by their method."""
        texts = {key: self.text(key) for key in self.record if key not in (*_PARTS, own_id)}
        for part in ("classifiers", "selectors"):
            labels = self.record.get(part)
            for label in labels if isinstance(labels, list) else []:
                if isinstance(label, dict):
                    method = RecordReader(label, part, self.findings)
                    words = [method.text("label"), method.text("value")]
                    texts[f"{part}/{method.text('method_name')}"] = " ".join(word for word in words if word)
        return {key: text for key, text in texts.items() if text is not None}
