"""The XML form of an autodoc file, as SerialEM writes navigators on request: read into the same sections, without DTD.

    <navigator>                             any root; its name says nothing
      <PreData><AdocVersion>2.00</...>      the global lines
      <Item name="12"><Color>0</Color>...   a section of kind Item and name 12

The sections get the lines that the autodoc form would have, so that whoever writes them writes that form.
A document type declaration is refused: it is the way to external entities and to a billion laughs.
Source: "File Formats" of the SerialEM help, https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers.expat import ExpatError, ParserCreate

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.serialem.autodoc import MOST_LINES_OF_SECTION, Autodoc, Entry, Section, section_lines
from cryoscout.formats.text.findings import Findings

GLOBALS = "PreData"
MOST_ELEMENTS = 2_000_000
LONGEST_VALUE = 1_000_000

_CHUNK = 65536


def looks_like_xml(start: str) -> bool:
    """Whether the start of a file is XML."""
    return start.lstrip().startswith("<?xml")


def parse_autodoc_xml(data: bytes, findings: Findings) -> Autodoc:
    """The sections of the XML form; an element that has no place in it is noted and left out.

    Raises FileFormatError at the first deviation when strict, and always for a document type declaration.
    """
    builder = _Builder(findings)
    parser = ParserCreate()
    parser.buffer_text = True
    parser.ordered_attributes = True

    def refuse_dtd(*_: object) -> None:
        raise FileFormatError(
            findings.path,
            parser.CurrentLineNumber,
            "must have no document type declaration (DOCTYPE). Got one instead. Remedy: save the file again.",
        )

    def opened(tag: str, attributes: list[str]) -> None:
        builder.open(tag, attributes, parser.CurrentLineNumber)

    parser.StartDoctypeDeclHandler = refuse_dtd
    parser.StartElementHandler = opened
    parser.EndElementHandler = builder.close
    parser.CharacterDataHandler = builder.text
    try:
        for start in range(0, len(data), _CHUNK):
            parser.Parse(data[start : start + _CHUNK], False)
        parser.Parse(b"", True)
    except ExpatError as error:
        findings.deviates(f"must be well-formed XML. Got {error} instead.", error.lineno)
    except (ValueError, LookupError) as error:
        findings.deviates(f"must be XML in a known encoding. Got {error} instead.", parser.CurrentLineNumber)
    return builder.document()


@dataclass
class _Builder:
    """Follows the elements: root, section, key; only whole sections are taken."""

    findings: Findings
    depth: int = 0
    elements: int = 0
    kind: str = ""
    name: str = ""
    key: str = ""
    line: int = 0
    key_line: int = 0
    pairs: dict[str, tuple[str, int]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    length: int = 0
    text_only: bool = True
    whole: bool = True
    opening: dict[str, tuple[str, int]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    def open(self, tag: str, attributes: list[str], line: int) -> None:
        """An element begins."""
        self.depth += 1
        self.elements += 1
        if self.elements > MOST_ELEMENTS:
            raise FileFormatError(
                self.findings.path, line, f"must have at most {MOST_ELEMENTS:,} elements. Got more instead."
            )
        pairs = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if self.depth == 2:
            name = _on_one_line(pairs.pop("name", ""))
            self.kind, self.name, self.line = tag, name, line
            # IMOD takes the other attributes of a section for keys.
            self.pairs = {key: (_on_one_line(value), line) for key, value in pairs.items()}
            self._check_keys(line)
            self.whole = bool(name) or tag == GLOBALS
            if not self.whole:
                self.findings.deviates(
                    f"a section must have a name. Got <{tag[:60]}> without one instead.", line
                )
        elif self.depth == 3:
            self.key, self.key_line, self.texts, self.length, self.text_only = tag, line, [], 0, True
        elif self.depth > 3:
            if self.depth == 4:
                self.findings.deviates(
                    f"a key must hold text only. Got <{tag[:60]}> in it instead.",
                    line,
                    self.key[:60],
                )
            self.text_only = False

    def text(self, text: str) -> None:
        """Character data; outside a key it must be blank."""
        if self.depth == 3:
            self.length += len(text)
            if self.length <= LONGEST_VALUE:
                self.texts.append(text)
        elif self.depth < 3 and text.strip():
            self.findings.deviates(
                f"text must stand in a key. Got {text.strip()[:60]!r} instead.",
                self.line or None,
            )

    def close(self, tag: str) -> None:
        """An element ends."""
        self.depth -= 1
        if self.depth == 2:
            self._close_key()
        elif self.depth == 1 and self.whole:
            if self.kind == GLOBALS:
                self.opening.update(self.pairs)
            else:
                self.sections.append(_section(self.kind, self.name, self.line, self.pairs))

    def _close_key(self) -> None:
        if not self.text_only:
            return
        if self.length > LONGEST_VALUE:
            self.findings.deviates(
                f"a value must have at most {LONGEST_VALUE:,} characters. Got {self.length:,} instead.",
                self.key_line,
                self.key[:60],
            )
            return
        if self.key in self.pairs:
            self.findings.deviates(
                f"a key must stand once in a section. Got {self.key[:60]!r} again instead "
                f"(first on line {self.pairs[self.key][1]}; the last one counts).",
                self.key_line,
            )
        self.pairs[self.key] = (_on_one_line("".join(self.texts)), self.key_line)
        self._check_keys(self.key_line)

    def _check_keys(self, line: int) -> None:
        if len(self.pairs) > MOST_LINES_OF_SECTION:
            raise FileFormatError(
                self.findings.path,
                line,
                f"a section must have at most {MOST_LINES_OF_SECTION:,} keys. Got more instead.",
            )

    def document(self) -> Autodoc:
        """What was read."""
        return Autodoc((_section("", "", 1, self.opening), *self.sections), from_xml=True)


def _section(kind: str, name: str, line: int, pairs: dict[str, tuple[str, int]]) -> Section:
    raw = section_lines(kind, name, ((key, value) for key, (value, _) in pairs.items()))
    first = 1 if kind else 0
    entries = tuple(
        Entry(key, value, key_line, (first + row,))
        for row, (key, (value, key_line)) in enumerate(pairs.items())
    )
    return Section(kind, name, line, tuple(raw), entries)


def _on_one_line(text: str) -> str:
    return re.sub(r"\s*[\r\n]\s*", " ", text).strip()
