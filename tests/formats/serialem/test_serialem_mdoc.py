"""Image metadata: real files against an independent reader, and every way a file can be wrong."""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from datetime import datetime
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.core.errors import CryoscoutError, FileFormatError
from cryoscout.formats.serialem.mdoc import MultiShot, detect, parse_date_time, read_mdoc, validate

DATA = Path(__file__).parents[1] / "data" / "serialem"
FILES = sorted(DATA.glob("*.mdoc"))
SINGLE = DATA / "mdocfile_frame_set_single.mdoc"
MULTIPLE = DATA / "mdocfile_frame_set_multiple.mdoc"


@pytest.fixture
def mdoc(tmp_path):
    def write(text, name="a.mrc.mdoc"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_agree_with_mdocfile(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdocfile = importlib.import_module("mdocfile.data_models")
        theirs = mdocfile.Mdoc.from_file(str(path))
    ours = read_mdoc(path)
    assert len(ours.sections) == len(theirs.section_data)
    for section, their in zip(ours.sections, theirs.section_data, strict=True):
        assert section.name == str(getattr(their, section.kind))
        assert section.section.get("DateTime") == their.DateTime
        assert section.navigator_label == (their.NavigatorLabel or "")
        assert section.movie == ("" if their.SubFramePath is None else PurePath(their.SubFramePath).name)
        assert list(section.frame_doses) == list(their.FrameDosesAndNumbers or [])
        for key, values in section.numbers.items():
            theirs_value = getattr(their, key)
            as_tuple = theirs_value if isinstance(theirs_value, tuple) else (theirs_value,)
            assert values == tuple(float(value) for value in as_tuple), key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_have_no_deviation(path):
    assert validate(path) == []
    assert detect(path)


def test_a_title_without_brackets_and_a_movie_with_a_windows_path_are_read():
    found = read_mdoc(SINGLE)
    assert found.titles == ("SerialEM: UMass_Krios Camera -> 0:Ceta 1:GIF-K3         08-Oct-21  07:38:24",)
    (section,) = found.sections
    assert section.movie == "s_mmm_00993_33.0_Oct08_07.39.05.tif"
    assert section.started_at == datetime(2021, 10, 8, 7, 39, 8)
    assert section.stage_um == (-142.82, -457.442, -13.7196)
    assert section.image_shift == (2.69654, -0.304661)
    assert section.frame_doses == ((0.63824, 12),)
    assert section.is_record
    assert section.section.get("FilterSlitAndLoss") == "20 0"


def test_titles_with_brackets_hold_equals_signs():
    found = read_mdoc(DATA / "pyserialem_gm.mrc.mdoc")
    assert found.titles[1] == "Tilt axis angle = 90.6, binning = 2  spot = 3  camera = 0"
    assert (found.image_file, found.is_montage) == ("gm.mrc", True)
    assert [section.kind for section in found.sections[-2:]] == ["ZValue", "MontSection"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("05-Feb-20  14:42:35", datetime(2020, 2, 5, 14, 42, 35)),
        ("05-Feb-2023  14:42:35", datetime(2023, 2, 5, 14, 42, 35)),
        ("5-Dec-99 4:02:35", datetime(2099, 12, 5, 4, 2, 35)),
        ("29-Feb-24\t23:59:59", datetime(2024, 2, 29, 23, 59, 59)),
        ("29-Feb-23  23:59:59", None),
        ("05-Mai-20  14:42:35", None),
        ("05-02-20  14:42:35", None),
        ("05-Feb-20  14:42", None),
        ("05-Feb-202  14:42:35", None),
        ("05-Feb-9999  14:42:35", None),
        ("٠٥-Feb-20  14:42:35", None),
        ("", None),
    ],
)
def test_times_have_two_blanks_and_two_or_four_digit_years_and_nothing_else(text, at):
    assert parse_date_time(text) == at


@pytest.mark.parametrize("key", ["FrameDosesAndNumber", "FrameDosesAndNumbers"])
def test_frame_doses_are_read_under_both_names(mdoc, key):
    (section,) = read_mdoc(mdoc(f"[FrameSet = 0]\n{key} = 0.5 10 1.25 4\n")).sections
    assert section.frame_doses == ((0.5, 10), (1.25, 4))


@pytest.mark.parametrize(
    ("value", "hole", "position"),
    [
        # The forms of CParticleTasks::CurrentHoleAndPosition, and with blanks that of a file of 2019.
        ("1-1", "1", "1"),
        ("12-0", "12", "0"),
        ("X+1Y-1-0", "X+1Y-1", "0"),
        ("X-2Y-1-4", "X-2Y-1", "4"),
        ("X1Y0-2", "X+1Y+0", "2"),
        ("X-1Y2-0", "X-1Y+2", "0"),
        ("R2H3-0", "R2H3", "0"),
        ("R0H1-6", "R0H1", "6"),
        ("Pos02", "Pos02", ""),
        ("1 1", "1", "1"),
        ("-1 1 4", "X-1Y+1", "4"),
    ],
)
@pytest.mark.parametrize("key", ["MultishotHoleAndPosition", "MultiShotHoleAndPosition"])
def test_a_multishot_image_is_of_a_hole_of_the_pattern_and_a_position_in_it(mdoc, key, value, hole, position):
    (section,) = read_mdoc(mdoc(f"[FrameSet = 0]\n{key} = {value}\n")).sections
    assert section.multishot == MultiShot(hole, position)


def test_empty_values_are_missing_ones(mdoc):
    keys = ("DateTime", "StagePosition", "TiltAngle", "MultishotHoleAndPosition", "FrameDosesAndNumber")
    (section,) = read_mdoc(mdoc("[FrameSet = 0]\n" + "".join(f"{key} = \n" for key in keys))).sections
    assert (section.started_at, section.multishot, section.frame_doses) == (None, None, ())
    assert math.isnan(section.stage_um[0])


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("X:\\a b\\c.d\\m_1.tif", "m_1.tif"),
        ("/data/m_1.eer", "m_1.eer"),
        ("..\\..", ""),
        ("..", ""),
        ("C:\\", ""),
    ],
)
def test_a_movie_is_a_name_and_leads_nowhere(mdoc, value, name):
    assert read_mdoc(mdoc(f"[FrameSet = 0]\nSubFramePath = {value}\n")).sections[0].movie == name


@pytest.mark.parametrize(
    ("value", "is_record"),
    [("4", True), ("-3", True), (None, True), ("1", False), ("0", False), ("-8", False)],
)
def test_only_record_images_can_be_exposures(mdoc, value, is_record):
    line = "" if value is None else f"LowDoseConSet = {value}\n"
    assert read_mdoc(mdoc(f"[ZValue = 0]\n{line}")).sections[0].is_record is is_record


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ("[ZValue = first]", 1, "a ZValue header must hold a whole number. Got 'first' instead."),
        ("[ZValue = 0]\nStagePosition = 1", 2, "StagePosition must hold 2 numbers. Got 1 instead."),
        ("[ZValue = 0]\nStagePosition = 1 inf", 2, "StagePosition must hold numbers. Got '1 inf' instead."),
        ("[ZValue = 0]\nImageShift = 1 1e999", 2, "ImageShift must hold numbers. Got '1 1e999' instead."),
        (
            "[ZValue = 0]\nDateTime = 2020-02-05 14:42:35",
            2,
            "DateTime must be dd-Mon-yy hh:mm:ss or dd-Mon-yyyy hh:mm:ss. Got '2020-02-05 14:42:35' instead.",
        ),
        (
            "[FrameSet = 0]\nFrameDosesAndNumber = 1 2 3",
            2,
            "FrameDosesAndNumber must hold pairs of a dose and a whole number of frames. Got '1 2 3' instead.",
        ),
        (
            "[FrameSet = 0]\nMultishotHoleAndPosition = 1",
            2,
            "MultishotHoleAndPosition must hold a hole and the position in it, such as 1-0, X+1Y-1-0 or R2H3-0. "
            "Got '1' instead.",
        ),
    ],
)
def test_what_deviates_has_its_line_and_message_and_permissive_lists_the_same(mdoc, lines, line, message):
    path = mdoc(lines + "\n")
    with pytest.raises(FileFormatError) as error:
        read_mdoc(path)
    assert error.value.line == line
    assert error.value.detail.endswith(message)
    assert [(found.line, found.message) for found in validate(path)] == [(line, message)]


def test_a_half_written_last_section_costs_its_last_line_only(mdoc):
    data = MULTIPLE.read_bytes()
    path = mdoc(data[: data.index(b"ExposureDose = 8.10961") + 6])
    with pytest.raises(FileFormatError, match="must be 'key = value' or"):
        read_mdoc(path)
    found = read_mdoc(path, permissive=True)
    assert len(found.deviations) == 1
    assert found.sections[:-1] != ()
    assert [section.name for section in found.sections] == ["0", *map(str, range(14))]
    assert found.sections[-1].numbers == {"TiltAngle": (33.0,)}


def test_one_bad_section_does_not_fail_the_file_when_permissive(mdoc):
    path = mdoc("[ZValue = 0]\nStageZ = 1\n[ZValue = x]\nStageZ = 2\n[ZValue = 2]\nStageZ = 3\n")
    assert [section.name for section in read_mdoc(path, permissive=True).sections] == ["0", "2"]


@pytest.mark.parametrize(
    "text", ["", "A = 1\n", "[Item = 1]\nColor = 0\n", "AdocVersion = 2.00\n", "a,b\n1,2\n"]
)
def test_other_files_are_not_recognised(mdoc, text):
    assert not detect(mdoc(text))


@pytest.mark.parametrize("text", ["", "A = 1\n", "[Item = 1]\nColor = 0\n"])
def test_what_is_no_metadata_is_refused_even_when_permissive(mdoc, text):
    with pytest.raises(
        FileFormatError, match=r"must be SerialEM image metadata: \[ZValue\].* Got none instead\."
    ):
        read_mdoc(mdoc(text), permissive=True)


@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 200))
def test_no_damage_to_a_real_file_crashes(tmp_path_factory, junk, place, length):
    data = MULTIPLE.read_bytes()
    place %= len(data)
    path = tmp_path_factory.mktemp("mdoc") / "a.mdoc"
    path.write_bytes(data[:place] + junk + data[place + length :])
    detect(path)
    for permissive in (False, True):
        try:
            found = read_mdoc(path, permissive)
        except CryoscoutError:
            continue
        assert found.document.to_bytes() == path.read_bytes()


@given(st.text(max_size=200))
def test_no_text_crashes(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("mdoc") / "a.mdoc"
    path.write_bytes(("[ZValue = 0]\n" + text).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(CryoscoutError):
        read_mdoc(path, permissive=True)
