"""Hostile XML must end in FileFormatError, quickly and in bounded memory."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu import data_contract_xml as epu_xml
from cryoscout.formats.epu.data_contract_xml import NotWholeError, flattened, read_xml
from examples import share

Z = 'xmlns:z="http://schemas.microsoft.com/2003/10/Serialization/"'


def _read(tmp_path: Path, text: str | bytes):
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_xml(path, ("Root",))


def test_names_lose_their_namespace_and_references_are_followed(tmp_path):
    document = _read(
        tmp_path,
        f'<a:Root xmlns:a="urn:a" {Z}><a:One z:Id="1"><Deep>text</Deep></a:One><Two z:Ref="1"/>'
        '<Three z:Ref="2"/><Four z:Id="2" z:Ref="1"/></a:Root>',
    )
    for name in ("One", "Two", "Three"):
        assert document.text(document.root, name, "Deep") == "text"
    assert document.text(document.root, "Five", "Deep") is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('<A z:Ref="9"/>', "A: a z:Ref must name the z:Id of another element. Got '9' instead."),
        (
            '<A z:Id="1" z:Ref="1"/>',
            "A: a z:Ref must lead to an element. Got more than 8 in a row instead.",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error(tmp_path, body, message):
    document = _read(tmp_path, f"<Root {Z}>{body}</Root>")
    with pytest.raises(FileFormatError) as caught:
        document.text(document.root, "A")
    assert caught.value.detail == message


def test_a_reference_to_the_root_does_not_make_a_circle(tmp_path):
    document = _read(tmp_path, f'<Root {Z} z:Id="1"><Session z:Ref="1"/><Name>n</Name></Root>')
    assert document.text(document.root, "Session", "Session", "Name") == "n"
    assert flattened(document, document.root) == {"Name": "n"}


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "line", "declared"),
    [
        (f'<!DOCTYPE Root [<!ENTITY l0 "ha">{LAUGHS}]><Root>&l9;</Root>', 1, "<!DOCTYPE"),
        ('\n<!DOCTYPE Root [<!ENTITY x SYSTEM "file:///etc/passwd">]><Root>&x;</Root>', 2, "<!DOCTYPE"),
        ('<!DOCTYPE Root SYSTEM "http://localhost/a.dtd"><Root/>', 1, "<!DOCTYPE"),
        ('<Root>\n\n<!entity x "y"></Root>', 3, "<!entity"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(tmp_path, text, line, declared, encoding):
    with pytest.raises(FileFormatError) as caught:
        _read(tmp_path, text.encode(encoding))
    assert caught.value.line == line
    assert caught.value.detail == (f"must not declare a document type or entities. Got {declared} instead.")


@pytest.mark.parametrize("declared", ["utf-16", "utf-7", "no-such-encoding"])
def test_the_encoding_that_a_file_declares_changes_nothing(tmp_path, declared):
    document = _read(tmp_path, f'<?xml version="1.0" encoding="{declared}"?><Root><A>ä</A></Root>')
    assert document.text(document.root, "A") == "ä"


@pytest.mark.parametrize(
    "text", ["", "<Root>", "<Root><A>1</A", "<Root>&unknown;</Root>", "no xml", "<Root/><Root/>"]
)
def test_xml_that_is_not_whole_is_told_apart(tmp_path, text):
    with pytest.raises(
        NotWholeError, match=r"must be one whole XML document\. Got .* instead\. Remedy: read it again"
    ):
        _read(tmp_path, text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<Root>\n\0\0\0", "must be text. Got a NUL byte instead."),
        (b"<Root>\n\xff\xc3", "must be utf-8 text. Got byte 0xff instead."),
    ],
)
def test_bytes_that_are_no_text_are_not_whole(tmp_path, data, message):
    with pytest.raises(NotWholeError) as caught:
        _read(tmp_path, data)
    assert (caught.value.line, caught.value.detail) == (2, message)


def test_another_root_is_refused(tmp_path):
    with pytest.raises(FileFormatError) as caught:
        _read(tmp_path, "<Other/>")
    assert caught.value.detail == "must have the root element Root. Got 'Other' instead."


def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "a.xml"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(FileFormatError, match=r"must be at most 67,108,864 bytes\. Got 200,000,000 instead"):
        read_xml(path, ("Root",))


@pytest.mark.parametrize(
    "text",
    [
        "<Root>" + "<a>" * 2_100_000,
        "<Root>" + "<a/>" * 2_100_000 + "</Root>",
        "<Root " + " ".join(f'a{n}=""' for n in range(2_100_000)) + "/>",
    ],
    ids=["deep", "many", "attributes"],
)
def test_too_much_markup_is_refused_before_it_is_parsed(tmp_path, text):
    tracemalloc.start()
    with pytest.raises(
        FileFormatError, match=r"must have at most 2,000,000 elements and attributes\. Got 2,1"
    ):
        _read(tmp_path, text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(text)


def test_a_line_of_ten_million_characters_is_read(tmp_path):
    document = _read(tmp_path, f"<Root><A>{'x' * 10_000_000}</A></Root>")
    assert len(document.text(document.root, "A") or "") == 10_000_000


@pytest.mark.parametrize(
    "text",
    ["<a>" * 100_000 + "x" + "</a>" * 100_000, f"<{'n' * 2000}><b>1</b><c>2</c></{'n' * 2000}>"],
    ids=["deep", "long names"],
)
def test_paths_do_not_multiply_into_memory(tmp_path, text):
    document = _read(tmp_path, f"<Root>{text}</Root>")
    with pytest.raises(
        FileFormatError, match=r"so that their path has at most 1000 characters\. Got more instead"
    ):
        flattened(document, document.root)


def test_every_text_is_kept_and_repeats_are_counted(tmp_path):
    document = _read(
        tmp_path,
        "<Root><A>1</A><A>2</A><A>3</A><B><C> 4 </C><D/></B>"
        "<E><Pair><Key>Dose</Key><Value>5</Value></Pair><Pair><Key>A[1].B</Key><Value><X>6</X></Value></Pair></E></Root>",
    )
    assert flattened(document, document.root) == {
        "A": "1",
        "A[2]": "2",
        "A[3]": "3",
        "B/C": "4",
        "E/Dose": "5",
        "E/A[1].B/X": "6",
    }


@settings(max_examples=share(150))
@given(st.one_of(st.binary(), st.text().map(lambda text: f"<Root>{text}</Root>".encode(errors="replace"))))
def test_any_bytes_are_a_document_or_a_format_error(tmp_path_factory, data):
    try:
        document = _read(tmp_path_factory.getbasetemp(), data)
    except FileFormatError:
        return
    flattened(document, document.root)


def test_the_limit_of_markup_leaves_room_for_large_squares():
    assert epu_xml.MOST_MARKUP > 133 * 10_000
