"""Any damage to any file ends in tables or in an error of ours, in every reader and whatever the file is called."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_samples import SAMPLES

from cryoscout.core.errors import CryoscoutError
from cryoscout.formats import registry
from cryoscout.formats.epu import session as epu
from cryoscout.formats.leginon import tables as leginon_tables
from cryoscout.formats.own import table as generic_table
from cryoscout.formats.own.columns import ColumnMap, read_column_map
from cryoscout.formats.text.findings import UnreadableError
from examples import share

HOSTILE = [
    *(b"", b"\0", b"\xff", b"\xe9", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\r", b"\r\n\r\n"),
    *(b"\xe2\x80\xa8", b"\x85", b"\x0c", b"\x1b[31m", b"1e999", b"-1e308", b"nan", b"inf", b"-1", b"9" * 400),
    *(
        "\N{ARABIC-INDIC DIGIT ONE}".encode(),
        b"1_0",
        b'"',
        b"'",
        b"=",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b";",
        b"\t",
    ),
    *(
        b"#",
        b"# ",
        b"data_",
        b"loop_\n",
        b"_rlnMicrographName",
        b"[Item = 1]\n",
        b"[ZValue = 0]\n",
        b"T = \n",
    ),
    *(
        b"<",
        b"&",
        b"&a;",
        b"</",
        b"]]>",
        b"<![CDATA[",
        b"<!--",
        b"<!DOCTYPE a>",
        b"<a/>",
        b'z:Ref="1"',
        b"<?x?>",
    ),
    *(b"\\ud800", b'"\\ud800"', b": *a", b"&a ", b"!!python/object:a", b"- - - ", b"[[[[", b"null", b"true"),
    *(b"../../x", b"/etc/passwd", b"C:\\x\\y", b"%s%n", b"\xf0\x9f\x94\xac", b"0" * 100),
]
SLOW = ("epu session",)
"""A file of 0.2 MB."""

changes = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 60),
        st.sampled_from(HOSTILE)
        | st.binary(max_size=12)
        | st.text(max_size=6).map(lambda text: text.encode()),
    ),
    max_size=5,
)
encodings = st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le", "utf-8-sig"))


def damaged(data, found, copied, encoding):
    """Pieces replaced, a piece said twice, and the whole in another encoding."""
    for place, length, put in found:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    if copied is not None:
        first, last, at = sorted(int(place * len(data)) for place in copied)
        data = data[:at] + data[first:last] + data[at:]
    return data if encoding == "utf-8" else data.decode("utf-8", "replace").encode(encoding)


def attempt(read, *arguments, **options):
    """What a reader gives; None where it refuses."""
    try:
        return read(*arguments, **options)
    except CryoscoutError:
        return None


def check_texts_and_results(source):
    """Ids can be stored: there is no half character in them; a result is a number."""
    assert not source.ctf["ctf_max_res_angstrom"].isna().any()
    for table in (source.squares, source.holes, source.exposures, source.ctf):
        for column in table:
            str(column).encode()
            for value in table[column]:
                str(value).encode()
    for record, fields in source.extra.items():
        "".join([record, *fields, *fields.values()]).encode()
    "".join(
        [source.session_name or "", *source.notes, *(each.message for each in source.deviations)]
    ).encode()


def read_in_every_way(path, name):
    try:
        found, deviations = registry.validate(path)
    except UnreadableError:
        pytest.fail("a file that is there can be read")
    assert all(each.message and (each.line is not None or each.element) for each in deviations)
    module = registry.BY_NAME[SAMPLES[name].format].load()
    for reader in {module, found.load() if found is not None else module}:
        # What is damaged does not become whole by waiting.
        options = {"retries": 0} if reader is epu else {}
        strict = attempt(reader.read_source, path, **options)
        permissive = attempt(reader.read_source, path, True, **options)
        if strict is not None:
            assert not strict.deviations
            assert permissive is not None
            check_texts_and_results(strict)
        if permissive is not None:
            check_texts_and_results(permissive)
    for kind in (True, False):
        attempt(leginon_tables.read_table, path, kind)
    attempt(generic_table.read_source, path, True, ColumnMap({"exposure": "image", "ctf": "res"}))
    attempt(read_column_map, path)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in SLOW])
@settings(max_examples=share(25))
@given(found=changes, copied=st.none() | st.tuples(*[st.floats(0, 1)] * 3), encoding=encodings)
def test_a_damaged_file_is_read_or_refused_by_every_reader(tmp_path_factory, name, found, copied, encoding):
    path = tmp_path_factory.getbasetemp() / f"every-{SAMPLES[name].file}"
    path.write_bytes(damaged(SAMPLES[name].data, found, copied, encoding))
    read_in_every_way(path, name)


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=share(5))
@given(found=changes)
def test_a_damaged_large_file_is_read_or_refused_by_every_reader(tmp_path_factory, name, found):
    path = tmp_path_factory.getbasetemp() / f"every-{SAMPLES[name].file}"
    path.write_bytes(damaged(SAMPLES[name].data, found, None, "utf-8"))
    read_in_every_way(path, name)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_cut_anywhere_is_read_or_refused_by_every_reader(tmp_path, name):
    path = tmp_path / SAMPLES[name].file
    data = SAMPLES[name].data
    for share_left in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(data[: int(share_left * len(data))])
        read_in_every_way(path, name)
