"""YAML from elsewhere as plain texts, lists and mappings with their lines: no types guessed, no aliases, bounded depth.

Every scalar stays the text that is written; only an unquoted `null`, `~` or nothing becomes None. So a name such as
`0010` or `1e5` is not turned into a number, tags make no objects, and an alias cannot blow up a small file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import yaml

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.records import LARGEST_TABLE_BYTES, shown
from cryoscout.formats.text.findings import LONGEST_LINE, read_text

DEEPEST = 64
MOST_VALUES = 1_000_000
"""A grid of 1,000 holes has about 100,000."""

YamlValue: TypeAlias = "str | list[YamlValue] | YamlMapping | None"

_NULLS = ("", "~", "null", "Null", "NULL")


class YamlMapping(dict[str, YamlValue]):
    """A mapping that knows the line (1-based) of its first key."""

    line: int = 0


def read_yaml(path: Path) -> YamlValue:
    """The value of a file with one YAML document; None for an empty one.

    Raises FileFormatError (with the line) for what is no YAML, an alias, a key that stands twice or is no text, a
    second document, and what is deeper than 64 levels or has a line of more than 100,000 characters.
    """
    text = read_text(path, LARGEST_TABLE_BYTES)
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > LONGEST_LINE:
            raise FileFormatError(
                path,
                number,
                f"a line must have at most {LONGEST_LINE:,} characters. Got {len(line):,} instead.",
            )
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _build(path, yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = error.problem or "something else"
        raise FileFormatError(
            path,
            None if mark is None else mark.line + 1,
            f"must be YAML. Got text that is not ({problem}) instead.",
        ) from None
    except yaml.YAMLError as error:
        message = str(error).splitlines()[0][:120]
        raise FileFormatError(
            path, None, f"must be YAML. Got text that is not ({message}) instead."
        ) from None


def _build(path: Path, events: Iterator[yaml.Event]) -> YamlValue:
    """The value of the one document of an event stream, without recursion."""
    top: list[YamlValue] = []
    open_parts: list[list[YamlValue] | YamlMapping] = [top]
    keys: list[str | None] = [None]
    count = 0
    for event in events:
        count += 1
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        if count > MOST_VALUES:
            raise FileFormatError(path, line, f"must have at most {MOST_VALUES:,} values. Got more instead.")
        if isinstance(event, yaml.AliasEvent):
            raise FileFormatError(path, line, f"must have no alias. Got {shown(f'*{event.anchor}')} instead.")
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            open_parts.pop()
            keys.pop()
            continue
        value: YamlValue
        if isinstance(event, yaml.ScalarEvent):
            _check_characters(path, line, event.value)
            value = None if event.implicit[0] and event.value in _NULLS else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            value = YamlMapping()
            value.line = line
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
        else:
            continue
        if (
            isinstance(event, yaml.ScalarEvent)
            and isinstance(open_parts[-1], YamlMapping)
            and keys[-1] is None
        ):
            keys[-1] = _key(path, line, open_parts[-1], event.value)
            continue
        _put(path, line, open_parts[-1], keys, value)
        if not isinstance(event, yaml.ScalarEvent):
            if len(open_parts) > DEEPEST:
                raise FileFormatError(
                    path, line, f"must be at most {DEEPEST} levels deep. Got deeper instead."
                )
            open_parts.append(value if isinstance(value, (list, YamlMapping)) else [])
            keys.append(None)
    if len(top) > 1:
        raise FileFormatError(path, None, f"must hold one document. Got {len(top)} instead.")
    return top[0] if top else None


def _check_characters(path: Path, line: int, text: str) -> None:
    """An escape can write half a character, which can be written nowhere again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FileFormatError(
            path, line, "a text must be whole characters. Got half of one instead."
        ) from None


def _key(path: Path, line: int, mapping: YamlMapping, key: str) -> str:
    if key in mapping:
        raise FileFormatError(path, line, f"a key must stand once. Got {shown(key)} again instead.")
    return key


def _put(
    path: Path, line: int, part: list[YamlValue] | YamlMapping, keys: list[str | None], value: YamlValue
) -> None:
    if isinstance(part, list):
        part.append(value)
        return
    key = keys[-1]
    if key is None:
        raise FileFormatError(path, line, "a key must be a text. Got a list or mapping instead.")
    part[key] = value
    keys[-1] = None
