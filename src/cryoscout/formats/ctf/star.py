"""STAR files as RELION and its neighbours write them: read with line numbers, written so that they read back equal.

    data_NAME                 begins a block; the name may be empty
    _label value              one value of a block without loop
    loop_                     begins a table: its labels, one a line (`_label #1`), then one row a line
    # ...                     a comment, from the beginning of a word to the end of the line
    'a b', "a b", ""          a value with blanks, or an empty one; a quote closes only before a blank

A row has exactly one value for each label, and the last line has its line break: a program that was interrupted leaves
neither, and a number cut in the middle is still a number. Blank lines may stand anywhere. Text over several lines
(`;`) is not read.
Specification: S. R. Hall, J. Chem. Inf. Comput. Sci. 31, 326 (1991); RELION's use of it: relion.readthedocs.io,
"Conventions". Doubt: RELION ends a table at a blank line; here rows may follow it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.core.new_files import write_whole
from cryoscout.formats.ctf.records import LARGEST_TABLE_BYTES, deviations_of, head_text, shown
from cryoscout.formats.text.findings import Deviation, Findings, check_width, lines_of, read_lines

MOST_TABLES = 20_000
"""Of a file: RELION's own have one for each optics group, class or micrograph at most."""

_TOKEN = re.compile(r"""\s*(?:#.*|"(?P<double>.*?)"(?=\s|$)|'(?P<single>.*?)'(?=\s|$)|(?P<bare>\S+))""")
_RESERVED = ("data_", "loop_", "_", "#", ";", "'", '"', "save_", "global_", "stop_")


@dataclass(frozen=True)
class StarTable:
    """One table: a loop, or the label-value pairs of a block as a single row."""

    block: str
    """Name of the block without `data_`; empty for a nameless one."""
    columns: tuple[str, ...]
    """Labels without the underscore in front, as written otherwise."""
    rows: list[list[str]]
    """Values as written, without quotes; each row as long as `columns`."""
    is_loop: bool = True
    line: int = field(default=0, compare=False)
    row_lines: list[int] = field(default_factory=list, compare=False)

    def column(self, label: str) -> list[str]:
        """The values below a label. Raises InputError when the table has no such label."""
        if label not in self.columns:
            raise InputError(
                f"A label must be one of {', '.join(self.columns) or 'none'}. Got {label!r} instead."
            )
        place = self.columns.index(label)
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class StarFile:
    """A STAR file: its tables in order, and what deviated."""

    path: Path
    tables: list[StarTable]
    deviations: tuple[Deviation, ...] = ()


def detect(path: Path) -> bool:
    """Whether a file begins as a STAR file does: comments, then data_."""
    for line in lines_of(head_text(path))[0]:
        words = line.split(maxsplit=1)
        if words and not words[0].startswith("#"):
            return words[0].startswith("data_") and (len(words) == 1 or words[1].startswith("#"))
    return False


def read_star(path: Path, permissive: bool = False) -> StarFile:
    """Read all tables.

    permissive : leave deviating lines out and list them in the result, instead of raising at the first
    Raises FileFormatError (file, line) at the first deviation, and always when the file does not begin as STAR.
    """
    findings = Findings(path, permissive)
    tables = read_tables(path, findings)
    return StarFile(path, tables, tuple(findings.deviations))


def validate(path: Path) -> list[Deviation]:
    """Every deviation of a file from the STAR format, by line; an empty list for a clean file."""
    return deviations_of(path, read_tables)


def read_tables(path: Path, findings: Findings) -> list[StarTable]:
    """The tables of a file; deviations go to the findings."""
    lines, is_complete = read_lines(findings, LARGEST_TABLE_BYTES)
    parser = _Parser(findings)
    for number, line in enumerate(findings.told(lines, 0.4), start=1):
        is_cut = number == len(lines) and not is_complete
        parser.take(number, line, is_cut)
    if parser.block is None:
        raise FileFormatError(
            path, None, "must be a STAR file (data_...). Got a file without a block instead."
        )
    parser.end_block()
    return parser.tables


class _Parser:
    """Takes the lines of a file one by one."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.tables: list[StarTable] = []
        self.block: str | None = None
        self.block_line = 0
        self.block_tables = 0
        self.state: Literal["pairs", "labels", "rows"] = "pairs"
        self.labels: list[str] = []
        self.known: set[str] = set()
        """Of the labels."""
        self.values: list[str] = []
        self.rows: list[list[str]] = []
        self.row_lines: list[int] = []
        self.loop_line = 0
        self.after_blank = False

    def take(self, number: int, line: str, is_cut: bool) -> None:
        words = line.split()
        if '"' in line or "'" in line or "#" in line:
            tokens = _tokens(line)
            if tokens is None:
                self.findings.deviates("a quoted value must end with its quote. Got none instead.", number)
                return
            is_quoted = bool(words) and words[0][0] in "\"'"
        else:
            tokens, is_quoted = words, False
        if not tokens:
            self.after_blank = True
            return
        if is_cut:
            self.findings.deviates(
                f"the last line must end with a line break. Got {shown(line)} without one instead. "
                "Remedy: the file was cut or is still being written; write it again.",
                number,
            )
            return
        self._take_tokens(number, tokens, is_quoted)
        self.after_blank = False

    def _take_tokens(self, number: int, tokens: list[str], is_quoted: bool) -> None:
        first = tokens[0]
        if not is_quoted and first.startswith(("data_", "loop_", "_")):
            if first.startswith("data_") and self._is_header(tokens):
                self._begin_block(number, first.removeprefix("data_"))
                return
            if self.block is not None and first == "loop_" and len(tokens) == 1:
                self.end_table()
                self.state, self.loop_line = "labels", number
                return
            if self.block is not None and first.startswith("_") and self._is_label(tokens):
                self._take_label(number, tokens)
                return
        if self.block is None:
            raise FileFormatError(
                self.findings.path, number, f"a STAR file must begin with data_. Got {shown(first)} instead."
            )
        self._take_row(number, tokens)

    def _is_header(self, tokens: list[str]) -> bool:
        if len(tokens) > 1:
            return False
        # A table of one column may hold names such as data_1/image.mrc.
        looks_like_a_path = "/" in tokens[0] or "." in tokens[0]
        return self.after_blank or not (self.state == "rows" and len(self.labels) == 1 and looks_like_a_path)

    def _is_label(self, tokens: list[str]) -> bool:
        return not (self.state == "rows" and len(tokens) == len(self.labels) and not self.after_blank)

    def _begin_block(self, number: int, name: str) -> None:
        self.end_block()
        self.block, self.block_line, self.block_tables = name, number, 0
        self.state = "pairs"

    def _take_label(self, number: int, tokens: list[str]) -> None:
        label = tokens[0][1:]
        if self.state == "rows":
            self.end_table()
        wanted = 2 if self.state == "pairs" else 1
        if len(tokens) != wanted:
            what = (
                "a label outside a loop must have one value"
                if wanted == 2
                else "a loop's label must stand alone"
            )
            self.findings.deviates(
                f"{what}. Got {len(tokens) - 1} words after {shown(tokens[0])} instead. "
                "Remedy: put quotes around a value with blanks.",
                number,
            )
            return
        if label in self.known:
            self.findings.deviates(
                f"a label must stand once in a table. Got {shown(label)} again instead.", number
            )
            if self.state == "pairs":
                return
        if self.state == "pairs" and not self.labels:
            self.loop_line = number
        self.labels.append(label)
        self.known.add(label)
        check_width(self.findings.path, number, len(self.labels))
        if self.state == "pairs":
            self.values.append(tokens[1])

    def _take_row(self, number: int, tokens: list[str]) -> None:
        if self.state == "pairs" or not self.labels:
            self.findings.deviates(
                f"a value must stand after its label or in a loop. Got {shown(tokens[0])} alone instead.",
                number,
            )
            return
        self.state = "rows"
        if len(tokens) != len(self.labels):
            self.findings.deviates(
                f"a row must have {len(self.labels)} values, one for each label. Got {len(tokens)} instead.",
                number,
            )
            return
        self.rows.append(tokens)
        self.row_lines.append(number)

    def end_table(self) -> None:
        """Close the table that is being read."""
        if self.block is None:
            return
        if self.state == "pairs":
            if self.labels:
                self._keep(StarTable(self.block, tuple(self.labels), [self.values], False, self.loop_line))
                self.tables[-1].row_lines.append(self.loop_line)
        elif not self.labels:
            self.findings.deviates("a loop must have labels. Got none instead.", self.loop_line)
        else:
            table = StarTable(self.block, tuple(self.labels), self.rows, True, self.loop_line, self.row_lines)
            self._keep(table)
        self.labels, self.values, self.rows, self.row_lines, self.known = [], [], [], [], set()
        self.state = "pairs"

    def _keep(self, table: StarTable) -> None:
        if len(self.tables) >= MOST_TABLES:
            raise FileFormatError(
                self.findings.path, table.line, f"must have at most {MOST_TABLES:,} tables. Got more instead."
            )
        self.tables.append(table)
        self.block_tables += 1

    def end_block(self) -> None:
        """Close the block; one without any content becomes a table without columns."""
        self.end_table()
        if self.block is not None and not self.block_tables:
            self._keep(StarTable(self.block, (), [], False, self.block_line))


def _tokens(line: str) -> list[str] | None:
    """The values of a line without quotes and comment; None when a quoted value has no end."""
    tokens = []
    for match in _TOKEN.finditer(line.rstrip()):
        kind = match.lastgroup
        if kind is None:
            continue
        value = match[kind]
        if kind == "bare" and value[0] in "\"'":
            return None
        tokens.append(value)
    return tokens


def write_star(path: Path, tables: Sequence[StarTable]) -> None:
    """Write tables so that `read_star` gives them back equal; a block's pairs stand before its loops.

    Raises InputError when a row is not as long as its table, or a value or name cannot be written in this format.
    """
    write_whole(path, star_text(tables))


def star_text(tables: Sequence[StarTable]) -> str:
    """The text that `write_star` writes."""
    parts: list[str] = []
    open_block: str | None = None
    for table in tables:
        # Pairs after a loop of the same block would run into it; a block may be named twice instead.
        if open_block != table.block or not table.is_loop:
            _check_word(f"data_{table.block}", "The name of a block")
            parts.append(f"\ndata_{table.block}\n")
        open_block = table.block if table.columns else None
        for label in table.columns:
            _check_word(f"_{label}", "A label")
        for row in table.rows:
            if len(row) != len(table.columns):
                raise InputError(f"A row must have {len(table.columns)} values. Got {len(row)} instead.")
        if table.is_loop:
            if not table.columns:
                raise InputError("A loop must have labels. Got none instead.")
            parts.append("\nloop_\n")
            parts += [f"_{label} #{place}\n" for place, label in enumerate(table.columns, start=1)]
            parts += [" ".join([_written(value) for value in row]) + "\n" for row in table.rows]
        elif table.columns:
            if len(table.rows) != 1:
                raise InputError(f"Pairs must be one row. Got {len(table.rows)} instead.")
            parts.append("\n")
            pairs = zip(table.columns, table.rows[0], strict=True)
            parts += [f"_{label} {_written(value)}\n" for label, value in pairs]
    return "".join(parts)


def _check_word(word: str, what: str) -> None:
    if word.split() != [word] or "#" in word or '"' in word or "'" in word or "\0" in word:
        raise InputError(f"{what} must be one word without quotes or #. Got {word!r} instead.")


def _written(value: str) -> str:
    """A value as it stands in a file, quoted where it must be."""
    if value and value.split() == [value] and not value.startswith(_RESERVED) and "\0" not in value:
        return value
    for quote in ('"', "'"):
        closes_early = re.search(quote + r"\s", value) is not None
        if not closes_early and not any(end in value for end in "\n\r\0"):
            return f"{quote}{value}{quote}"
    raise InputError(
        f"A value of a STAR file must be one line without both quotes before blanks. Got {value!r} instead."
    )
