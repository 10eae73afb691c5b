"""The traps that files of the vendors lay for a reader, and the test that each one is not walked into.

EPU: a value stands for another by z:Ref
    test_epu_dm::test_a_repeated_defocus_list_is_found_where_it_first_stands
EPU: a z:Ref that leads nowhere
    test_a_reference_that_leads_nowhere
EPU: element names with a hash of the build
    test_epu_dm::test_the_hash_in_element_names_may_be_any
EPU: lacey grids list TargetLocations
    test_epu_dm::test_a_lacey_grid_lists_its_targets_under_another_name
EPU: _Fractions.xml looks like an exposure
    test_frames_beside_an_exposure
EPU: a hole imaged again
    test_a_hole_that_was_imaged_again
EPU: several Images-Disc
    test_several_discs
EPU: half-written XML
    test_half_written_xml
EPU: seven digits of a second
    test_epu_images::test_the_seven_digits_of_a_second_are_kept
EPU: no DetectorCommercialName before 2.7
    test_epu_images::test_before_epu_2_7_the_detector_has_another_name
EPU: PixelCenter is of the full image, not of the jpg
    test_hole_centres_beside_a_smaller_jpg
EPU: Windows paths
    test_epu_dm::test_windows_paths_are_kept_as_names
all: metres, um, nm and angstrom
    test_units_of_every_vendor
.nav: notes with =
    test_serialem_nav::test_notes_hold_equals_signs_and_map_files_are_names_only
.nav: labels that repeat
    test_labels_that_repeat
.nav: the XML form
    test_serialem_nav::test_the_xml_form_has_the_same_items
.nav: the tab-delimited form
    test_the_tab_delimited_navigator
.nav: unknown keys are kept
    test_serialem_nav_writer::test_everything_else_is_kept_byte_for_byte
.mdoc: T = without brackets
    test_serialem_mdoc::test_a_title_without_brackets_and_a_movie_with_a_windows_path_are_read
.mdoc: years of two digits
    test_serialem_mdoc::test_times_have_two_blanks_and_two_or_four_digit_years_and_nothing_else
.mdoc: a time in another form
    test_a_time_of_another_form
.mdoc: FrameDosesAndNumber and ...Numbers
    test_serialem_mdoc::test_frame_doses_are_read_under_both_names
CTFFIND: inf
    test_ctffind::test_inf_is_a_failed_fit
CTFFIND: _avrot.txt
    test_ctffind::test_rotational_averages_are_no_results
CTFFIND: 7 or 10 columns
    test_seven_and_ten_columns
RELION: resolutions are capped at 25
    test_relion::test_the_cap_of_25_is_a_value_and_is_noted
RELION 3.0: one nameless block
    test_a_star_file_of_relion_3_0
RELION: a table of particles
    test_a_table_of_particles
cryoSPARC: paths in a passthrough table, by uid
    test_cryosparc::test_a_passthrough_table_beside_is_found_by_what_it_holds
cryoSPARC: a uid before the name
    test_a_uid_before_the_name
cryoSPARC: CSDAT beside NumPy
    test_another_magic
Leginon: _vNN at every level
    test_versions_of_an_exposure
Leginon: -a and -DW
    test_leginon_session::test_the_aligned_image_stands_for_the_exposure_before_the_dose_weighted_one
Leginon: no tile in the name
    test_leginon_session::test_a_grid_without_tile_names_is_session_and_label
Leginon: several CTF runs of an image
    test_leginon_exports::test_of_several_runs_the_best_by_80_per_cent_counts_and_all_are_kept
Leginon: 100, 101, 100000 for a failed fit
    test_leginon_exports::test_100_101_100000_and_inf_are_failed_fits
Leginon: -1 for no result
    test_no_result_is_not_a_resolution
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from epu_samples import short_square
from reader_samples import HOLES, SAMPLES

from cryoscout.core.errors import FileFormatError
from cryoscout.formats import registry
from cryoscout.formats.ctf import cryosparc, ctffind, relion
from cryoscout.formats.epu import session as epu
from cryoscout.formats.leginon import exports as leginon_exports
from cryoscout.formats.leginon.session import read_session
from cryoscout.formats.serialem import mdoc as serialem_mdoc
from cryoscout.formats.serialem import nav as serialem_nav
from cryoscout.formats.serialem import session as serialem
from cryoscout.formats.smartscope import records as smartscope
from cryoscout.formats.text.findings import Deviation

HERE = Path(__file__).parent
SMARTEM = HERE / "data" / "epu" / "smartem_example"
DISC = "Images-Disc1/GridSquare_8999138"
EXPOSURE = "FoilHole_9015883_Data_9017347_6_20250108_154915"


@pytest.fixture
def session(tmp_path):
    shutil.copytree(SMARTEM, tmp_path / "session")
    return tmp_path / "session"


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(read, path):
    with pytest.raises(FileFormatError) as error:
        read(path)
    return error.value.line, error.value.detail


def test_every_trap_has_a_test_that_is_there():
    named = [line.strip() for line in (__doc__ or "").splitlines() if line.strip().startswith("test_")]
    assert len(named) == len(set(named)) > 30
    for name in named:
        file, _, test = name.rpartition("::")
        (path,) = HERE.parent.rglob(f"{file or Path(__file__).stem}.py")
        text = path.read_text()
        assert f"\ndef {test}(" in text, name


def test_a_reference_that_leads_nowhere(tmp_path):
    text = short_square(2).replace("<PixelCenter", '<PixelCenter z:Ref="99999"', 1)
    path = written(tmp_path, "GridSquare_4590776.dm", text)
    assert epu.validate(path) == [
        Deviation(
            None,
            "PixelCenter: a z:Ref must name the z:Id of another element. Got '99999' instead.",
            "GridSquare_4590776.dm: TargetLocation '5665438'",
        )
    ]


def test_frames_beside_an_exposure(session):
    shutil.copy(
        session / DISC / "Data" / f"{EXPOSURE}.xml", session / DISC / "Data" / f"{EXPOSURE}_Fractions.xml"
    )
    source = epu.read_source(session)
    assert (
        f"left out: 1 XML files of frames (_Fractions, _EER), such as {DISC}/Data/{EXPOSURE}_Fractions.xml"
        in (source.notes)
    )
    assert len(source.exposures) == 4


def test_a_hole_that_was_imaged_again(session):
    assert (
        "left out: 2 older images of a hole imaged again, such as "
        f"{DISC}/FoilHoles/FoilHole_9015889_20250108_154715.xml" in epu.read_source(session).notes
    )


def test_several_discs(session):
    shutil.copytree(session / "Images-Disc1", session / "Images-Disc2")
    shutil.rmtree(session / "Images-Disc1" / "GridSquare_8999186")
    source = epu.read_source(session)
    assert len(source.exposures) == 4
    (note,) = [each for each in source.notes if "in another folder" in each]
    assert re.fullmatch(
        r"left out: 2 copies of an exposure in another folder, such as Images-Disc[12]/GridSquare_8999138/Data/.*\.xml",
        note,
    )


def test_half_written_xml(tmp_path):
    path = written(tmp_path, f"{EXPOSURE}.xml", '<?xml version="1.0"?>\n<MicroscopeImage>\n<microscopeData>')
    assert epu.validate(path) == [
        Deviation(
            3,
            "must be one whole XML document. Got no element found at column 16 instead. "
            "Remedy: read it again when the microscope has finished writing it.",
            f"{EXPOSURE}.xml",
        )
    ]


def test_hole_centres_beside_a_smaller_jpg(session):
    (session / "Metadata").mkdir()
    text = short_square(2).replace("4590776", "8999138").replace("5665438", "9015883")
    (session / "Metadata" / "GridSquare_8999138.dm").write_text(text)
    expected = epu.read_source(session).holes
    square_image = next((session / DISC).glob("GridSquare_*.xml"))
    square_image.with_suffix(".jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture of 512 px")
    source = epu.read_source(session)
    hole = source.holes.set_index("hole_id").loc["9015883"]
    assert (hole["x_px"], hole["y_px"]) == (1396.0, 972.0)
    assert source.holes.equals(expected)
    size = [source.extra["8999138"][f"image_{side}_px"] for side in ("width", "height")]
    assert size == ["2880", "2046"]


def test_units_of_every_vendor(tmp_path):
    def only(module, name):
        return module.read_source(written(tmp_path, SAMPLES[name].file, SAMPLES[name].data))

    # EPU: metres. SerialEM: um. CTFFIND: angstrom. Leginon: metres. SmartScope: nm for ice, angstrom for defocus.
    session = epu.read_source(SMARTEM)
    exposure = session.exposures.set_index("exposure_id").loc[EXPOSURE]
    assert exposure["stage_x_um"] == pytest.approx(-97.152028)
    assert session.cluster_radius_um == pytest.approx(12.0)
    nav = only(serialem, "nav xml")
    assert nav.holes[["x_um", "y_um"]].to_numpy().tolist() == [[1.0, 2.0]]
    assert only(ctffind, "ctffind").ctf["defocus_u_um"].iloc[0] == pytest.approx(1.0295926758)
    assert only(leginon_exports, "leginon download").ctf["defocus_1_um"].iloc[0] == pytest.approx(-1.0)
    text = SAMPLES["smartscope"].data.decode()
    ctf = only(smartscope, "smartscope").ctf
    thickness = re.findall(r"ice_thickness: ([0-9.]+)", text)
    assert ctf["ice_thickness_nm"].dropna().tolist() == [float(value) for value in thickness][: len(ctf)]
    assert (ctf["defocus_um"].abs() < 10).all()


def test_labels_that_repeat(tmp_path):
    item = "[Item = 1]\nColor = 0\nStageXYZ = {x} 2 3\nNumPts = 1\nRegis = 1\nType = 0\nPtsX = 1\nPtsY = 2\n"
    text = "AdocVersion = 2.00\n\n" + item.format(x=1) + "MapID = 7\n\n" + item.format(x=2) + "MapID = 8\n"
    path = written(tmp_path, "a.nav", text)
    assert [hole.id for hole in serialem_nav.read_nav(path).holes] == ["1#7", "1#8"]
    path = written(tmp_path, "a.nav", text.replace("MapID = 8", "MapID = 7"))
    assert refusal(serialem_nav.read_nav, path) == (
        21,
        "[Item = 1]: MapID must be unique. Got 7 again instead (first in the item of line 3).",
    )


def test_the_tab_delimited_navigator(tmp_path):
    path = written(tmp_path, "a.nav", "Label\tColor\tX\n12\t0\t1.5\n")
    assert refusal(serialem_nav.read_nav, path) == (
        1,
        "must be a navigator file in autodoc or XML form. Got the tab-delimited form from before SerialEM 3.6 "
        "instead. Remedy: open it in SerialEM 3.6 or newer and save it.",
    )


def test_a_time_of_another_form(tmp_path):
    path = written(tmp_path, "a.mdoc", "[ZValue = 0]\nDateTime = 05-02-20  14:42:35\n")
    assert refusal(serialem_mdoc.read_mdoc, path) == (
        2,
        "[ZValue = 0]: DateTime must be dd-Mon-yy hh:mm:ss or dd-Mon-yyyy hh:mm:ss. "
        "Got '05-02-20  14:42:35' instead.",
    )


def test_seven_and_ten_columns(tmp_path):
    head = "# Input file: a.mrc ; Number of micrographs: 1\n# Columns: "
    seven, ten = (" ".join(f"#{place} - x;" for place in range(1, last + 1)) + "\n" for last in (7, 10))
    row = "1.0 10000.0 9000.0 10.0 0.0 0.1 4.5"
    for columns, values in ((seven, row), (ten, f"{row} 221.9 12.25 1619.75")):
        path = written(tmp_path, "a.txt", f"{head}{columns}{values}\n")
        assert ctffind.read_source(path).ctf["ctf_max_res_angstrom"].tolist() == [4.5]
    assert refusal(ctffind.read_source, written(tmp_path, "a.txt", f"{head}{ten}{row}\n")) == (
        3,
        "a row must have 10 numbers. Got 7 instead. "
        "Remedy: the file was cut or is still being written; fit the micrograph again.",
    )


def test_a_star_file_of_relion_3_0(tmp_path):
    text = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCtfMaxResolution #2\na.mrc 3.5\n"
    source = relion.read_source(written(tmp_path, "a.star", text))
    assert source.notes == (
        "one nameless block: a table of RELION 3.0 or earlier, or of a program that writes so",
    )
    assert source.ctf["ctf_max_res_angstrom"].tolist() == [3.5]


def test_a_table_of_particles(tmp_path):
    text = (
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnImageName #3\na.mrc 1 1@a\n"
    )
    assert refusal(relion.read_source, written(tmp_path, "a.star", text)) == (
        3,
        "a table of CTF results must have one row per micrograph. Got particles (rlnCoordinateX, rlnImageName) "
        "instead. Remedy: give micrographs_ctf.star of the CTF estimation.",
    )


def test_a_uid_before_the_name(tmp_path):
    table = np.zeros(1, dtype=[("uid", "u8"), ("ctf/ctf_fit_to_A", "f4"), ("movie_blob/path", "S99")])
    table["uid"], table["ctf/ctf_fit_to_A"] = 7, 3.5
    table["movie_blob/path"] = f"J2/imported/002951270711614884258_{EXPOSURE}_Fractions.tiff".encode()
    np.save(tmp_path / "a.npy", table)
    assert cryosparc.read_source(tmp_path / "a.npy").ctf["name"].tolist() == [EXPOSURE]


def test_another_magic(tmp_path):
    for name in ("cryosparc numpy", "cryosparc csdat"):
        assert cryosparc.read_source(written(tmp_path, "a.cs", SAMPLES[name].data)).ctf["name"].tolist() == [
            "a",
            "b",
        ]
    assert refusal(cryosparc.read_cs, written(tmp_path, "a.cs", b"\x89CSDAT" + b"\0" * 20)) == (
        None,
        "a .cs file must begin with \\x93NUMPY or \\x95CSDAT. Got b'\\x89CSDAT' instead.",
    )


def test_versions_of_an_exposure(tmp_path):
    first, again = f"{HOLES[0]}-a", f"{HOLES[0]}-a_v01"
    path = written(tmp_path, "ctf.csv", f"{first},1,2,3.5,0.9\n{again},1,2,8.0,0.9\n")
    found = read_session([path])
    assert found.session.exposures["exposure_id"].tolist() == [again]
    assert str(found.reports[0]) == (
        f"earlier versions of exposures: 0 of 1 joined; 1 not (the hole was imaged again; first: {first})"
    )


def test_no_result_is_not_a_resolution(tmp_path):
    for value, outcome in (("-1", "pending"), ("100000", "failed"), ("3.5", "measured")):
        path = written(tmp_path, "ctf.csv", f"{HOLES[0]}-a,1,2,{value},0.9\n")
        assert read_session([path]).session.exposures["outcome"].tolist() == [outcome]
    path = written(tmp_path, "ctf.csv", f"{HOLES[0]}-a,1,2,-2,0.9\n")
    assert [(each.line, each.message) for each in registry.validate(path)[1]] == [
        (1, "the CTF resolution must be above 0 angstrom, or -1 for none. Got '-2' instead.")
    ]
