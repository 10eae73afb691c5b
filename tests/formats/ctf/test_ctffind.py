"""Every file here is made by hand with the header that CTFFIND 4.1 and 5.0 write."""

import math
import re

import pytest

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.ctffind import detect, read_source, validate

SEVEN = (
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; "
    "#5 - additional phase shift [radians]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings "
    "were fit successfully"
)
TEN = SEVEN + (
    "; #8 - Estimated tilt axis angle; #9 - Estimated tilt angle ; #10 Estimated sample thickness (in Angstroms)"
)
ROW_4 = "1.000000 10295.926758 10012.275391 -38.856349 1.570796 0.030650 5.279412"
ROW_5 = (
    "1.000000 8984.742188 8709.236328 45.948771 0.000000 0.446317 3.720000 221.912292 12.251187 1619.773438"
)
AVERAGES = (
    "# 6 lines per micrograph: #1 - spatial frequency (1/Angstroms); #2 - 1D rotational average of spectrum "
    "(assuming no astigmatism); #3 - 1D rotational average of spectrum; #4 - CTF fit"
)


def header(columns=SEVEN, name="/data/a_Fractions.mrc", count="1"):
    return (
        "# Output from CTFFind version 4.1.14, run on 2024-01-05 11:51:50\n"
        f"# Input file: {name} ; Number of micrographs: {count}\n"
        "# Pixel size: 0.930 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude "
        "contrast: 0.07\n"
        "# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 5.0 Angstroms ; min. def.: 5000.0 um; "
        "max. def. 50000.0 um\n"
        f"{columns}\n"
    )


def written(tmp_path, text, name="a_diagnostic.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_seven_columns_of_version_4(tmp_path):
    path = written(tmp_path, header() + ROW_4 + "\n")
    assert detect(path)
    row = read_source(path).ctf.iloc[0]
    assert (row["name"], row["ctf_max_res_angstrom"], row["line"]) == ("a", 5.279412, 6)
    assert row["defocus_u_um"] == pytest.approx(1.0295926758)
    assert row["phase_shift_deg"] == pytest.approx(90, abs=1e-4)
    assert row["figure_of_merit"] == 0.03065
    assert validate(path) == []


def test_ten_columns_of_version_5(tmp_path):
    row = read_source(written(tmp_path, header(TEN) + ROW_5 + "\n")).ctf.iloc[0]
    assert row["ctf_max_res_angstrom"] == 3.72
    assert (row["tilt_axis_angle_deg"], row["tilt_angle_deg"]) == (221.912292, 12.251187)
    assert row["sample_thickness_angstrom"] == 1619.773438


def test_more_columns_than_we_know_are_kept(tmp_path):
    row = read_source(written(tmp_path, header() + ROW_5 + " 0.5\n")).ctf.iloc[0]
    assert row["column_11"] == "0.5"


def test_inf_is_a_failed_fit(tmp_path):
    records = read_source(written(tmp_path, header() + ROW_4.replace("5.279412", "inf") + "\n"))
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [math.inf]
    assert records.notes == ("1 of 1 fits failed (inf, nan or at least 100 angstrom)",)


@pytest.mark.parametrize("resolution", ["inf", "nan", "-nan"])
def test_a_failed_fit_without_numbers_is_a_result_with_nothing_beside_it(tmp_path, resolution):
    path = written(tmp_path, header() + f"1.000000 nan nan nan 0.000000 -nan {resolution}\n")
    records = read_source(path)
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [math.inf]
    assert records.ctf[["defocus_u_um", "defocus_angle_deg", "figure_of_merit"]].isna().all(axis=None)
    assert records.notes == ("1 of 1 fits failed (inf, nan or at least 100 angstrom)",)
    assert validate(path) == []


def test_rotational_averages_are_no_results(tmp_path):
    path = written(tmp_path, header(AVERAGES) + "0.0 0.1 0.2 0.3 0.4 0.5 0.6\n" * 6, "a_avrot.txt")
    message = (
        "CTFFIND results must have one row per micrograph. Got rotational averages (6 lines per micrograph) instead. "
        "Remedy: give the file of the same name without _avrot."
    )
    assert detect(path)
    for permissive in (False, True):
        with pytest.raises(FileFormatError) as error:
            read_source(path, permissive)
        assert (error.value.line, error.value.detail) == (5, message)
    assert [each.message for each in validate(path)] == [message]


def test_a_folder_gives_all_results_without_the_averages(tmp_path):
    written(tmp_path, header(AVERAGES) + "0.0 0.1 0.2 0.3 0.4 0.5 0.6\n" * 6, "a_avrot.txt")
    written(tmp_path, header() + ROW_4 + "\n", "a.txt")
    written(tmp_path, header(name="b.mrc") + ROW_4 + "\n", "b.txt")
    written(tmp_path, "notes of the day\n", "notes.txt")
    assert detect(tmp_path)
    assert read_source(tmp_path).ctf["name"].tolist() == ["a", "b"]
    assert validate(tmp_path) == []


def test_a_bad_file_in_a_folder_is_left_out_permissively_and_named(tmp_path):
    written(tmp_path, header() + ROW_4 + "\n", "a.txt")
    written(tmp_path, header(name="x/data/a.mrc") + ROW_4 + "\n", "b.txt")
    written(tmp_path, header(name="c.mrc"), "c.txt")
    message = (
        "b.txt, line 6: an exposure must stand once. Got 'a' again instead (first on line 6 of a.txt). Remedy"
    )
    with pytest.raises(FileFormatError, match=re.escape(message)):
        read_source(tmp_path)
    records = read_source(tmp_path, permissive=True)
    assert records.ctf["name"].tolist() == ["a"]
    assert [(each.element, each.line) for each in records.deviations] == [("b.txt", 6), ("c.txt", 5)]
    assert validate(tmp_path) == list(records.deviations)


def test_a_folder_without_results_is_refused(tmp_path):
    assert not detect(tmp_path)
    with pytest.raises(FileFormatError, match=r"a folder must hold CTFFIND results\. Got none instead"):
        read_source(tmp_path)


def test_a_file_that_does_not_name_its_micrograph_stands_for_it(tmp_path):
    text = "\n".join(line for line in header().splitlines() if "Input" not in line) + "\n" + ROW_4 + "\n"
    records = read_source(written(tmp_path, text, "mic_7.txt"))
    assert records.ctf["name"].tolist() == ["mic_7"]
    assert records.notes == ("names no micrograph: the name of the file stands for it",)


def test_what_holds_for_many_files_of_a_folder_is_said_once(tmp_path):
    rows = ROW_4 + "\n" + ROW_4.replace("1.000000", "2.000000", 1) + "\n"
    for number in range(30):
        written(tmp_path, header(name=f"s{number}.mrcs", count="2") + rows, f"stack_{number:02d}.txt")
    assert read_source(tmp_path).notes == (
        "30 files are of a stack: results are named by their number in it (first: stack_00.txt)",
    )


def test_the_results_of_a_stack_are_told_apart(tmp_path):
    text = (
        header(name="x/stack.mrcs", count="2")
        + ROW_4
        + "\n"
        + ROW_4.replace("1.000000", "2.000000", 1)
        + "\n"
    )
    assert read_source(written(tmp_path, text)).ctf["name"].tolist() == ["stack#1", "stack#2"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (header(), 5, "results must have one row per micrograph (1). Got 0 instead."),
        (
            header() + ROW_4 + "\n" + ROW_4 + "\n",
            7,
            "results must have one row per micrograph (1). Got 2 instead.",
        ),
        (
            header(TEN) + ROW_4 + "\n",
            6,
            "a row must have 10 numbers. Got 7 instead. "
            "Remedy: the file was cut or is still being written; fit the micrograph again.",
        ),
        (
            header() + ROW_4[:-4],
            6,
            "the last line must end with a line break. Got '1.000000 10295.926758 10012.275391 -38.856349 1.570796 "
            "0....' without one instead. Remedy: the file was cut or is still being written; fit the micrograph "
            "again.",
        ),
        (
            header() + ROW_4.replace("5.279412", "good") + "\n",
            6,
            "the CTF resolution must be a number. Got 'good' instead.",
        ),
        (
            header() + ROW_4.replace("10295.926758", "deep") + "\n",
            6,
            "2 must be a finite number. Got 'deep' instead.",
        ),
        (
            header(count="many") + ROW_4 + "\n",
            2,
            "the number of micrographs must be a whole number. Got 'many' instead.",
        ),
        (
            header() + "1" * 100_001 + "\n",
            6,
            "a line must have at most 100,000 characters. Got 100,001 instead.",
        ),
    ],
)
def test_a_deviation_has_its_line_and_message(tmp_path, text, line, message):
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert (error.value.line, error.value.detail) == (line, message)
    assert (line, message) in [(each.line, each.message) for each in validate(path)]


def test_other_text_is_not_detected_and_not_read(tmp_path):
    for text in ("", "1 2 3 4 5 6 7\n", "# Columns: none\n"):
        path = written(tmp_path, text)
        assert not detect(path)
        with pytest.raises(FileFormatError):
            read_source(path)


@pytest.mark.parametrize(
    ("angle", "turned"), [(45.0, -45.0), (-45.0, 45.0), (0.0, 90.0), (90.0, 0.0), (-90.0, 0.0)]
)
def test_where_the_smaller_defocus_stands_first_the_two_are_exchanged_and_the_angle_turned(
    tmp_path, angle, turned
):
    row = ROW_4.split()
    row[1:4] = ["18000.0", "20000.0", str(angle)]
    source = read_source(written(tmp_path, header() + " ".join(row) + "\n"))
    got = source.ctf.iloc[0]
    assert (got["defocus_u_um"], got["defocus_v_um"]) == (pytest.approx(2.0), pytest.approx(1.8))
    assert got["defocus_angle_deg"] == pytest.approx(turned)
    assert any("1 of 1 fits name the smaller defocus first" in note for note in source.notes)
