"""JSON from elsewhere, read so that no text can hang, crash or mislead: strict numbers, bounded depth, no key twice."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.records import shown

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

DEEPEST = 64
"""Levels of brackets; the formats read here have less than ten."""

LONGEST_NUMBER = 40

# A string that never ends is one token to the end of the text, so that each character is looked at once.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_STRINGS = re.compile(_STRING, re.DOTALL)
_STRING_OR_BRACKET = re.compile(_STRING + r"|[\[\]{}]", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = dict.fromkeys(b"[{", 1) | dict.fromkeys(b"]}", -1)

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, source: Path | str) -> JsonValue:
    """The value of one JSON text.

    source : the file or address, for messages
    Raises FileFormatError (with the line) for what is no JSON, for NaN and Infinity, numbers of more than 40
    characters, a key that stands twice, brackets deeper than 64, and half a character (an unpaired `\\ud800`).
    """
    _check_depth(text, source)
    try:
        value: JsonValue = json.loads(
            text,
            parse_int=lambda number: int(_short(number)),
            parse_float=lambda number: float(_short(number)),
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise FileFormatError(
            source, error.lineno, f"must be JSON. Got text that is not ({error.msg}) instead."
        ) from None
    except _NotWantedError as error:
        raise FileFormatError(source, None, str(error)) from None
    _check_characters(text, value, source)
    return value


class _NotWantedError(Exception):
    """JSON that the language allows and no format here does."""


def _short(number: str) -> str:
    if len(number) > LONGEST_NUMBER:
        raise _NotWantedError(
            f"a number must have at most {LONGEST_NUMBER} characters. Got {len(number)} instead."
        )
    return number


def _refuse_constant(name: str) -> JsonValue:
    raise _NotWantedError(f"a number must be finite. Got {name} instead.")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _NotWantedError(f"a key must stand once in an object. Got {shown(key)} again instead.")
            seen.add(key)
    return record


def _check_characters(text: str, value: JsonValue, source: Path | str) -> None:
    """Half a character can be written nowhere again, neither to a file nor to a store."""
    if _HALF_CHARACTER.search(text) is None:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FileFormatError(
            source, None, f"a text must be whole characters. Got {error.object[error.start]!a} instead."
        ) from None


def _check_depth(text: str, source: Path | str) -> None:
    """Before parsing: the parser itself goes down one call per bracket."""
    brackets = _STRINGS.sub("", text).encode("utf-8", "surrogatepass").translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) <= DEEPEST:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        bracket = text[token.start()]
        if bracket in "[{":
            depth += 1
            if depth > DEEPEST:
                raise FileFormatError(
                    source,
                    text.count("\n", 0, token.start()) + 1,
                    f"brackets must be at most {DEEPEST} deep. Got deeper ones instead.",
                )
        elif bracket in "]}":
            depth -= 1
