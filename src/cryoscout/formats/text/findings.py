"""What every reader shares: how a deviation from a format is named, collected, and raised or reported, and text itself.

Strict by default: the first deviation raises. With `permissive` the same messages are collected, the piece that
deviates is left out, and nothing else changes. `validate` lists all of them.

Text is UTF-8, with or without a byte order mark, or UTF-16 with one. In texts of lines (tables, logs, STAR) a line that
is neither is of Windows code page 1252, because programs and people on microscopes write so, and the reader says it.
XML, JSON and YAML are UTF-8 by their own rules. The five bytes that this code page leaves open are control characters,
as the Encoding Standard's windows-1252 has them: text of another code page, as of 932, is read too, its letters wrong.
A line that is no text (a NUL byte, a lone byte of a text that is marked UTF-8) is a deviation like any other: it has
its number, and permissive reading goes on without it.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryoscout.core.errors import FileFormatError
from cryoscout.core.telling import Step, in_shares, no_step

LARGEST_TEXT_BYTES = 512 * 1024 * 1024
"""A larger text or XML file is refused before it is read into memory."""
MOST_LINES = 2_000_000
"""Each line takes about 60 bytes of memory beside its characters."""
LONGEST_LINE = 100_000
MOST_COLUMNS = 2_000
"""Of a table, whatever its format; the widest real ones, of CryoSPARC, have about 200."""
MOST_DEVIATIONS = 100_000
"""Even `permissive` gives up here: the file is something else."""

TARGETS_ALONE = "a target list: it says which holes are to be imaged, and nothing of what was imaged"
"""For the join report, of the formats that plans are written as."""
NO_MARK = (
    "must be utf-8 text, or utf-16 text with a byte order mark. Got utf-16 text without one instead. "
    "Remedy: save the file as UTF-8."
)

CODE_PAGE = "cp1252"
_CODE_PAGE_CHARACTERS = "".join(bytes([byte]).decode(CODE_PAGE, "ignore") or chr(byte) for byte in range(256))
_CODE_PAGE_BYTES = codecs.charmap_build(_CODE_PAGE_CHARACTERS)
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL, and what stands for bytes that could not be decoded."""
_LINE_END = re.compile(r"(\r\n|\n|\r)")
_UTF_8, _UTF_16 = "utf-8", "utf-16"
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_TOO_LARGE_REMEDY = (
    " Remedy: leave out what is of another session, and columns that are not needed; or write it as several files with "
    "the same head, and name them all."
)
_LOOKED_AT_BYTES = 4096
_LEAST_BYTES = 8
_Item = TypeVar("_Item")


class UnreadableError(FileFormatError):
    """There is no such file, or it may not be read; what it holds is not known."""


@dataclass(frozen=True)
class Deviation:
    """One place where a file does not say what its format must say."""

    line: int | None
    message: str
    element: str | None = None
    """Path of the element, key or column where the format has no lines; None otherwise."""


@dataclass
class Findings:
    """Collects the deviations of one file; strict unless `permissive`."""

    path: Path
    permissive: bool = False
    deviations: list[Deviation] = field(default_factory=list)
    step: Step = no_step
    """Told how much of the file is read, in shares of 1."""
    was_code_page: bool = False
    """Whether lines were not UTF-8 and were read as Windows code page 1252."""

    def told(self, items: Sequence[_Item], share: float) -> Iterator[_Item]:
        """The items one by one, of whose reading all are `share` (0 to 1)."""
        return in_shares(items, self.step, share)

    def notes_on_text(self) -> list[str]:
        """For the join report: that the text was not UTF-8, and what it was read as; empty where it was."""
        return notes_on_code_page([self.path.name]) if self.was_code_page else []

    def deviates(self, message: str, line: int | None = None, element: str | None = None) -> None:
        """Note a deviation, or raise it as FileFormatError when strict; too many always raise."""
        if not self.permissive:
            where = f"{element}: " if element else ""
            raise FileFormatError(self.path, line, where + message)
        if len(self.deviations) >= MOST_DEVIATIONS:
            raise FileFormatError(
                self.path,
                line,
                f"must have at most {MOST_DEVIATIONS:,} deviations. Got more instead: another format?",
            )
        self.deviations.append(Deviation(line, message, element))


def check_readable(path: Path) -> None:
    """Raise UnreadableError where a path is no file or folder, or one that may not be read; it is opened, not read."""
    try:
        if path.is_dir():
            with os.scandir(path):
                return
        if path.is_file():
            with path.open("rb"):
                return
        got = "something else" if path.exists() else "nothing there"
    except OSError as error:
        got = str(error.strerror)
    raise UnreadableError(path, None, f"must be a readable file. Got {got} instead.")


def read_bytes(path: Path, limit: int = LARGEST_TEXT_BYTES, remedy: str = "") -> bytes:
    """The bytes of a file.

    remedy : for a file over the limit, with a space before it
    Raises UnreadableError when it cannot be read or is no plain file, FileFormatError when it is over the limit.
    """
    try:
        if not path.is_file():
            raise UnreadableError(path, None, "must be a file. Got something else, or nothing, instead.")
        size = path.stat().st_size
        if size > limit:
            raise FileFormatError(
                path, None, f"must be at most {limit:,} bytes. Got {size:,} instead.{remedy}"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(path, None, f"must be a readable file. Got {error.strerror} instead.") from None


def read_start(path: Path, size: int) -> str:
    """The first bytes of a file as text, for recognising it; "" for a folder and a file that cannot be read.

    What is no text is U+FFFD: a damaged file is still known by the rest of its beginning.
    """
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            start = file.read(size)
    except OSError:
        return ""
    encoding, _ = encoding_of(start)
    text = decoded_by_line(start)[0] if encoding == _UTF_8 else start.decode(encoding, errors="replace")
    return _NO_TEXT.sub("\ufffd", text.removeprefix("\ufeff"))


def encoding_of(data: bytes) -> tuple[str, bool]:
    """The encoding of a text by its byte order mark, else by its look: UTF-8, or UTF-16 where every other byte is NUL.

    Returns the name for `bytes.decode`, and whether it is certain; UTF-16 without a mark is not.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding, True
    start = data[:_LOOKED_AT_BYTES]
    if len(start) >= _LEAST_BYTES:
        even, odd = (start[place::2].count(0) / (len(start) // 2) for place in (0, 1))
        if odd > 0.8 and even < 0.2:
            return "utf-16-le", False
        if even > 0.8 and odd < 0.2:
            return "utf-16-be", False
    return _UTF_8, True


def read_text(path: Path, limit: int = LARGEST_TEXT_BYTES, findings: Findings | None = None) -> str:
    """The text of a file, without byte order mark.

    findings : of a text of lines: collects those that are no text, which are then empty, and takes those that are not
        UTF-8 as Windows code page 1252; without, and when strict, the first that is no text raises
    Raises FileFormatError with the line, for a file over the limit or of more than 2,000,000 lines, and
    UnreadableError as `read_bytes`.
    """
    is_of_lines = findings is not None
    findings = Findings(path) if findings is None else findings
    data = read_bytes(path, limit, _TOO_LARGE_REMEDY if is_of_lines else "")
    lines = max(data.count(b"\n"), data.count(b"\r"))
    if lines > MOST_LINES:
        raise FileFormatError(
            path,
            None,
            f"must have at most {MOST_LINES:,} lines. Got {lines:,} instead.{_TOO_LARGE_REMEDY}",
        )
    encoding, is_certain = encoding_of(data)
    if not is_certain:
        findings.deviates(NO_MARK, 1)
    if is_of_lines and not encoding.startswith(_UTF_16):
        text, findings.was_code_page = decoded_by_line(data)
    else:
        text = decoded(data, encoding)
    text = text.removeprefix("\ufeff")
    first = _NO_TEXT.search(text)
    if first is None:
        return text
    if not findings.permissive:
        line = len(_LINE_END.findall(text, 0, first.start())) + 1
        raise FileFormatError(path, line, no_text_problem(text, encoding) or "")
    pieces = _LINE_END.split(text)
    for place in range(0, len(pieces), 2):
        problem = no_text_problem(pieces[place], encoding)
        if problem is not None:
            findings.deviates(problem, place // 2 + 1)
            pieces[place] = ""
    return "".join(pieces)


def is_utf_8(data: bytes) -> bool:
    """Whether bytes are UTF-8; half a character at the end is, because the file may still be written, or was cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def decoded_by_line(data: bytes) -> tuple[str, bool]:
    """Bytes as text of UTF-8, but for lines that are not: of the code page; and whether there are such lines.

    By line, because programs that write one and the other may share a file, and so that a text that grows is read as
    the whole is. What is neither is a lone surrogate, as of `decoded`.
    """
    if is_utf_8(data):
        return decoded(data, _UTF_8), False
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", data)
    return "".join([decoded(line, _UTF_8 if is_utf_8(line) else CODE_PAGE) for line in lines]), True


def notes_on_code_page(names: Sequence[str]) -> list[str]:
    """For the join report: which files were read as Windows code page 1252; empty without any."""
    if not names:
        return []
    files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return [
        f"{files} not UTF-8 and read as text of Windows code page 1252 ({'' if len(names) == 1 else 'first: '}"
        f"{names[0]}): letters that are not English may be others in notes and names"
    ]


def decoded(data: bytes, encoding: str) -> str:
    """Bytes as text in which lone surrogates (U+D800 to U+DFFF) stand for what is not of the encoding."""
    if encoding == CODE_PAGE:
        return codecs.charmap_decode(data, "strict", _CODE_PAGE_CHARACTERS)[0]
    if not encoding.startswith(_UTF_16):
        return data.decode(encoding, "surrogateescape")
    if len(data) % 2:
        # Half a character at the end.
        data = data[:-1] + "\ud800".encode(encoding, "surrogatepass")
    return data.decode(encoding, "surrogatepass")


def code_page_bytes(text: str) -> bytes:
    """The bytes that `decoded` makes a text of the code page from; every byte has a character."""
    return codecs.charmap_encode(text, "strict", _CODE_PAGE_BYTES)[0]


def no_text_problem(text: str, encoding: str) -> str | None:
    """What is wrong with a text that `decoded` gave, or None."""
    found = _NO_TEXT.search(text)
    if found is None:
        return None
    if found.group() == "\0":
        return "must be text. Got a NUL byte instead."
    if encoding.startswith(_UTF_16):
        return f"must be {_UTF_16} text. Got half a character instead."
    return f"must be {_UTF_8} text. Got byte 0x{ord(found.group()) - 0xDC00:02x} instead."


def check_width(path: Path, line: int, columns: int) -> None:
    """Raise FileFormatError for a table of more columns than MOST_COLUMNS: each costs time and memory in every row."""
    if columns > MOST_COLUMNS:
        raise FileFormatError(
            path,
            line,
            f"a table must have at most {MOST_COLUMNS:,} columns. Got {columns:,} instead. "
            "Remedy: export the columns that are needed.",
        )


def lines_of(text: str) -> tuple[list[str], bool]:
    """The lines of a text without their ends (LF, CRLF or CR), and whether the last one has its end."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return (lines[:-1], True) if lines[-1] == "" else (lines, False)


def read_lines(findings: Findings, limit: int) -> tuple[list[str], bool]:
    """The lines of the findings' file as `lines_of`; those that are no text or too long are reported, and empty.

    limit : most bytes     Raises as `read_text`.
    """
    lines, is_complete = lines_of(read_text(findings.path, limit, findings))
    for place, line in enumerate(lines):
        if len(line) > LONGEST_LINE:
            findings.deviates(
                f"a line must have at most {LONGEST_LINE:,} characters. Got {len(line):,} instead.", place + 1
            )
            lines[place] = ""
    return lines, is_complete
