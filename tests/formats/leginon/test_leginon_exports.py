"""Every table here is made by hand with the headers of Leginon's and Appion's exporters, and names of no session."""

import math
from datetime import datetime

import pytest

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.leginon.exports import detect, read_source, validate

HEADER = (
    "image #\tnominal_def\tdefocus_1\tdefocus_2\tangle_astig\tamp_cont\textra_phase_shift\tres(0.8)\tres(0.5)\t"
    "res(pkg)\tconf(30/10)\tconf(5_peak)\tconf\tconf(appion)\timage_name"
)
STEM = "24jan05a_grid1_00008gr_00011sq_v01_00002hl_v01"
CTF_HEADER = "ChildImageId\tTargetId_TargetNumber\tCtf_Resolution_Ang\tMean_Defocus_um"
TARGET_HEADER = "ChildImageId\tTargetId_TargetNumber\tYCoord\tXCoord\tTimeStamp\tLeginonImageFilename"


def row(image, res_80, res_50, res_package, number=1):
    numbers = f"{number}\t-1.5000e-06\t1.20000e-06\t1.30000e-06\t   45.000\t0.0700\t1.5708"
    return f"{numbers}\t{res_80}\t{res_50}\t{res_package}\t0.900\t0.800\t0.900\t0.950\t{image}"


def written(tmp_path, *lines, name="ctfdata-session.dat"):
    path = tmp_path / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_the_resolution_is_the_smaller_of_50_per_cent_and_the_package(tmp_path):
    path = written(
        tmp_path,
        HEADER,
        row(f"{STEM}_00001en-a", 8.0, 5.5, 4.5),
        row(f"{STEM}_00002en-a", 8.0, 4.25, 100000.00, 2),
    )
    assert detect(path)
    assert validate(path) == []
    ctf = read_source(path).ctf
    assert ctf["name"].tolist() == [f"{STEM}_00001en-a", f"{STEM}_00002en-a"]
    assert ctf["ctf_max_res_angstrom"].tolist() == [4.5, 4.25]
    assert ctf["resolution_package_angstrom"].tolist() == [4.5, 100000.0]
    assert ctf["nominal_defocus_um"].tolist() == pytest.approx([-1.5, -1.5])
    assert ctf["defocus_1_um"].tolist() == pytest.approx([1.2, 1.2])
    assert ctf["phase_shift_deg"].iloc[0] == pytest.approx(90, abs=1e-3)
    assert ctf["image_id"].tolist() == ["1", "2"]
    assert ctf["conf(appion)"].tolist() == ["0.950", "0.950"]


@pytest.mark.parametrize("failed", ["100.00", "101.00", "100000.00", "inf"])
def test_100_101_100000_and_inf_are_failed_fits(tmp_path, failed):
    records = read_source(written(tmp_path, HEADER, row(f"{STEM}_00001en-a", failed, failed, failed)))
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [float(failed)]
    assert "1 of 1 fits failed (inf, nan or at least 100 angstrom)" in records.notes


def test_of_several_runs_the_best_by_80_per_cent_counts_and_all_are_kept(tmp_path):
    image = f"{STEM}_00001en-a"
    path = written(
        tmp_path, HEADER, row(image, 9.0, 3.0, 3.0), row(image, 6.0, 5.0, 4.5), row(image, 0.00, 2.0, 2.0)
    )
    records = read_source(path)
    assert records.ctf[["name", "ctf_max_res_angstrom", "line"]].to_numpy().tolist() == [[image, 4.5, 3]]
    further = records.further_ctf
    assert further[["name", "ctf_max_res_angstrom", "line"]].to_numpy().tolist() == [
        [image, 3.0, 2],
        [image, 2.0, 4],
    ]
    assert further["resolution_80_angstrom"].tolist()[0] == 9.0
    assert further["resolution_80_angstrom"].tolist()[1] is None
    assert records.extra == {}
    assert "1 exposure has several CTF runs; the best by res(0.8) was taken" in records.notes


def test_zero_is_what_the_page_writes_for_nothing_and_never_a_resolution(tmp_path):
    path = written(
        tmp_path,
        HEADER,
        row(f"{STEM}_00001en-a", 8.0, 5.5, 0.00),
        row(f"{STEM}_00002en-a", 0.00, 0.00, 0.00, 2),
    )
    records = read_source(path)
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [5.5]
    assert "1 row gives no resolution (0.00); 1 image has no result yet" in records.notes
    assert records.without_result["name"].tolist() == [f"{STEM}_00002en-a"]


def test_an_older_version_is_read_by_its_header_or_refused_with_the_reason(tmp_path):
    older = (
        "image #\tnominal_def\tdefocus_1\tdefocus_2\tangle_astig\tamp_cont\tres(0.8)\tres(0.5)\timage_name"
    )
    path = written(tmp_path, older, f"1\t-1e-6\t1e-6\t1e-6\t1\t0.07\t8.00\t5.00\t{STEM}_00001en")
    assert read_source(path).ctf["ctf_max_res_angstrom"].tolist() == [5.0]
    oldest = (
        "nominal_def\tdefocus_1\tdefocus_2\tangle_astig\tamp_cont\tconfidence_1\tconfidence_2\timage_name"
    )
    with pytest.raises(
        FileFormatError, match=r"must have res\(0\.5\) or res\(pkg\)\. Got .* an export of an old"
    ):
        read_source(written(tmp_path, oldest))


def test_the_table_of_targets_ctf_has_blank_lines_and_rows_without_result(tmp_path):
    path = written(
        tmp_path,
        CTF_HEADER,
        "11\t5_3\t4.5000\t-1.250",
        "",
        "12\t5_4\t\t",
        "",
        "13\t5_5\tinf\t0.000",
        name="ctf.txt",
    )
    assert detect(path)
    assert validate(path) == []
    records = read_source(path)
    assert records.ctf[["name", "ctf_max_res_angstrom", "line"]].to_numpy().tolist() == [
        ["11", 4.5, 2],
        ["13", math.inf, 6],
    ]
    assert records.ctf["mean_defocus_um"].tolist() == [-1.25, 0.0]
    assert records.exposures[["exposure_id", "hole_id"]].to_numpy().tolist() == [
        ["11", "5_3"],
        ["12", "5_4"],
        ["13", "5_5"],
    ]
    assert records.holes["patch_id"].tolist() == ["5", "5", "5"]
    assert "1 of 3 child images have no CTF result" in records.notes


def test_the_table_of_targets_gives_positions_and_times(tmp_path):
    path = written(tmp_path, TARGET_HEADER, "11\t5_3\t20.50\t10.25\t2024-01-05 11:51:50\t24jan05a_00005hl")
    records = read_source(path)
    assert records.holes[["hole_id", "x_px", "y_px"]].to_numpy().tolist() == [["5_3", 10.25, 20.5]]
    assert records.exposures["started_at"].tolist() == [datetime(2024, 1, 5, 11, 51, 50)]
    assert records.extra["11"]["LeginonImageFilename"] == "24jan05a_00005hl"


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        (HEADER, row("a", 8, 5, 4) + "\t1", "a row must have 15 columns, as the header. Got 16 instead."),
        (HEADER, row("a", 8, 5, 4)[:40], "a row must have 15 columns, as the header. Got 5 instead."),
        (HEADER, row("", 8, 5, 4), "a row must have an image name. Got none instead."),
        (
            HEADER,
            row("a", 8, "nan", 4),
            "res(0.5) must be a number of angstrom, 0 or more. Got 'nan' instead.",
        ),
        (
            HEADER,
            row("a", 8, -1, 4),
            "res(0.5) must be a number of angstrom, 0 or more. Got '-1' instead.",
        ),
        (
            HEADER,
            row("a", 8, 5, 4).replace("1.20000e-06", "deep"),
            "defocus_1 must be a finite number. Got 'deep' instead.",
        ),
        (CTF_HEADER, "x\t5_3\t4\t1", "a row must begin with two ids. Got 'x 5_3' instead."),
        (CTF_HEADER, "11\t5_3\tgood\t1", "the CTF resolution must be a number. Got 'good' instead."),
        (
            TARGET_HEADER,
            "11\t5_3\tup\t1\t2024-01-05 11:51:50\ta",
            "XCoord and YCoord must be finite numbers. Got '1 up' instead.",
        ),
        (
            TARGET_HEADER,
            "11\t5_3\t1\t1\tnoon\ta",
            "a time must be a date with a time of day such as 2024-01-05 11:51:50. Got 'noon' instead. "
            "Remedy: export times as year-month-day.",
        ),
    ],
)
def test_a_row_that_deviates_is_named_and_permissively_left_out(tmp_path, header, line, message):
    path = written(tmp_path, header, line)
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert (error.value.line, error.value.detail) == (2, message)
    records = read_source(path, permissive=True)
    assert len(records.ctf) == 0
    assert [(each.line, each.message) for each in records.deviations] == [(2, message)]


def test_a_child_image_twice_and_a_cut_last_line_are_named(tmp_path):
    path = written(tmp_path, CTF_HEADER, "11\t5_3\t4\t1", "11\t5_4\t5\t1")
    assert [(each.line, each.message) for each in validate(path)] == [
        (3, "a child image must stand once. Got '11' again instead (first on line 2).")
    ]
    path.write_text(CTF_HEADER + "\n11\t5_3\t4.5\t-1.2")
    with pytest.raises(FileFormatError, match=r"line 2: the last line must end with a line break"):
        read_source(path)


def test_other_headers_are_not_detected_and_refused(tmp_path):
    for header in ("", "name\tctf", "ChildImageId\tOther"):
        path = written(tmp_path, header)
        assert not detect(path)
        with pytest.raises(FileFormatError, match=r"an export must begin with 'image #'"):
            read_source(path)
    ice = written(tmp_path, "ChildImageId\tTargetId_TargetNumber\tIce")
    with pytest.raises(
        FileFormatError, match=r"must have Ctf_Resolution_Ang, or XCoord and YCoord\. Got 'Ice' instead"
    ):
        read_source(ice)
