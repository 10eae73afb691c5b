"""What a hostile file could try, each by its name: nothing is expanded, filled, hung, run or opened by it."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from reader_samples import SAMPLES, XML_NAV

from cryoscout.core.errors import CryoscoutError, FileFormatError
from cryoscout.formats import registry
from cryoscout.formats.ctf import cryosparc, csdat
from cryoscout.formats.ctf.cryosparc import read_cs
from cryoscout.formats.epu import data_contract_xml
from cryoscout.formats.leginon.crops import read_crops
from cryoscout.formats.serialem import autodoc
from cryoscout.formats.text.json_values import parse_json
from cryoscout.intake import read as sources
from examples import slow_but

LAUGHS = (
    '<!DOCTYPE lolz [\n<!ENTITY lol "lol">\n'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1 or str()};" * 10}">\n' for n in range(1, 10))
    + "]>\n"
)
LOCAL_FILE = '<!DOCTYPE a [\n<!ENTITY passwd SYSTEM "file:///etc/passwd">\n]>\n'
OUTSIDE = '<!DOCTYPE a SYSTEM "outside.dtd">\n'
EPU = [name for name, sample in SAMPLES.items() if sample.format == "epu"]
MB = 1_000_000


@contextmanager
def limits(seconds=5.0, memory_mb=200):
    """Neither long nor large. Generous: what is guarded against takes hours or fills any memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        assert time.process_time() - began < seconds
        assert tracemalloc.get_traced_memory()[1] < memory_mb * MB
    finally:
        tracemalloc.stop()


def refused(path, line, message, **named):
    """The reader raises and validating lists the same one deviation."""
    with limits(**named):
        found, deviations = registry.validate(path)
        assert [(each.line, each.message) for each in deviations] == [(line, message)]
        with pytest.raises(FileFormatError) as error:
            found.load().read_source(path)
    assert (error.value.line, error.value.detail) == (line, message)


def with_document_type(text, declaration, use):
    """The declaration below the first line, and an entity in the first element's text."""
    head, line_end, rest = text.partition("?>")
    rest = rest.lstrip()
    return f"{head}{line_end}\n{declaration}{rest.replace('><', f'>{use}<', 1)}"


@pytest.mark.parametrize("name", EPU)
@pytest.mark.parametrize(
    ("declaration", "use"),
    [(LAUGHS, "&lol9;"), (LOCAL_FILE, "&passwd;"), (OUTSIDE, "")],
    ids=["laughs", "file", "dtd"],
)
def test_a_billion_laughs_in_an_epu_file_are_refused_by_name(tmp_path, name, declaration, use):
    path = tmp_path / SAMPLES[name].file
    path.write_text(with_document_type(SAMPLES[name].data.decode("utf-8-sig"), declaration, use))
    line = path.read_text().partition("<!DOCTYPE")[0].count("\n") + 1
    refused(path, line, "must not declare a document type or entities. Got <!DOCTYPE instead.")


@pytest.mark.parametrize(
    ("declaration", "use"),
    [(LAUGHS, "&lol9;"), (LOCAL_FILE, "&passwd;"), (OUTSIDE, "")],
    ids=["laughs", "file", "dtd"],
)
@pytest.mark.parametrize("file", ["grid1.nav", "grid1.xml"])
def test_a_billion_laughs_in_an_xml_navigator_are_refused(tmp_path, file, declaration, use):
    path = tmp_path / file
    path.write_text(with_document_type(XML_NAV, declaration, use).replace(">0<", f">{use}<", 1))
    found, (deviation,) = registry.validate(path)
    assert (found.name, deviation.line) == ("serialem", 2)
    refused(
        path,
        2,
        "must have no document type declaration (DOCTYPE). Got one instead. Remedy: save the file again.",
    )


def test_a_billion_laughs_in_yaml_are_refused(tmp_path):
    path = tmp_path / "grid1.yaml"
    lines = ["a: &a [lol, lol, lol]"] + [
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(20)
    ]
    path.write_text("\n".join([*lines, "atlas: []", "session_id: 1\n"]))
    refused(path, 2, "must have no alias. Got '*a' instead.")


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "[" * 200_000, '[{"decisionType": ' + "[" * 100_000])
def test_json_deeper_than_any_stack_is_refused(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text('[{"decisionType": 1},' + text)
    refused(path, 1, "brackets must be at most 64 deep. Got deeper ones instead.")


def stream(rows, fields, strings=b"\0"):
    """A CSDAT file; fields : (name, type, shape, values, whether compressed)."""
    header = {
        "length": rows,
        "dtype": [[name, kind, shape] if shape else [name, kind] for name, kind, shape, _, _ in fields],
        "compression": "lz4",
        "compressed_fields": [name for name, *_, packed in fields if packed],
    }
    text = json.dumps(header).encode()
    columns = b""
    for _, _, _, values, packed in fields:
        piece = pyarrow.compress(values, codec="lz4_raw", asbytes=True) if packed else values
        columns += struct.pack("<I", len(piece)) + piece
    return b"\x95CSDAT" + struct.pack("<I", len(text)) + text + columns + strings


def group_of(path):
    """A .csg that names a table beside it."""
    group = path.parent / "job.csg"
    group.write_text(f"group:\n  type: exposure\nresults:\n  ctf:\n    metafile: '>{path.name}'\n")
    return group


@pytest.mark.parametrize("through_group", [False, True])
def test_a_zip_bomb_in_csdat_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, through_group):
    monkeypatch.setattr(csdat, "LARGEST_TABLE_BYTES", 4 * MB)
    bomb = stream(
        1, [("uid", "<u8", None, b"\1" * 8, False), ("a", "<u1", [65_000, 1000], bytes(65 * MB), True)]
    )
    assert len(bomb) < 0.3 * MB
    path = tmp_path / "exposures.cs"
    path.write_bytes(bomb)
    path = group_of(path) if through_group else path
    found, (deviation,) = registry.validate(path)
    assert (found.name, deviation.message) == (
        "cryosparc",
        "field a: a table must be at most 4,000,000 bytes. Got more instead.",
    )
    with limits(memory_mb=5), pytest.raises(FileFormatError):
        cryosparc.read_source(path)


def test_a_block_that_unpacks_to_more_than_it_says_stops_there(tmp_path):
    path = tmp_path / "exposures.cs"
    path.write_bytes(stream(1, [("uid", "<u8", None, bytes(20 * MB), True)]))
    with (
        limits(memory_mb=5),
        pytest.raises(FileFormatError, match=r"field uid: a field must be one LZ4 block of 8 bytes\."),
    ):
        read_cs(path)


def test_texts_that_overlap_are_refused_before_they_fill_the_memory(tmp_path):
    rows = 50_000
    places = np.arange(rows, dtype="<u8").tobytes()
    path = tmp_path / "exposures.cs"
    path.write_bytes(
        stream(
            rows,
            [("uid", "<u8", None, places, False), ("movie_blob/path", "|O", None, places, False)],
            b"a" * rows + b"\0",
        )
    )
    with (
        limits(memory_mb=20),
        pytest.raises(
            FileFormatError,
            match=r"field movie_blob/path: texts must not overlap\. Got more text than the file has",
        ),
    ):
        read_cs(path)


def test_a_small_file_of_very_many_values_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cryosparc, "MOST_VALUES", 10_000)
    rows = 1000
    uid = np.arange(rows, dtype="<u8").tobytes()
    zeros = [(f"a{number}", "<f4", None, bytes(4 * rows), True) for number in range(50)]
    names = (np.arange(rows, dtype="<u8") * 6 + 1).tobytes()
    strings = b"\0" + b"".join(b"%05d\0" % number for number in range(rows))
    path = tmp_path / "exposures.cs"
    fields = [
        ("uid", "<u8", None, uid, False),
        ("micrograph_blob/path", "|O", None, names, False),
        ("ctf/ctf_fit_to_A", "<f4", None, np.ones(rows, "<f4").tobytes(), True),
    ]
    path.write_bytes(stream(rows, [*fields, *zeros], strings))
    with pytest.raises(FileFormatError, match=r"must have at most 10,000 values\. Got more instead\."):
        cryosparc.read_source(path)
    path.write_bytes(stream(rows, [*fields, *zeros[:5]], strings))
    assert len(cryosparc.read_source(path).ctf) == rows


def test_texts_that_are_no_characters_are_refused(tmp_path):
    for kind, value in (("U1", [0xD800]), ("U1", [0xFFFFFFFF]), ("S1", [0xE9000000])):
        table = np.zeros(1, dtype=[("uid", "u8"), ("ctf/ctf_fit_to_A", "f4"), ("movie_blob/path", kind)])
        table["uid"], table["ctf/ctf_fit_to_A"] = 1, 3.5
        data = bytearray(table.tobytes())
        data[12:] = np.array(value, "<u4" if kind == "U1" else ">u4").tobytes()[: len(data) - 12]
        path = tmp_path / "exposures.cs"
        np.save(tmp_path / "a.npy", table)
        path.write_bytes((tmp_path / "a.npy").read_bytes()[: -len(data)] + bytes(data))
        refused(path, None, "movie_blob/path must be UTF-8. Got other bytes instead.")


def test_objects_in_a_numpy_file_are_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("it was run",))

    table = np.zeros(1, dtype=[("uid", "u8"), ("o", "O")])
    table["o"][0] = Evil()
    np.save(tmp_path / "a.npy", table, allow_pickle=True)
    assert registry.format_of(tmp_path / "a.npy").name == "cryosparc"
    with pytest.raises(FileFormatError, match="without objects"):
        read_cs(tmp_path / "a.npy")


def test_a_picture_that_unpacks_to_gigabytes_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    hole = "21jan01a_00001gr_00002sq_00003hl_00001en"
    holes = pd.DataFrame({"hole_id": [hole], "patch_id": ["p"]})
    for side in (10_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        (tmp_path / f"{hole}_crop.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(MB)))
            + chunk(b"IEND", b"")
        )
        # Outside of tests a warning is only printed.
        with warnings.catch_warnings(), limits(memory_mb=20):
            warnings.simplefilter("ignore")
            with pytest.raises(FileFormatError, match=r"at most 16,000,000 px|exceeds limit of"):
                read_crops(tmp_path, holes)


def with_a_long_line(tmp_path, name, piece, millions=10):
    """So many million characters without a line end in the middle of a file; every deviation of it."""
    path = tmp_path / SAMPLES[name].file
    data = SAMPLES[name].data
    half = len(data) // 2
    path.write_bytes(data[:half] + piece * (millions * MB // len(piece)) + data[half:])
    with limits(seconds=60, memory_mb=400):
        return registry.validate(path)[1]


# What takes the square of a length takes hours for two million as well.
@pytest.mark.parametrize("millions", slow_but([2], [2, 10]))
@pytest.mark.parametrize("name", SAMPLES)
def test_millions_of_characters_without_a_line_end_end_quickly(tmp_path, name, millions):
    deviations = with_a_long_line(tmp_path, name, b"9", millions)
    assert all(len(each.message) < 1000 for each in deviations)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("piece", [b'"', b" ", b"<", b"[", b"a=", b"\0", b"&", b"'a ", b"_00001a", b"\xe9"])
def test_ten_million_characters_of_what_a_format_minds_end_quickly_too(tmp_path, name, piece):
    deviations = with_a_long_line(tmp_path, name, piece)
    assert all(len(each.message) < 1000 for each in deviations)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"\0", id="NUL"),
        pytest.param(b"\xe9", id="latin-1", marks=pytest.mark.slow),
        pytest.param(b"\xc3(", id="broken", marks=pytest.mark.slow),
        pytest.param(b"\xed\xa0\x80", id="half"),
    ],
)
def test_bytes_that_are_no_text_never_reach_a_table(tmp_path, name, junk):
    path = tmp_path / SAMPLES[name].file
    data = SAMPLES[name].data
    for share in (0.2, 0.5, 0.8):
        at = int(len(data) * share)
        path.write_bytes(data[:at] + junk + data[at:])
        registry.validate(path)
        try:
            options = {"retries": 0} if SAMPLES[name].format == "epu" else {}
            source = registry.BY_NAME[SAMPLES[name].format].load().read_source(path, True, **options)
        except CryoscoutError:
            continue
        for table in (source.squares, source.holes, source.exposures, source.ctf):
            for column in table.select_dtypes(include=["object", "str"]):
                texts = "".join(map(str, table[column]))
                assert texts.encode().decode() == texts
                assert "\0" not in texts


# Every file that this process opens or lists, while `opened` is in use; a hook of the interpreter cannot be taken off.
_seen: list[str] | None = None
_thread = threading.get_ident()


def _look(event, arguments):
    if _seen is None or threading.get_ident() != _thread or event not in ("open", "os.scandir", "os.listdir"):
        return
    place = arguments[0]
    if isinstance(place, bytes):
        place = place.decode(errors="replace")
    if isinstance(place, str):
        _seen.append(place)


sys.addaudithook(_look)


@contextmanager
def opened():
    """The paths that are opened or listed within, those of the interpreter and the packages left out."""
    global _seen
    found: list[Path] = []
    _seen = []
    try:
        yield found
    finally:
        seen, _seen = _seen, None
        own = [Path(place).resolve() for place in {sys.prefix, sys.base_prefix, *sys.path} if place]
        own = [place for place in own if place != Path.cwd()]
        found += [
            path
            for path in (Path(place).resolve() for place in seen)
            if not any(path.is_relative_to(place) for place in own) and path.suffix not in (".py", ".pyc")
        ]


def test_what_is_opened_is_seen(tmp_path):
    """The check of the checks below."""
    (tmp_path / "a.mrc").write_text("x")
    with opened() as paths:
        (tmp_path / "a.mrc").read_text()
        list(tmp_path.iterdir())
    assert set(paths) == {(tmp_path / "a.mrc").resolve(), tmp_path.resolve()}


def hostile_session(name, inside, outside):
    """A file in `inside` with references to files of `outside`, which exist."""
    absolute = outside / "target"
    climbing = f"../{outside.name}/target"
    windows = f"..\\{outside.name}\\target"
    data = SAMPLES[name].data.decode("utf-8-sig")
    for suffix in ("", ".mrc", ".tif", ".cs", ".dm", ".xml", ".jpg", ".mdoc", ".nav", ".ctf"):
        (outside / f"target{suffix}").write_text("secret\n")
    if name == "nav":
        made = data
        for count, reference in enumerate((absolute, climbing, windows)):
            made = (
                made.replace("MapFile = ", f"MapFile = {reference}.mrc\nNote = was ", 1)
                if count == 0
                else made
            )
            made += f"\n[Item = h{count}]\nColor = 0\nStageXYZ = 1 2 3\nNumPts = 1\nRegis = 1\nType = 0\nPtsX = 1\n"
            made += f"PtsY = 2\nFileToOpen = {reference}.mrc\nNote = {reference}\n"
    elif name == "mdoc":
        made = f"ImageFile = {climbing}.mrc\n" + "".join(
            f"[FrameSet = {count}]\nStagePosition = 1 2\nSubFramePath = {reference}.tif\nGainReference = {reference}\n"
            for count, reference in enumerate((absolute, climbing, windows))
        )
    elif name == "relion":
        made = (
            "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\n_rlnCtfImage #3\n"
            + "".join(
                f"{reference}{count}.mrc 3.5 {reference}.ctf:mrc\n"
                for count, reference in enumerate((absolute, climbing, windows))
            )
        )
    elif name == "ctffind":
        made = data.replace("m1.mrcs", f"{climbing}.mrc").replace("micrographs: 3", "micrographs: 1")
        made = "\n".join(made.splitlines()[:4]) + "\n"
    elif name == "epu session":
        made = data.replace("Metadata\\", f"{windows}\\").replace("D:\\Atlas", windows)
        assert made != data
    elif name == "epu square":
        made = data.replace("</GridSquareImagePath>", f"{climbing}.jpg</GridSquareImagePath>")
        made = made.replace("<AtlasNodeId", f"<AtlasId>{absolute}.dm</AtlasId><AtlasNodeId", 1)
    else:
        made = data.replace("<uniqueID>", f"<uniqueID>{climbing}.mrc ")
    path = inside / SAMPLES[name].file
    path.write_text(made)
    return path


NAMING = ["nav", "mdoc", "relion", "ctffind", "epu session", "epu square", "epu exposure"]


@pytest.mark.parametrize(
    ("name", "as_folder"),
    # A star file is named itself, not its folder.
    [(name, False) for name in NAMING] + [(name, True) for name in NAMING if name != "relion"],
)
def test_no_reference_inside_a_file_leads_outside_the_sources(tmp_path, monkeypatch, name, as_folder):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    path = hostile_session(name, inside, outside)
    source = inside if as_folder else path
    # From where the references, too, lead to the files.
    monkeypatch.chdir(inside)
    with opened() as paths:
        read = sources.read_sources([source], sources.ReadOptions(permissive=True))
        registry.validate(source)
    assert read.records
    assert paths
    assert [place for place in paths if not place.is_relative_to(inside.resolve())] == []


@pytest.mark.parametrize(
    "reference", ["../outside/target.cs", "/etc/target.cs", "..\\outside\\target.cs", "C:target.cs"]
)
def test_a_group_of_cryosparc_names_files_of_its_own_folder_only(tmp_path, reference):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "target.cs").write_bytes(SAMPLES["cryosparc numpy"].data)
    group = inside / "job.csg"
    group.write_text(f"group:\nresults:\n  ctf:\n    metafile: '>{reference}'\n")
    with opened() as paths:
        found, (deviation,) = registry.validate(group)
    assert found.name == "cryosparc"
    assert "must be a" in deviation.message
    assert [place for place in paths if not place.is_relative_to(inside.resolve())] == []


def tables_of(columns):
    """Every table of so many columns: file, content, line of the deviation."""
    star = "".join(f"_l{n}\n" for n in range(columns - 1))
    download = "\t".join(["defocus_1", "defocus_2", "image_name", *map(str, range(columns - 3))])
    ctffind = "# Output\n# Input file: a.mrc ; Number of micrographs: 1\n# Columns: #1 - a\n"
    return {
        "csv": ("a.csv", "name,ctf" + "," * (columns - 2) + "\n", 1),
        "csv of names": ("a.csv", ",".join(["name", "ctf", *map(str, range(columns - 2))]) + "\n", 1),
        "star": ("a.star", f"data_\nloop_\n_rlnMicrographName\n{star}", columns + 2),
        "star pairs": ("a.star", "data_\n_rlnMicrographName a\n" + star.replace("\n", " 1\n"), columns + 1),
        "leginon": ("a.txt", download + "\n", 1),
        "ctffind": ("a.txt", ctffind + "1 " * columns + "\n", 4),
    }


@pytest.mark.parametrize("name", tables_of(3))
def test_a_table_of_very_many_columns_is_refused(tmp_path, name):
    file, content, line = tables_of(9_000)[name]
    path = tmp_path / file
    path.write_text(content)
    got = "2,001" if name.startswith("star") else "9,000"
    line = 2 + 2001 if name == "star" else (1 + 2001 if name == "star pairs" else line)
    refused(
        path,
        line,
        f"a table must have at most 2,000 columns. Got {got} instead. Remedy: export the columns that are needed.",
    )


def test_a_table_of_as_many_columns_as_allowed_is_read_with_all_of_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,ctf" + "," * 1998 + "\n" + "a,3" + ",1" * 1998 + "\n")
    with limits():
        exposures = registry.format_of(path).load().read_source(path).exposures
    assert exposures["(column 2000)" if "(column 2000)" in exposures else " (column 2000)"].tolist() == ["1"]


def test_a_star_file_of_very_many_tables_is_refused(tmp_path):
    path = tmp_path / "a.star"
    path.write_text("data_\n_rlnMicrographName a\n_rlnCtfMaxResolution 3\n" + "data_x\n" * 30_000)
    refused(path, 20_003, "must have at most 20,000 tables. Got more instead.")


def test_a_section_of_very_many_keys_is_refused(tmp_path):
    keys = "".join(f"k{n} = 1\n" for n in range(30_000))
    path = tmp_path / "a.nav"
    path.write_text("AdocVersion = 2.00\n\n[Item = 1]\n" + keys)
    refused(path, 3, "a section must have at most 20,000 lines. Got 30,001 instead.")
    path = tmp_path / "a.xml"
    attributes = "".join(f' k{n}="1"' for n in range(30_000))
    path.write_text(f'<?xml version="1.0"?>\n<navigator><Item name="1"{attributes}/></navigator>')
    refused(path, 2, "a section must have at most 20,000 keys. Got more instead.")


def test_a_file_of_very_many_sections_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(autodoc, "MOST_SECTIONS", 300)
    path = tmp_path / "a.nav"
    path.write_text("AdocVersion = 2.00\n\n" + "[Item = 1]\n" * 301)
    refused(path, None, "must have at most 300 sections. Got 301 instead.")


def test_one_large_element_that_stands_everywhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data_contract_xml, "MOST_LOOKS", 100_000)
    large = '<big z:Id="1">' + "<a>x</a>" * 1000 + "</big>"
    kind = "KeyValuePairOfintTargetLocation"
    holes = "".join(f"<{kind}><key>{n}</key><value><a z:Ref='1'/></value></{kind}>" for n in range(1, 1000))
    array = f"<m_serializationArray>{holes}</m_serializationArray>"
    path = tmp_path / "GridSquare_1.dm"
    path.write_text(
        f'<GridSquareXml xmlns:z="z"><Id>1</Id>{large}<TargetLocations><TargetLocations>{array}'
        "</TargetLocations></TargetLocations></GridSquareXml>"
    )
    _, deviations = registry.validate(path)
    # Once for each hole, so that validating names them all; what is found at each is not gone through any more.
    assert deviations[-1].message.startswith("z:Ref must not stand for one large element again and again.")
    with pytest.raises(FileFormatError):
        data_contract_xml.read_xml(path, ("GridSquareXml",)).count_looks(100_001)


@pytest.mark.parametrize("text", ["[[[],[]]," * 7, '"[[[[', '{"a":"]]]]"}', "[" * 70])
def test_the_depth_of_json_is_counted_outside_of_strings(text):
    whole = '[{"decisionType": "' + "[" * 100 + '\\"{"},' + text
    with pytest.raises(FileFormatError) as error:
        parse_json(whole, "a.json")
    assert ("at most 64 deep" in str(error.value)) == ("[" * 65 in text)
