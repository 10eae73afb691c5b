"""Every table here is made by hand in the layout of cryosparc-tools; none was written by CryoSPARC itself."""

import io
import json
import re
from pathlib import Path

import lz4.block
import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import CryoscoutError, FileFormatError
from cryoscout.formats.ctf.cryosparc import detect, group_files, read_cs, read_source, read_together, validate
from cryoscout.formats.ctf.csdat import read_csdat

EPU = "FoilHole_1_Data_2_3_20240105_115150"
PATHS = [
    f"J2/imported/002951270711614884258_{EPU}_Fractions.tiff",
    "J2/imported/000000000000000000007_b.tiff",
    "J2/imported/000000000000000000009_c.tiff",
]
CTF = [
    ("uid", "<u8", [2951270711614884258, 7, 9]),
    ("ctf/df1_A", "<f4", [12000.0, 11000.0, 9000.0]),
    ("ctf/df_angle_rad", "<f4", [np.pi / 2, 0.0, 0.0]),
    ("ctf/type", "S8", [b"imported"] * 3),
    ("ctf_stats/ctf_fit_to_A", "<f4", [3.5, 6.25, np.inf]),
    ("ctf_stats/ice_thickness_rel", "<f4", [1.0, 1.1, 1.2]),
    ("ctf_stats/spectrum", "<f4", np.zeros((3, 2))),
]
NAMES = [
    ("uid", "<u8", [7, 9, 2951270711614884258]),
    ("micrograph_blob/path", "S120", [*PATHS[1:], PATHS[0]]),
]


def structured(fields):
    dtype = [(name, kind, np.shape(values)[1:]) for name, kind, values in fields]
    array = np.zeros(len(fields[0][2]), dtype=dtype)
    for name, _, values in fields:
        array[name] = values
    return array


def numpy_bytes(fields):
    stream = io.BytesIO()
    np.save(stream, structured(fields), allow_pickle=False)
    return stream.getvalue()


def csdat_bytes(fields, compress=True, **header):
    """The layout of cryosparc-tools, with the LZ4 of another library."""
    array = structured(fields)
    heap, columns, dtype = b"\0", [], []
    for name, kind, _ in fields:
        values = array[name]
        shape = list(values.shape[1:])
        if kind.startswith("S"):
            places = []
            for text in values:
                places.append(len(heap) if text else 0)
                heap += text + b"\0" if text else b""
            values, kind = np.array(places, dtype="<u8"), "|O"
        dtype.append([name, kind, shape] if shape else [name, kind])
        data = values.tobytes()
        if compress and name != "uid":
            data = pyarrow.compress(data, codec="lz4_raw", asbytes=True)
        columns.append(len(data).to_bytes(4, "little") + data)
    compressed = [name for name, _, _ in fields if compress and name != "uid"]
    text = {
        "length": len(array),
        "dtype": dtype,
        "compression": "lz4" if compress else None,
        "compressed_fields": compressed,
        **header,
    }
    encoded = json.dumps(text).encode()
    body = b"".join(columns) if len(array) else b""
    return b"\x95CSDAT" + len(encoded).to_bytes(4, "little") + encoded + body + heap


KINDS = {"numpy": numpy_bytes, "csdat": csdat_bytes, "csdat plain": lambda fields: csdat_bytes(fields, False)}


def written(tmp_path, data, name="exposures_ctf_estimated.cs"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_results_join_by_uid_to_the_paths_of_a_passthrough_table(tmp_path, kind):
    path = written(tmp_path, KINDS[kind](CTF))
    other = written(tmp_path, KINDS[kind](NAMES), "other.cs")
    assert detect(path)
    records = read_source(path, passthrough=[other])
    ctf = records.ctf
    assert ctf["name"].tolist() == [EPU, "b", "c"]
    assert ctf["ctf_max_res_angstrom"].tolist() == [3.5, 6.25, np.inf]
    assert ctf["uid"].tolist() == ["2951270711614884258", "7", "9"]
    assert ctf["defocus_u_um"].tolist() == pytest.approx([1.2, 1.1, 0.9])
    assert ctf["defocus_angle_deg"].iloc[0] == pytest.approx(90, abs=1e-4)
    assert ctf["ctf/type"].tolist() == ["imported"] * 3
    assert "1 of 3 fits failed (inf, nan or at least 100 angstrom)" in records.notes
    assert any("ctf_stats/spectrum" in note for note in records.notes)


def test_a_passthrough_table_beside_is_found_by_what_it_holds(tmp_path):
    path = written(tmp_path, numpy_bytes(CTF))
    message = (
        "a table of exposures must have their paths (micrograph_blob/path, micrograph_blob_non_dw/path, "
        "movie_blob/path, background_blob/path). Got none in exposures_ctf_estimated.cs instead. "
        "Remedy: give the passthrough table of the same job (*_passthrough_exposures*.cs), or put it beside."
    )
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert error.value.detail == message
    assert [each.message for each in validate(path)] == [message]
    strangers = [("uid", "<u8", [1]), ("micrograph_blob/path", "S9", [b"x.mrc"])]
    written(tmp_path, numpy_bytes(strangers), "J7_passthrough_a.cs")
    written(tmp_path, csdat_bytes(NAMES), "J7_passthrough_exposures.cs")
    records = read_source(path)
    assert records.ctf["name"].tolist() == [EPU, "b", "c"]
    assert "joined J7_passthrough_exposures.cs by uid" in records.notes


def test_an_exposure_without_path_is_named_and_permissively_left_out(tmp_path):
    path = written(tmp_path, numpy_bytes(CTF))
    other = written(tmp_path, numpy_bytes([(n, k, v[:2]) for n, k, v in NAMES]), "other.cs")
    message = "an exposure must have its path. Got no row with this uid in other.cs instead."
    with pytest.raises(FileFormatError, match=re.escape(f"row 1, uid 2951270711614884258: {message}")):
        read_source(path, passthrough=[other])
    records = read_source(path, permissive=True, passthrough=[other])
    assert records.ctf["name"].tolist() == ["b", "c"]
    assert [(each.element, each.message) for each in records.deviations] == [
        ("row 1, uid 2951270711614884258", message)
    ]


def test_a_uid_that_is_missing_between_others_takes_no_neighbours_path(tmp_path):
    path = written(tmp_path, numpy_bytes(CTF))
    other = written(tmp_path, numpy_bytes([(n, k, v[1:]) for n, k, v in NAMES]), "other.cs")
    records = read_source(path, permissive=True, passthrough=[other])
    assert records.ctf["name"].tolist() == [EPU, "c"]
    assert [each.element for each in records.deviations] == ["row 2, uid 7"]


def test_a_resolution_of_nan_is_a_failed_fit_unless_the_other_field_has_one(tmp_path):
    fields = [
        *CTF[:4],
        ("ctf_stats/ctf_fit_to_A", "<f8", [np.nan, np.nan, 5.0]),
        ("ctf/ctf_fit_to_A", "<f8", [4.0, np.nan, 0.0]),
        (NAMES[1][0], NAMES[1][1], PATHS),
    ]
    records = read_source(written(tmp_path, numpy_bytes(fields)))
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [4.0, np.inf, 5.0]
    assert "1 of 3 fits failed (inf, nan or at least 100 angstrom)" in records.notes


def test_a_table_of_failed_fits_alone_is_read(tmp_path):
    fields = [*CTF[:4], ("ctf/ctf_fit_to_A", "<f8", [np.nan] * 3), (NAMES[1][0], NAMES[1][1], PATHS)]
    found = read_source(written(tmp_path, numpy_bytes(fields))).ctf["ctf_max_res_angstrom"]
    assert found.tolist() == [np.inf] * 3


def test_a_zero_is_no_result_and_the_other_field_may_have_one(tmp_path):
    fields = [
        CTF[0],
        ("ctf/df1_A", "<f4", [12000.0, 0.0, 9000.0]),
        ("ctf/df_angle_rad", "<f4", [0.0, 0.0, 0.0]),
        ("ctf_stats/ctf_fit_to_A", "<f4", [0.0, 0.0, 5.5]),
        ("ctf_stats/ice_thickness_rel", "<f4", [0.0, 0.0, 1.25]),
        ("ctf/ctf_fit_to_A", "<f8", [4.25, 0.0, 9.0]),
        (NAMES[1][0], NAMES[1][1], PATHS),
    ]
    records = read_source(written(tmp_path, numpy_bytes(fields)))
    assert records.ctf["name"].tolist() == [EPU, "c"]
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [4.25, 5.5]
    assert records.ctf["defocus_angle_deg"].tolist() == [0.0, 0.0]
    assert records.ctf["ice_thickness_rel"].tolist()[1] == 1.25
    assert np.isnan(records.ctf["ice_thickness_rel"].astype(float).iloc[0])
    assert "1 of 3 exposures have no CTF result (0 in the table)" in records.notes


def test_exposures_absent_from_the_table_of_results_are_told_from_those_with_a_zero_in_it(tmp_path):
    results = [("uid", "<u8", [1, 2]), ("ctf/ctf_fit_to_A", "<f8", [4.25, 0.0])]
    names = [("uid", "<u8", [1, 2, 3]), ("micrograph_blob/path", "S20", [b"a.mrc", b"b.mrc", b"c.mrc"])]
    ctf = written(tmp_path, numpy_bytes(results), "ctf.cs")
    records = read_source(written(tmp_path, numpy_bytes(names), "passed.cs"), passthrough=[ctf])
    assert records.ctf["name"].tolist() == ["a"]
    assert "1 of 3 exposures have no CTF result (0 in the table)" in records.notes
    assert "1 of 3 exposures have no CTF result (no row in the table of results)" in records.notes


ACCEPTED, PASSED = "exposures_accepted.cs", "J7_passthrough_exposures_accepted.cs"


@pytest.mark.parametrize("named", [ACCEPTED, PASSED])
@pytest.mark.parametrize(("first", "second"), [(CTF, NAMES), (NAMES, CTF)])
def test_two_tables_of_a_job_complete_each_other_whichever_has_what(tmp_path, first, second, named):
    written(tmp_path, numpy_bytes(first), ACCEPTED)
    written(tmp_path, numpy_bytes(second), PASSED)
    ctf = read_source(tmp_path / named).ctf.set_index("name")["ctf_max_res_angstrom"]
    assert ctf.to_dict() == {EPU: 3.5, "b": 6.25, "c": np.inf}


@pytest.mark.parametrize("order", [1, -1])
def test_two_files_that_complete_each_other_are_one_source(tmp_path, order):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    paths = [written(folders[0], numpy_bytes(NAMES), ACCEPTED), written(folders[1], numpy_bytes(CTF), PASSED)]
    (records,) = read_together(paths[::order])
    assert sorted(records.ctf["name"]) == sorted([EPU, "b", "c"])
    assert len(read_together([written(tmp_path, numpy_bytes([*CTF, NAMES[1]]))])) == 1


def test_a_table_without_ctf_says_so(tmp_path):
    path = written(tmp_path, numpy_bytes(NAMES))
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert error.value.detail == (
        "a table of CTF results must have ctf_stats/ctf_fit_to_A or ctf/ctf_fit_to_A. Got micrograph_blob, uid "
        "instead: a table without CTF results. Remedy: give the exposures of the CTF estimation job."
    )
    zero = [*NAMES, ("ctf/ctf_fit_to_A", "<f4", [0.0, 0.0, 0.0])]
    with pytest.raises(
        FileFormatError, match=r"ctf/ctf_fit_to_A must hold results\. Got no value above 0 instead"
    ):
        read_source(written(tmp_path, numpy_bytes(zero)))


GROUP = """created: 2024-01-05 11:51:50.123
group:
  name: exposures
  type: exposure
results:
  ctf_stats:
    metafile: '>exposures_ctf_estimated.cs'
    num_items: 3
    type: exposure.ctf_stats
  micrograph_blob:
    metafile: '>J7_passthrough_exposures.cs'
    num_items: 3
    type: exposure.micrograph_blob
version: v4.4.1
"""


def test_a_group_names_files_of_its_own_folder_only(tmp_path):
    written(tmp_path, numpy_bytes(CTF))
    written(tmp_path, numpy_bytes(NAMES), "J7_passthrough_exposures.cs")
    group = written(tmp_path, GROUP.encode(), "exposures.csg")
    assert detect(group)
    assert read_source(group).ctf["name"].tolist() == [EPU, "b", "c"]
    for name in ("../outside.cs", "/etc/passwd", "..\\outside.cs", "other.txt"):
        evil = written(tmp_path, GROUP.replace("J7_passthrough_exposures.cs", name).encode(), "evil.csg")
        with pytest.raises(FileFormatError, match=r"a metafile must be a .cs file of the same folder"):
            group_files(evil)
    missing = written(tmp_path, GROUP.replace("J7_passthrough", "J8_passthrough").encode(), "m.csg")
    with pytest.raises(FileFormatError, match=r"must be a file\. Got something else, or nothing, instead"):
        read_source(missing)


def test_objects_are_never_unpickled(tmp_path):
    stream = io.BytesIO()
    array = np.array([(1, {})], dtype=[("uid", "<u8"), ("x", "O")])
    np.save(stream, array, allow_pickle=True)
    path = written(tmp_path, stream.getvalue())
    with pytest.raises(
        FileFormatError, match=r"structured array without objects\. Got one that NumPy does not read"
    ):
        read_cs(path)


def test_a_cut_or_boasting_numpy_table_is_refused(tmp_path):
    whole = numpy_bytes(CTF)
    with pytest.raises(FileFormatError, match=r"must hold \d+ bytes, as its header says. Got \d+ instead"):
        read_cs(written(tmp_path, whole[:-5]))
    boasting = whole.replace(b"(3,), }        ", b"(3000000000,), }")
    assert boasting != whole
    with pytest.raises(FileFormatError, match=r"must hold [\d,]+ bytes, as its header says"):
        read_cs(written(tmp_path, boasting))
    with pytest.raises(FileFormatError, match=r"must begin with"):
        read_cs(written(tmp_path, b"name,ctf\n"))
    with pytest.raises(FileFormatError, match=r"must have the field uid"):
        read_cs(written(tmp_path, numpy_bytes([("x", "<u8", [1])])))
    with pytest.raises(FileFormatError, match=r"a uid must stand once"):
        read_cs(written(tmp_path, numpy_bytes([("uid", "<u8", [1, 1])])))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x95CSDAT\xff\xff\xff\xff{}", "a CSDAT file must hold its header. Got a cut file instead."),
        (b"\x95CSDAT", "a CSDAT file must hold its header. Got a cut file instead."),
        (b"\x95CSDAT\x01\0\0\0{", "the header of a CSDAT file must be JSON. Got other text instead."),
        (
            csdat_bytes(CTF, compression="snappy"),
            "the header of a CSDAT file must have length, dtype, compression",
        ),
        (csdat_bytes(CTF, length=4), "field uid: a field must hold 32 bytes. Got 24 instead."),
        (csdat_bytes(CTF, length=2**31), "a table must be at most 268,435,456 bytes. Got more instead."),
        (csdat_bytes(CTF, length=-1), "the header of a CSDAT file must have length"),
        (csdat_bytes(CTF)[:300], "must have"),
        (
            csdat_bytes(CTF, dtype=[["uid", "<u8", [0]]]),
            "the shape of a field must be at most 3 whole numbers",
        ),
        (csdat_bytes(CTF, dtype=[["uid", "V9"]]), "a field of a CSDAT header must be [name, type, shape]"),
        (
            csdat_bytes(CTF, dtype=[["uid", "<u8"]] * 2),
            "field uid: a field must stand once. Got it again instead.",
        ),
        (csdat_bytes(CTF, False)[:-9], "field ctf/type: a text must be among the strings of the file."),
    ],
)
def test_a_damaged_stream_is_refused_before_memory_is_taken(tmp_path, data, message):
    path = written(tmp_path, data)
    with pytest.raises(FileFormatError) as error:
        read_cs(path)
    assert message in error.value.detail or message == "must have"
    assert validate(path)


def test_an_empty_stream_has_its_fields(tmp_path):
    fields = [(name, kind, np.asarray(values)[:0]) for name, kind, values in CTF]
    table = read_cs(written(tmp_path, csdat_bytes(fields)))
    assert set(table.columns) == {name for name, _, _ in CTF}
    assert len(table.uid) == 0


repeats = st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=9), st.integers(1, 99))


def read_block(block, size):
    """The only field, of `size` bytes, of a table with this block."""
    header = {
        "length": size,
        "dtype": [["uid", "|u1"]],
        "compression": "lz4",
        "compressed_fields": ["uid"],
    }
    text = json.dumps(header).encode()
    stream = b"\x95CSDAT" + len(text).to_bytes(4, "little") + text + len(block).to_bytes(4, "little") + block
    return read_csdat(Path("block.cs"), stream)["uid"]


@given(st.one_of(st.binary(min_size=1, max_size=400), repeats))
def test_lz4_blocks_of_another_encoder_unpack_to_what_was_packed(data):
    packed = pyarrow.compress(data, codec="lz4_raw", asbytes=True)
    assert read_block(packed, len(data)).tobytes() == data


@pytest.mark.parametrize(
    "block", [b"\x1fa\x01\x00\xff\x00", b"\x1fa\x00\x00\x00", b"\x1fa\x09\x00\x00", b"\xf0\xff", b""]
)
def test_a_block_that_reaches_outside_itself_is_refused(block):
    with pytest.raises(FileFormatError, match=r"field uid: a field must be one LZ4 block of 10 bytes"):
        read_block(block, 10)


@given(st.binary(max_size=100), st.integers(1, 1000))
def test_a_damaged_lz4_block_is_refused_or_has_its_size(data, size):
    try:
        found = read_block(data, size)
    except FileFormatError:
        return
    assert len(found) == size


def test_memory_is_taken_only_for_what_a_block_can_give(monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(lz4.block, "decompress", never)
    with pytest.raises(FileFormatError, match=r"must be one LZ4 block of 200,000,000 bytes"):
        read_block(bytes(100), 200_000_000)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.floats(0.5, 90, width=32)), unique_by=lambda row: row[0]
    ),
    st.sampled_from(sorted(KINDS)),
)
def test_both_kinds_read_back_what_was_written(tmp_path_factory, rows, kind):
    fields = [
        ("uid", "<u8", [uid for uid, _ in rows]),
        ("ctf/ctf_fit_to_A", "<f4", [value for _, value in rows]),
    ]
    path = tmp_path_factory.mktemp("cs") / "a.cs"
    path.write_bytes(KINDS[kind](fields))
    table = read_cs(path)
    assert table.uid.tolist() == [uid for uid, _ in rows]
    assert table.columns["ctf/ctf_fit_to_A"].tolist() == [value for _, value in rows]


@given(st.binary(max_size=30), st.integers(0, 700), st.sampled_from(sorted(KINDS)))
def test_a_damaged_file_is_an_error_of_ours_or_reads(tmp_path_factory, noise, at, kind):
    whole = KINDS[kind]([*CTF, (NAMES[1][0], NAMES[1][1], PATHS)])
    path = tmp_path_factory.mktemp("cs") / "a.cs"
    for data in (whole[:at] + noise + whole[at + len(noise) :], whole[:at], whole[:6] + noise, noise):
        path.write_bytes(data)
        detect(path)
        validate(path)
        try:
            read_source(path)
        except CryoscoutError:
            continue
