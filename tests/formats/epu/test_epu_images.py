import math

import numpy as np
import pytest
from epu_samples import DATA, formats_data
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu.images import read_image
from cryoscout.formats.text.findings import Findings
from examples import share

EXPOSURE = (
    DATA / "harvest_session/Images-Disc1/GridSquare_19493759/Data"
    "/FoilHole_19513699_Data_19508496_19508498_20230919_154056.xml"
)
HOLE = DATA / "smartem_example/Images-Disc1/GridSquare_8999138/FoilHoles/FoilHole_9015889_20250108_154715.xml"


def _changed(tmp_path, old, new, count=1):
    text = EXPOSURE.read_text()
    assert text.count(old) >= 1
    path = tmp_path / EXPOSURE.name
    path.write_text(text.replace(old, new, count))
    return path


def test_an_exposure_is_read_in_um_degrees_and_angstrom():
    image = read_image(EXPOSURE)
    assert (image.stage_x_um, image.stage_y_um) == pytest.approx((267.9873068, -420.245736))
    assert image.numbers == pytest.approx(
        {
            "stage_z_um": 76.0605260992,
            "tilt_alpha_deg": math.degrees(-0.00051001212656003416),
            "tilt_beta_deg": math.degrees(0.0176318525),
            "pixel_size_angstrom": 1.0558814239614023,
            "defocus_um": 1.0135437443338275,
            "applied_defocus_um": -2.0,
            "dose_per_square_angstrom": 39.923136094518787,
            "exposure_time_s": 0.75,
            "width_px": 2880,
            "height_px": 2046,
            "magnification": 165000,
            "beam_shift_x": -0.094492264091968536,
            "beam_shift_y": -0.011722974479198456,
            "beam_tilt_x": 0.011545443907380104,
            "beam_tilt_y": -0.012739625759422779,
            "image_shift_x": 0.0,
            "image_shift_y": 0.0,
        }
    )
    assert image.shape == (2046, 2880)
    assert image.texts["detector"] == "BioQuantum K3"
    assert image.texts["epu_version"] == "3.4.0.5704"


def test_the_seven_digits_of_a_second_are_kept():
    at = read_image(EXPOSURE).acquired_at
    assert at is not None
    assert at.nanoseconds == 649_784_800
    assert str(np.datetime64(at.clock_ns(), "ns")) == "2023-09-19T15:41:00.649784800"


def test_fields_that_we_do_not_know_are_kept_as_written():
    fields = read_image(HOLE).fields
    assert fields["CustomData/FindFoilHoleCenterResults/Center/x"] == "1495.524"
    assert fields["CustomData/Aperture[C2].Name"] == "50"
    assert fields["microscopeData/gun/ExtractorVoltage"] == "4250"
    assert fields["ReferenceTransformation/matrix/_m11"] == "-8.1670060972019759E-10"


def test_before_epu_2_7_the_detector_has_another_name(tmp_path):
    text = EXPOSURE.read_text()
    start = text.index("<a:KeyValueOfstringanyType><a:Key>DetectorCommercialName")
    end = text.index("</a:KeyValueOfstringanyType>", start) + len("</a:KeyValueOfstringanyType>")
    path = tmp_path / "hand_made_epu_2_6.xml"
    path.write_text(text[:start] + text[end:])
    assert read_image(path).texts["detector"] == "EF-CCD"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "<X>0.00026798730680000003</X>",
            "<X>one</X>",
            "microscopeData/stage/Position/X: must be a finite number. Got 'one' instead.",
        ),
        (
            "<X>0.00026798730680000003</X>",
            "<X>1e999</X>",
            "microscopeData/stage/Position/X: must be a finite number. Got '1e999' instead.",
        ),
        (
            "<X>0.00026798730680000003</X>",
            "",
            "microscopeData/stage/Position/X: must be a finite number. Got nothing instead.",
        ),
        (
            "<acquisitionDateTime>2023-09-19T15:41:00.6497848+01:00</acquisitionDateTime>",
            "",
            "microscopeData/acquisition/acquisitionDateTime: must be a time. Got nothing instead.",
        ),
        (
            "2023-09-19T15:41:00.6497848+01:00",
            "0001-01-01T00:00:00",
            "microscopeData/acquisition/acquisitionDateTime: must be a time yyyy-mm-ddThh:mm:ss.fffffff+hh:mm "
            "between 1990 and 2199. Got '0001-01-01T00:00:00' instead.",
        ),
        (
            "2023-09-19T15:41:00.6497848+01:00",
            "2023-02-30T15:41:00",
            "microscopeData/acquisition/acquisitionDateTime: must be a time yyyy-mm-ddThh:mm:ss.fffffff+hh:mm "
            "between 1990 and 2199. Got '2023-02-30T15:41:00' instead.",
        ),
        (
            "<ExposureTime>0.75</ExposureTime>",
            f"<ExposureTime>{'9' * 500}</ExposureTime>",
            f"microscopeData/acquisition/camera/ExposureTime: must be a finite number. Got '{'9' * 40}...' instead.",
        ),
    ],
)
def test_what_deviates_is_named_and_left_out_when_permissive(tmp_path, old, new, message):
    path = _changed(tmp_path, old, new)
    with pytest.raises(FileFormatError) as caught:
        read_image(path)
    assert caught.value.detail == message
    findings = Findings(path, permissive=True)
    image = read_image(path, findings)
    assert [f"{found.element}: {found.message}" for found in findings.deviations] == [message]
    assert image.stage_y_um == pytest.approx(-420.245736)


lengths = st.floats(-0.002, 0.002)


@settings(max_examples=share(50))
@given(st.datetimes(), lengths, lengths, st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_an_image_that_is_written_is_read_back(tmp_path_factory, at, x_m, y_m, shift):
    at = at.replace(year=1990 + at.year % 200)
    path = tmp_path_factory.getbasetemp() / "written.xml"
    path.write_text(formats_data.epu_image_xml(at.isoformat() + "-03:30", x_m, y_m, shift))
    image = read_image(path)
    assert (image.stage_x_um, image.stage_y_um) == (x_m * 1e6, y_m * 1e6)
    assert (image.numbers["beam_shift_x"], image.numbers["beam_shift_y"]) == shift
    assert image.acquired_at is not None
    assert np.datetime64(image.acquired_at.clock_ns(), "ns") == np.datetime64(at, "ns")
