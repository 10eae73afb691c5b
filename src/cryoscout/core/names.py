"""Names of others as text and nothing else: visible on a screen, no formula in a spreadsheet.

Files and servers give names of any characters. What a terminal obeys (ESC and other control characters), what ends a
line or a text elsewhere (newline, NUL) and what turns the reading direction round (U+202E) becomes a visible mark where
it comes in, so that nothing behind that border has to think of it.
"""

from __future__ import annotations

import re
from pathlib import Path

_ODD = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""Control characters, ends of lines, marks of direction, and what has no width."""
_ODD_IN_TEXT = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def visible(text: str) -> str:
    """A name with every character that is not seen, or is obeyed, as a mark: ESC is U+241B, U+202E is `<U+202E>`."""
    return _ODD.sub(_mark, text)


def visible_lines(text: str) -> str:
    """As `visible`, of text for people in which line ends and tabs are ours."""
    return _ODD_IN_TEXT.sub(_mark, text)


def is_visible(text: str, *, lines: bool = False) -> bool:
    """Whether `visible`, or with `lines` `visible_lines`, changes nothing."""
    return (_ODD_IN_TEXT if lines else _ODD).search(text) is None


def name_of_source(path: Path) -> str:
    """What a file or folder is called in tables and notes: its last part, also where it was given as `.` or `..`."""
    return path.name if path.name not in ("", "..") else path.resolve().name or str(path)


def _mark(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        # The pictures that Unicode has for control characters.
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def as_cell(value: object) -> object:
    """A cell of a table that people open in a spreadsheet: a text that it would take for a formula gets an apostrophe.

    Numbers stay numbers. `from_cell` gives the text back.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """The text of a cell without the apostrophe that `as_cell` put before it."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
