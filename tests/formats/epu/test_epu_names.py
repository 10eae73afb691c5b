from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoscout.formats.epu import names as epu_names

STEM = "FoilHole_9015883_Data_9017347_6_20250108_154915"


@pytest.mark.parametrize(
    "written",
    [
        STEM,
        STEM + ".mrc",
        STEM + "_Fractions.tiff",
        STEM + "_EER.eer",
        STEM + "_fractions_patch_aligned_doseweighted.mrc",
        r"Z:\dose\Images-Disc1\GridSquare_8999138\Data" + "\\" + STEM + ".xml",
        f"Import/job001/014513_{STEM}_Fractions_DW.mrc",
    ],
)
def test_a_micrograph_is_the_same_exposure_whatever_a_pipeline_adds_to_its_name(written):
    name = epu_names.parse_exposure(written)
    assert name == epu_names.ExposureName(STEM, "9015883", "9017347", "6", datetime(2025, 1, 8, 15, 49, 15))


def test_the_minutes_of_older_versions_are_a_time_too():
    name = epu_names.exposure_of_xml("FoilHole_1_Data_2_3_20170808_1234.xml")
    assert name is not None
    assert name.named_at == datetime(2017, 8, 8, 12, 34)


@pytest.mark.parametrize("when", ["20251301_000000", "00010101_000000", "99991231_235959"])
def test_digits_that_are_no_time_of_a_session_are_none(when):
    name = epu_names.exposure_of_xml(f"FoilHole_1_Data_2_3_{when}.xml")
    assert name is not None
    assert name.named_at is None


def test_the_frames_xml_is_no_exposure():
    assert epu_names.exposure_of_xml(STEM + "_Fractions.xml") is None
    assert epu_names.is_fractions(STEM + "_Fractions.xml")
    assert not epu_names.is_fractions(STEM + ".xml")


@pytest.mark.parametrize(
    "other",
    [
        "",
        "GridSquare_1_20250108_154915",
        "FoilHole_1_20250108_154915",
        "xFoilHole_1_Data_2_3_20250108_154915",
    ],
)
def test_other_names_are_no_exposures(other):
    assert epu_names.parse_exposure(other) is None


@given(st.text())
def test_any_text_is_a_name_or_none(text):
    for parse in (
        epu_names.parse_exposure,
        epu_names.exposure_of_xml,
        epu_names.hole_image,
        epu_names.square_image,
        epu_names.square_metadata,
        epu_names.square_folder,
    ):
        parse(text)
    assert "/" not in epu_names.last_name(text)


@given(
    st.integers(0, 10**20 - 1),
    st.integers(0, 10**9),
    st.datetimes(datetime(1990, 1, 1), datetime(2199, 1, 1)),
)
def test_a_name_that_epu_gives_is_read_back(hole, area, at):
    at = at.replace(microsecond=0)
    name = epu_names.exposure_of_xml(f"FoilHole_{hole}_Data_{area}_7_{at:%Y%m%d_%H%M%S}.xml")
    assert name is not None
    assert (name.hole_id, name.area_id, name.named_at) == (str(hole), str(area), at)
