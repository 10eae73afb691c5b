"""The autodoc syntax of SerialEM and IMOD, kept line by line so that what is not changed is written back byte for byte.

    [Kind = name]       opens a section; what stands above the first one is global
    key = value         the value may hold "=": only the first one separates
    # comment           and blank lines belong to the section above them
    more text           a line without "=" continues the value above it (IMOD joins them by a blank)

A key that stands twice in a section has its last value, as in IMOD's own reader; it is a deviation all the same.
A line that is no text (see `findings`) is kept as it is and has no entry; below a header that is none, nobody's.
Syntax: "File Formats" of the SerialEM help, https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Literal

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.text.findings import (
    MOST_LINES,
    NO_MARK,
    Findings,
    code_page_bytes,
    decoded,
    encoding_of,
    is_utf_8,
    no_text_problem,
    read_bytes,
    read_start,
)

LARGEST_AUTODOC_BYTES = 32 * 1024 * 1024
LONGEST_LINE = 1_000_000
MOST_SECTIONS = 300_000
"""Of a file; a navigator of a large session has some ten thousand items."""
MOST_LINES_OF_SECTION = 20_000
"""A section has a line for each key, of which SerialEM knows about a hundred."""

START_BYTES = 8192
"""What `detect` functions read of a file."""

TITLE = "T"
"""Titles stand as sections `[T = text]`, in frame files as global lines `T = text`; they may repeat and be empty."""

UNREADABLE = "(unreadable)"
"""Kind of a section whose header cannot be read: its lines are kept, and are nobody else's."""

CODE_PAGE: Literal["cp1252"] = "cp1252"
"""How text that is not UTF-8 is read: SerialEM runs on Windows, and older versions write its code page."""

Encoding = Literal["utf-8", "cp1252", "utf-16-le", "utf-16-be", "latin-1"]

# What is no text comes back as it was, whatever it is.
_ERRORS: dict[Encoding, str] = {
    "utf-8": "surrogateescape",
    "cp1252": "strict",
    "utf-16-le": "surrogatepass",
    "utf-16-be": "surrogatepass",
    "latin-1": "strict",
}
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key = value`, continuation lines joined."""

    key: str
    value: str
    line: int  # 1-based, of the file it was read from
    rows: tuple[int, ...]  # its lines in Section.raw, more than one where it is continued


@dataclass(frozen=True, slots=True)
class Section:
    """One section as written; `with_value` and `without` give changed copies.

    kind, name : of the header `[kind = name]`; both "" for the global lines
    line : 1-based, of the header     raw : its lines with their ends, the header first
    """

    kind: str
    name: str
    line: int
    raw: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    _last: dict[str, Entry] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._last.update((entry.key, entry) for entry in self.entries)

    def get(self, key: str) -> str | None:
        """The value of a key, "" where it is empty, None where there is no such key."""
        entry = self._last.get(key)
        return None if entry is None else entry.value

    def line_of(self, key: str) -> int:
        """The line of a key, of the header where the section does not have it."""
        entry = self._last.get(key)
        return self.line if entry is None else entry.line

    def key_names(self) -> list[str]:
        """The keys in order of their first line, each once."""
        return list(self._last)

    def with_value(self, key: str, value: str) -> Section:
        """The section with the value of a key changed, or the key added below the others; other lines stay as they are.

        Raises InputError when the key or value could not be read back.
        """
        line = f"{key} = {value}".rstrip()
        probe = _parse_line(line)
        if probe != (key, value.strip()) or _breaks_lines(line):
            raise InputError(
                f"A key and its value must fit on one autodoc line. Got {line[:_SHOWN]!r} instead."
            )
        raw = list(self.raw)
        entry = self._last.get(key)
        if entry is not None:
            raw[entry.rows[0]] = line + _line_end(raw[entry.rows[-1]])
            return self._reread([text for row, text in enumerate(raw) if row not in entry.rows[1:]])
        place = self.entries[-1].rows[-1] + 1 if self.entries else (1 if self.kind else 0)
        end = next((found for text in raw if (found := _line_end(text))), "\n")
        if place and not _line_end(raw[place - 1]):
            raw[place - 1] += end
        return self._reread([*raw[:place], line + end, *raw[place:]])

    def without(self, key: str) -> Section:
        """The section without the lines of a key; the section itself where it has none."""
        if key not in self._last:
            return self
        taken = {row for entry in self.entries if entry.key == key for row in entry.rows}
        return self._reread([text for row, text in enumerate(self.raw) if row not in taken])

    def named(self, name: str) -> Section:
        """The section under another name. Raises InputError when the header could not be read back."""
        header = f"[{self.kind} = {name}]"
        if _breaks_lines(header) or "]" in name:
            raise InputError(
                f"The name of a section must fit into its header. Got {name[:_SHOWN]!r} instead."
            )
        raw = (header + (_line_end(self.raw[0]) or "\n"), *self.raw[1:])
        return replace(self, name=name, raw=raw)

    def separated(self, line_end: str) -> Section:
        """The section ending in a blank line, so that another can follow it."""
        if not self.raw or not self.raw[-1].strip():
            return self
        last = self.raw[-1] if _line_end(self.raw[-1]) else self.raw[-1] + line_end
        return Section(self.kind, self.name, self.line, (*self.raw[:-1], last, line_end), self.entries)

    def _reread(self, raw: list[str]) -> Section:
        silent = Findings(Path(), permissive=True)
        texts = ["" if _line_problem(text) else text for text in raw]
        entries = _entries(self.kind, texts, self.line, silent, False)
        return Section(self.kind, self.name, self.line, tuple(raw), entries)


@dataclass(frozen=True)
class Autodoc:
    """A file as sections; the first holds the global lines and is always there, however empty."""

    sections: tuple[Section, ...]
    encoding: Encoding = "utf-8"
    from_xml: bool = False
    code_page_lines: frozenset[str] = frozenset()
    """Where the encoding is `CODE_PAGE`: the lines, without their ends, that are not UTF-8; the others are."""

    @property
    def globals(self) -> Section:
        """What stands above the first header."""
        return self.sections[0]

    @property
    def line_end(self) -> str:
        r"""Line end of the file: that of its first line, "\n" for a file without one."""
        return next(
            (end for section in self.sections for text in section.raw if (end := _line_end(text))), "\n"
        )

    def of_kind(self, kind: str) -> list[Section]:
        """The sections of one kind in file order."""
        return [section for section in self.sections[1:] if section.kind == kind]

    def to_bytes(self) -> bytes:
        """The file: for a document that was read and not changed, the very bytes that were read."""
        if self.encoding == CODE_PAGE:
            lines = (text for section in self.sections for text in section.raw)
            return b"".join(
                code_page_bytes(text)
                if text.rstrip("\r\n") in self.code_page_lines
                else text.encode("utf-8", _ERRORS["utf-8"])
                for text in lines
            )
        text = "".join(text for section in self.sections for text in section.raw)
        return text.encode(self.encoding, _ERRORS[self.encoding])


def start_of(path: Path) -> str:
    """The first characters of a text file, see `read_start`."""
    return read_start(path, START_BYTES)


def read_autodoc_file(findings: Findings) -> bytes:
    """The bytes of the file the findings are of; raises FileFormatError when it cannot be read or is too large."""
    return read_bytes(findings.path, LARGEST_AUTODOC_BYTES)


def parse_autodoc(data: bytes, findings: Findings) -> Autodoc:
    """The sections of an autodoc file; every line that deviates is noted, kept, and has no entry.

    Raises FileFormatError at the first deviation when strict; otherwise for a file of too many lines or deviations.
    """
    text, encoding, code_page_lines = _decode(data, findings)
    if text.count("\n") >= MOST_LINES:
        raise FileFormatError(
            findings.path,
            None,
            f"must have at most {MOST_LINES:,} lines. Got {text.count(chr(10)) + 1:,} instead.",
        )
    raw = [match.group() for match in re.finditer(r"[^\n]*\n|[^\n]+", text)]
    heads = [row for row, line in enumerate(raw) if line.lstrip("\ufeff \t").startswith("[")]
    texts = list(raw)
    for row, line in enumerate(raw):
        problem = _line_problem(line, encoding)
        if problem is not None:
            findings.deviates(problem, row + 1)
            texts[row] = ""
    sections: list[Section] = []
    if len(heads) > MOST_SECTIONS:
        raise FileFormatError(
            findings.path, None, f"must have at most {MOST_SECTIONS:,} sections. Got {len(heads):,} instead."
        )
    for start, stop in findings.told(list(pairwise([0, *heads, len(raw)])), 0.4):
        if stop - start > MOST_LINES_OF_SECTION:
            raise FileFormatError(
                findings.path,
                start + 1,
                f"a section must have at most {MOST_LINES_OF_SECTION:,} lines. Got {stop - start:,} instead.",
            )
        kind, name = _header(texts[start], start + 1, findings) if sections else ("", "")
        entries = _entries(kind, texts[start:stop], start + 1, findings, stop == len(raw))
        sections.append(Section(kind, name, start + 1, tuple(raw[start:stop]), entries))
    return Autodoc(tuple(sections), encoding, code_page_lines=code_page_lines)


def file_name(path: str | None) -> str:
    r"""Last part of a Windows or POSIX path that a file mentions, a name only: "" for "..", which is none."""
    name = PureWindowsPath(path or "").name
    return "" if name in (".", "..") else name


def section_lines(kind: str, name: str, pairs: Iterable[tuple[str, str]], line_end: str = "\n") -> list[str]:
    """The lines of a section that is made, not read: header, entries, a blank line; no header for kind ""."""
    head = [f"[{kind} = {name}]{line_end}"] if kind else []
    return [*head, *(f"{key} = {value}".rstrip() + line_end for key, value in pairs), line_end]


def _decode(data: bytes, findings: Findings) -> tuple[str, Encoding, frozenset[str]]:
    """The text, its encoding, and which lines are of the code page.

    A mark of the byte order stays in the text, so that encoding gives the same bytes again.
    """
    found, is_certain = encoding_of(data)
    encoding: Encoding = "utf-8"
    if found in ("utf-16-le", "utf-16-be"):
        encoding = "utf-16-le" if found == "utf-16-le" else "utf-16-be"
    if not is_certain:
        findings.deviates(NO_MARK, 1)
    if encoding != "utf-8" and len(data) % 2:
        # Half a character cannot be written again in UTF-16; every byte is a character of Latin-1.
        findings.deviates(no_text_problem("\ud800", encoding) or "", data.count(b"\n") + 1)
        return data.decode("latin-1"), "latin-1", frozenset()
    if found == "utf-8" and not is_utf_8(data):
        return _decoded_by_line(data)
    return decoded(data, encoding), encoding, frozenset()


def _decoded_by_line(data: bytes) -> tuple[str, Encoding, frozenset[str]]:
    """Text that is not all UTF-8, line by line: versions that write one and the other may share a file."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
    are_good = [is_utf_8(line) for line in lines]
    texts = [
        decoded(line, "utf-8" if good else CODE_PAGE) for line, good in zip(lines, are_good, strict=True)
    ]
    of_page = {text.rstrip("\r\n") for text, good in zip(texts, are_good, strict=True) if not good}
    if any(good and text.rstrip("\r\n") in of_page for text, good in zip(texts, are_good, strict=True)):
        # Which of two equal lines is which could not be told any more.
        texts = [decoded(line, CODE_PAGE) for line in lines]
        of_page = {text.rstrip("\r\n") for text in texts}
    return "".join(texts), CODE_PAGE, frozenset(of_page)


def _header(text: str, line: int, findings: Findings) -> tuple[str, str]:
    if not text:
        return UNREADABLE, ""
    inner, bracket, _ = text.strip("\ufeff \t\r\n").removeprefix("[").rpartition("]")
    kind, equals, name = (part.strip() for part in inner.partition("="))
    whole = bracket and equals and kind and (name or kind == TITLE)
    if not whole:
        findings.deviates(f"a header must be [Kind = name]. Got {_shown(text)} instead.", line)
        return UNREADABLE, ""
    return kind, name


def _entries(
    kind: str, raw: list[str], first_line: int, findings: Findings, at_end: bool
) -> tuple[Entry, ...]:
    """The entries of a section; raw : its lines, empty where they are no text."""
    found: list[tuple[str, list[str], list[int]]] = []  # key, parts of the value, rows
    first: dict[str, int] = {}
    below_no_text = False
    for row, text in enumerate(raw):
        line = first_line + row
        if not text:
            # What continues a line that is no text must not be put below the value above it.
            below_no_text = True
            continue
        stripped = text.strip("\ufeff \t\r\n")
        if not stripped or stripped.startswith("#") or (kind and row == 0):
            continue
        pair = _parse_line(stripped)
        half_written = at_end and row == len(raw) - 1 and not _line_end(text)
        continues = "=" not in stripped and found and not half_written and not below_no_text
        if pair is None and continues:
            found[-1][1].append(stripped)
            found[-1][2].append(row)
        elif pair is None:
            findings.deviates(
                f"a line must be 'key = value' or '[Kind = name]'. Got {_shown(text)} instead.",
                line,
            )
        else:
            below_no_text = False
            key, value = pair
            if key in first and key != TITLE:
                findings.deviates(
                    f"a key must stand once in a section. Got {key[:_SHOWN]!r} again instead "
                    f"(first on line {first[key]}; the last one counts).",
                    line,
                )
            first.setdefault(key, line)
            found.append((key, [value], [row]))
    return tuple(
        Entry(key, " ".join(filter(None, parts)), first_line + rows[0], tuple(rows))
        for key, parts, rows in found
    )


def _parse_line(stripped: str) -> tuple[str, str] | None:
    key, equals, value = stripped.partition("=")
    key = key.strip()
    if not equals or not key or key.startswith(("[", "#")):
        return None
    return key, value.strip()


def _line_problem(text: str, encoding: Encoding = "utf-8") -> str | None:
    if len(text) > LONGEST_LINE:
        return f"a line must have at most {LONGEST_LINE:,} characters. Got {len(text):,} instead."
    return no_text_problem(text, encoding)


def _breaks_lines(text: str) -> bool:
    return any(character in text for character in "\n\r\0") or len(text) > LONGEST_LINE


def _line_end(text: str) -> str:
    if text.endswith("\r\n"):
        return "\r\n"
    return "\n" if text.endswith("\n") else ""


def _shown(text: str) -> str:
    text = text.strip("\ufeff \t\r\n")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
