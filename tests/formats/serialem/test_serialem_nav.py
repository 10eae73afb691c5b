"""Navigator files: real ones, one made by hand, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import CryoscoutError, FileFormatError
from cryoscout.formats.serialem.nav import MAP, POINT, detect, read_nav, validate
from cryoscout.formats.serialem.nav_fields import COORDS_IN, NAV_FIELDS

DATA = Path(__file__).parents[1] / "data" / "serialem"
MADE = DATA / "made_by_hand_two_squares.nav"
SEMMATCH = DATA / "semmatch_newNav.nav"
REAL_MAP = DATA / "pyserialem_nav.nav"

HEAD = "AdocVersion = 2.00\nLastSavedAs = X:\\a\\b.nav\n\n"
POINT_LINES = {
    "Color": "0",
    "StageXYZ": "1 2 3",
    "NumPts": "1",
    "Regis": "1",
    "Type": "0",
    "MapID": "100001",
    "PtsX": "1",
    "PtsY": "2",
}
LABEL_LINE = 4


def item(label="1", **changes):
    lines = {**POINT_LINES, **changes}
    return f"[Item = {label}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None) + "\n"


def line_of(key):
    return LABEL_LINE + 1 + list(POINT_LINES).index(key)


@pytest.fixture
def nav(tmp_path):
    def write(text, name="grid1.nav"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_real_map_is_read_with_its_units():
    (found,) = read_nav(REAL_MAP).items
    assert (found.id, found.type, found.map_id, found.regis) == ("17-1-A", MAP, 1291353952, 1)
    assert found.stage_um == (-495.956, 436.348, 44.77)
    assert (found.map_file, found.size_px, found.is_montage) == ("map.mrc", (4096, 4096), False)
    assert found.scale == (0.638997, -26.616, -26.5862, -1.01529)
    assert len(found.points_x) == len(found.points_y) == 5


def test_real_points_given_in_pixels_are_read():
    found = read_nav(SEMMATCH)
    assert [point.label for point in found.items] == [str(label) for label in range(9000, 9012)]
    first = found.items[0]
    assert first.coords_in == ("CoordsInMap", (1732.0, 1229.0, 31.9355))
    assert first.stage_um[2] == 31.9355
    assert (first.acquire, first.drawn_id, first.regis) == (True, 1357591511, 6)


def test_notes_hold_equals_signs_and_map_files_are_names_only():
    found = read_nav(MADE)
    notes = [hole.section.get("Note") for hole in found.holes if hole.section.get("Note")]
    assert notes == ["centre; ice = 20 nm, x=1"] * 4
    assert {point.map_file for point in found.maps} == {"grid1_LMM.mrc", "grid1_MMM.mrc", "grid1_view.mrc"}


@pytest.mark.parametrize("name", ["..", "a/../..", "C:\\..", "", "X:\\"])
def test_no_map_file_leads_anywhere(nav, name):
    map_lines = dict.fromkeys(["MapMontage", "MapSection", "MapBinning", "MapMagInd", "MapCamera"], "0")
    text = HEAD + item(Type="2", MapFile=name, MapScaleMat="1 0 0 1", MapWidthHeight="2 2", **map_lines)
    assert read_nav(nav(text)).items[0].map_file == ""


def test_registration_points_and_corners_are_no_holes():
    found = read_nav(MADE)
    assert sum(entry.type == POINT for entry in found.items) == 41
    assert len(found.holes) == 40
    assert "2" not in {hole.label for hole in found.holes}


def test_a_label_that_stands_twice_is_told_apart_by_the_map_id():
    found = read_nav(MADE)
    assert [hole.id for hole in found.holes if hole.label == "45"] == ["45#100045", "45#100046"]
    assert len(found.by_id) == len(found.items)


@given(st.lists(st.tuples(st.sampled_from(["1", "1#7", "1#no1", "2"]), st.integers(0, 9)), max_size=8))
def test_ids_are_unique_whatever_the_labels(tmp_path_factory, labels):
    text = HEAD + "".join(item(label, MapID=str(map_id)) for label, map_id in labels)
    path = tmp_path_factory.mktemp("nav") / "a.nav"
    path.write_text(text)
    found = read_nav(path, permissive=True)
    repeated = [
        map_id for row, (_, map_id) in enumerate(labels) if map_id and map_id in {m for _, m in labels[:row]}
    ]
    assert len(found.by_id) == len(found.items) == len(labels) - len(repeated)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (HEAD + item(Color=None), LABEL_LINE, "an item must have Color. Got none instead."),
        (HEAD + item(Regis=None), LABEL_LINE, "an item must have Regis. Got none instead."),
        (
            HEAD + item(Type="7"),
            line_of("Type"),
            "Type must be 0 (point), 1 (polygon) or 2 (map). Got 7 instead.",
        ),
        (HEAD + item(Type="1.5"), line_of("Type"), "Type must hold whole numbers. Got '1.5' instead."),
        (HEAD + item(Color=""), line_of("Color"), "an item must have Color. Got none instead."),
        (HEAD + item(StageXYZ="1 2"), line_of("StageXYZ"), "StageXYZ must hold 3 numbers. Got 2 instead."),
        (
            HEAD + item(StageXYZ="1 nan 3"),
            line_of("StageXYZ"),
            "StageXYZ must hold numbers. Got 'nan' instead.",
        ),
        (
            HEAD + item(StageXYZ="1 1e999 3"),
            line_of("StageXYZ"),
            "StageXYZ must hold numbers. Got '1e999' instead.",
        ),
        (
            HEAD + item(StageXYZ="1 2_0 3"),
            line_of("StageXYZ"),
            "StageXYZ must hold numbers. Got '2_0' instead.",
        ),
        (
            HEAD + item(Regis="9" * 5000),
            line_of("Regis"),
            f"Regis must hold whole numbers. Got '{'9' * 60}' instead.",
        ),
        (
            HEAD + item(StageXYZ=None),
            LABEL_LINE,
            f"an item must have StageXYZ or one of {', '.join(COORDS_IN)}. Got none instead.",
        ),
        (
            HEAD + item(CoordsInMap="1 2 3"),
            LABEL_LINE,
            f"an item must have one of StageXYZ, {', '.join(COORDS_IN)}. Got StageXYZ, CoordsInMap instead.",
        ),
        (HEAD + item(PtsX="1 2"), line_of("PtsX"), "PtsX must hold 1 numbers (NumPts). Got 2 instead."),
        (HEAD + item(PtsY=None), LABEL_LINE, "PtsY must hold 1 numbers (NumPts). Got 0 instead."),
        (HEAD + item(NumPts="0"), line_of("NumPts"), "NumPts must be at least 1. Got 0 instead."),
        (
            HEAD + item("1") + item("2"),
            line_of("MapID") + len(POINT_LINES) + 2,
            "MapID must be unique. Got 100001 again instead (first in the item of line 4).",
        ),
        (item(), 1, "must begin with AdocVersion, or SerialEM cannot load it. Got no such line instead."),
    ],
)
def test_what_deviates_has_its_line_and_message_and_permissive_lists_the_same(nav, text, line, message):
    path = nav(text)
    with pytest.raises(FileFormatError) as error:
        read_nav(path)
    assert error.value.line == line
    assert error.value.detail.endswith(message)
    assert validate(path)[0].message == message
    assert validate(path)[0].line == line


def test_an_item_that_deviates_is_left_out_and_an_optional_key_alone_is(nav):
    found = read_nav(nav(HEAD + item("1", Type="9") + item("2", GroupID="many", MapID="2")), permissive=True)
    assert [(point.label, point.group_id) for point in found.items] == [("2", 0)]
    assert [deviation.message for deviation in found.deviations] == [
        "Type must be 0 (point), 1 (polygon) or 2 (map). Got 9 instead.",
        "GroupID must hold whole numbers. Got 'many' instead.",
    ]
    assert len(found.document.of_kind("Item")) == 2


@pytest.mark.parametrize("key", [key for key, field in NAV_FIELDS.items() if field.needed == "map"])
def test_a_map_must_have_what_serialem_requires_of_maps(nav, key):
    text = REAL_MAP.read_text()
    line = next(
        text_line for text_line in text.splitlines(keepends=True) if text_line.startswith(f"{key} = ")
    )
    with pytest.raises(FileFormatError, match=f"an item must have {key}. Got none instead."):
        read_nav(nav(text.replace(line, "")))


def test_an_external_point_may_do_without_points(nav):
    text = HEAD + item(StageXYZ=None, CoordsInMap="10 20 3", NumPts="0", PtsX=None, PtsY=None, MapID=None)
    (found,) = read_nav(nav(text)).items
    assert (found.id, found.points_x, found.map_id) == ("1", (), 0)


def test_the_xml_form_has_the_same_items(nav):
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<navigator>", "<PreData>"]
    made = read_nav(MADE)
    for section in made.document.sections:
        if section.kind:
            lines.append(f'<{section.kind} name="{section.name}">')
        lines += [f"<{entry.key}>{entry.value}</{entry.key}>" for entry in section.entries]
        lines.append(f"</{section.kind or 'PreData'}>")
    path = nav("\n".join([*lines, "</navigator>"]), "grid1.xml")
    assert detect(path)
    found = read_nav(path)

    def fields(point):
        return [(entry.key, entry.value) for entry in point.section.entries], point.id, point.stage_um

    assert [fields(point) for point in found.items] == [fields(point) for point in made.items]
    assert found.document.from_xml


@pytest.mark.parametrize(
    "text", ["Version\t1.52\nLabel\tColor\tX\n12\t0\t1.5\n", "Label\tColor\tX\n12\t0\t1.5\n"]
)
def test_the_tab_delimited_form_is_recognised_and_refused_with_the_remedy(nav, text):
    path = nav(text)
    assert detect(path)
    with pytest.raises(FileFormatError) as error:
        read_nav(path, permissive=True)
    assert error.value.detail == (
        "must be a navigator file in autodoc or XML form. Got the tab-delimited form from before SerialEM 3.6 "
        "instead. Remedy: open it in SerialEM 3.6 or newer and save it."
    )


@pytest.mark.parametrize(
    ("text", "is_nav"),
    [
        (HEAD, True),
        ("\n\n" + item(), True),
        ("T = SerialEM: K3\n[ZValue = 0]\nStagePosition = 1 2\n", False),
        ("<?xml version='1.0'?><MicroscopeImage/>", False),
        ("name,ctf\na,4\n", False),
        ("", False),
        ("[Item = 1]\n\0", True),
    ],
)
def test_a_file_is_recognised_by_content_whatever_it_is_called(nav, text, is_nav):
    assert detect(nav(text, "notes.txt")) is is_nav


@pytest.mark.parametrize("text", ["", "A = 1\n", "[Other = 1]\nA = 2\n"])
def test_what_is_no_navigator_is_refused_even_when_permissive(nav, text):
    with pytest.raises(FileFormatError, match=r"must be a navigator file: .* Got neither instead\."):
        read_nav(nav(text), permissive=True)


def test_what_cannot_be_read_is_refused_not_crashed_on(tmp_path):
    for path in (tmp_path, tmp_path / "none.nav"):
        assert not detect(path)
        with pytest.raises(FileFormatError):
            read_nav(path)


def mutated(data, draw):
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["cut", "flip", "drop", "insert"]))
        if kind == "cut" and place > 10:
            del data[place:]
        elif kind == "flip":
            data[place] = draw(st.integers(0, 255))
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 40))]
        else:
            data[place:place] = draw(
                st.sampled_from([b"=", b"[", b"]", b"\n", b"\r", b"\0", b"nan", b"-", b"1e999", b" "])
            )
        if not data:
            break
    return bytes(data)


@given(st.data())
def test_no_mutation_of_a_real_file_crashes_and_bytes_come_back(tmp_path_factory, data):
    source = data.draw(st.sampled_from([MADE, SEMMATCH, REAL_MAP])).read_bytes()
    changed = mutated(source, data.draw)
    path = tmp_path_factory.mktemp("nav") / "a.nav"
    path.write_bytes(changed)
    detect(path)
    try:
        found = read_nav(path, permissive=True)
    except CryoscoutError:
        return
    assert found.document.to_bytes() == changed
    try:
        clean = read_nav(path)
    except FileFormatError:
        assert found.deviations
    else:
        assert not found.deviations
        assert len(clean.items) == len(found.items)


@pytest.mark.parametrize("key", ["Acquire", "GroupID", "DrawnID", "MapID", "StageXYZ"])
def test_an_empty_value_is_a_missing_one(nav, key):
    """As docs/how-to/serialem.md says of every key that an item can do without."""
    place = {"CoordsInMap": "10 20 0"} if key == "StageXYZ" else {}
    (empty,) = read_nav(nav(HEAD + item(**{key: ""}, **place))).items
    assert (empty.acquire, empty.drawn_id) == (False, 0)
