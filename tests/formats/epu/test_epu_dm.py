import math
import re

import numpy as np
import pytest
from epu_samples import ATLAS, DATA, SQUARE, short_square

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.epu.dm import dm_kind, read_atlas, read_epu_session, read_grid_square
from cryoscout.formats.text.findings import Findings


@pytest.fixture
def write(tmp_path):
    def write(text, name="hand_made.dm"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("folder", "name", "version", "sample", "areas", "squares"),
    [
        (
            "harvest_session",
            "Supervisor_20230919_140141_84_bi23047-106_grid1",
            "3.4.0.5704",
            "19503066",
            7,
            272,
        ),
        ("smartem_example", "Supervisor_20250108_101446_62_cm40593-1_EPU", "3.9.1.8206", "9015529", 6, 228),
    ],
)
def test_a_session_file_tells_name_clusters_shots_and_squares(folder, name, version, sample, areas, squares):
    session = read_epu_session(DATA / folder / "EpuSession.dm")
    assert (session.name, session.epu_version, session.sample_id) == (name, version, sample)
    assert session.clusters is True
    assert session.clustering_radius_um == pytest.approx(12.0)
    assert len(session.areas) == areas
    assert len(session.square_ids) == squares
    assert session.extra["delay_after_stage_shift_s"] == "5"
    assert session.extra["maximum_image_shift_um"] == "5"
    assert session.extra["AutoZeroLossPeriodicity"] in ("PT3H", "PT1H")


def test_a_repeated_defocus_list_is_found_where_it_first_stands():
    areas = read_epu_session(DATA / "harvest_session" / "EpuSession.dm").areas
    for area in areas:
        assert area.defocus_um == pytest.approx((-2.5, -2.0, -1.5, -1.0, -0.5))
    assert areas[0].shift_x_px == pytest.approx(324.532532)


def test_a_session_may_name_itself_by_reference(write):
    text = (DATA / "harvest_session" / "EpuSession.dm").read_text()
    named = re.search(r'<Name z:Id="6">[^<]*</Name>', text)
    assert named is not None
    moved = text.replace(named[0], '<Name z:Ref="6" i:nil="true"/>')
    moved = re.sub(r'<SessionName [^>]*z:Ref="6"[^>]*/>', named[0].replace("Name", "SessionName"), moved)
    assert read_epu_session(write(moved)).name == "Supervisor_20230919_140141_84_bi23047-106_grid1"


def test_windows_paths_are_kept_as_names():
    session = read_epu_session(DATA / "harvest_session" / "EpuSession.dm")
    assert session.atlas_name == (
        "Z:\\bi23047-106\\atlas\\Supervisor_20230919_115905_Atlas_bi23047-106\\Sample2\\Atlas\\Atlas.dm"
    )


def test_a_square_has_its_570_targets_in_um_and_px(write):
    square = read_grid_square(write(SQUARE))
    assert square.square_id == "4590776"
    assert (square.x_um, square.y_um) == pytest.approx((-49.194160965271294, -561.9677249342202))
    assert len(square.holes) == 570
    assert sum(hole.selected is True for hole in square.holes) == 276
    assert sum(len(hole.acquisitions) for hole in square.holes) == 868
    first = square.holes[0]
    assert (first.hole_id, first.x_px, first.y_px) == ("5665438", 1396.0, 972.0)
    assert (first.x_um, first.y_um) == pytest.approx((-42.565477384562446, -559.4576445422889))
    assert first.acquisitions[0] == "FoilHole_5665438_Data_4601896_4601898_20240406_102527"
    assert first.extra["State"] == "Completed"
    assert first.extra["FilterProperties/PixelIntensityMean"] == "723.8662041625372"


def test_stage_and_pixel_positions_of_a_square_are_one_rigid_map(write):
    """Units and axes: px to um is a rotation with a flip of y, and the scale is the square image's pixel size."""
    holes = read_grid_square(write(SQUARE)).holes
    px = np.array([(hole.x_px, hole.y_px, 1.0) for hole in holes])
    um = np.array([(hole.x_um, hole.y_um) for hole in holes])
    matrix = np.linalg.lstsq(px, um, rcond=None)[0]
    assert np.abs(px @ matrix - um).max() < 1e-4
    scales = np.linalg.svd(matrix[:2], compute_uv=False)
    np.testing.assert_allclose(scales, 0.0409, atol=0.001)
    assert np.linalg.det(matrix[:2]) < 0


def test_the_hash_in_element_names_may_be_any(write):
    text = short_square().replace("XmlBpEWF4JT", "Xml_PsqDC3X0m6koiAE_P")
    assert len(read_grid_square(write(text)).holes) == 3


def test_a_lacey_grid_lists_its_targets_under_another_name(write):
    text = short_square()
    text = re.sub(r"<TargetLocations i:nil=[^>]*/>", "", text)
    text = text.replace("TargetLocationsEfficient", "TargetLocations")
    holes = read_grid_square(write(text)).holes
    assert [hole.hole_id for hole in holes] == ["5665438", "5665439", "5665440"]


def test_a_square_not_yet_visited_has_no_targets(write):
    text = re.sub(
        r"<TargetLocations .*</TargetLocations>(?=<Unusable)", '<TargetLocations i:nil="true"/>', SQUARE
    )
    square = read_grid_square(write(text))
    assert (square.square_id, square.holes) == ("4590776", ())


def test_a_corrected_position_counts_once_it_is_said_to_be_corrected(write):
    text = short_square(1).replace(
        "<c:A>0</c:A><c:B>0</c:B><c:X>0</c:X><c:Y>0</c:Y>",
        "<c:A>0</c:A><c:B>0</c:B><c:X>1E-05</c:X><c:Y>-2E-05</c:Y>",
    )
    assert read_grid_square(write(text)).holes[0].x_um == pytest.approx(-42.565477384562446)
    text = text.replace("<IsPositionCorrected>false<", "<IsPositionCorrected>true<")
    hole = read_grid_square(write(text)).holes[0]
    assert (hole.x_um, hole.y_um) == pytest.approx((10.0, -20.0))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "<b:key>5665439</b:key>",
            "<b:key>../x</b:key>",
            "TargetLocation '../x': must be an id of up to 20 digits. Got '../x' instead.",
        ),
        (
            "<b:key>5665439</b:key>",
            "<b:key>5665438</b:key>",
            "TargetLocation '5665438': a hole must stand once. Got it again instead.",
        ),
        (
            "<c:x>1490</c:x>",
            "<c:x>wide</c:x>",
            "TargetLocation 5665439/PixelCenter/x: must be a finite number. Got 'wide' instead.",
        ),
        (
            "<c:X>-4.62455239951171E-05</c:X>",
            "",
            "TargetLocation 5665439/StagePosition/X: must be a finite number. Got nothing instead.",
        ),
        (
            "<Selected>false</Selected>",
            "<Selected>maybe</Selected>",
            "TargetLocation 5665440/Selected: must be true or false. Got 'maybe' instead.",
        ),
        (
            '<Id xmlns="http://schemas.datacontract.org/2004/07/Fei.Applications.Common.Types">4590776</Id>'
            "<AtlasNodeId>4590776</AtlasNodeId>",
            "",
            "Id: must be an id of up to 20 digits. Got '' instead.",
        ),
    ],
)
def test_what_deviates_in_a_square_is_named(write, old, new, message):
    text = short_square()
    third = text.rindex("<Selected>true")
    text = text[:third] + text[third:].replace("<Selected>true", "<Selected>false", 1)
    assert old in text
    path = write(text.replace(old, new))
    with pytest.raises(FileFormatError) as caught:
        read_grid_square(path)
    assert caught.value.detail == message
    findings = Findings(path, permissive=True)
    square = read_grid_square(path, findings)
    assert f"{findings.deviations[0].element}: {findings.deviations[0].message}" == message
    assert len(square.holes) >= 2


def test_a_target_that_refers_to_nothing_is_left_out(write):
    text = short_square().replace("<PixelCenter", '<PixelCenter z:Ref="99999"', 1)
    path = write(text)
    with pytest.raises(FileFormatError, match="PixelCenter: a z:Ref must name the z:Id of another element"):
        read_grid_square(path)
    findings = Findings(path, permissive=True)
    assert len(read_grid_square(path, findings).holes) == 2
    assert [found.element for found in findings.deviations] == ["TargetLocation '5665438'"]


def test_an_atlas_has_the_stage_positions_of_its_squares(write):
    atlas = read_atlas(write(ATLAS))
    assert atlas.atlas_id == "19493178"
    assert len(atlas.squares) == 272
    imaged = next(node for node in atlas.squares if node.square_id == "19493759")
    # The stage stood at (278.08, -437.75) um when the square was imaged.
    assert (imaged.x_um, imaged.y_um) == pytest.approx((270.91879746876657, -424.56117807887495))
    assert imaged.extra["atlas_x_px"]


def test_a_square_under_two_tiles_is_kept_once(write):
    assert "<key>19493602<" in ATLAS
    twice = ATLAS.replace("<key>19493602<", "<key>19493600<")
    atlas = read_atlas(write(twice))
    assert (len(atlas.squares), atlas.repeated) == (271, 1)


def test_the_position_of_a_square_before_the_alignment_is_better_than_none(write):
    zeros = "<{0}:X>0</{0}:X><{0}:Y>0</{0}:Y>"
    text = re.sub(
        r"(<b:AlignedStagePosition.*?)<(\w):X>[^<]*</\w:X><\w:Y>[^<]*</\w:Y>",
        lambda found: found[1] + zeros.format(found[2]),
        ATLAS,
    )
    imaged = next(node for node in read_atlas(write(text)).squares if node.square_id == "19493759")
    assert (imaged.x_um, imaged.y_um) == pytest.approx((315.85502438247204, -374.18879219330847))


def test_a_dm_file_is_told_by_its_root_and_not_by_its_name(write):
    assert dm_kind(SQUARE[:4096]) == "square"
    assert dm_kind(ATLAS[:4096]) == "atlas"
    assert dm_kind('<?xml version="1.0"?>\n<e:EpuSessionXml xmlns:e="urn:e">') == "session"
    assert dm_kind("<MicroscopeImage>") is None
    assert dm_kind("") is None
    path = write(SQUARE, "EpuSession.dm")
    with pytest.raises(
        FileFormatError, match=r"must have the root element EpuSessionXml\. Got 'GridSquareXml' instead"
    ):
        read_epu_session(path)


def test_a_session_without_clusters_says_so(write):
    text = (DATA / "harvest_session" / "EpuSession.dm").read_text()
    session = read_epu_session(write(text.replace(">ClusteringWithImageBeamShift<", ">NoClustering<")))
    assert session.clusters is False
    session = read_epu_session(
        write(re.sub("<Clustering(Mode|Radius)>.*?</Clustering(Mode|Radius)>", "", text))
    )
    assert session.clusters is None
    assert math.isnan(session.clustering_radius_um)
