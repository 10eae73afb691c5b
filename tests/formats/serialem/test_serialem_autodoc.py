"""The autodoc syntax, in text and in XML: nothing lost, nothing invented, nothing hangs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError, InputError
from cryoscout.formats.serialem import autodoc
from cryoscout.formats.serialem.autodoc import CODE_PAGE, UNREADABLE, Section, parse_autodoc, section_lines
from cryoscout.formats.serialem.autodoc_xml import parse_autodoc_xml
from cryoscout.formats.text import findings as shared
from cryoscout.formats.text.findings import Findings

DATA = Path(__file__).parents[1] / "data" / "serialem"
FILES = sorted(path for path in DATA.iterdir() if path.suffix in (".nav", ".mdoc"))


def strict():
    return Findings(Path("session.nav"))


def permissive():
    return Findings(Path("session.nav"), permissive=True)


def content(document):
    return [
        (section.kind, section.name, [(entry.key, entry.value) for entry in section.entries])
        for section in document.sections
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_real_file_is_clean_and_written_back_byte_for_byte(path):
    data = path.read_bytes()
    assert parse_autodoc(data, Findings(path)).to_bytes() == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "AdocVersion = 2.00",
        "AdocVersion = 2.00\r\n\r\n[Item = 1]\r\nNote = a\r\n\r\n\r\n",
        "AdocVersion = 2.00\n\n[Item = 1]\nNote = a\n\n\n",
        "\ufeffAdocVersion = 2.00\n[Item = ä]\nNote = Loch ° µ\n",
        "# a comment\nA=1\n[Item=1]   \n  B   =  2  \n# more\n\tC = 3",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_blanks_comments_and_byte_order_marks_come_back_as_they_were(text, encoding):
    data = text.encode(encoding)
    assert parse_autodoc(data, strict()).to_bytes() == data


@given(st.binary(max_size=400))
def test_any_bytes_come_back_as_they_were(data):
    assert parse_autodoc(data, permissive()).to_bytes() == data


def test_only_the_first_equals_sign_separates():
    document = parse_autodoc(b"[Item = a=b]\nNote = ice = 20 nm, x=1\n", strict())
    assert content(document)[1] == ("Item", "a=b", [("Note", "ice = 20 nm, x=1")])


def test_a_label_may_hold_a_bracket():
    assert parse_autodoc(b"[Item = a[1]]\n", strict()).sections[1].name == "a[1]"


def test_a_line_without_equals_sign_continues_the_value_above_it():
    document = parse_autodoc(b"[Item = 1]\nPtsX = 1 2\n3 4\nPtsY = 5\n", strict())
    section = document.sections[1]
    assert (section.get("PtsX"), section.get("PtsY")) == ("1 2 3 4", "5")
    assert section.with_value("PtsX", "9").raw == ("[Item = 1]\n", "PtsX = 9\n", "PtsY = 5\n")


def test_what_stands_between_the_lines_of_a_value_is_kept_when_the_value_changes():
    section = parse_autodoc(b"[Item = 1]\nA = 1\n# mine\n2\nB = 3\n", strict()).sections[1]
    assert section.with_value("A", "9").raw == ("[Item = 1]\n", "A = 9\n", "# mine\n", "B = 3\n")
    assert section.without("A").raw == ("[Item = 1]\n", "# mine\n", "B = 3\n")


def test_titles_may_repeat_and_be_empty():
    document = parse_autodoc(b"T = one\nT = two = 2\n\n[T = ]\n[T = three]\n", strict())
    assert [entry.value for entry in document.globals.entries] == ["one", "two = 2"]
    assert [section.name for section in document.of_kind("T")] == ["", "three"]


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"A = 1\nwhat\x00 = 2\n", 2, "must be text. Got a NUL byte instead."),
        (b"A = 1\n\n[Item = 1\n", 3, "a header must be [Kind = name]. Got '[Item = 1' instead."),
        (b"[Item]\n", 1, "a header must be [Kind = name]. Got '[Item]' instead."),
        (b"[ = 3]\n", 1, "a header must be [Kind = name]. Got '[ = 3]' instead."),
        (b"[Item = ]\n", 1, "a header must be [Kind = name]. Got '[Item = ]' instead."),
        (b"alone\n", 1, "a line must be 'key = value' or '[Kind = name]'. Got 'alone' instead."),
        (b"A = 1\n = 2\n", 2, "a line must be 'key = value' or '[Kind = name]'. Got '= 2' instead."),
        (b"A = 1\nMapSca", 2, "a line must be 'key = value' or '[Kind = name]'. Got 'MapSca' instead."),
        (
            b"[Item = 1]\nA = 1\nA = 2\n",
            3,
            "a key must stand once in a section. Got 'A' again instead (first on line 2; the last one counts).",
        ),
        (b"A = 1\nB = \xfc\0ber\n", 2, "must be text. Got a NUL byte instead."),
    ],
)
def test_what_deviates_has_its_line_and_message_and_permissive_lists_the_same(data, line, message):
    with pytest.raises(FileFormatError) as error:
        parse_autodoc(data, strict())
    assert (error.value.line, error.value.detail) == (line, message)
    assert str(error.value) == f"session.nav, line {line}: {message}"
    findings = permissive()
    assert parse_autodoc(data, findings).to_bytes() == data
    assert [(found.line, found.message) for found in findings.deviations] == [(line, message)]


def test_lines_below_a_broken_header_belong_to_no_other_section():
    document = parse_autodoc(b"[Item = 1]\nA = 1\n[Item = 2\nA = 2\n", permissive())
    assert content(document)[1:] == [("Item", "1", [("A", "1")]), (UNREADABLE, "", [("A", "2")])]


def test_lines_that_are_not_utf_8_are_of_the_windows_code_page_and_written_back_as_they_were():
    data = "A = 1\r\nNote = Ordner für Gitter\r\nand more\r\nB = µ\r\n".encode("cp1252")
    data += "C = µ\r\n".encode()
    document = parse_autodoc(data, strict())
    assert document.encoding == CODE_PAGE
    # Nor does a line of UTF-8 become something else.
    assert content(document)[0][2] == [
        ("A", "1"), ("Note", "Ordner für Gitter and more"), ("B", "µ"), ("C", "µ"),
    ]  # fmt: skip
    changed = document.globals.with_value("A", "2")
    assert replace(document, sections=(changed,)).to_bytes() == data.replace(b"A = 1", b"A = 2")
    twice = "B = µ\n".encode("cp1252") + "B = µ\n".encode()
    assert parse_autodoc(twice, permissive()).to_bytes() == twice


def test_a_line_that_is_no_text_is_kept_and_has_no_entry_when_permissive():
    data = b"A = 1\r\nNote = \0\xfc\r\nand more\r\nB = 2\r\n"
    findings = permissive()
    document = parse_autodoc(data, findings)
    assert [found.line for found in findings.deviations] == [2, 3]
    # The line below the Note does not continue A.
    assert content(document)[0][2] == [("A", "1"), ("B", "2")]
    assert document.to_bytes() == data


def test_text_of_another_code_page_is_read_with_other_letters_and_written_back_as_it_was():
    data = "A = 1\r\nNote = 表のレンズ設定、観察\r\nB = 2\r\n".encode("cp932")
    assert any(byte in data for byte in b"\x81\x8d\x8f\x90\x9d")  # which Windows code page 1252 leaves open
    document = parse_autodoc(data, strict())
    assert [key for key, _ in content(document)[0][2]] == ["A", "Note", "B"]
    assert document.to_bytes() == data
    every = b"Note = " + bytes(set(range(256)) - {0, 10, 13}) + b"\r\n"
    assert parse_autodoc(every, strict()).to_bytes() == every


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named_on_line_1_and_read_when_permissive(encoding):
    data = "AdocVersion = 2.00\r\n\r\n[Item = ü]\r\nColor = 0\r\n".encode(encoding)
    message = (
        "must be utf-8 text, or utf-16 text with a byte order mark. Got utf-16 text without one instead. "
        "Remedy: save the file as UTF-8."
    )
    with pytest.raises(FileFormatError) as error:
        parse_autodoc(data, strict())
    assert (error.value.line, error.value.detail) == (1, message)
    findings = permissive()
    document = parse_autodoc(data, findings)
    assert [(found.line, found.message) for found in findings.deviations] == [(1, message)]
    assert document.of_kind("Item")[0].name == "ü"
    assert document.to_bytes() == data


@pytest.mark.parametrize(
    ("constant", "limit", "data", "message"),
    [
        ("MOST_LINES", 3, b"\n\n\n\n", "must have at most 3 lines. Got 5 instead."),
        (
            "MOST_DEVIATIONS",
            2,
            b"x\0\n" * 4,
            "must have at most 2 deviations. Got more instead: another format?",
        ),
    ],
)
def test_even_permissive_has_limits(monkeypatch, constant, limit, data, message):
    monkeypatch.setattr(shared if constant == "MOST_DEVIATIONS" else autodoc, constant, limit)
    with pytest.raises(FileFormatError) as error:
        parse_autodoc(data, permissive())
    assert error.value.detail == message


def test_a_line_of_ten_million_characters_is_a_deviation_not_a_hang():
    data = b"A = 1\nB = " + b"9" * 10_000_000 + b"\n[Item = 1]\nC = 2\n"
    findings = permissive()
    document = parse_autodoc(data, findings)
    assert [found.line for found in findings.deviations] == [2]
    assert (document.globals.key_names(), document.sections[1].get("C")) == (["A"], "2")


KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_.()-]{0,12}", fullmatch=True)
VALUES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff")
    | st.just(" "),
    max_size=20,
).map(str.strip)
NAMES = VALUES.filter(bool)
SECTIONS = st.lists(
    st.tuples(
        st.sampled_from(["Item", "Map.Kind", "Other"]), NAMES, st.dictionaries(KEYS, VALUES, max_size=5)
    ),
    max_size=5,
)
LINE_ENDS = st.sampled_from(["\n", "\r\n"])


@given(st.dictionaries(KEYS, VALUES, max_size=4), SECTIONS, LINE_ENDS)
def test_what_is_written_is_read_back_equal(opening, sections, end):
    lines = section_lines("", "", opening.items(), end)
    for kind, name, pairs in sections:
        lines += section_lines(kind, name, pairs.items(), end)
    document = parse_autodoc("".join(lines).encode(), strict())
    expected = [("", "", list(opening.items()))]
    expected += [(kind, name, list(pairs.items())) for kind, name, pairs in sections]
    assert content(document) == expected


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5), KEYS, VALUES, LINE_ENDS)
def test_a_changed_key_is_read_back_and_every_other_line_stays(pairs, key, value, end):
    lines = section_lines("Item", "1", pairs.items(), end)
    section = parse_autodoc("".join(lines).encode(), strict()).sections[1]
    changed = section.with_value(key, value)
    again = parse_autodoc("".join(changed.raw).encode(), strict()).sections[1]
    assert {entry.key: entry.value for entry in again.entries} == {**pairs, key: value}
    assert [line for line in changed.raw if line not in section.raw] == (
        [] if pairs.get(key) == value else [f"{key} = {value}".rstrip() + end]
    )
    assert changed.without(key).raw == tuple(
        line for line in lines if not line.startswith(f"{key} = ") and line.strip() != f"{key} ="
    )


@pytest.mark.parametrize(
    ("key", "value"), [("A", "1\n[Item = 2]"), ("A=B", "1"), ("[A", "1"), ("#A", "1"), ("", "1")]
)
def test_a_value_that_could_not_be_read_back_is_refused(key, value):
    with pytest.raises(InputError, match="must fit on one autodoc line"):
        Section("Item", "1", 1, ("[Item = 1]\n",)).with_value(key, value)


def test_a_key_is_added_below_the_others_even_at_the_end_of_a_file_without_line_end():
    section = parse_autodoc(b"[Item = 1]\r\nA = 1", strict()).sections[1]
    assert section.with_value("B", "2").raw == ("[Item = 1]\r\n", "A = 1\r\n", "B = 2\r\n")
    assert section.separated("\r\n").raw == ("[Item = 1]\r\n", "A = 1\r\n", "\r\n")
    assert parse_autodoc(b"", strict()).globals.with_value("A", "1").raw == ("A = 1\n",)


# XML


def as_xml(opening, sections, root="navigator"):
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{root}>"]
    for kind, attributes, pairs in [
        ("PreData", "", opening),
        *((k, f" name={quoteattr(n)}", p) for k, n, p in sections),
    ]:
        lines.append(f"<{kind}{attributes}>")
        lines += [f"  <{key}>{escape(value)}</{key}>" for key, value in pairs.items()]
        lines.append(f"</{kind}>")
    return "\n".join([*lines, f"</{root}>", ""]).encode()


XML_KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)
XML_VALUES = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co", "Zs", "Zl", "Zp"], exclude_characters="\ufeff")
    | st.just(" "),
    max_size=20,
).map(str.strip)


@given(
    st.dictionaries(XML_KEYS, XML_VALUES, max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(["Item", "MontParam"]),
            XML_VALUES.filter(bool),
            st.dictionaries(XML_KEYS, XML_VALUES, max_size=4),
        ),
        max_size=4,
    ),
)
def test_the_xml_form_has_the_same_sections_as_the_text_it_would_be_written_as(opening, sections):
    document = parse_autodoc_xml(as_xml(opening, sections), strict())
    assert content(document)[1:] == [(kind, name, list(pairs.items())) for kind, name, pairs in sections]
    assert content(parse_autodoc(document.to_bytes(), strict())) == content(document)


BILLION_LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]>
<navigator><PreData><AdocVersion>&lol2;</AdocVersion></PreData></navigator>"""
EXTERNAL = b"""<?xml version="1.0"?>
<!DOCTYPE navigator [<!ENTITY secret SYSTEM "file:///etc/passwd">]>
<navigator><PreData><AdocVersion>&secret;</AdocVersion></PreData></navigator>"""


@pytest.mark.parametrize("data", [BILLION_LAUGHS, EXTERNAL], ids=["billion laughs", "external entity"])
@pytest.mark.parametrize("findings", [strict, permissive])
def test_a_document_type_declaration_is_refused_whatever_it_declares(data, findings):
    with pytest.raises(FileFormatError) as error:
        parse_autodoc_xml(data, findings())
    assert error.value.detail == (
        "must have no document type declaration (DOCTYPE). Got one instead. Remedy: save the file again."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"<?xml version='1.0'?><n><Item name='1'><A>1</A></Item>",
            "must be well-formed XML. Got no element found",
        ),
        (
            b"<?xml version='1.0'?><n><Item><A>1</A></Item></n>",
            "a section must have a name. Got <Item> without one",
        ),
        (
            b"<?xml version='1.0'?><n><Item name='1'><A><B/></A></Item></n>",
            "a key must hold text only. Got <B> in it",
        ),
        (
            b"<?xml version='1.0'?><n>loose<Item name='1'/></n>",
            "text must stand in a key. Got 'loose' instead.",
        ),
        (
            b"<?xml version='1.0'?><n><Item name='1'><A>1</A><A>2</A></Item></n>",
            "a key must stand once in a section. Got 'A' again instead (first on line 1; the last one counts).",
        ),
        (b"<?xml version='1.0' encoding='utf-99'?><n/>", "must be "),
        (b"<?xml version='1.0' encoding='big5'?><n/>", "must be XML in a known encoding. Got "),
        (b"<?xml version='1.0'?><n>\x00</n>", "must be well-formed XML. Got not well-formed"),
    ],
)
def test_what_deviates_in_xml_has_its_message_and_whole_sections_are_kept(data, message):
    with pytest.raises(FileFormatError) as error:
        parse_autodoc_xml(data, strict())
    detail = error.value.detail.removeprefix("A: ")
    assert detail.startswith(message)
    findings = permissive()
    document = parse_autodoc_xml(data, findings)
    assert findings.deviations[0].message == detail
    if b"<B/>" in data:
        assert document.sections[1].key_names() == []


def test_a_truncated_xml_keeps_the_sections_that_are_whole():
    data = as_xml({"AdocVersion": "2.00"}, [("Item", "1", {"A": "1"}), ("Item", "2", {"A": "2"})])
    document = parse_autodoc_xml(data[: data.index(b"<A>2")], permissive())
    assert content(document) == [("", "", [("AdocVersion", "2.00")]), ("Item", "1", [("A", "1")])]


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_xml_reader(data):
    parse_autodoc_xml(b"<?xml version='1.0'?><n><Item name='1'>" + data, permissive())
