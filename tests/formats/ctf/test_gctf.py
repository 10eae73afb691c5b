"""Every log and table here is made by hand in the shape of public ones."""

import pytest

from cryoscout.core.errors import FileFormatError
from cryoscout.formats.ctf.gctf import detect, read_source, validate

FINAL = """
Cycle: 13
**************************************   LAST CYCLE    ***************************

   Defocus_U   Defocus_V       Angle         CCC
    24401.23    21649.58       34.52    0.180863  Final Values

"""
LIMIT = "Resolution limit estimated by EPA: \x1b[32m3.464\x1b[0m \n"
VALIDATION = """
Differences from Original Values:
  RESOLUTION   Defocus_U   Defocus_V     Angle       CCC      CONVERGENCE
  20-08A       124.42       -0.95        0.38        0.19     PERFECT
Processing done successfully.
"""
TABLE = """
data_

loop_
_rlnMicrographName #1
_rlnCtfImage #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnCtfFigureOfMerit #6
_rlnFinalResolution #7
Micrographs/a_0001.mrc Micrographs/a_0001.ctf:mrc 24401.23 21649.58 34.52 0.180863 3.464
Micrographs/a_0002.mrc Micrographs/a_0002.ctf:mrc 24401.23 21649.58 34.52 0.180863 12.5
"""


def written(tmp_path, text, name="a_0001_gctf.log"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_log_gives_its_final_values_whatever_colour_they_have(tmp_path):
    path = written(tmp_path, FINAL + LIMIT + VALIDATION)
    assert detect(path)
    records = read_source(path)
    row = records.ctf.iloc[0]
    assert (row["name"], row["ctf_max_res_angstrom"], row["line"]) == ("a_0001", 3.464, 8)
    assert (row["defocus_u_um"], row["defocus_v_um"]) == pytest.approx((2.440123, 2.164958))
    assert (row["defocus_angle_deg"], row["figure_of_merit"]) == (34.52, 0.180863)
    assert records.notes == ("names no micrograph: the name of the file stands for it",)
    assert validate(path) == []


@pytest.mark.parametrize(("n_logs", "said"), [(1, "1 file names"), (60, "60 files name")])
def test_what_holds_for_many_logs_of_a_folder_is_said_once(tmp_path, n_logs, said):
    for number in range(n_logs):
        written(tmp_path, FINAL + LIMIT, f"a_{number:04d}_gctf.log")
    note = f"{said} no micrograph: the name of the file stands for it (first: a_0000_gctf.log)"
    assert read_source(tmp_path).notes == (note,)


REFINED = "    24390.10    21655.20       34.10    0.190000  Final Values (Hres refine)\n"


@pytest.mark.parametrize("text", [FINAL + LIMIT + REFINED, FINAL + REFINED + LIMIT, REFINED + FINAL + LIMIT])
def test_the_values_of_the_high_resolution_refinement_are_taken_wherever_they_stand(tmp_path, text):
    records = read_source(written(tmp_path, text + VALIDATION))
    row = records.ctf.iloc[0]
    assert (row["defocus_u_um"], row["defocus_v_um"]) == pytest.approx((2.439010, 2.165520))
    assert (row["figure_of_merit"], row["ctf_max_res_angstrom"]) == (0.19, 3.464)


def test_the_resolution_below_the_refined_values_is_theirs(tmp_path):
    path = written(tmp_path, FINAL + LIMIT + REFINED + LIMIT.replace("3.464", "3.201"))
    assert read_source(path).ctf["ctf_max_res_angstrom"].tolist() == [3.201]
    with pytest.raises(FileFormatError, match="must have one whole line with the resolution limit"):
        read_source(written(tmp_path, FINAL + LIMIT + LIMIT))


def test_unrefined_values_below_the_refined_ones_keep_their_resolution_to_themselves(tmp_path):
    refined = REFINED + LIMIT.replace("3.464", "3.201")
    assert read_source(written(tmp_path, refined + FINAL + LIMIT)).ctf["ctf_max_res_angstrom"].tolist() == [
        3.201
    ]
    with pytest.raises(FileFormatError, match="must have one whole line with the resolution limit"):
        read_source(written(tmp_path, refined + FINAL + LIMIT + LIMIT))


def test_refined_values_twice_are_of_two_micrographs(tmp_path):
    with pytest.raises(FileFormatError, match="must be of one micrograph"):
        read_source(written(tmp_path, FINAL + REFINED + REFINED + LIMIT))


def test_a_log_that_names_its_micrograph_is_believed_and_a_phase_shift_read(tmp_path):
    final = FINAL.replace("34.52    0.180863", "34.52  90.0  0.180863")
    text = "Input image file name\n  /data/b_Fractions.mrc\n" + final + LIMIT
    row = read_source(written(tmp_path, text)).ctf.iloc[0]
    assert (row["name"], row["phase_shift_deg"], row["figure_of_merit"]) == ("b", 90.0, 0.180863)


def test_the_table_of_all_micrographs(tmp_path):
    path = written(tmp_path, TABLE, "micrographs_all_gctf.star")
    assert detect(path)
    records = read_source(path)
    assert records.format == "gctf"
    assert records.ctf["name"].tolist() == ["a_0001", "a_0002"]
    assert records.ctf["ctf_max_res_angstrom"].tolist() == [3.464, 12.5]
    assert validate(path) == []


def test_a_folder_of_logs(tmp_path):
    written(tmp_path, FINAL + LIMIT, "a_gctf.log")
    written(tmp_path, FINAL + LIMIT, "b_gctf.log")
    written(tmp_path, "other\n", "c.log")
    assert detect(tmp_path)
    assert read_source(tmp_path).ctf["name"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            FINAL,
            None,
            "a log must have a line with 'Resolution limit estimated by EPA:'. Got none instead. "
            "Remedy: run Gctf with --do_EPA.",
        ),
        (
            "Defocus_U Defocus_V CCC\n" + LIMIT,
            None,
            "a log must have a line with 'Final Values'. Got none instead. Remedy: let Gctf finish.",
        ),
        (
            FINAL + FINAL + LIMIT,
            13,
            "a log must be of one micrograph. Got Final Values again instead (first on line 6). "
            "Remedy: give the table of all micrographs.",
        ),
        (
            FINAL.replace("34.52", "") + LIMIT,
            6,
            "Final Values must be 4 numbers, or 5 with a phase shift. Got 3 instead.",
        ),
        (
            FINAL + "Resolution limit estimated by EPA: 3.4",
            8,
            "a log must have one whole line with the resolution limit. Got 'Resolution limit estimated by EPA: 3.4' "
            "instead. Remedy: the file was cut or is still being written.",
        ),
        (
            FINAL + LIMIT.replace("3.464", "none"),
            8,
            "the CTF resolution must be a number. Got 'none' instead.",
        ),
        (
            FINAL.replace("24401.23", "deep") + LIMIT,
            6,
            "Defocus_U must be a finite number. Got 'deep' instead.",
        ),
    ],
)
def test_a_deviation_has_its_line_and_message(tmp_path, text, line, message):
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError) as error:
        read_source(path)
    assert (error.value.line, error.value.detail) == (line, message)
    assert (line, message) in [(each.line, each.message) for each in validate(path)]


def test_a_limit_of_nan_is_a_failed_fit_and_a_nan_beside_it_missing(tmp_path):
    path = written(tmp_path, FINAL.replace("0.180863", "nan") + LIMIT.replace("3.464", "nan"))
    row = read_source(path).ctf.iloc[0]
    assert (row["ctf_max_res_angstrom"], row["defocus_u_um"]) == (float("inf"), pytest.approx(2.440123))
    assert row["figure_of_merit"] is None


def test_other_text_is_not_detected(tmp_path):
    assert not detect(written(tmp_path, "DFMID1 DFMID2 ANGAST CC\n1 2 3 4 Final Values\n"))
    assert not detect(written(tmp_path, TABLE.replace("rlnFinalResolution", "rlnCtfMaxResolution")))
    assert not detect(written(tmp_path, TABLE.replace("_rlnCtfImage", "_rlnCtfMaxResolution")))
    assert not detect(tmp_path / "none")
